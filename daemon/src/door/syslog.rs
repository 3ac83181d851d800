//! Syslog messages: RFC 5424, RFC 3164, and whatever else is sent to a syslog socket.
//!
//! Every message becomes an event; what it does not say stays empty, and nothing of it is lost. The
//! data is an object of those of these members that the message has:
//!
//! | member | is |
//! |---|---|
//! | `priority`, `facility`, `severity` | the number as it was sent, the words for its parts |
//! | `timestamp` | the text of a time without a year or a zone, or of one that nobody can read |
//! | `hostname`, `appname`, `procid`, `msgid` | text; RFC 3164's tag is `appname[procid]:` |
//! | `structured_data` | `{id: {name: value}}`; a name that stands twice has a list of values |
//! | `message` | the rest, without a byte order mark at its front |
//! | `raw_base64` | the whole message, only where a byte of it cannot be in text |
//!
//! The event's time is the message's where that is RFC 3339, which has a year and a zone. That of
//! RFC 3164 has neither, and no guess is made: `recorded_at` tells when it came. Line ends and NULs
//! at the end of a message belong to the transport. Bytes that are not UTF-8, and U+0000, are
//! U+FFFD in text. A message that begins like one RFC and goes on like none is only `priority` and
//! `message`.
//!
//! Source: RFC 5424, section 6; RFC 3164, section 4.1; what of the latter senders really write.

use certeus_ipc::record::{Attributes, Tag};

use super::framing::{self, Frame};
use super::writer::{Object, quote};
use super::{Encoder, Refusal, base64};
use crate::validate::time::parse_rfc3339;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const TAG_BYTES_MAX: usize = 64;
/// Elements and parameters of one message: they are compared with each other.
const PARAMETERS_MAX: usize = 256;
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// A stream whose frames cannot be told apart any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchFrame;

/// What the messages of one sender have in common.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    pub r#type: &'a str,
    /// None: the session's own.
    pub source: Option<&'a str>,
}

/// Takes one message; an empty one is no event.
pub fn message(encoder: &mut Encoder<'_>, text: &[u8], common: Common<'_>) {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r' | 0));
    let Some(end) = end else { return };
    let text = &text[..=end];
    let parsed = Message::parse(text);
    let mut data = std::mem::take(&mut encoder.scratch);
    data.clear();
    parsed.write(text, &mut data);
    let mut attributes = Attributes::default();
    attributes.set(Tag::Type, Some(common.r#type.as_bytes()));
    attributes.set(Tag::Source, common.source.map(str::as_bytes));
    attributes.set(Tag::Time, parsed.time);
    let outcome = encoder.push(&attributes, 0, &data);
    encoder.note(outcome.map_err(Refusal::from));
    encoder.scratch = data;
}

/// Takes each whole frame of a stream. An error: the first one has an impossible length; one that
/// is not the first is left for the next call.
pub fn stream(
    encoder: &mut Encoder<'_>,
    block: &[u8],
    common: Common<'_>,
    frame_bytes_max: usize,
    last: bool,
) -> Result<(), NoSuchFrame> {
    assert!(frame_bytes_max > 0, "a frame has bytes");
    loop {
        let at = encoder.consumed;
        let (frame, taken) = framing::next(&block[at..], frame_bytes_max, last);
        match frame {
            Frame::Whole(text) => message(encoder, text, common),
            Frame::CutOff => encoder.note(Err(Refusal::CUT_OFF)),
            Frame::TooLong if at == 0 => return Err(NoSuchFrame),
            Frame::TooLong | Frame::Partial => return Ok(()),
        }
        encoder.consumed += taken;
    }
}

/// A message that was taken apart, borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message<'a> {
    pub priority: Option<u8>,
    /// RFC 3339.
    pub time: Option<&'a [u8]>,
    /// What stands there instead.
    pub timestamp: Option<&'a [u8]>,
    pub hostname: Option<&'a [u8]>,
    pub appname: Option<&'a [u8]>,
    pub procid: Option<&'a [u8]>,
    pub msgid: Option<&'a [u8]>,
    /// Its elements with their brackets.
    pub structured_data: Option<&'a [u8]>,
    pub message: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Takes any bytes apart.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Self {
        let Some((priority, rest)) = priority(text) else {
            return Self { message: Some(text), ..Self::default() };
        };
        let parsed = rfc5424(rest).unwrap_or_else(|| rfc3164(rest));
        Self { priority: Some(priority), ..parsed }
    }

    fn write(&self, text: &[u8], out: &mut Vec<u8>) {
        let mut data = Object::begin(out);
        if let Some(priority) = self.priority {
            data.member(b"priority").extend_from_slice(priority.to_string().as_bytes());
            data.text(b"facility", FACILITIES[usize::from(priority >> 3)].as_bytes());
            data.text(b"severity", SEVERITIES[usize::from(priority & 7)].as_bytes());
        }
        data.optional(b"timestamp", self.timestamp);
        data.optional(b"hostname", self.hostname);
        data.optional(b"appname", self.appname);
        data.optional(b"procid", self.procid);
        data.optional(b"msgid", self.msgid);
        if let Some(elements) = self.structured_data {
            let replaced = write_elements(elements, data.member(b"structured_data"));
            data.replaced |= replaced;
        }
        data.optional(b"message", self.message);
        if data.replaced {
            let out = data.member(b"raw_base64");
            out.push(b'"');
            base64::encode(text, out);
            out.push(b'"');
        }
        data.end();
    }
}

/// `<0>` to `<191>`.
fn priority(text: &[u8]) -> Option<(u8, &[u8])> {
    let inner = text.strip_prefix(b"<")?;
    let end = inner.iter().take(4).position(|byte| *byte == b'>')?;
    let digits = std::str::from_utf8(&inner[..end]).ok()?;
    let number: u8 =
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse())?.ok()?;
    (number < 192).then_some((number, &inner[end + 1..]))
}

/// A word and what comes behind its space; the last one has none.
fn word(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b' ') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, b""),
    }
}

/// Behind the priority: version, time, names, structured data, message.
fn rfc5424(text: &[u8]) -> Option<Message<'_>> {
    let mut rest = text.strip_prefix(b"1 ")?;
    let mut field = || {
        let (value, behind) = word(rest);
        rest = behind;
        match value {
            b"" => None,
            b"-" => Some(None),
            value => Some(Some(value)),
        }
    };
    let timestamp = field()?;
    let [hostname, appname, procid, msgid] = [field()?, field()?, field()?, field()?];
    let (structured_data, rest) = match rest {
        b"-" => (None, None),
        [b'-', b' ', behind @ ..] => (None, Some(behind)),
        _ => {
            let end = elements_end(rest)?;
            let behind = match &rest[end..] {
                b"" => None,
                [b' ', behind @ ..] => Some(behind),
                _ => return None,
            };
            (Some(&rest[..end]), behind)
        }
    };
    let message = rest.map(|text| text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text));
    let (time, timestamp) = sorted(timestamp);
    Some(Message {
        time,
        timestamp,
        hostname,
        appname,
        procid,
        msgid,
        structured_data,
        message,
        priority: None,
    })
}

/// A time, or the text of none.
fn sorted(timestamp: Option<&[u8]>) -> (Option<&[u8]>, Option<&[u8]>) {
    match timestamp {
        Some(text) if parse_rfc3339(text).is_some() => (Some(text), None),
        other => (None, other),
    }
}

/// Behind the priority: perhaps a time and a host, perhaps a tag, a message.
fn rfc3164(text: &[u8]) -> Message<'_> {
    let (first, behind) = word(text);
    let (time, timestamp, rest) = if parse_rfc3339(first).is_some() {
        (Some(first), None, behind)
    } else {
        let (timestamp, rest) = bsd_time(text).unzip();
        (None, timestamp, rest.unwrap_or(text))
    };
    let mut parsed = Message { time, timestamp, ..Message::default() };
    let mut rest = rest;
    if time.or(timestamp).is_some() && tag(rest).is_none() {
        // What is sent on the host itself has no hostname: its tag follows the time.
        let (host, behind) = word(rest);
        if !host.is_empty() && !behind.is_empty() {
            (parsed.hostname, rest) = (Some(host), behind);
        }
    }
    if let Some((appname, procid, behind)) = tag(rest) {
        (parsed.appname, parsed.procid, rest) = (Some(appname), procid, behind);
    }
    parsed.message = Some(rest);
    parsed
}

/// `Oct  1 22:14:15`, perhaps with a year before the hour, perhaps with a fraction, and the rest.
fn bsd_time(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let proper_day = matches!(text.get(3..7)?, [b' ', b' ' | b'0'..=b'3', b'0'..=b'9', b' ']);
    if !proper_day || !MONTHS.contains(&&text[..3]) {
        return None;
    }
    let (next, behind) = word(&text[7..]);
    let is_year = next.len() == 4 && next.iter().all(u8::is_ascii_digit);
    let at = if is_year { 12 } else { 7 };
    let (clock, _) = word(if is_year { behind } else { &text[7..] });
    // Some senders put a colon behind it.
    let clock = clock.strip_suffix(b":").unwrap_or(clock);
    let proper = clock.len() >= 8
        && clock[..8].iter().enumerate().all(|(at, byte)| match at {
            2 | 5 => *byte == b':',
            _ => byte.is_ascii_digit(),
        })
        && (clock.len() == 8 || clock[8] == b'.' && clock[9..].iter().all(u8::is_ascii_digit));
    let end = at + clock.len();
    let rest = &text[end..];
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    proper.then(|| (&text[..end], rest.strip_prefix(b" ").unwrap_or(rest)))
}

type Tagged<'a> = (&'a [u8], Option<&'a [u8]>, &'a [u8]);

/// `appname: ` or `appname[procid]: `, and the rest.
fn tag(text: &[u8]) -> Option<Tagged<'_>> {
    let ends = |byte: &u8| matches!(byte, b':' | b'[' | b']' | b' ' | b'"' | b'<' | b'>');
    let end = text.iter().take(TAG_BYTES_MAX + 1).position(ends).filter(|end| *end > 0)?;
    let (appname, mut rest) = text.split_at(end);
    let mut procid = None;
    if let Some(inner) = rest.strip_prefix(b"[") {
        let end = inner.iter().take(TAG_BYTES_MAX + 1).position(|byte| *byte == b']')?;
        procid = Some(&inner[..end]).filter(|procid| !procid.is_empty());
        rest = &inner[end + 1..];
    }
    match rest.strip_prefix(b":")? {
        [] => Some((appname, procid, b"")),
        [b' ', behind @ ..] => Some((appname, procid, behind)),
        _ => None,
    }
}

/// One parameter of structured data: the element's id, name, value with its escapes.
type Parameter<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Walks the elements at the front of `text`; where they end. `None`: they are not proper.
fn walk<'a>(
    text: &'a [u8],
    mut found: impl FnMut(&'a [u8], Option<Parameter<'a>>),
) -> Option<usize> {
    let name_end = |at: usize| {
        let ends = |byte: &u8| !(b'!'..=b'~').contains(byte) || matches!(byte, b'=' | b']' | b'"');
        let length = text[at..].iter().position(ends)?;
        (length > 0).then_some(at + length)
    };
    let mut at = 0;
    while text.get(at) == Some(&b'[') {
        let id_end = name_end(at + 1)?;
        let id = &text[at + 1..id_end];
        found(id, None);
        at = id_end;
        while text.get(at) == Some(&b' ') {
            let end = name_end(at + 1)?;
            let name = &text[at + 1..end];
            let value = text.get(end..)?.strip_prefix(b"=\"")?;
            let mut length = 0;
            while *value.get(length)? != b'"' {
                length += if value[length] == b'\\' { 2 } else { 1 };
            }
            found(id, Some((id, name, &value[..length])));
            at = end + 2 + length + 1;
        }
        if text.get(at) != Some(&b']') {
            return None;
        }
        at += 1;
    }
    (at > 0).then_some(at)
}

/// Where proper elements end; an id that stands twice is not proper, nor are more parameters than
/// anybody sends.
fn elements_end(text: &[u8]) -> Option<usize> {
    let (mut ids, mut count, mut proper) = (Vec::new(), 0, true);
    let end = walk(text, |id, parameter| {
        count += 1;
        proper &= count <= PARAMETERS_MAX;
        if parameter.is_none() && proper {
            proper = !ids.contains(&id);
            ids.push(id);
        }
    })?;
    proper.then_some(end)
}

/// An element's id, and for each name the values that stand there.
type Element<'a> = (&'a [u8], Vec<(&'a [u8], Vec<&'a [u8]>)>);

/// Writes proper elements as an object. True: something had to be replaced.
fn write_elements(elements: &[u8], out: &mut Vec<u8>) -> bool {
    let mut grouped: Vec<Element<'_>> = Vec::new();
    walk(elements, |id, parameter| match (parameter, grouped.last_mut()) {
        (Some((_, name, value)), Some((_, names))) => {
            match names.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => values.push(value),
                None => names.push((name, vec![value])),
            }
        }
        _ => grouped.push((id, Vec::new())),
    });
    let mut object = Object::begin(out);
    let mut replaced = false;
    for (id, names) in grouped {
        let mut element = Object::begin(object.member(id));
        for (name, values) in names {
            let out = element.member(name);
            let is_list = values.len() > 1;
            out.extend_from_slice(if is_list { b"[" } else { b"" });
            for (at, value) in values.into_iter().enumerate() {
                out.extend_from_slice(if at > 0 { b"," } else { b"" });
                replaced |= quote(out, &unescaped(value));
            }
            out.extend_from_slice(if is_list { b"]" } else { b"" });
        }
        element.end();
    }
    object.end();
    replaced
}

/// Without the backslash before `"`, `\` and `]`; any other one stands for itself.
fn unescaped(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [byte, behind @ ..] = rest {
        let is_escape = *byte == b'\\' && matches!(behind.first(), Some(b'"' | b'\\' | b']'));
        if !is_escape {
            out.push(*byte);
            rest = behind;
            continue;
        }
        out.push(behind[0]);
        rest = &behind[1..];
    }
    out
}

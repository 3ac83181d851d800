//! The systemd journal's export format: a stream of entries, as `journalctl -o export` writes it.
//!
//! ```text
//! NAME=value\n                                       a value of printable text
//! NAME\n length (u64, little-endian) value \n        any value
//! \n                                                 the entry ends
//! ```
//!
//! Every entry becomes an event. Its id is the entry's cursor, which no other entry has and which
//! stays the same however often the entry is read: read again, it is recognised. The data is an
//! object of the entry's fields, by their own names and in their order:
//!
//! | a value that | is |
//! |---|---|
//! | is UTF-8 without U+0000 | text |
//! | is not | `{"base64": "..."}` |
//! | shares its name with others | one of a list |
//!
//! What the journal says of an entry's place (`__CURSOR`, `__REALTIME_TIMESTAMP`, ...) is no field
//! of it: the cursor is the id, the time is the event's time. The subject is the entry's unit, else
//! what calls itself `SYSLOG_IDENTIFIER`.
//!
//! An entry of any size is an event. One whose object would be larger than an event may be has its
//! longest values cut, and says so: `certeus_cut` has the bytes that each such field has in the
//! journal; if there is no room even for that, fields are not there, and `certeus_left_out` counts
//! them.
//! The journal's own names have no small letters, so neither can be one of them. No more is held of
//! an entry than a few events' worth: what is too long is left out while it comes.
//!
//! Entries of the daemon's own service are no events: each would be a reason to log another one.
//!
//! Source: systemd, docs/JOURNAL_EXPORT_FORMATS.md; systemd.journal-fields(7).

use std::collections::BTreeMap;
use std::ops::Range;

use certeus_ipc::record::{Attributes, Tag};

use super::writer::quote;
use super::{Encoder, Refusal, base64};
use crate::reader::batch::day_of;
use crate::validate::attributes::check_text;

/// Of a name; the journal's own have 64 at most, with underscores before them.
const NAME_BYTES_MAX: usize = 256;
/// The journal itself takes 1024 from a program, and adds its own.
const FIELDS_MAX: usize = 2048;
/// A length beyond it is no journal's.
const VALUE_BYTES_MAX: u64 = 1 << 40;
/// Bytes held of an entry, in the most that an event may have.
const HELD_EVENTS: usize = 4;
/// Values are not cut shorter before fields are left out.
const CUT_BYTES_MIN: usize = 16;
/// Room for what is said of fields that are left out.
const LEFT_OUT_BYTES: usize = 64;

/// A stream that is not in this format; nothing behind it can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotExported;

/// One stream of entries, over all its blocks.
#[derive(Debug)]
pub struct Journal {
    r#type: String,
    /// The control group whose entries are left out.
    own: Option<Vec<u8>>,
    /// The cursor of an entry that is left out: the one that the stream is to begin behind.
    after: Option<Vec<u8>>,
    /// Of the last whole entry, taken or left out.
    cursor: Vec<u8>,
    /// Entries left out since the beginning.
    pub left_out: u64,
    state: State,
    entry: Entry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Name,
    Text,
    Length {
        bytes: [u8; 8],
        have: usize,
    },
    Value {
        left: u64,
    },
    /// The line end behind a value that has its length before it.
    Behind,
}

#[derive(Debug, Default)]
struct Entry {
    bytes: Vec<u8>,
    /// The name that is just being read.
    name: Vec<u8>,
    fields: Vec<Field>,
    /// Beyond those that anybody sends.
    fields_more: usize,
    value_bytes_max: usize,
    held_bytes_max: usize,
}

#[derive(Clone, Debug)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
    /// How much of the value is held at most.
    room: usize,
    /// Of the whole value.
    bytes: u64,
}

impl Journal {
    /// Begins a stream. `own`: the control group whose entries are no events. `after`: the cursor
    /// of an entry that was taken before.
    #[must_use]
    pub fn new(
        event_bytes_max: usize,
        r#type: &str,
        own: Option<&str>,
        after: Option<&str>,
    ) -> Self {
        let entry = Entry {
            value_bytes_max: event_bytes_max,
            held_bytes_max: HELD_EVENTS * event_bytes_max,
            ..Entry::default()
        };
        Self {
            r#type: r#type.to_owned(),
            own: own.map(|own| own.as_bytes().to_vec()),
            after: after.map(|after| after.as_bytes().to_vec()),
            cursor: Vec::new(),
            left_out: 0,
            state: State::Name,
            entry,
        }
    }

    /// The cursor of the last whole entry, whatever became of it.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        std::str::from_utf8(&self.cursor).ok().filter(|cursor| !cursor.is_empty())
    }

    /// Takes a block, which may end anywhere. An error: the stream is of no use any more; entries
    /// before that place are taken.
    pub fn take(&mut self, encoder: &mut Encoder<'_>, block: &[u8]) -> Result<(), NotExported> {
        let mut rest = block;
        while !rest.is_empty() {
            let taken = self.step(encoder, rest)?;
            rest = &rest[taken..];
            encoder.consumed += taken;
        }
        Ok(())
    }

    /// Takes one part of the front of `rest`, and says how long it was.
    fn step(&mut self, encoder: &mut Encoder<'_>, rest: &[u8]) -> Result<usize, NotExported> {
        let entry = &mut self.entry;
        match &mut self.state {
            State::Name => match rest.iter().position(|byte| matches!(byte, b'=' | b'\n')) {
                None => {
                    entry.extend_name(rest)?;
                    Ok(rest.len())
                }
                Some(end) => {
                    entry.extend_name(&rest[..end])?;
                    if rest[end] == b'=' {
                        entry.begin_value()?;
                        self.state = State::Text;
                    } else if entry.name.is_empty() {
                        self.end_entry(encoder);
                    } else {
                        entry.begin_value()?;
                        self.state = State::Length { bytes: [0; 8], have: 0 };
                    }
                    Ok(end + 1)
                }
            },
            State::Text => match rest.iter().position(|byte| *byte == b'\n') {
                None => {
                    entry.extend_value(rest);
                    Ok(rest.len())
                }
                Some(end) => {
                    entry.extend_value(&rest[..end]);
                    self.state = State::Name;
                    Ok(end + 1)
                }
            },
            State::Length { bytes, have } => {
                let taken = rest.len().min(8 - *have);
                bytes[*have..*have + taken].copy_from_slice(&rest[..taken]);
                *have += taken;
                if *have == 8 {
                    let left = u64::from_le_bytes(*bytes);
                    if left > VALUE_BYTES_MAX {
                        return Err(NotExported);
                    }
                    self.state = if left == 0 { State::Behind } else { State::Value { left } };
                }
                Ok(taken)
            }
            State::Value { left } => {
                let taken = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                entry.extend_value(&rest[..taken]);
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Behind;
                }
                Ok(taken)
            }
            State::Behind if rest[0] == b'\n' => {
                self.state = State::Name;
                Ok(1)
            }
            State::Behind => Err(NotExported),
        }
    }

    fn end_entry(&mut self, encoder: &mut Encoder<'_>) {
        let entry = &self.entry;
        if entry.fields.is_empty() {
            return;
        }
        self.cursor.clear();
        self.cursor.extend_from_slice(entry.first(b"__CURSOR").unwrap_or_default());
        let is_own = self.own.is_some() && entry.first(b"_SYSTEMD_CGROUP") == self.own.as_deref();
        let is_known = self.after.as_deref() == Some(&self.cursor[..]);
        if is_own || is_known {
            self.left_out += 1;
        } else {
            let mut data = std::mem::take(&mut encoder.scratch);
            let outcome = entry.push(encoder, &self.r#type, &self.cursor, &mut data);
            encoder.note(outcome);
            encoder.scratch = data;
        }
        self.entry.clear();
    }
}

impl Entry {
    fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.fields_more = 0;
    }

    fn extend_name(&mut self, part: &[u8]) -> Result<(), NotExported> {
        if self.name.len() + part.len() > NAME_BYTES_MAX {
            return Err(NotExported);
        }
        self.name.extend_from_slice(part);
        Ok(())
    }

    /// Begins the value of the field whose name was read.
    fn begin_value(&mut self) -> Result<(), NotExported> {
        if self.name.is_empty() {
            return Err(NotExported);
        }
        if self.fields.len() == FIELDS_MAX {
            self.fields_more += 1;
            self.name.clear();
            return Ok(());
        }
        let at = self.bytes.len();
        self.bytes.append(&mut self.name);
        let begin = self.bytes.len();
        // Each value may have half of what is left, so that small ones behind large ones are whole.
        let room = (self.held_bytes_max.saturating_sub(begin) / 2).min(self.value_bytes_max);
        self.fields.push(Field { name: at..begin, value: begin..begin, room, bytes: 0 });
        Ok(())
    }

    fn extend_value(&mut self, part: &[u8]) {
        let field = self.fields.last_mut().expect("a value has its field");
        if self.fields_more > 0 {
            return;
        }
        let held = part.len().min(field.room - field.value.len());
        self.bytes.extend_from_slice(&part[..held]);
        field.value.end += held;
        field.bytes += part.len() as u64;
    }

    fn name(&self, field: &Field) -> &[u8] {
        &self.bytes[field.name.clone()]
    }

    /// The first value of a field; what is not held whole is none.
    fn first(&self, name: &[u8]) -> Option<&[u8]> {
        let field = self.fields.iter().find(|field| self.name(field) == name)?;
        (field.bytes == field.value.len() as u64).then(|| &self.bytes[field.value.clone()])
    }

    fn push(
        &self,
        encoder: &mut Encoder<'_>,
        r#type: &str,
        cursor: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if cursor.is_empty() {
            return Err(Refusal::MISSING_ID);
        }
        self.write(data);
        let time = self.first(b"__REALTIME_TIMESTAMP").and_then(time_of);
        let mut attributes = Attributes::default();
        attributes.set(Tag::Type, Some(r#type.as_bytes()));
        attributes.set(Tag::Id, Some(cursor));
        attributes.set(Tag::Time, time.as_deref().map(str::as_bytes));
        attributes.set(Tag::Subject, self.subject());
        Ok(encoder.push(&attributes, 0, data)?)
    }

    /// Who wrote it, where that is proper text of an attribute's length.
    fn subject(&self) -> Option<&[u8]> {
        let names: [&[u8]; 2] = [b"_SYSTEMD_UNIT", b"SYSLOG_IDENTIFIER"];
        names.into_iter().filter_map(|name| self.first(name)).find(|value| {
            (1..=Tag::Subject.bytes_max()).contains(&value.len()) && check_text(value).is_ok()
        })
    }

    /// Writes the object, cut until it fits.
    fn write(&self, out: &mut Vec<u8>) {
        let grouped = self.grouped();
        let mut longest = self.value_bytes_max;
        loop {
            out.clear();
            if self.write_cut(&grouped, longest, out) {
                return;
            }
            longest /= 2;
            if longest < CUT_BYTES_MIN {
                out.clear();
                return self.write_some(&grouped, out);
            }
        }
    }

    /// The entry's own fields by name, in the order in which names come first.
    fn grouped(&self) -> Vec<Vec<&Field>> {
        let mut grouped: Vec<Vec<&Field>> = Vec::with_capacity(self.fields.len());
        let mut places = BTreeMap::new();
        for field in self.fields.iter().filter(|field| !self.name(field).starts_with(b"__")) {
            let place = *places.entry(self.name(field)).or_insert(grouped.len());
            if place == grouped.len() {
                grouped.push(Vec::new());
            }
            grouped[place].push(field);
        }
        grouped
    }

    /// Writes everything, with values of `longest` bytes at most. False: it is too large.
    fn write_cut(&self, grouped: &[Vec<&Field>], longest: usize, out: &mut Vec<u8>) -> bool {
        let mut cut: Vec<(&[u8], u64)> = Vec::new();
        out.push(b'{');
        for fields in grouped {
            let is_cut = self.member(fields, longest, out);
            if is_cut {
                let bytes = fields.iter().map(|field| field.bytes).sum();
                cut.push((self.name(fields[0]), bytes));
            }
            if out.len() > self.value_bytes_max {
                return false;
            }
        }
        if !cut.is_empty() {
            separate(out);
            out.extend_from_slice(b"\"certeus_cut\":{");
            for (name, bytes) in cut {
                separate(out);
                quote(out, name);
                out.extend_from_slice(format!(":{bytes}").as_bytes());
            }
            out.push(b'}');
        }
        self.say_left_out(self.fields_more, out);
        out.push(b'}');
        out.len() <= self.value_bytes_max
    }

    /// Writes as many members with short values as there is room for.
    fn write_some(&self, grouped: &[Vec<&Field>], out: &mut Vec<u8>) {
        let mut left_out = self.fields_more;
        out.push(b'{');
        for fields in grouped {
            let before = out.len();
            // What is cut could not be said of each: there was no room for it.
            let is_cut = self.member(fields, CUT_BYTES_MIN, out);
            if is_cut || out.len() + LEFT_OUT_BYTES > self.value_bytes_max {
                out.truncate(before);
                left_out += fields.len();
            }
        }
        self.say_left_out(left_out, out);
        out.push(b'}');
    }

    fn say_left_out(&self, count: usize, out: &mut Vec<u8>) {
        if count > 0 {
            separate(out);
            out.extend_from_slice(format!("\"certeus_left_out\":{count}").as_bytes());
        }
    }

    /// Writes one name and its values. True: one of them is cut.
    fn member(&self, fields: &[&Field], longest: usize, out: &mut Vec<u8>) -> bool {
        separate(out);
        quote(out, self.name(fields[0]));
        out.push(b':');
        let is_list = fields.len() > 1;
        let mut is_cut = false;
        out.extend_from_slice(if is_list { b"[" } else { b"" });
        for (at, field) in fields.iter().enumerate() {
            out.extend_from_slice(if at > 0 { b"," } else { b"" });
            is_cut |= self.value(field, longest, out);
        }
        out.extend_from_slice(if is_list { b"]" } else { b"" });
        is_cut
    }

    /// Writes one value. True: it is cut.
    fn value(&self, field: &Field, longest: usize, out: &mut Vec<u8>) -> bool {
        let held = &self.bytes[field.value.clone()];
        let is_whole = held.len() as u64 == field.bytes;
        let is_cut = !is_whole || held.len() > longest;
        match as_text(held, is_whole) {
            Some(text) => {
                let end = (0..=longest.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
                quote(out, &text.as_bytes()[..end.unwrap_or(0)]);
            }
            None => {
                out.extend_from_slice(b"{\"base64\":\"");
                base64::encode(&held[..longest.min(held.len())], out);
                out.extend_from_slice(b"\"}");
            }
        }
        is_cut
    }
}

/// A comma, unless something has just begun.
fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// What is held of a value, if it is text; a character that was cut apart is left out.
fn as_text(held: &[u8], is_whole: bool) -> Option<&str> {
    if held.contains(&0) {
        return None;
    }
    match std::str::from_utf8(held) {
        Ok(text) => Some(text),
        Err(error) if !is_whole && error.error_len().is_none() => {
            std::str::from_utf8(&held[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// RFC 3339 with microseconds, of a number of them since 1970.
fn time_of(digits: &[u8]) -> Option<String> {
    let all: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let day = day_of(all.checked_mul(1000)?);
    let (year, month, day) = (day / 10_000, day / 100 % 100, day % 100);
    let (seconds, fraction) = (all / 1_000_000, all % 1_000_000);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z"))
}

//! CloudEvents 1.0 in JSON: one, a batch of them, or one a line.
//!
//! An event is an object with `specversion` (`"1.0"`), `id`, `source` and `type`, none of them
//! empty; if it likes, `subject`, `time`, `dataschema`, `datacontenttype`, and extensions: names of
//! `[a-z0-9]{1,20}` whose values are strings, integers or booleans. A member that is `null` is one
//! that was not given. What the names and values may be beyond that is the worker's to say
//! (`validate`): integers have 64 bits here, where CloudEvents grants 32.
//!
//! | member | is logged as |
//! |---|---|
//! | `data`, any JSON | its own bytes, whatever `datacontenttype` says: text stays a string |
//! | `data_base64` | opaque bytes; without `datacontenttype` as `application/octet-stream` |
//! | `data_base64` of a JSON content type | those bytes as JSON: opaque, nobody could query them |
//! | neither | `null`: the log has no event without data |
//!
//! A name that stands twice is refused (`invalid-json`), since readers differ in which one counts;
//! so is one that is written with escapes (`invalid-extensions`).
//!
//! certeus shows an event as a CloudEvent with more members: `seq`, `recordedat`, `tenant`,
//! `verdict`; on the command line `recorded_at` and `schema_version`, which no attribute may be
//! called. Such a line can be sent again: where `recorded_at` is, or all four, they are left out.
//! Anywhere else they are refused (`reserved-name`): an extension of that name could not be told
//! from what certeus says itself.
//!
//! Source: CloudEvents, "JSON Event Format" 1.0.2.

use std::borrow::Cow;

use certeus_ipc::record::{Attributes, EXTENSIONS_COUNT_MAX, FLAG_OPAQUE, Tag};
use certeus_ipc::verdict::Reason;

use super::lines::Lines;
use super::object::{Members, space, text};
use super::{Encoder, Refusal, base64};
use crate::validate::attributes::is_json_content_type;

const NAME_BYTES_MAX: usize = 20;
/// Names of extensions, and of what certeus shows.
const OTHERS_MAX: usize = EXTENSIONS_COUNT_MAX + 6;
/// `seq`, `recordedat`, `tenant` and `verdict`: with all of them certeus has shown it.
const SHOWN_MIN: usize = 4;
/// Of a batch, after which nothing more is put into a part.
pub const PART_BYTES: usize = 64 * 1024;
pub const PART_EVENTS: usize = 4096;
const NO_DATA: &[u8] = b"null";
const BYTES: &[u8] = b"application/octet-stream";

/// A body that is not even, as a whole, what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchBody;

/// Takes each whole line of `block` as one event.
pub fn lines(encoder: &mut Encoder<'_>, block: &[u8], last: bool) {
    let mut lines = Lines::new(block, last);
    for line in &mut lines {
        let outcome = one(encoder, line);
        encoder.note(outcome);
    }
    encoder.consumed = lines.consumed();
}

/// Takes `body` as one event. An error: it is no object.
pub fn event(encoder: &mut Encoder<'_>, body: &[u8]) -> Result<(), NoSuchBody> {
    let begin = space(body, 0);
    let end = value_end(body, begin).ok_or(NoSuchBody)?;
    if body[begin] != b'{' || space(body, end) != body.len() {
        return Err(NoSuchBody);
    }
    let outcome = one(encoder, body);
    encoder.note(outcome);
    encoder.consumed = body.len();
    Ok(())
}

/// Takes each element of `body` as one event, a part of them from `begin` on: two bytes can be an
/// element. The next part begins where this one has consumed. An error, at 0: `body` as a whole is
/// no array.
pub fn batch(encoder: &mut Encoder<'_>, body: &[u8], begin: usize) -> Result<(), NoSuchBody> {
    let mut at = if begin == 0 { first_element(body)? } else { begin };
    while let Some(end) = value_end(body, at) {
        if encoder.seen == PART_EVENTS || at - begin >= PART_BYTES {
            encoder.consumed = at;
            return Ok(());
        }
        let outcome = one(encoder, &body[at..end]);
        encoder.note(outcome);
        at = space(body, end);
        if body.get(at) == Some(&b',') {
            at = space(body, at + 1);
        }
    }
    encoder.consumed = body.len();
    Ok(())
}

/// Looks through the whole array; where its first element begins, or its closing bracket is.
fn first_element(body: &[u8]) -> Result<usize, NoSuchBody> {
    let open = space(body, 0);
    if body.get(open) != Some(&b'[') {
        return Err(NoSuchBody);
    }
    let first = space(body, open + 1);
    let mut at = first;
    while at > first || body.get(at) != Some(&b']') {
        at = space(body, value_end(body, at).ok_or(NoSuchBody)?);
        match body.get(at) {
            Some(b',') => at = space(body, at + 1),
            Some(b']') => break,
            _ => return Err(NoSuchBody),
        }
    }
    if space(body, at + 1) == body.len() { Ok(first) } else { Err(NoSuchBody) }
}

/// Where the value at `at` ends, by its quotes and brackets alone: what is wrong inside of an event
/// is that event's, and the next one begins behind it. `None`: it never ends, or there is none.
fn value_end(body: &[u8], mut at: usize) -> Option<usize> {
    let (begin, mut depth) = (at, 0_usize);
    loop {
        match body.get(at) {
            Some(b'"') => {
                at += 1;
                while *body.get(at)? != b'"' {
                    at += if body[at] == b'\\' { 2 } else { 1 };
                }
            }
            Some(b'{' | b'[') => depth += 1,
            Some(b'}' | b']') if depth > 0 => depth -= 1,
            None | Some(b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t') if depth == 0 => {
                return (at > begin).then_some(at);
            }
            None => return None,
            Some(_) => {
                at += 1;
                continue;
            }
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn one(encoder: &mut Encoder<'_>, event: &[u8]) -> Result<(), Refusal> {
    let mut scratch = std::mem::take(&mut encoder.scratch);
    let outcome =
        Envelope::read(event, &mut scratch).and_then(|envelope| envelope.push(encoder, &scratch));
    encoder.scratch = scratch;
    outcome
}

enum Member {
    SpecVersion,
    Attribute(Tag),
    Data,
    DataBase64,
    /// What certeus adds when it shows an event.
    Shown,
    /// The one of those that tells such a line from all others.
    RecordedAt,
    Extension,
}

impl Member {
    fn of(name: &[u8]) -> Self {
        match name {
            b"specversion" => Self::SpecVersion,
            b"id" => Self::Attribute(Tag::Id),
            b"source" => Self::Attribute(Tag::Source),
            b"type" => Self::Attribute(Tag::Type),
            b"subject" => Self::Attribute(Tag::Subject),
            b"time" => Self::Attribute(Tag::Time),
            b"dataschema" => Self::Attribute(Tag::DataSchema),
            b"datacontenttype" => Self::Attribute(Tag::ContentType),
            b"data" => Self::Data,
            b"data_base64" => Self::DataBase64,
            b"recorded_at" => Self::RecordedAt,
            _ if is_shown(name) => Self::Shown,
            _ => Self::Extension,
        }
    }
}

/// Whether certeus gives this name to what it adds to an event, so that no extension may have it.
#[must_use]
pub fn is_shown(name: &[u8]) -> bool {
    let own: [&[u8]; 6] =
        [b"seq", b"recorded_at", b"recordedat", b"tenant", b"verdict", b"schema_version"];
    own.contains(&name)
}

/// Looks whether extensions that somebody else put together have none of those names. Whether they
/// are proper is the worker's to say.
pub fn check_extensions(extensions: &[u8]) -> Result<(), Refusal> {
    let Some(mut members) = Members::new(extensions) else { return Ok(()) };
    while let Ok(Some((name, _))) = members.next() {
        if is_shown(name) {
            return Err(Refusal::RESERVED_NAME);
        }
    }
    Ok(())
}

/// An event that was taken apart.
#[derive(Default)]
struct Envelope<'a> {
    is_version_1: bool,
    /// By the tag's number.
    values: [Option<Cow<'a, [u8]>>; Tag::ALL.len() + 1],
    data: Option<&'a [u8]>,
    data_base64: Option<&'a [u8]>,
    shown: usize,
    was_shown: bool,
}

impl<'a> Envelope<'a> {
    /// Takes `event` apart; its extensions, as one JSON object, are what `extensions` holds then.
    fn read(event: &'a [u8], extensions: &mut Vec<u8>) -> Result<Self, Refusal> {
        let mut members = Members::new(event).ok_or(Refusal::NOT_AN_OBJECT)?;
        let (mut envelope, mut names) = (Self::default(), Names::default());
        extensions.clear();
        while let Some((name, value)) = members.next()? {
            let member = Member::of(name);
            names.add(name, &member)?;
            match member {
                Member::SpecVersion => envelope.is_version_1 = value == b"\"1.0\"",
                Member::Data => envelope.data = Some(value),
                Member::DataBase64 if value == b"null" => {}
                Member::DataBase64 => envelope.data_base64 = Some(value),
                Member::RecordedAt => envelope.was_shown = true,
                Member::Shown => envelope.shown += 1,
                Member::Attribute(_) if value == b"null" => {}
                Member::Attribute(tag) => {
                    let text = text(value).ok_or(Reason::InvalidAttribute)?;
                    envelope.values[tag as usize] = Some(text);
                }
                Member::Extension => extend(extensions, name, value)?,
            }
        }
        if !extensions.is_empty() {
            extensions.push(b'}');
        }
        envelope.has_what_is_required()
    }

    fn has_what_is_required(self) -> Result<Self, Refusal> {
        if !self.is_version_1 {
            return Err(Refusal::SPECVERSION);
        }
        for (tag, refusal) in [
            (Tag::Id, Refusal::MISSING_ID),
            (Tag::Source, Refusal::MISSING_SOURCE),
            (Tag::Type, Refusal::MISSING_TYPE),
        ] {
            if self.values[tag as usize].as_deref().is_none_or(<[u8]>::is_empty) {
                return Err(refusal);
            }
        }
        if self.shown > 0 && self.shown < SHOWN_MIN && !self.was_shown {
            return Err(Refusal::RESERVED_NAME);
        }
        if self.data.is_some() && self.data_base64.is_some() {
            return Err(Refusal::TWO_DATA);
        }
        Ok(self)
    }

    fn push(&self, encoder: &mut Encoder<'_>, extensions: &[u8]) -> Result<(), Refusal> {
        let mut attributes = Attributes::default();
        for tag in Tag::ALL {
            attributes.set(tag, self.values[tag as usize].as_deref());
        }
        attributes.set(Tag::Extensions, (!extensions.is_empty()).then_some(extensions));
        let Some(base64) = self.data_base64 else {
            return Ok(encoder.push(&attributes, 0, self.data.unwrap_or(NO_DATA))?);
        };
        let mut data = Vec::new();
        let base64 = text(base64).ok_or(Refusal::INVALID_BASE64)?;
        base64::decode(&base64, &mut data).ok_or(Refusal::INVALID_BASE64)?;
        let content_type = attributes.get(Tag::ContentType);
        attributes.set(Tag::ContentType, Some(content_type.unwrap_or(BYTES)));
        let opaque = !content_type.is_some_and(is_json_content_type);
        Ok(encoder.push(&attributes, if opaque { FLAG_OPAQUE } else { 0 }, &data)?)
    }
}

/// Appends one extension to the object that `extensions` is; its closing bracket is yet to come.
fn extend(extensions: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Reason> {
    let proper = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !proper || matches!(value[0], b'{' | b'[') {
        return Err(Reason::InvalidExtensions);
    }
    if value != b"null" {
        extensions.push(if extensions.is_empty() { b'{' } else { b',' });
        extensions.push(b'"');
        extensions.extend_from_slice(name);
        extensions.extend_from_slice(b"\":");
        extensions.extend_from_slice(value);
    }
    Ok(())
}

/// The names that an event has so far.
struct Names<'a> {
    /// A bit each of CloudEvents' own.
    own: u16,
    others: [&'a [u8]; OTHERS_MAX],
    others_count: usize,
}

impl Default for Names<'_> {
    fn default() -> Self {
        Self { own: 0, others: [&[]; OTHERS_MAX], others_count: 0 }
    }
}

impl<'a> Names<'a> {
    fn add(&mut self, name: &'a [u8], member: &Member) -> Result<(), Reason> {
        let number = match member {
            Member::SpecVersion => 0,
            Member::Attribute(tag) => *tag as u16,
            Member::Data => 9,
            Member::DataBase64 => 10,
            Member::Shown | Member::RecordedAt | Member::Extension => return self.add_other(name),
        };
        let bit = 1 << number;
        let known = self.own & bit != 0;
        self.own |= bit;
        if known { Err(Reason::InvalidJson) } else { Ok(()) }
    }

    fn add_other(&mut self, name: &'a [u8]) -> Result<(), Reason> {
        if self.others[..self.others_count].contains(&name) {
            return Err(Reason::InvalidJson);
        }
        let place = self.others.get_mut(self.others_count).ok_or(Reason::InvalidExtensions)?;
        *place = name;
        self.others_count += 1;
        Ok(())
    }
}

//! Lines of a stream, and lines that are the data of events: NDJSON.
//!
//! A line ends in LF or CR LF. Only whole lines are taken; the block's rest is for its reader to
//! give again, in front of what comes next, until it says that nothing does (`last`). Lines of
//! nothing but white space are skipped and are no events.
//!
//! [`data`] makes of each line what `certeus append` makes of it: an object, whose own bytes are
//! the event's data, and whose members may give it an id and a subject. The line is not parsed
//! unless they do: the worker checks it. Where a name stands twice the last one counts, as in
//! PostgreSQL's `jsonb`.

use std::borrow::Cow;

use certeus_ipc::record::{Attributes, Tag};
use certeus_ipc::verdict::Reason;

use super::object::{Members, space, text, unescape};
use super::{Encoder, Refusal};

/// The lines of a block that are not blank, without their ends.
pub struct Lines<'a> {
    block: &'a [u8],
    at: usize,
    last: bool,
}

impl<'a> Lines<'a> {
    #[must_use]
    pub fn new(block: &'a [u8], last: bool) -> Self {
        Self { block, at: 0, last }
    }

    /// Bytes up to the end of the last line taken.
    #[must_use]
    pub fn consumed(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while self.at < self.block.len() {
            let rest = &self.block[self.at..];
            let line = match newline(rest) {
                Some(end) => {
                    self.at += end + 1;
                    &rest[..end]
                }
                None if self.last => {
                    self.at = self.block.len();
                    rest
                }
                None => return None,
            };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.trim_ascii_start().is_empty() {
                return Some(line);
            }
        }
        None
    }
}

/// The first LF, looked for by words.
///
/// Source: the zero-byte test of "Bit Twiddling Hacks"; its lowest mark is exact.
fn newline(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let mut at = 0;
    while let Some(chunk) = text.get(at..at + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("8 bytes")) ^ (ONES * b'\n' as u64);
        let marks = word.wrapping_sub(ONES) & !word & HIGH;
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    text[at..].iter().position(|byte| *byte == b'\n').map(|behind| at + behind)
}

/// What the lines of one stream have in common.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    pub r#type: &'a str,
    /// None: the session's own.
    pub source: Option<&'a str>,
    /// The member that is the event's id.
    pub id_field: Option<&'a str>,
    /// The member that is the event's subject.
    pub subject_field: Option<&'a str>,
}

/// Takes each whole line of `block` as the data of one event.
pub fn data(encoder: &mut Encoder<'_>, block: &[u8], common: Common<'_>, last: bool) {
    let mut attributes = Attributes::default();
    attributes.set(Tag::Type, Some(common.r#type.as_bytes()));
    attributes.set(Tag::Source, common.source.map(str::as_bytes));
    let mut lines = Lines::new(block, last);
    for line in &mut lines {
        let outcome = data_line(encoder, line, &attributes, common);
        encoder.note(outcome);
    }
    encoder.consumed = lines.consumed();
}

fn data_line(
    encoder: &mut Encoder<'_>,
    line: &[u8],
    attributes: &Attributes<'_>,
    common: Common<'_>,
) -> Result<(), Refusal> {
    if line.get(space(line, 0)) != Some(&b'{') {
        return Err(Refusal::NOT_AN_OBJECT);
    }
    let names = [common.id_field, common.subject_field];
    if names == [None, None] {
        return Ok(encoder.push(attributes, 0, line)?);
    }
    let [id, subject] = fields(line, names)?;
    let id = common.id_field.map(|name| field_text(name, id)).transpose()?;
    let subject = common.subject_field.map(|name| field_text(name, subject)).transpose()?;
    let mut attributes = *attributes;
    attributes.set(Tag::Id, id.as_deref());
    attributes.set(Tag::Subject, subject.as_deref());
    Ok(encoder.push(&attributes, 0, line)?)
}

/// The values of the members of these names.
fn fields<'a>(line: &'a [u8], names: [Option<&str>; 2]) -> Result<[Option<&'a [u8]>; 2], Reason> {
    let mut found = [None; 2];
    let mut members = Members::new(line).expect("the line begins an object");
    while let Some((name, value)) = members.next()? {
        let name = unescape(name);
        for (wanted, found) in names.iter().zip(&mut found) {
            if wanted.is_some_and(|wanted| wanted.as_bytes() == &*name) {
                *found = Some(value);
            }
        }
    }
    Ok(found)
}

/// Text as it is, an integer as it is written.
fn field_text<'a>(name: &str, value: Option<&'a [u8]>) -> Result<Cow<'a, [u8]>, Refusal> {
    let value = match value {
        None | Some(b"null") => return Err(Refusal::no_field(name)),
        Some(b"-0") => &b"0"[..],
        Some(value) => value,
    };
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    if digits.iter().all(u8::is_ascii_digit) {
        return Ok(Cow::Borrowed(value));
    }
    text(value).ok_or_else(|| Refusal::field_is_no_text(name))
}

//! A protobuf message in either of its notations, read where it stands.
//!
//! [`Document`] knows the notation, so that what a message means is written once (`record.rs`,
//! `value.rs`): a [`Walk`] yields the fields of a message by their numbers, as [`Node`]s, which are
//! places in the body and not copies. So a body needs no memory beyond itself in the binary
//! notation, and in JSON eight bytes for each pair of brackets, whatever is in it: two bytes that
//! stand for an empty record stay two bytes.
//!
//! | | binary | JSON |
//! |---|---|---|
//! | a field | its number | its name, by the message's [`Schema`] |
//! | what is not known | skipped | skipped |
//! | a field that is there twice | the last counts | the last counts |
//! | repeated | as often as it is there | an array |
//!
//! Source: the protobuf encoding guide, and "JSON Protobuf Encoding" of OTLP 1.x.

use std::borrow::Cow;

use certeus_ipc::verdict::Reason;

use super::index::Index;
use crate::door::object::{space, unescape};
use crate::door::{Refusal, base64};
use crate::validate::json::skip;

pub type Read<T> = Result<T, Refusal>;

/// A field of a message: its number, its name in JSON, whether it is repeated.
pub type Field = (u32, &'static str, bool);
pub type Schema = &'static [Field];

/// A place in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// The value of a field, not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// Text, bytes or a message.
    Bytes(Span),
    /// Any JSON but `null`.
    Json(Span),
}

/// A body, and what is known of it.
#[derive(Clone, Copy)]
pub struct Document<'a> {
    pub text: &'a [u8],
    /// None: the binary notation.
    pub brackets: Option<&'a Index>,
    /// Of what is written of one record, or of what several have in common.
    pub bytes_max: usize,
}

/// Goes from field to field; a place in a message.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    schema: Schema,
    at: usize,
    end: usize,
    /// JSON: nothing has been passed yet in the innermost bracket.
    first: bool,
    /// JSON: the field whose array this is in.
    array: Option<u32>,
}

impl<'a> Document<'a> {
    /// The message that the whole body is.
    pub fn root(&self) -> Node {
        let whole = Span { start: 0, end: self.text.len() };
        match self.brackets {
            None => Node::Bytes(whole),
            Some(_) => Node::Json(Span { start: space(self.text, 0), ..whole }),
        }
    }

    /// The fields of a message.
    pub fn walk(&self, node: Node, schema: Schema) -> Read<Walk> {
        let (at, end) = match node {
            Node::Bytes(span) => (span.start, span.end),
            Node::Json(span) if self.text[span.start] == b'{' => (span.start + 1, span.end),
            _ => return Err(self.broken()),
        };
        Ok(Walk { schema, at, end, first: true, array: None })
    }

    /// What is wrong with a body that is not in its notation.
    pub fn broken(&self) -> Refusal {
        match self.brackets {
            None => Refusal::INVALID_PROTOBUF,
            Some(_) => Reason::InvalidJson.into(),
        }
    }

    fn bytes(&self, span: Span) -> &'a [u8] {
        &self.text[span.start..span.end]
    }

    /// What stands between the quotes of a JSON string, checked.
    fn quoted(&self, span: Span) -> Read<&'a [u8]> {
        if self.text[span.start] != b'"' || skip(self.text, span.start, 0)? != span.end {
            return Err(self.broken());
        }
        Ok(&self.text[span.start + 1..span.end - 1])
    }

    /// Digits, which JSON may have in quotes.
    fn digits(&self, span: Span) -> Read<&'a str> {
        let text = match self.text[span.start] {
            b'"' => self.quoted(span)?,
            _ if skip(self.text, span.start, 0)? == span.end => self.bytes(span),
            _ => return Err(self.broken()),
        };
        std::str::from_utf8(text).map_err(|_| self.broken())
    }

    pub fn text(&self, node: Node) -> Read<Cow<'a, str>> {
        let text = match node {
            Node::Bytes(span) => Cow::Borrowed(self.bytes(span)),
            Node::Json(span) => unescape(self.quoted(span)?),
            _ => return Err(self.broken()),
        };
        match text {
            Cow::Borrowed(text) => std::str::from_utf8(text).map(Cow::Borrowed).ok(),
            Cow::Owned(text) => String::from_utf8(text).map(Cow::Owned).ok(),
        }
        .ok_or(Reason::InvalidUtf8.into())
    }

    /// Whether so many more bytes may be written. A few of a body can stand for many times as many,
    /// and what no event can hold is not written first.
    pub fn check_room(&self, out: &[u8], more: usize) -> Read<()> {
        if out.len() + more > self.bytes_max { Err(Reason::TooLarge.into()) } else { Ok(()) }
    }

    /// Appends a text as a JSON string; one that is written in JSON stays as it is written.
    pub fn write_text(&self, node: Node, out: &mut Vec<u8>) -> Read<()> {
        if let Node::Json(span) | Node::Bytes(span) = node {
            self.check_room(out, span.end - span.start)?;
        }
        if let Node::Json(span) = node {
            self.quoted(span)?;
            out.extend_from_slice(self.bytes(span));
        } else {
            serde_json::to_writer(out, &*self.text(node)?).expect("memory takes it");
        }
        Ok(())
    }

    /// An integer of any kind, which is not negative.
    pub fn unsigned(&self, node: Node) -> Read<u64> {
        match node {
            Node::Varint(value) | Node::Fixed64(value) => Ok(value),
            Node::Fixed32(value) => Ok(value.into()),
            Node::Bytes(_) => Err(self.broken()),
            Node::Json(span) => {
                let digits = self.digits(span)?;
                // JSON knows no integers: some write them as 1.5e18.
                let whole = || whole(digits).and_then(|value| u64::try_from(value).ok());
                digits.parse().ok().or_else(whole).ok_or(self.broken())
            }
        }
    }

    pub fn signed(&self, node: Node) -> Read<i64> {
        match node {
            Node::Varint(value) => Ok(i64::from_le_bytes(value.to_le_bytes())),
            Node::Json(span) => {
                let digits = self.digits(span)?;
                let whole = || whole(digits).and_then(|value| i64::try_from(value).ok());
                digits.parse().ok().or_else(whole).ok_or(self.broken())
            }
            _ => Err(self.broken()),
        }
    }

    pub fn double(&self, node: Node) -> Read<f64> {
        match node {
            Node::Fixed64(bits) => Ok(f64::from_bits(bits)),
            Node::Json(span) => match self.digits(span)? {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                digits => finite(digits).ok_or(self.broken()),
            },
            _ => Err(self.broken()),
        }
    }

    pub fn boolean(&self, node: Node) -> Read<bool> {
        match node {
            Node::Varint(value) => Ok(value != 0),
            Node::Json(span) if self.bytes(span) == b"true" => Ok(true),
            Node::Json(span) if self.bytes(span) == b"false" => Ok(false),
            _ => Err(self.broken()),
        }
    }

    pub fn blob(&self, node: Node) -> Read<Cow<'a, [u8]>> {
        match node {
            Node::Bytes(span) => Ok(Cow::Borrowed(self.bytes(span))),
            Node::Json(span) => {
                let (mut text, mut bytes) = (unescape(self.quoted(span)?).into_owned(), Vec::new());
                // Protobuf's JSON may have either alphabet, padded or not.
                for byte in &mut text {
                    *byte = match *byte {
                        b'-' => b'+',
                        b'_' => b'/',
                        byte => byte,
                    };
                }
                text.resize(text.len().next_multiple_of(4), b'=');
                base64::decode(&text, &mut bytes).ok_or(Refusal::INVALID_BASE64)?;
                Ok(Cow::Owned(bytes))
            }
            _ => Err(self.broken()),
        }
    }

    /// The number that a trace or a span has; none: it is not of `N` bytes, or all zeros, which
    /// OTLP calls not there. In JSON it is written in hexadecimal digits.
    pub fn id<const N: usize>(&self, node: Node) -> Read<Option<[u8; N]>> {
        let mut id = [0; N];
        match node {
            Node::Bytes(span) if span.end - span.start == N => id.copy_from_slice(self.bytes(span)),
            Node::Bytes(_) => {}
            Node::Json(span) => {
                let text = unescape(self.quoted(span)?);
                let digit = |at: usize| char::from(text[at]).to_digit(16);
                if text.len() == 2 * N {
                    for (at, byte) in id.iter_mut().enumerate() {
                        let pair = digit(2 * at).zip(digit(2 * at + 1));
                        let (high, low) = pair.ok_or(self.broken())?;
                        *byte = (high << 4 | low) as u8;
                    }
                }
            }
            _ => return Err(self.broken()),
        }
        Ok((id != [0; N]).then_some(id))
    }
}

fn finite(digits: &str) -> Option<f64> {
    let proper = digits.ends_with(|last: char| last.is_ascii_digit() || last == '.');
    digits.parse::<f64>().ok().filter(|value| proper && value.is_finite())
}

fn whole(digits: &str) -> Option<i128> {
    let value = finite(digits)?;
    (value.fract() == 0.0 && value.abs() < 1e20).then_some(value as i128)
}

impl Walk {
    /// The next field; an error: what follows is not in the notation of its document.
    pub fn next(&mut self, document: &Document<'_>) -> Read<Option<(u32, Node)>> {
        match document.brackets {
            None => self.next_binary(document.text),
            Some(brackets) => self.next_member(document.text, brackets),
        }
        .map_err(|()| document.broken())
    }

    /// The next value of one field.
    pub fn next_of(&mut self, document: &Document<'_>, number: u32) -> Read<Option<Node>> {
        while let Some((found, node)) = self.next(document)? {
            if found == number {
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    fn next_binary(&mut self, text: &[u8]) -> Result<Option<(u32, Node)>, ()> {
        if self.at == self.end {
            return Ok(None);
        }
        let text = &text[..self.end];
        let key = self.varint(text)?;
        let number = u32::try_from(key >> 3).map_err(|_| ())?;
        let node = match key & 7 {
            0 => Node::Varint(self.varint(text)?),
            1 => Node::Fixed64(u64::from_le_bytes(*self.fixed(text)?)),
            5 => Node::Fixed32(u32::from_le_bytes(*self.fixed(text)?)),
            2 => {
                let length = usize::try_from(self.varint(text)?).map_err(|_| ())?;
                let start = self.at;
                self.at = start.checked_add(length).filter(|end| *end <= self.end).ok_or(())?;
                Node::Bytes(Span { start, end: self.at })
            }
            // Groups: proto3 has none.
            _ => return Err(()),
        };
        if number == 0 { Err(()) } else { Ok(Some((number, node))) }
    }

    fn fixed<'a, const N: usize>(&mut self, text: &'a [u8]) -> Result<&'a [u8; N], ()> {
        let bytes = text[self.at..].first_chunk().ok_or(())?;
        self.at += N;
        Ok(bytes)
    }

    fn varint(&mut self, text: &[u8]) -> Result<u64, ()> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *text.get(self.at).ok_or(())?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(());
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(())
    }

    fn next_member(&mut self, text: &[u8], brackets: &Index) -> Result<Option<(u32, Node)>, ()> {
        loop {
            if let Some(number) = self.array {
                if let Some(span) = self.place(text, brackets, b']')? {
                    return Ok(Some((number, Node::Json(span))));
                }
                self.array = None;
                self.first = false;
            }
            let Some(name) = self.place(text, brackets, b'}')? else { return Ok(None) };
            let colon = space(text, self.at);
            if text[name.start] != b'"' || text.get(colon) != Some(&b':') {
                return Err(());
            }
            let value = self.value(text, brackets, colon + 1)?;
            let Some((number, _, repeated)) = self.field(text, name)? else { continue };
            match text[value.start] {
                b'n' if &text[value.start..value.end] == b"null" => {}
                b'[' if repeated => {
                    (self.at, self.first, self.array) = (value.start + 1, true, Some(number));
                }
                b'[' => return Err(()),
                _ if repeated => return Err(()),
                _ => return Ok(Some((number, Node::Json(value)))),
            }
        }
    }

    /// Where the next value of an array is, or the next name of an object; none: it ends here.
    fn place(&mut self, text: &[u8], brackets: &Index, close: u8) -> Result<Option<Span>, ()> {
        let mut at = space(text, self.at);
        if text.get(at) == Some(&close) {
            // Who asks again at the end of the message is told the same.
            self.at = if close == b']' { at + 1 } else { at };
            return Ok(None);
        }
        if !self.first {
            if text.get(at) != Some(&b',') {
                return Err(());
            }
            at += 1;
        }
        self.first = false;
        self.value(text, brackets, at).map(Some)
    }

    fn value(&mut self, text: &[u8], brackets: &Index, at: usize) -> Result<Span, ()> {
        let start = space(text, at);
        self.at = brackets.value_end(text, start).ok_or(())?;
        Ok(Span { start, end: self.at })
    }

    fn field(&self, text: &[u8], name: Span) -> Result<Option<Field>, ()> {
        let mut told = Cow::Borrowed(&text[name.start + 1..name.end - 1]);
        if told.contains(&b'\\') {
            skip(text, name.start, 0).map_err(|_| ())?;
            told = unescape(&text[name.start + 1..name.end - 1]);
        }
        Ok(self.schema.iter().find(|field| field.1.as_bytes() == &*told).copied())
    }
}

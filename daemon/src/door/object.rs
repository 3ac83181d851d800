//! The members of a JSON object, borrowed: names and values as they are written.

use std::borrow::Cow;

use certeus_ipc::verdict::Reason;

use crate::validate::json::{DEPTH_LIMIT, skip, unexpected};

/// Name and value.
type Member<'a> = (&'a [u8], &'a [u8]);

/// Walks an object from member to member; what it has passed is well-formed.
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
    first: bool,
}

impl<'a> Members<'a> {
    /// `None`: `text` begins with something else.
    pub fn new(text: &'a [u8]) -> Option<Self> {
        let at = space(text, 0);
        (text.get(at) == Some(&b'{')).then_some(Self { text, at: at + 1, first: true })
    }

    /// The next name, as it stands between its quotes, and its value without the space around it.
    /// At the end nothing may follow the object.
    pub fn next(&mut self) -> Result<Option<Member<'a>>, Reason> {
        let text = self.text;
        let at = space(text, self.at);
        let at = match text.get(at) {
            Some(b'}') => return self.end(at + 1),
            Some(b',') if !self.first => space(text, at + 1),
            Some(b'"') if self.first => at,
            other => return Err(wrong(other)),
        };
        if text.get(at) != Some(&b'"') {
            return Err(wrong(text.get(at)));
        }
        let name_end = skip(text, at, 0)?;
        let colon = space(text, name_end);
        if text.get(colon) != Some(&b':') {
            return Err(wrong(text.get(colon)));
        }
        let value = space(text, colon + 1);
        self.at = skip(text, value, DEPTH_LIMIT)?;
        self.first = false;
        Ok(Some((&text[at + 1..name_end - 1], &text[value..self.at])))
    }

    fn end(&self, at: usize) -> Result<Option<Member<'a>>, Reason> {
        self.text.get(space(self.text, at)).map_or(Ok(None), |byte| Err(unexpected(*byte)))
    }
}

fn wrong(byte: Option<&u8>) -> Reason {
    byte.map_or(Reason::InvalidJson, |byte| unexpected(*byte))
}

/// The first place from `at` on that is no JSON white space.
pub fn space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(at) {
        at += 1;
    }
    at
}

/// What a JSON string that was checked stands for; `None`: the value is no string.
pub fn text(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    Some(unescape(inner))
}

/// What stands between the quotes of a JSON string that was checked, without its escapes.
pub fn unescape(inner: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = inner.iter().position(|byte| *byte == b'\\') else {
        return Cow::Borrowed(inner);
    };
    let mut out = inner[..first].to_vec();
    let mut rest = &inner[first..];
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        let (code, behind) = rest.split_first().expect("checked: an escape is whole");
        rest = behind;
        match code {
            b'u' => {
                let mut code = hex4(&mut rest);
                if (0xd800..=0xdbff).contains(&code) {
                    rest = &rest[2..];
                    code = 0x10000 + ((code - 0xd800) << 10) + (hex4(&mut rest) - 0xdc00);
                }
                let character = char::from_u32(code).expect("checked: no lone surrogate");
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            b'b' => out.push(0x08),
            b'f' => out.push(0x0c),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            other => out.push(*other),
        }
    }
    Cow::Owned(out)
}

fn hex4(rest: &mut &[u8]) -> u32 {
    let (digits, behind) = rest.split_at(4);
    *rest = behind;
    digits.iter().fold(0, |value, digit| {
        value * 16 + char::from(*digit).to_digit(16).expect("checked: four digits")
    })
}

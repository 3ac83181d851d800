//! A JSON object, written member by member: data that a door has to make of another format.
//!
//! What comes may be anything; what is written is JSON that the log takes. Bytes that are not
//! UTF-8, and U+0000, which PostgreSQL cannot hold, become U+FFFD, one for each broken sequence;
//! whoever writes can see that it happened and keep the bytes elsewhere.

const REPLACEMENT: &str = "\u{fffd}";

/// An object that is begun; [`Object::end`] closes it.
#[derive(Debug)]
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
    /// A text in it is not what was given.
    pub replaced: bool,
}

impl<'o> Object<'o> {
    /// Begins an object behind whatever `out` holds.
    pub fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true, replaced: false }
    }

    /// A member whose value is text.
    pub fn text(&mut self, name: &[u8], value: &[u8]) {
        let out = self.member(name);
        let replaced = quote(out, value);
        self.replaced |= replaced;
    }

    /// A member whose value is text, where there is one.
    pub fn optional(&mut self, name: &[u8], value: Option<&[u8]>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A member whose value the caller writes, as JSON.
    pub fn member(&mut self, name: &[u8]) -> &mut Vec<u8> {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.replaced |= quote(self.out, name);
        self.out.push(b':');
        self.out
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends `text` as a JSON string. True: something in it had to be replaced.
pub fn quote(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let mut replaced = false;
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        replaced |= escape(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT.as_bytes());
            replaced = true;
        }
    }
    out.push(b'"');
    replaced
}

fn escape(out: &mut Vec<u8>, text: &str) -> bool {
    let (mut plain, mut replaced, bytes) = (0, false, text.as_bytes());
    for (at, byte) in bytes.iter().enumerate() {
        if !matches!(byte, 0x00..=0x1f | b'"' | b'\\') {
            continue;
        }
        out.extend_from_slice(&bytes[plain..at]);
        plain = at + 1;
        match byte {
            0 => {
                out.extend_from_slice(REPLACEMENT.as_bytes());
                replaced = true;
            }
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[plain..]);
    replaced
}

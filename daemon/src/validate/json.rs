//! One pass over a JSON text: is it what PostgreSQL's `jsonb` takes?
//!
//! Strict RFC 8259 in UTF-8, no byte order mark, duplicate names allowed; and beyond it no
//! `\u0000`, no lone surrogates, no number outside `numeric`, no nesting deeper than `depth_max`.
//! The first failure from the left is the one reported. Nothing is allocated, nothing recurses: the
//! open brackets are bits of a fixed array.
//!
//! The limits of `numeric` are those that PostgreSQL 15 was seen to hold: the first digit that is
//! not zero stands at most 131,072 places before the point; at most 16,383 places behind the point
//! are *written*, zeros included, once the exponent has moved it (so `1.0e-16383` and `0e-16384`
//! fail, `1e-16383` and `0e131073` do not); and the exponent is below 2^30 - 1 either way.
//! PostgreSQL 18 differs only in taking a zero with just that exponent.

use certeus_ipc::verdict::Reason;

/// The deepest `depth_max`; PostgreSQL's own limit (its stack) is far above.
pub const DEPTH_LIMIT: u32 = 1024;

const NUMERIC_BEFORE_POINT_MAX: i64 = 131_072;
const NUMERIC_BEHIND_POINT_MAX: i64 = 16_383;
const NUMERIC_EXPONENT_END: i64 = (1 << 30) - 1;

type Check = Result<(), Reason>;

/// Whether `text` is one JSON text that PostgreSQL takes, with at most `depth_max` brackets open.
pub fn check(text: &[u8], depth_max: u32) -> Check {
    let mut cursor = Cursor { text, at: 0 };
    cursor.value(depth_max)?;
    cursor.skip_space();
    cursor.peek().map_or(Ok(()), |byte| Err(unexpected(byte)))
}

/// Where the value ends that begins at `at`, checked as [`check`] does; space before it is skipped.
pub fn skip(text: &[u8], at: usize, depth_max: u32) -> Result<usize, Reason> {
    let mut cursor = Cursor { text, at };
    cursor.value(depth_max)?;
    Ok(cursor.at)
}

/// A NUL is told by its name wherever it stands; any other stray byte is only bad JSON.
#[must_use]
pub fn unexpected(byte: u8) -> Reason {
    if byte == 0 { Reason::NulCharacter } else { Reason::InvalidJson }
}

/// The open brackets: one bit each, set for an object.
#[derive(Default)]
struct Open {
    depth: u32,
    bits: [u64; DEPTH_LIMIT as usize / 64],
}

impl Open {
    fn push(&mut self, object: bool, depth_max: u32) -> Check {
        if self.depth >= depth_max {
            return Err(Reason::TooDeep);
        }
        let (word, bit) = (self.depth as usize / 64, self.depth % 64);
        self.bits[word] = self.bits[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn object(&self) -> bool {
        let innermost = self.depth - 1;
        self.bits[innermost as usize / 64] >> (innermost % 64) & 1 == 1
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// One value, with all that is in it.
    #[inline]
    fn value(&mut self, depth_max: u32) -> Check {
        assert!(depth_max <= DEPTH_LIMIT);
        self.skip_space();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return self.string();
        }
        self.nested(depth_max)
    }

    fn nested(&mut self, depth_max: u32) -> Check {
        let mut open = Open::default();
        loop {
            self.skip_space();
            match self.take()? {
                b'"' => self.string()?,
                b'{' => {
                    open.push(true, depth_max)?;
                    self.skip_space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                        open.pop();
                    } else {
                        self.name()?;
                        continue;
                    }
                }
                b'[' => {
                    open.push(false, depth_max)?;
                    self.skip_space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        open.pop();
                    } else {
                        continue;
                    }
                }
                first @ (b'-' | b'0'..=b'9') => self.number(first)?,
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                other => return Err(unexpected(other)),
            }
            if self.behind_value(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Closes what closes here. True: the value is complete; false: another one follows in it.
    fn behind_value(&mut self, open: &mut Open) -> Result<bool, Reason> {
        loop {
            if open.depth == 0 {
                return Ok(true);
            }
            self.skip_space();
            match (self.take()?, open.object()) {
                (b',', true) => {
                    self.skip_space();
                    self.name()?;
                    return Ok(false);
                }
                (b',', false) => return Ok(false),
                (b'}', true) | (b']', false) => open.pop(),
                (other, _) => return Err(unexpected(other)),
            }
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn take(&mut self) -> Result<u8, Reason> {
        let byte = self.peek().ok_or(Reason::InvalidJson)?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &[u8]) -> Check {
        for expected in rest {
            let byte = self.take()?;
            if byte != *expected {
                return Err(unexpected(byte));
            }
        }
        Ok(())
    }

    /// A member's name and the colon behind it.
    fn name(&mut self) -> Check {
        match self.take()? {
            b'"' => self.string()?,
            other => return Err(unexpected(other)),
        }
        self.skip_space();
        match self.take()? {
            b':' => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// The rest of a string, behind its opening quote.
    #[inline]
    fn string(&mut self) -> Check {
        loop {
            self.skip_plain();
            match self.take()? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                0x80.. => {
                    self.at = skip_utf8(self.text, self.at - 1).ok_or(Reason::InvalidUtf8)?;
                }
                0 => return Err(Reason::NulCharacter),
                0x01..=0x1f => return Err(Reason::InvalidJson),
                _ => {}
            }
        }
    }

    /// Skips whole words without a quote, a backslash, a control character or a byte beyond ASCII,
    /// and in the word that has one, up to it.
    ///
    /// Source: the zero-byte tests of "Bit Twiddling Hacks". A borrow may mark bytes above a true
    /// one, never below, so the lowest mark is exact.
    #[inline]
    fn skip_plain(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
        while let Some(chunk) = self.text.get(self.at..self.at + 8) {
            let word = u64::from_le_bytes(chunk.try_into().expect("8 bytes"));
            let quote = zero_bytes(word ^ (ONES * b'"' as u64));
            let backslash = zero_bytes(word ^ (ONES * b'\\' as u64));
            let control = word.wrapping_sub(ONES * 0x20) & !word;
            let marks = (quote | backslash | control | word) & HIGH;
            if marks != 0 {
                self.at += marks.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    /// The rest of an escape, behind its backslash.
    fn escape(&mut self) -> Check {
        match self.take()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.hex4()? {
                0 => Err(Reason::NulCharacter),
                0xd800..=0xdbff => {
                    if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
                        return Err(Reason::LoneSurrogate);
                    }
                    self.at += 2;
                    match self.hex4()? {
                        0xdc00..=0xdfff => Ok(()),
                        _ => Err(Reason::LoneSurrogate),
                    }
                }
                0xdc00..=0xdfff => Err(Reason::LoneSurrogate),
                _ => Ok(()),
            },
            other => Err(unexpected(other)),
        }
    }

    fn hex4(&mut self) -> Result<u32, Reason> {
        let mut value = 0;
        for _ in 0..4 {
            let byte = self.take()?;
            let digit = char::from(byte).to_digit(16).ok_or(unexpected(byte))?;
            value = value * 16 + digit;
        }
        Ok(value)
    }

    /// Skips digits. Gives how many, and how many of them were zeros at the front.
    #[inline]
    fn digits(&mut self) -> (usize, usize) {
        let start = self.at;
        while self.peek() == Some(b'0') {
            self.at += 1;
        }
        let zeros = self.at - start;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        (self.at - start, zeros)
    }

    /// The rest of a number, behind its first byte.
    #[inline]
    fn number(&mut self, first: u8) -> Check {
        if first != b'-' {
            self.at -= 1;
        }
        let (before, before_zeros) = self.digits();
        if before == 0 || before_zeros > 0 && before > 1 {
            return Err(self.peek().map_or(Reason::InvalidJson, unexpected));
        }
        let (mut behind, mut behind_zeros) = (0, 0);
        if self.peek() == Some(b'.') {
            self.at += 1;
            (behind, behind_zeros) = self.digits();
            if behind == 0 {
                return Err(self.peek().map_or(Reason::InvalidJson, unexpected));
            }
        }
        let mut exponent = 0;
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            exponent = self.exponent()?;
        } else if before as i64 <= NUMERIC_BEFORE_POINT_MAX
            && behind as i64 <= NUMERIC_BEHIND_POINT_MAX
        {
            return Ok(());
        }
        let leading = if before_zeros == 0 { before as i64 } else { -(behind_zeros as i64) };
        let is_zero = before_zeros == before && behind_zeros == behind;
        let fits = exponent.abs() < NUMERIC_EXPONENT_END
            && (is_zero || leading + exponent <= NUMERIC_BEFORE_POINT_MAX)
            && behind as i64 - exponent <= NUMERIC_BEHIND_POINT_MAX;
        if fits { Ok(()) } else { Err(Reason::NumberOutOfRange) }
    }

    /// The rest of an exponent, behind its `e`; one far beyond any limit is only told as that.
    fn exponent(&mut self) -> Result<i64, Reason> {
        let negative = match self.peek() {
            Some(sign @ (b'+' | b'-')) => {
                self.at += 1;
                sign == b'-'
            }
            _ => false,
        };
        let start = self.at;
        let mut value = 0_i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = (value * 10 + i64::from(digit - b'0')).min(NUMERIC_EXPONENT_END);
            self.at += 1;
        }
        if self.at == start {
            return Err(self.peek().map_or(Reason::InvalidJson, unexpected));
        }
        Ok(if negative { -value } else { value })
    }
}

/// Where the run of characters beyond ASCII that starts at `at` ends; `None`: it is not UTF-8.
///
/// Source: table 3-7, "Well-Formed UTF-8 Byte Sequences", of the Unicode Standard.
#[must_use]
pub fn skip_utf8(text: &[u8], mut at: usize) -> Option<usize> {
    while let Some(lead @ 0x80..) = text.get(at).copied() {
        let (count, second) = match lead {
            0xc2..=0xdf => (2, 0x80..=0xbf),
            0xe0 => (3, 0xa0..=0xbf),
            0xed => (3, 0x80..=0x9f),
            0xe1..=0xef => (3, 0x80..=0xbf),
            0xf0 => (4, 0x90..=0xbf),
            0xf1..=0xf3 => (4, 0x80..=0xbf),
            0xf4 => (4, 0x80..=0x8f),
            _ => return None,
        };
        let bytes = text.get(at..at + count)?;
        if !second.contains(&bytes[1]) || bytes[2..].iter().any(|byte| byte & 0xc0 != 0x80) {
            return None;
        }
        at += count;
    }
    Some(at)
}

#[cfg(test)]
mod tests;

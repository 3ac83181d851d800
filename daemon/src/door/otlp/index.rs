//! Where the brackets of a JSON text end, found once, so that nothing in it is passed twice.
//!
//! A value that nests is looked at level by level, and each level has to know where the ones below
//! end. Without an index that is one more pass for each level: a hostile body of some megabytes
//! would take minutes.

use crate::door::object::space;

/// The most brackets that may be open; attributes need four for each level.
const OPEN_MAX: usize = 1024;

/// Pairs of brackets, by their place in the text.
pub struct Index {
    /// Where each begins, ascending, and the place behind it.
    pairs: Vec<Pair>,
}

type Pair = (u32, u32);

/// The most pairs of a text, if all of its brackets are outside of strings.
fn pairs_max(text: &[u8]) -> usize {
    text.iter().filter(|byte| matches!(byte, b'{' | b'[')).count()
}

impl Index {
    /// The most memory that the index of a text takes.
    #[must_use]
    pub fn bytes_max(text: &[u8]) -> usize {
        pairs_max(text) * size_of::<Pair>()
    }

    /// None: `text` is not one object with brackets in pairs and quotes that are closed.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let begin = space(text, 0);
        if text.get(begin) != Some(&b'{') {
            return None;
        }
        let mut pairs = Vec::with_capacity(pairs_max(text));
        let (mut open, mut at) = (Vec::new(), begin);
        loop {
            let byte = *text.get(at)?;
            match byte {
                b'"' => at = string_end(text, at)? - 1,
                b'{' | b'[' => {
                    if open.len() == OPEN_MAX {
                        return None;
                    }
                    open.push(pairs.len());
                    pairs.push((at as u32, 0));
                }
                b'}' | b']' => {
                    let pair: &mut Pair = &mut pairs[open.pop()?];
                    // In ASCII both closing brackets stand two places behind their opening ones.
                    if text[pair.0 as usize] + 2 != byte {
                        return None;
                    }
                    pair.1 = at as u32 + 1;
                    if open.is_empty() {
                        let ends = space(text, at + 1) == text.len();
                        return ends.then_some(Self { pairs });
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Where the value ends that begins at `at`; none: none begins there.
    #[must_use]
    pub fn value_end(&self, text: &[u8], at: usize) -> Option<usize> {
        match text.get(at)? {
            b'"' => string_end(text, at),
            b'{' | b'[' => {
                let place = self.pairs.binary_search_by_key(&(at as u32), |pair| pair.0).ok()?;
                Some(self.pairs[place].1 as usize)
            }
            _ => {
                let behind = |byte: &u8| {
                    !matches!(byte, b'+' | b'-' | b'.') && !byte.is_ascii_alphanumeric()
                };
                let length = text[at..].iter().position(behind).unwrap_or(text.len() - at);
                (length > 0).then_some(at + length)
            }
        }
    }
}

/// Behind the closing quote.
fn string_end(text: &[u8], mut at: usize) -> Option<usize> {
    at += 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

//! Values out of a fuzzer's bytes: an input that is used up gives zeros, so every input is one.

pub struct Input<'a>(&'a [u8]);

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    15,
    16,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 48,
    1 << 62,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

impl<'a> Input<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `count` bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.short() as usize % end
    }

    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number near `base`, one at an edge, or any: so few bytes reach what is of interest.
    pub fn near(&mut self, base: u64) -> u64 {
        match self.byte() {
            0xff => {
                let mut word = [0; 8];
                let taken = self.bytes(8);
                word[..taken.len()].copy_from_slice(taken);
                u64::from_le_bytes(word)
            }
            0xfe => EDGES[self.below(EDGES.len())],
            0xfd => base.wrapping_sub(u64::from(self.short())),
            0xfc => base.wrapping_add(u64::from(self.short())),
            step @ 0x80.. => base.wrapping_sub(u64::from(step - 0x80)),
            step => base.wrapping_add(u64::from(step)),
        }
    }
}

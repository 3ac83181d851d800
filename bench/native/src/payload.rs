//! Payloads: what a writer puts into each event, and the sum by which it proves that it did.

/// The bytes of one event. Its first word is the event's number, the rest is the same in all.
pub struct Payload {
    bytes: Vec<u8>,
    rest_sum: u64,
}

impl Payload {
    /// Panics below 8 bytes, which the number takes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        assert!(bytes >= 8, "cannot number events of {bytes} bytes: give them 8 or more");
        let mut bytes: Vec<u8> = (0..bytes).map(|at| (at * 31 + 7) as u8).collect();
        bytes[..8].fill(0);
        let rest_sum = sum(&bytes);
        Self { bytes, rest_sum }
    }

    /// Gives the event its number, and adds the sum of its bytes to `total`.
    #[inline]
    pub fn number(&mut self, number: u64, total: &mut u64) -> &[u8] {
        self.bytes[..8].copy_from_slice(&number.to_le_bytes());
        *total = total.wrapping_add(self.rest_sum).wrapping_add(number);
        &self.bytes
    }
}

/// The wrapping sum of all words of 8 bytes, and of what is left as one short word.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(8);
    let whole: u64 = (&mut words)
        .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
        .fold(0, u64::wrapping_add);
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    whole.wrapping_add(u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writers_sum_is_the_sum_of_what_it_wrote() {
        for bytes in [8, 9, 100, 1024] {
            let mut payload = Payload::new(bytes);
            let (mut written, mut read) = (0, 0u64);
            for number in [1, 2, u64::MAX] {
                read = read.wrapping_add(sum(payload.number(number, &mut written)));
            }
            assert_eq!(written, read);
        }
    }

    #[test]
    fn every_byte_changes_the_sum() {
        let bytes = [1u8; 100];
        for at in 0..bytes.len() {
            let mut other = bytes;
            other[at] = 2;
            assert_ne!(sum(&bytes), sum(&other), "byte {at}");
        }
    }
}

//! The gap record: acknowledged numbers that are gone, told once and for good by the log itself.
//!
//! The start that finds a loss writes it, in a group without records, before it publishes anything.
//! Later starts, readers and `certeus log check` take the range from there; a log without it (an
//! old sealed segment that no start has read since) gives the same range by its headers.

use crate::format::{NUMBER_MAX, u64_at};

/// A gap record: it takes exactly the numbers `first_seq..=last_seq`, which no event has any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GapEntry {
    pub first_seq: u64,
    pub last_seq: u64,
    /// Where the bytes were; 0, 0, 0 where nobody knows.
    pub segment_no: u64,
    pub offset: u64,
    pub bytes: u64,
    pub reason: GapReason,
}

/// Why numbers are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GapReason {
    /// Bytes of the log that held acknowledged events cannot be read.
    Damaged = 1,
    /// A start found the log shorter than what was known to be acknowledged.
    Lost = 2,
    /// A segment file is not there although older ones are.
    MissingSegment = 3,
    /// In the place of the segment was one of another log, or of another life of this one.
    ForeignSegment = 4,
}

impl GapReason {
    pub const ALL: [Self; 4] =
        [Self::Damaged, Self::Lost, Self::MissingSegment, Self::ForeignSegment];

    /// The stable word, as it stands in `certeus.gaps`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Lost => "lost",
            Self::MissingSegment => "missing-segment",
            Self::ForeignSegment => "foreign-segment",
        }
    }

    /// A code of a later version counts as the general one.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|reason| *reason as u8 == code).unwrap_or(Self::Lost)
    }
}

impl GapEntry {
    /// Appends the fields, as [`GapEntry::parse`] reads them.
    pub fn write(&self, out: &mut Vec<u8>) {
        for word in [self.first_seq, self.last_seq, self.segment_no, self.offset, self.bytes] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&[self.reason as u8, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// `None`: too short, or numbers that no writer makes.
    #[must_use]
    pub fn parse(fields: &[u8]) -> Option<Self> {
        let fixed = fields.get(..48)?;
        let gap = Self {
            first_seq: u64_at(fixed, 0),
            last_seq: u64_at(fixed, 8),
            segment_no: u64_at(fixed, 16),
            offset: u64_at(fixed, 24),
            bytes: u64_at(fixed, 32),
            reason: GapReason::from_code(fixed[40]),
        };
        let possible = 1..=NUMBER_MAX;
        (gap.first_seq <= gap.last_seq
            && possible.contains(&gap.first_seq)
            && possible.contains(&gap.last_seq))
        .then_some(gap)
    }

    /// What is left of this gap outside of `others`: they have been told of already.
    #[must_use]
    pub fn without(self, others: &[Self]) -> Vec<Self> {
        let mut left = vec![self];
        for other in others {
            left = left.into_iter().flat_map(|gap| gap.outside(other)).collect();
        }
        left
    }

    fn outside(self, other: &Self) -> Vec<Self> {
        let before =
            Self { last_seq: self.last_seq.min(other.first_seq.saturating_sub(1)), ..self };
        let behind =
            Self { first_seq: self.first_seq.max(other.last_seq.saturating_add(1)), ..self };
        let some = |gap: &Self| gap.first_seq <= gap.last_seq;
        [before, behind].into_iter().filter(some).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(first_seq: u64, last_seq: u64) -> GapEntry {
        let reason = GapReason::Damaged;
        GapEntry { first_seq, last_seq, segment_no: 1, offset: 2, bytes: 3, reason }
    }

    #[test]
    fn a_gap_that_was_told_is_not_told_again() {
        let range = |gaps: Vec<GapEntry>| -> Vec<(u64, u64)> {
            gaps.iter().map(|gap| (gap.first_seq, gap.last_seq)).collect()
        };
        for first in 1..8_u64 {
            for last in first..8 {
                for (a, b) in [(1, 1), (2, 3), (4, 7), (1, 9), (5, 5)] {
                    let told = [gap(a, b), gap(6, 6)];
                    let left = range(gap(first, last).without(&told));
                    let numbers = |n: u64| !(a..=b).contains(&n) && n != 6;
                    let expected: Vec<u64> = (first..=last).filter(|n| numbers(*n)).collect();
                    let found: Vec<u64> = left.iter().flat_map(|(a, b)| *a..=*b).collect();
                    assert_eq!(found, expected, "{first}..{last} without {a}..{b}");
                }
            }
        }
    }

    #[test]
    fn a_reason_of_a_later_version_counts_as_lost() {
        for reason in GapReason::ALL {
            assert_eq!(GapReason::from_code(reason as u8), reason);
        }
        assert_eq!(GapReason::from_code(200).word(), "lost");
    }

    #[test]
    fn a_gap_with_impossible_numbers_is_no_gap() {
        let mut bytes = Vec::new();
        gap(5, 4).write(&mut bytes);
        assert_eq!(GapEntry::parse(&bytes), None);
    }
}

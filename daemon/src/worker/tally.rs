//! What a session has done since it began, for whoever asks which producer does what.
//!
//! Nothing is made up for it while it runs: a few sums a turn and an entry, in the session's own
//! memory. [`Seen`] is a copy of one moment.

use certeus_ipc::verdict::{Entry, Reason, Verdict};

use super::session::Session;
use crate::board::HISTOGRAM_WORDS;

/// Sums over a session's life.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Validated, whatever came of it; what a new log writer made us read again counts again.
    pub events: u64,
    pub bytes: u64,
    /// Tickets whose verdict is out.
    pub settled: u64,
    pub duplicates: u64,
    /// By [`Reason`]'s code, whoever rejected them.
    pub rejected: [u64; Reason::ALL.len()],
}

impl Tally {
    /// A verdict goes out.
    pub fn count(&mut self, entry: &Entry) {
        match entry.verdict {
            Verdict::Rejected => self.rejected[entry.reason as usize] += u64::from(entry.count),
            Verdict::Duplicate => self.duplicates += u64::from(entry.count),
            _ => {}
        }
    }
}

/// A session at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    pub number: u32,
    pub tally: Tally,
    pub in_flight: u64,
    /// Bytes between head and tail, as the worker saw them last.
    pub ring_used: u64,
    /// As [`Acks::buckets`](super::acks::Acks).
    pub ack_buckets: [u64; HISTOGRAM_WORDS],
}

impl Seen {
    pub fn of(session: &Session) -> Self {
        Self {
            number: session.number,
            tally: session.tally.clone(),
            in_flight: session.in_flight(),
            ring_used: session.consumer.tail_seen() - session.consumer.released(),
            ack_buckets: session.acks.buckets,
        }
    }
}

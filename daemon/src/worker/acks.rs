//! How long a session's events wait for their verdicts, as the worker sees it.
//!
//! One note a turn, not one an event: a turn's events were read within microseconds of each other.
//! A note goes when its last ticket is settled, so there are at most as many as tickets in flight.
//! What the log writer's death makes the worker read again keeps the time of its first reading.

use std::collections::VecDeque;

use crate::board::{HISTOGRAM_WORDS, Page, bucket_of, worker};

pub struct Acks {
    notes: VecDeque<Note>,
    /// The last ticket that a note is of.
    noted: u64,
    /// The last ticket that was counted.
    counted: u64,
    /// Bucket `b` holds the tickets that waited less than `2^b` nanoseconds.
    pub buckets: [u64; HISTOGRAM_WORDS],
}

struct Note {
    last_ticket: u64,
    read_at_ns: u64,
}

impl Acks {
    /// Tickets up to `decided` are not waited for.
    pub fn new(decided: u64) -> Self {
        let buckets = [0; HISTOGRAM_WORDS];
        Self { notes: VecDeque::new(), noted: decided, counted: decided, buckets }
    }

    /// Notes that every ticket up to this one has been read.
    pub fn note(&mut self, last_ticket: u64, now_ns: u64) {
        if last_ticket > self.noted {
            self.notes.push_back(Note { last_ticket, read_at_ns: now_ns });
            self.noted = last_ticket;
        }
    }

    /// Counts what is settled by now, here and in the worker's page.
    pub fn count(&mut self, settled: u64, now_ns: u64, page: &Page) {
        while let Some(note) = self.notes.front() {
            let until = note.last_ticket.min(settled);
            let tickets = until.saturating_sub(self.counted);
            if tickets > 0 {
                let waited_ns = now_ns.saturating_sub(note.read_at_ns);
                self.buckets[bucket_of(waited_ns)] += tickets;
                page.observe_many(worker::ACK_NS_BUCKETS_64, waited_ns, tickets);
                page.add(worker::ACK_US_SUM, waited_ns.saturating_mul(tickets) / 1000);
                self.counted = until;
            }
            if note.last_ticket > settled {
                break;
            }
            self.notes.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn note_count(&self) -> usize {
        self.notes.len()
    }
}

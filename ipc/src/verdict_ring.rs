//! The verdict ring: how the worker tells a client what became of its tickets.
//!
//! ```text
//!  C (the worker writes, the client can only read)      P (the client writes)
//!    VERDICTS_WRITTEN  entries written, ever              VERDICTS_READ  entries read, ever
//!    SETTLED           the last ticket that is out        SETTLED_READ   the last ticket it knows
//!    entry n at PAGE + (n mod count) * 40
//! ```
//!
//! Order of publication: entries, `VERDICTS_WRITTEN`, `SETTLED`, and then (by the ring) `head`. Who
//! sees `SETTLED >= t` therefore finds the verdict of `t` below `VERDICTS_WRITTEN`.
//!
//! When the ring is full, runs of accepted tickets may be left out (`SETTLED` still moves); every
//! other entry waits, and `SETTLED` and `head` with it. The writer waits only when [`Writer::room`]
//! is 0 and all it has pushed is published; the reader then rings the doorbell when it has made
//! room.
//!
//! `VERDICTS_READ` is the client's to write, so it is not trusted: a value outside of what can be
//! true is taken as the last true one, and a client that lies harms only its own verdicts.
//!
//! Generic over [`Words`], so that loom can run it; the ordering argument is in `ipc/README.md`.

use std::sync::Arc;

use crate::layout::{
    C_NEED_WAKEUP, C_SETTLED, C_VERDICTS_WRITTEN, P_SETTLED_READ, P_VERDICTS_READ, P_WAKE_SETTLED,
    PAGE_BYTES, VERDICT_BYTES, VERDICT_COUNT,
};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::verdict::Entry;

const ENTRY_WORDS: usize = VERDICT_BYTES / 8;

/// Shared words, by their offset in bytes (a multiple of 8).
///
/// An implementation says where a word is. With which order it is accessed is said here, once, so
/// that loom checks what runs.
pub trait Words {
    fn word(&self, offset: usize) -> &AtomicU64;

    fn load_relaxed(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    fn store_relaxed(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    fn store_release(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }

    fn fence_seq_cst(&self) {
        fence(Ordering::SeqCst);
    }

    /// Entries that the verdict ring holds.
    fn verdict_count(&self) -> u64 {
        VERDICT_COUNT as u64
    }
}

fn entry_offset<W: Words>(c: &W, number: u64) -> usize {
    PAGE_BYTES + (number % c.verdict_count()) as usize * VERDICT_BYTES
}

/// The worker's side: C is mapped writable, P read-only.
pub struct Writer<W: Words> {
    p: Arc<W>,
    c: Arc<W>,
    written: u64,
    published: u64,
    read: u64,
    settled: u64,
    /// The entry written last, while nobody can have read it: a run may still grow.
    open: Option<Entry>,
}

impl<W: Words> Writer<W> {
    /// A writer of an empty verdict ring.
    pub fn new(p: Arc<W>, c: Arc<W>) -> Self {
        Self { p, c, written: 0, published: 0, read: 0, settled: 0, open: None }
    }

    /// Entries that can be pushed now.
    pub fn room(&mut self) -> usize {
        // SYNC: verdicts read release → acquire: who sees the count may overwrite those entries.
        let read = self.p.load_relaxed(P_VERDICTS_READ);
        self.p.fence_acquire();
        if read > self.read && read <= self.published {
            self.read = read;
        }
        (self.c.verdict_count() - (self.written - self.read)) as usize
    }

    /// Writes one entry, or lets the run before it grow; visible at the next [`Writer::publish`].
    ///
    /// Panics when there is no room, which the caller has asked for.
    pub fn push(&mut self, entry: Entry) {
        if let Some(open) = self.open.filter(|open| open.continues(&entry)) {
            let grown = Entry { count: open.count + entry.count, ..open };
            self.store(self.written - 1, grown);
            return;
        }
        assert!(self.written - self.read < self.c.verdict_count(), "the verdict ring has no room");
        self.store(self.written, entry);
        self.written += 1;
    }

    /// Makes the pushed entries visible, then that all tickets up to `settled` are out.
    pub fn publish(&mut self, settled: u64) {
        assert!(settled >= self.settled);
        // SYNC: verdicts written release → acquire: who sees the count sees the entries before it.
        self.c.store_release(C_VERDICTS_WRITTEN, self.written);
        // SYNC: settled release → acquire: who sees `settled` sees the count of entries before it.
        self.c.store_release(C_SETTLED, settled);
        self.published = self.written;
        self.settled = settled;
        self.open = None;
    }

    /// The ticket at which the client wants its bell; for after [`Writer::publish`], and behind the
    /// fence of `ring::Consumer::head_wanted`, which serves both.
    pub fn settled_wanted(&self) -> u64 {
        self.p.load_relaxed(P_WAKE_SETTLED)
    }

    /// The last ticket that was published as settled.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    fn store(&mut self, number: u64, entry: Entry) {
        let offset = entry_offset(&*self.c, number);
        for (index, word) in entry.to_words().into_iter().enumerate() {
            self.c.store_relaxed(offset + index * 8, word);
        }
        self.open = Some(entry);
    }
}

/// The daemon wrote what no honest one does: leave this session and connect again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage;

/// The client's side: C is mapped read-only, P writable.
pub struct Reader<W: Words> {
    p: Arc<W>,
    c: Arc<W>,
    read: u64,
    written_seen: u64,
    settled_seen: u64,
    acknowledged: u64,
}

impl<W: Words> Reader<W> {
    /// A reader of an empty verdict ring.
    pub fn new(p: Arc<W>, c: Arc<W>) -> Self {
        Self { p, c, read: 0, written_seen: 0, settled_seen: 0, acknowledged: 0 }
    }

    /// The last settled ticket; every verdict up to it can then be read with [`Reader::next`].
    pub fn poll(&mut self) -> Result<u64, Garbage> {
        // SYNC: settled release → acquire: who sees `settled` sees the count of entries before it.
        let settled = self.c.load_relaxed(C_SETTLED);
        self.c.fence_acquire();
        // SYNC: verdicts written release → acquire: who sees the count sees the entries before it.
        let written = self.c.load_relaxed(C_VERDICTS_WRITTEN);
        self.c.fence_acquire();
        let possible = written >= self.written_seen
            && written - self.acknowledged <= self.c.verdict_count()
            && settled >= self.settled_seen;
        if !possible {
            return Err(Garbage);
        }
        self.written_seen = written;
        self.settled_seen = settled;
        Ok(settled)
    }

    /// The next entry before the last poll; `None`: all is read.
    #[allow(clippy::should_implement_trait)] // an iterator cannot say that its end is not final
    pub fn next(&mut self) -> Result<Option<Entry>, Garbage> {
        if self.read == self.written_seen {
            return Ok(None);
        }
        let offset = entry_offset(&*self.c, self.read);
        let mut words = [0; ENTRY_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.c.load_relaxed(offset + index * 8);
        }
        let entry = Entry::from_words(words).ok_or(Garbage)?;
        let last = entry.ticket.checked_add(u64::from(entry.count));
        if entry.ticket == 0 || entry.count == 0 || last.is_none() {
            return Err(Garbage);
        }
        self.read += 1;
        Ok(Some(entry))
    }

    /// Asks for a bell once `ticket` is settled. True: it is already.
    #[must_use]
    pub fn arm(&self, ticket: u64) -> bool {
        self.p.store_relaxed(P_WAKE_SETTLED, ticket);
        // SYNC: bell: settled is stored before the wish is loaded there, and the wish before
        // settled here, each with a full fence between, so at least one side sees the other.
        self.p.fence_seq_cst();
        self.c.load_relaxed(C_SETTLED) >= ticket
    }

    /// Wants no bell for a ticket.
    pub fn disarm(&self) {
        self.p.store_relaxed(P_WAKE_SETTLED, u64::MAX);
    }

    /// Gives the entries that were read back to the writer, and tells it what this side knows.
    ///
    /// True: the writer sleeps and may have been waiting for room, ring its doorbell.
    #[must_use]
    pub fn acknowledge(&mut self, settled: u64) -> bool {
        let before = self.acknowledged;
        self.acknowledged = self.read;
        self.p.store_relaxed(P_SETTLED_READ, settled);
        // SYNC: verdicts read release → acquire: who sees the count may overwrite those entries.
        self.p.store_release(P_VERDICTS_READ, self.read);
        if before == self.read {
            return false;
        }
        // SYNC: room for verdicts: the count read is stored before the flag is loaded here, and the
        // flag before the count there, each with a full fence between, so one side sees the other.
        self.p.fence_seq_cst();
        self.c.load_relaxed(C_NEED_WAKEUP) != 0
            && self.c.load_relaxed(C_VERDICTS_WRITTEN).wrapping_sub(before)
                >= self.c.verdict_count()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::layout::C_BYTES;
    use crate::verdict::{Reason, Verdict};
    use std::collections::VecDeque;

    /// Words of the process's own: the codec and the arithmetic, not the ordering.
    struct Plain(Vec<AtomicU64>);

    impl Plain {
        fn new() -> Arc<Self> {
            Arc::new(Self((0..C_BYTES / 8).map(|_| AtomicU64::new(0)).collect()))
        }
    }

    impl Words for Plain {
        fn word(&self, offset: usize) -> &AtomicU64 {
            &self.0[offset / 8]
        }
        fn verdict_count(&self) -> u64 {
            4
        }
    }

    fn rejected(ticket: u64) -> Entry {
        let verdict = Verdict::Rejected;
        Entry { ticket, seq: 0, group: 0, count: 1, verdict, reason: Reason::InvalidJson }
    }

    fn accepted(ticket: u64, seq: u64, count: u32) -> Entry {
        let verdict = Verdict::Accepted;
        Entry { ticket, seq, group: 7, count, verdict, reason: Reason::None }
    }

    #[test]
    fn settled_is_told_with_every_entry_before_it() {
        let (p, c) = (Plain::new(), Plain::new());
        let mut writer = Writer::new(p.clone(), c.clone());
        let mut reader = Reader::new(p, c);
        writer.push(accepted(1, 10, 2));
        assert_eq!(reader.poll(), Ok(0));
        assert_eq!(reader.next(), Ok(None));
        writer.push(rejected(3));
        writer.publish(3);
        assert_eq!(reader.poll(), Ok(3));
        assert_eq!(reader.next(), Ok(Some(accepted(1, 10, 2))));
        assert_eq!(reader.next(), Ok(Some(rejected(3))));
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn runs_grow_until_they_are_published() {
        let (p, c) = (Plain::new(), Plain::new());
        let mut writer = Writer::new(p.clone(), c.clone());
        let mut reader = Reader::new(p, c);
        writer.push(accepted(1, 10, 2));
        writer.push(accepted(3, 12, 1));
        writer.publish(3);
        writer.push(accepted(4, 13, 1));
        writer.publish(4);
        assert_eq!(reader.poll(), Ok(4));
        assert_eq!(reader.next(), Ok(Some(accepted(1, 10, 3))));
        assert_eq!(reader.next(), Ok(Some(accepted(4, 13, 1))));
    }

    #[test]
    fn a_full_ring_has_room_again_once_its_entries_are_acknowledged() {
        let (p, c) = (Plain::new(), Plain::new());
        let mut writer = Writer::new(p.clone(), c.clone());
        let mut reader = Reader::new(p, c.clone());
        for ticket in 1..=4 {
            writer.push(rejected(ticket));
        }
        writer.publish(4);
        assert_eq!(writer.room(), 0);
        c.store_relaxed(C_NEED_WAKEUP, 1);
        reader.poll().unwrap();
        reader.next().unwrap().unwrap();
        assert!(reader.acknowledge(1), "the writer slept on a full ring");
        assert_eq!(writer.room(), 1);
        reader.next().unwrap().unwrap();
        assert!(!reader.acknowledge(2), "the ring had room before");
    }

    #[test]
    fn a_reader_that_lies_gains_no_room() {
        let (p, c) = (Plain::new(), Plain::new());
        let mut writer = Writer::new(p.clone(), c);
        writer.push(rejected(1));
        writer.publish(1);
        for lie in [2, 5, u64::MAX] {
            p.store_relaxed(P_VERDICTS_READ, lie);
            assert_eq!(writer.room(), 3);
        }
        p.store_relaxed(P_VERDICTS_READ, 1);
        assert_eq!(writer.room(), 4);
        p.store_relaxed(P_VERDICTS_READ, 0);
        assert_eq!(writer.room(), 4, "a count that goes back changes nothing");
    }

    #[test]
    #[should_panic(expected = "no room")]
    fn a_push_without_room_panics() {
        let mut writer = Writer::new(Plain::new(), Plain::new());
        (1..=5).for_each(|ticket| writer.push(rejected(ticket)));
    }

    #[test]
    fn garbage_from_the_daemon_is_told_and_never_read_as_a_verdict() {
        for (offset, value) in [(C_VERDICTS_WRITTEN, 5), (C_VERDICTS_WRITTEN, u64::MAX)] {
            let (p, c) = (Plain::new(), Plain::new());
            c.store_relaxed(offset, value);
            assert_eq!(Reader::new(p, c).poll(), Err(Garbage));
        }
        let (p, c) = (Plain::new(), Plain::new());
        c.store_relaxed(C_VERDICTS_WRITTEN, 1);
        let mut reader = Reader::new(p, c);
        reader.poll().unwrap();
        assert_eq!(reader.next(), Err(Garbage), "ticket 0");
    }

    #[test]
    fn settled_that_goes_back_is_garbage() {
        let (p, c) = (Plain::new(), Plain::new());
        let mut reader = Reader::new(p, c.clone());
        c.store_relaxed(C_SETTLED, 9);
        assert_eq!(reader.poll(), Ok(9));
        c.store_relaxed(C_SETTLED, 8);
        assert_eq!(reader.poll(), Err(Garbage));
    }

    proptest::proptest! {
        #[test]
        fn every_rejection_arrives_once_and_in_order(
            steps in proptest::collection::vec(0u8..4, 1..300),
        ) {
            let (p, c) = (Plain::new(), Plain::new());
            let mut writer = Writer::new(p.clone(), c.clone());
            let mut reader = Reader::new(p, c);
            let (mut pushed, mut told, mut model) = (0, 0, VecDeque::new());
            for step in steps {
                match step {
                    0 | 1 => if writer.room() > 0 {
                        pushed += 1;
                        writer.push(rejected(pushed));
                        model.push_back(pushed);
                    },
                    2 => { writer.publish(pushed); told = pushed; }
                    _ => {
                        assert_eq!(reader.poll(), Ok(told));
                        while let Some(entry) = reader.next().unwrap() {
                            assert_eq!(Some(entry.ticket), model.pop_front());
                        }
                        let _ = reader.acknowledge(told);
                        assert_eq!(model.len() as u64, pushed - told);
                    }
                }
            }
        }
    }
}

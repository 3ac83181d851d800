//! One single-producer single-consumer ring: claim, commit, publish; poll, next, release.
//!
//! ```text
//!            head                    read                     tail
//!  ───────────┼───────────────────────┼────────────────────────┼──────────────▶ position
//!   free      │ consumed, not yet     │ committed, not yet     │ claimed by the producer,
//!             │ released (not durable)│ consumed               │ or free
//! ```
//!
//! Positions are monotonic `u64` byte counts that are never reused; an index is
//! `position & (ring_bytes - 1)`. The producer alone writes `tail`, the consumer alone `head`.
//! **The tail store is the only commit**: a producer that dies while it writes leaves nothing that
//! anybody reads, so there is nothing to repair and no time-out to guess.
//!
//! The consumer trusts nothing of what the producer can write. Its positions are private, `tail` is
//! loaded once a poll and checked, and a frame's header is loaded once and checked before any of
//! its payload is touched. The payload is copied once by the caller, and only the copy is
//! validated.
//!
//! The algorithm is generic over [`Memory`], so that loom can run it over its own atomics; the
//! memory-ordering argument is in `ipc/README.md`, each pair carries the same `SYNC:` sentence on
//! both sides.
//!
//! Source: the SPSC half of Agrona's ring buffer (padding frame, cached head), the private
//! positions of Linux's `bpf_ringbuf` user ring, io_uring's NEED_WAKEUP protocol.

use crate::layout::{FRAME_ALIGN, FRAME_HEADER_BYTES, KIND_PAD, frame_bytes, payload_bytes_max};
use crate::sync::{AtomicU64, Ordering, fence};

const CACHE_LINE_BYTES: u64 = 64;

/// The shared words that the two sides use to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Written by the producer: all before it is committed.
    Tail,
    /// Written by the consumer: all before it is free again.
    Head,
    /// Written by the consumer: not zero while it sleeps.
    NeedWakeup,
    /// Written by the producer: the `head` at which it wants its bell.
    WakeHead,
}

/// The shared memory of one ring, as either side sees it.
///
/// An implementation says where a word is. With which order it is accessed is said here, once, so
/// that loom checks what runs.
pub trait Memory {
    fn ring_bytes(&self) -> u64;
    fn word(&self, word: Word) -> &AtomicU64;

    fn load_relaxed(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }

    fn store_relaxed(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
    }

    fn store_release(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }

    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }

    fn fence_seq_cst(&self) {
        fence(Ordering::SeqCst);
    }

    /// One word of the data at `index`, a multiple of 8.
    fn data_load(&self, index: u64) -> u64;
    fn data_store(&self, index: u64, value: u64);
    /// Copies `bytes` to `index`, a multiple of 8; the caller keeps it below the end.
    fn data_write(&self, index: u64, bytes: &[u8]);
    /// A hint that the word at `index` is loaded soon.
    fn data_prefetch(&self, _index: u64) {}
}

/// Back-pressure: the ring has no room. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Room for one frame, not yet committed. Dropping it aborts the claim.
#[derive(Debug)]
pub struct Claim {
    /// Index of the first payload byte, a multiple of 16.
    pub payload_index: u64,
    /// Payload bytes that were asked for.
    pub payload_bytes: u64,
    position: u64,
}

/// The producing side. Owns `tail`; `committed` runs ahead of it until [`Producer::publish`].
pub struct Producer<M: Memory> {
    memory: M,
    committed: u64,
    head_cached: u64,
}

impl<M: Memory> Producer<M> {
    /// A producer of an empty ring.
    pub fn new(memory: M) -> Self {
        assert!(memory.ring_bytes().is_power_of_two());
        Self { memory, committed: 0, head_cached: 0 }
    }

    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The position behind the last committed frame.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Whether `head` is one that an honest consumer can have stored.
    pub fn head_is_possible(&self) -> bool {
        (self.head_cached..=self.committed).contains(&self.memory.load_relaxed(Word::Head))
    }

    /// The consumer's `head`, fresh.
    pub fn head(&mut self) -> u64 {
        // SYNC: head release → acquire: who sees `head` may overwrite the bytes before it.
        let head = self.memory.load_relaxed(Word::Head);
        self.memory.fence_acquire();
        // A consumer that says what cannot be gives no room; see `head_is_possible`.
        if head >= self.head_cached && head <= self.committed {
            self.head_cached = head;
        }
        self.head_cached
    }

    /// Room for one frame.
    ///
    /// Errors: [`Full`] when the consumer has not released enough; nothing was written that anybody
    /// reads. Panics on a payload above `payload_bytes_max`, which the caller has checked.
    pub fn claim(&mut self, payload_bytes: u64) -> Result<Claim, Full> {
        let ring_bytes = self.memory.ring_bytes();
        assert!(payload_bytes <= payload_bytes_max(ring_bytes));
        let size = frame_bytes(payload_bytes);
        let index = self.committed & (ring_bytes - 1);
        let room = ring_bytes - index;
        let need = if size <= room { size } else { room + size };
        if self.committed + need - self.head_cached > ring_bytes
            && self.committed + need - self.head() > ring_bytes
        {
            return Err(Full);
        }
        let mut position = self.committed;
        if size > room {
            let pad =
                FrameHeader { payload_bytes: room - FRAME_HEADER_BYTES, kind: KIND_PAD, flags: 0 };
            self.memory.data_store(index, pad.pack());
            self.memory.data_store(index + 8, 0);
            position += room;
        }
        let payload_index = (position & (ring_bytes - 1)) + FRAME_HEADER_BYTES;
        Ok(Claim { payload_index, payload_bytes, position })
    }

    /// Completes the frame with `payload_bytes` (at most what was claimed); visible at the next
    /// [`Producer::publish`].
    pub fn commit(&mut self, claim: Claim, payload_bytes: u64, kind: u8, flags: u8, ticket: u64) {
        assert!(payload_bytes <= claim.payload_bytes && kind != KIND_PAD);
        let index = claim.payload_index - FRAME_HEADER_BYTES;
        self.memory.data_store(index, FrameHeader { payload_bytes, kind, flags }.pack());
        self.memory.data_store(index + 8, ticket);
        self.committed = claim.position + frame_bytes(payload_bytes);
    }

    /// Claims, copies and commits one frame.
    pub fn append(&mut self, payload: &[u8], kind: u8, flags: u8, ticket: u64) -> Result<(), Full> {
        let claim = self.claim(payload.len() as u64)?;
        self.memory.data_write(claim.payload_index, payload);
        self.commit(claim, payload.len() as u64, kind, flags, ticket);
        Ok(())
    }

    /// Makes everything committed visible. True: the consumer sleeps, ring its doorbell.
    #[must_use]
    pub fn publish(&mut self) -> bool {
        // SYNC: tail release → acquire: who sees `tail` sees every byte of the frames before it.
        self.memory.store_release(Word::Tail, self.committed);
        // SYNC: wake-up: the tail is stored before the flag is loaded here, and the flag before the
        // tail there, each with a full fence between, so at least one side sees the other.
        self.memory.fence_seq_cst();
        self.memory.load_relaxed(Word::NeedWakeup) != 0
    }

    /// Asks for a bell once half of the ring is free, which any frame fits into. True: it is.
    #[must_use]
    pub fn arm_room(&self) -> bool {
        // A frame takes at most a quarter of the ring, padding included.
        let wanted = self.committed.saturating_sub(self.memory.ring_bytes() / 2);
        self.memory.store_relaxed(Word::WakeHead, wanted);
        // SYNC: bell: the head is stored before the wish is loaded there, and the wish before the
        // head here, each with a full fence between, so at least one side sees the other.
        self.memory.fence_seq_cst();
        self.memory.load_relaxed(Word::Head) >= wanted
    }

    /// Wants no bell for room.
    pub fn disarm_room(&self) {
        self.memory.store_relaxed(Word::WakeHead, u64::MAX);
    }
}

/// What a producer did that no honest one does. Its session ends with this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// `tail` is not aligned, went back, or is further ahead than the ring is long.
    Position,
    /// A frame's length does not fit before `tail`, the end of the ring or the limit.
    Length,
    /// A frame's header has bits that must be zero, or a PAD that does not reach the end.
    Kind,
    /// A frame's ticket is not the next one.
    Ticket,
}

impl Violation {
    /// The stable word for status, metrics and the session's end.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Position => "ring-position",
            Self::Length => "ring-length",
            Self::Kind => "ring-kind",
            Self::Ticket => "ring-ticket",
        }
    }
}

/// One committed frame: a checked header. The payload is still the producer's to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub ticket: u64,
    /// Index of the first payload byte, a multiple of 16.
    pub payload_index: u64,
    pub payload_bytes: u64,
    /// Release this position and the frame's bytes are free.
    pub end_position: u64,
}

/// The consuming side. Owns `head`; every position that it decides by is private.
pub struct Consumer<M: Memory> {
    memory: M,
    read: u64,
    released: u64,
    tail_seen: u64,
}

impl<M: Memory> Consumer<M> {
    pub fn new(memory: M) -> Self {
        assert!(memory.ring_bytes().is_power_of_two());
        Self { memory, read: 0, released: 0, tail_seen: 0 }
    }

    /// A consumer that starts at `position`: where a dead one had released, as its successor knows.
    pub fn at(memory: M, position: u64) -> Self {
        assert!(memory.ring_bytes().is_power_of_two());
        Self { memory, read: position, released: position, tail_seen: position }
    }

    pub fn memory(&self) -> &M {
        &self.memory
    }

    pub fn released(&self) -> u64 {
        self.released
    }

    /// The position behind the last frame that [`Consumer::next_frame`] gave.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// The tail at the last poll.
    pub fn tail_seen(&self) -> u64 {
        self.tail_seen
    }

    /// Looks at `tail` once. True: there are frames to read.
    pub fn poll(&mut self) -> Result<bool, Violation> {
        // SYNC: tail release → acquire: who sees `tail` sees every byte of the frames before it.
        let tail = self.memory.load_relaxed(Word::Tail);
        self.memory.fence_acquire();
        if tail % FRAME_ALIGN != 0
            || tail < self.tail_seen
            || tail - self.released > self.memory.ring_bytes()
        {
            return Err(Violation::Position);
        }
        self.tail_seen = tail;
        Ok(self.read < tail)
    }

    /// The next frame before the tail last polled; `None`: all is read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        let ring_bytes = self.memory.ring_bytes();
        while self.read < self.tail_seen {
            let index = self.read & (ring_bytes - 1);
            let room = ring_bytes - index;
            // Both lines at once: the copy of a payload waits for its length, and would ask for the
            // second line only then, which costs as much again as the whole way of the first.
            if self.tail_seen - self.read > CACHE_LINE_BYTES {
                self.memory.data_prefetch((index + CACHE_LINE_BYTES) & (ring_bytes - 1));
            }
            let header =
                FrameHeader::unpack(self.memory.data_load(index)).ok_or(Violation::Kind)?;
            let size = frame_bytes(header.payload_bytes);
            if size > room || size > self.tail_seen - self.read {
                return Err(Violation::Length);
            }
            if header.kind == KIND_PAD {
                if size != room || header.flags != 0 {
                    return Err(Violation::Kind);
                }
                self.read += size;
                continue;
            }
            if header.payload_bytes > payload_bytes_max(ring_bytes) {
                return Err(Violation::Length);
            }
            let ticket = self.memory.data_load(index + 8);
            self.read += size;
            return Ok(Some(Frame {
                kind: header.kind,
                flags: header.flags,
                ticket,
                payload_index: index + FRAME_HEADER_BYTES,
                payload_bytes: header.payload_bytes,
                end_position: self.read,
            }));
        }
        Ok(None)
    }

    /// Forgets what was read but not released: the next frame is the first one behind `head`.
    pub fn rewind(&mut self) {
        self.read = self.released;
    }

    /// Gives the bytes before `position` back to the producer.
    pub fn release(&mut self, position: u64) {
        assert!(position >= self.released && position <= self.read);
        self.released = position;
        // SYNC: head release → acquire: who sees `head` may overwrite the bytes before it.
        self.memory.store_release(Word::Head, position);
    }

    /// The position at which the producer wants its bell; for after [`Consumer::release`].
    pub fn head_wanted(&self) -> u64 {
        // SYNC: bell: the head is stored before the wish is loaded here, and the wish before the
        // head there, each with a full fence between, so at least one side sees the other.
        self.memory.fence_seq_cst();
        self.memory.load_relaxed(Word::WakeHead)
    }

    /// Says that this side is about to sleep. True: nothing has come meanwhile, sleep.
    pub fn prepare_sleep(&mut self) -> Result<bool, Violation> {
        self.announce_sleep();
        Ok(!self.poll()?)
    }

    /// Says that this side is about to sleep: whatever it looks at from now on cannot be missed.
    pub fn announce_sleep(&self) {
        self.memory.store_relaxed(Word::NeedWakeup, 1);
        // SYNC: wake-up: the tail is stored before the flag is loaded there, and the flag before
        // the tail here, each with a full fence between, so at least one side sees the other.
        // SYNC: room for verdicts: the count read is stored before the flag is loaded there, and
        // the flag before the count here, each with a full fence between, so one side sees the
        // other.
        self.memory.fence_seq_cst();
    }

    /// Says that this side is awake: no doorbell is needed.
    pub fn woke(&mut self) {
        self.memory.store_relaxed(Word::NeedWakeup, 0);
    }
}

#[derive(Clone, Copy)]
struct FrameHeader {
    payload_bytes: u64,
    kind: u8,
    flags: u8,
}

impl FrameHeader {
    fn pack(self) -> u64 {
        assert!(self.payload_bytes <= u64::from(u32::MAX));
        self.payload_bytes | u64::from(self.kind) << 32 | u64::from(self.flags) << 40
    }

    fn unpack(word: u64) -> Option<Self> {
        if word >> 48 != 0 {
            return None;
        }
        Some(Self {
            payload_bytes: word & u64::from(u32::MAX),
            kind: (word >> 32) as u8,
            flags: (word >> 40) as u8,
        })
    }
}

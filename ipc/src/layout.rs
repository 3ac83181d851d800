//! Where each word of a ring lives. `ipc/README.md` draws it; `tests/unit` holds the two together.
//!
//! A ring is two shared objects. **P** belongs to the producer: one page of words, then the data.
//! **C** belongs to the consumer: one page of words, then (client rings only) the verdict ring.
//! Words that different processes write are 128 bytes apart, which defeats the adjacent-line
//! prefetcher.

pub const MAGIC: u64 = u64::from_le_bytes(*b"certeus1");
pub const VERSION: u64 = 1;
pub const PAGE_BYTES: usize = 4096;

/// Data bytes of a client ring: a power of two within these bounds.
pub const RING_BYTES_MIN: u64 = 64 * 1024;
pub const RING_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Words of P, written once by the daemon before the client gets the descriptor.
pub const P_MAGIC: usize = 0;
pub const P_VERSION: usize = 8;
pub const P_RING_BYTES: usize = 16;
/// Words of P, written by the producer.
pub const P_TAIL: usize = 128;
/// Ring the producer's bell once `settled` has reached this ticket (`u64::MAX`: never).
pub const P_WAKE_SETTLED: usize = 256;
/// Ring the producer's bell once `head` has reached this position (`u64::MAX`: never).
pub const P_WAKE_HEAD: usize = 264;
/// Entries of the verdict ring that the producer has read.
pub const P_VERDICTS_READ: usize = 384;
/// The last ticket whose verdict the producer has read.
pub const P_SETTLED_READ: usize = 392;

/// Words of C, written by the consumer.
pub const C_HEAD: usize = 128;
/// Not zero: the consumer sleeps, ring its doorbell after a commit.
pub const C_NEED_WAKEUP: usize = 256;
/// The last ticket whose verdict is out.
pub const C_SETTLED: usize = 384;
/// Entries written to the verdict ring.
pub const C_VERDICTS_WRITTEN: usize = 392;

/// The verdict ring: `VERDICT_COUNT` entries of `VERDICT_BYTES` behind C's page.
pub const VERDICT_BYTES: usize = 40;
pub const VERDICT_COUNT: usize = 2048;
pub const C_BYTES: usize = PAGE_BYTES + VERDICT_COUNT * VERDICT_BYTES;

/// A frame: `w0 = length:32 | kind:8 | flags:8 | zero:16`, `w1 = ticket`, payload, padding.
pub const FRAME_ALIGN: u64 = 16;
pub const FRAME_HEADER_BYTES: u64 = 16;
/// A client's frame: one event, as `record.rs` lays it out.
pub const KIND_EVENT_FRAME: u8 = 1;
/// A frame that only fills the ring to its end.
pub const KIND_PAD: u8 = 0xff;

/// Bytes of the ring that a payload of `payload_bytes` takes.
#[must_use]
pub const fn frame_bytes(payload_bytes: u64) -> u64 {
    (FRAME_HEADER_BYTES + payload_bytes + FRAME_ALIGN - 1) & !(FRAME_ALIGN - 1)
}

/// The largest payload that a ring of `ring_bytes` carries: two always fit.
#[must_use]
pub const fn payload_bytes_max(ring_bytes: u64) -> u64 {
    ring_bytes / 8 - FRAME_HEADER_BYTES
}

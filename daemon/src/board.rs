//! The board: one shared page a process, in which it counts, and the durability page.
//!
//! ```text
//! page 0        durability: durable_seq is the one word that commits; the others only inform
//! page 1        follower `postgres`
//! page 2, 3     log writer, flusher
//! page 4..67    workers
//! page 68..     doors: api, syslog, journal
//! ```
//!
//! The supervisor makes the board, unlinks it at once and hands the descriptor to its children.
//! Pages outlive the process that counts in them, so counters never go back. Names that end in
//! `_total` or
//! `_sum` are counters, the others gauges; a name with `*64` is a histogram of 64 powers of two.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use certeus_ipc::memory::Mapping;

pub const BOARD_PAGES: usize = 71;
pub const PAGE_BYTES: usize = 4096;
pub const WORKERS_MAX: usize = 64;
pub const HISTOGRAM_WORDS: usize = 64;

pub const PAGE_DURABILITY: usize = 0;
pub const PAGE_FOLLOWER: usize = 1;
pub const PAGE_LOG: usize = 2;
pub const PAGE_FLUSH: usize = 3;
pub const PAGE_WORKER: usize = 4;
pub const PAGE_API: usize = PAGE_WORKER + WORKERS_MAX;
pub const PAGE_SYSLOG: usize = PAGE_API + 1;
pub const PAGE_JOURNAL: usize = PAGE_API + 2;

macro_rules! fields {
    ($(#[$doc:meta])* $table:ident: $($name:ident = $index:literal),* $(,)?) => {
        $(#[$doc])*
        pub mod $table {
            $(pub const $name: usize = $index;)*
            /// Names and word indices, for whoever reads the page by name.
            pub const FIELDS: &[(&str, usize)] = &[$((stringify!($name), $index)),*];
        }
    };
}

fields! {
    /// Written by the log writer. `DURABLE_SEQ` last.
    durability:
    DURABLE_SEQ = 0, DURABLE_GROUP = 1, ACCEPTED_SEQ = 2, RECORDED_AT_NS = 3, SEGMENT_NO = 4,
}

fields! {
    /// Written by the follower; the log writer rings its bell at `WANT_SEQ` and trims below
    /// `TRIM_SEGMENT`, the segment of the last group that the synced position file names.
    follower:
    WANT_SEQ = 0, POSITION_SEQ = 1, POSITION_GROUP = 2, TRIM_SEGMENT = 3,
}

fields! {
    /// Log writer.
    log:
    GROUPS_TOTAL = 0, RECORDS_TOTAL = 1, BYTES_TOTAL = 2, REJECTED_TOTAL = 3, DUPLICATES_TOTAL = 4,
    STALE_TOTAL = 5, SYNC_NS_SUM = 6, SEGMENTS = 7, LOG_BYTES = 8, LOG_BYTES_MAX = 9,
    DEDUP_KEYS = 10, DEDUP_FROM_SEQ = 11, DEDUP_FROM_NS = 12, PRODUCERS = 13, FULL = 14,
    WAKEUPS_TOTAL = 15, TORN_TOTAL = 16, DAMAGED_TOTAL = 17, FIRST_SEQ = 18, EPOCH = 19,
    HEARTBEAT_NS = 20, DISK_FREE_BYTES = 21, DISK_SHORT = 22,
    // How far a start is: `log::progress`.
    RECOVERY_PHASE = 40, RECOVERY_SEGMENTS = 41, RECOVERY_SEGMENTS_DONE = 42, RECOVERY_BYTES = 43,
    RECOVERY_BYTES_DONE = 44, LOG_LINES_DROPPED_TOTAL = 60,
    SYNC_NS_BUCKETS_64 = 64, GROUP_RECORDS_BUCKETS_64 = 128,
    // Rejections as they are decided, in the order of the codes of `Reason` from 1 on: once a
    // ticket, also where a worker's successor had to read it again.
    MALFORMED_EVENT_TOTAL = 192, INVALID_JSON_TOTAL = 193, INVALID_UTF8_TOTAL = 194,
    TOO_LARGE_TOTAL = 195, TOO_DEEP_TOTAL = 196, NUL_CHARACTER_TOTAL = 197,
    LONE_SURROGATE_TOTAL = 198, NUMBER_OUT_OF_RANGE_TOTAL = 199, INVALID_TIME_TOTAL = 200,
    INVALID_ATTRIBUTE_TOTAL = 201, INVALID_EXTENSIONS_TOTAL = 202, SOURCE_NOT_ALLOWED_TOTAL = 203,
    ID_CONFLICT_TOTAL = 204,
}

fields! {
    /// Flusher.
    flush:
    ROWS_TOTAL = 0, BYTES_TOTAL = 1, BATCHES_TOTAL = 2, DEAD_LETTERS_TOTAL = 3, GAPS_TOTAL = 4,
    RECONNECTS_TOTAL = 5, COMMIT_NS_SUM = 6, CONNECTED = 7, HEARTBEAT_NS = 8,
    // The breaker's state: 0 there is no flusher, 1 closed, 2 open, 3 half-open.
    BREAKER_STATE = 9, BREAKER_FAILURES = 10, BREAKER_CLOSED_TOTAL = 11, BREAKER_OPEN_TOTAL = 12,
    BREAKER_HALF_OPEN_TOTAL = 13, LOG_LINES_DROPPED_TOTAL = 60,
    // From the record's time to the commit in PostgreSQL, a row each.
    DELIVERY_MS_SUM = 14,
    BATCH_NS_BUCKETS_64 = 64, BATCH_ROWS_BUCKETS_64 = 128, DELIVERY_NS_BUCKETS_64 = 192,
}

fields! {
    /// Worker.
    worker:
    SESSIONS = 0, SESSIONS_TOTAL = 1, REFUSED_TOTAL = 2, ENDED_TOTAL = 3, VIOLATIONS_TOTAL = 4,
    EVENTS_TOTAL = 5, BYTES_TOTAL = 6, FORWARDED_TOTAL = 7, REJECTED_TOTAL = 8, SETTLED_TOTAL = 9,
    WAKEUPS_TOTAL = 10, BELLS_TOTAL = 11, RING_BYTES = 12, IN_FLIGHT = 13, HEARTBEAT_NS = 14,
    FORWARD_FULL_TOTAL = 15,
    RING_POSITION_TOTAL = 16, RING_LENGTH_TOTAL = 17, RING_KIND_TOTAL = 18, RING_TICKET_TOTAL = 19,
    // From the reading of an event to the publication of its verdict.
    ACK_US_SUM = 20, ACK_NS_BUCKETS_64 = 64,
    // Sessions that handed something over in the last second.
    ACTIVE_SESSIONS = 21,
    // Rejections, in the order of the codes of `Reason` from 1 on.
    MALFORMED_EVENT_TOTAL = 32, INVALID_JSON_TOTAL = 33, INVALID_UTF8_TOTAL = 34,
    TOO_LARGE_TOTAL = 35, TOO_DEEP_TOTAL = 36, NUL_CHARACTER_TOTAL = 37, LONE_SURROGATE_TOTAL = 38,
    NUMBER_OUT_OF_RANGE_TOTAL = 39, INVALID_TIME_TOTAL = 40, INVALID_ATTRIBUTE_TOTAL = 41,
    INVALID_EXTENSIONS_TOTAL = 42, SOURCE_NOT_ALLOWED_TOTAL = 43,
    LOG_LINES_DROPPED_TOTAL = 60,
}

fields! {
    /// A door. What its protocol does not have stays 0.
    door:
    CONNECTIONS = 0, CONNECTIONS_TOTAL = 1, TURNED_AWAY_TOTAL = 2, REQUESTS_TOTAL = 3,
    // Events handed over to the ring; those that were none, told to the peer where it can be told.
    EVENTS_TOTAL = 4, BYTES_TOTAL = 5, REFUSED_TOTAL = 6,
    // What a peer without back-pressure sent and nobody could take.
    DROPPED_TOTAL = 7,
    THROTTLED_TOTAL = 8, SUBSCRIBERS = 9, PRODUCERS = 10, HEARTBEAT_NS = 14,
    LOG_LINES_DROPPED_TOTAL = 60,
    // From a request's first byte to its answer's, where the door answers.
    REQUEST_US_SUM = 20, REQUEST_NS_BUCKETS_64 = 64,
}

/// For heartbeats: a clock that is set must not look like a process that stands still.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec * 1_000_000_000 + now.tv_nsec) as u64
}

/// The mapped board.
#[derive(Clone)]
pub struct Board {
    mapping: Arc<Mapping>,
}

impl Board {
    pub fn map(fd: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        Ok(Self { mapping: Mapping::new(fd, BOARD_PAGES * PAGE_BYTES, true)? })
    }

    #[must_use]
    pub fn page(&self, page: usize) -> Page {
        assert!(page < BOARD_PAGES);
        Page { mapping: self.mapping.clone(), base: page * PAGE_BYTES }
    }
}

/// One page of the board.
#[derive(Clone)]
pub struct Page {
    mapping: Arc<Mapping>,
    base: usize,
}

impl Page {
    #[must_use]
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < PAGE_BYTES / 8);
        self.mapping.word(self.base + index * 8)
    }

    pub fn add(&self, index: usize, count: u64) {
        // One writer a page: a plain load and store, no locked instruction.
        let word = self.word(index);
        word.store(word.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    /// Counts `value` in the histogram at `index`: bucket `b` holds values below `2^b`.
    pub fn observe(&self, index: usize, value: u64) {
        self.observe_many(index, value, 1);
    }

    /// The same of `count` equal values.
    pub fn observe_many(&self, index: usize, value: u64, count: u64) {
        self.add(index + bucket_of(value), count);
    }
}

/// The bucket of a histogram that holds `value`.
#[must_use]
pub fn bucket_of(value: u64) -> usize {
    (64 - value.leading_zeros() as usize).min(HISTOGRAM_WORDS - 1)
}

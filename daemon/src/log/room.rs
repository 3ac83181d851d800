//! Room on the log's disk: who may take which part of it, and who gives way first.
//!
//! ```text
//! free   ──────────────────────────────────────────────────────────────────────▶ 0
//!        │ reserve + segment       │ reserve / 2              │ reserve / 4
//!        │ short: no new segment   │ low: what is delivered   │ (the flusher stops sending
//!        │ and nothing retained    │ is given back, not used  │ to an embedded PostgreSQL)
//!        │                         │ again for the log        │
//! ```
//!
//! The log and the embedded PostgreSQL share a disk, and each can starve the other. If the log took
//! the last room, PostgreSQL could not take the events that have to leave the log before a segment
//! of it may go: everything would stand still for good. So the log stops first: at the reserve it
//! makes no segment, and what stands in its segments is what they were filled with zeros for. Then
//! PostgreSQL has the reserve, and each segment that it has taken over comes back to it (`low`) as
//! long as the log holds more than the two that it needs to go on at all. Those two are its own:
//! they are on the disk already, so nothing that PostgreSQL writes can take them. If PostgreSQL
//! comes to the last quarter of the reserve, the flusher stops before the server fails in the
//! middle of its own log (`certeusd/flush/room.py`). Then both stand still and nothing is lost,
//! until there is room: from outside, or by a partition that retention drops, which goes on. That
//! last quarter is what a start of the log writer, a sidecar and PostgreSQL's own checkpoints use.
//!
//! Each level is left only well above where it was entered, so that nobody runs to and fro at it.
//! Room is asked for beforehand; that a write meets none all the same (somebody else was faster, a
//! quota) is no failure of the log: nothing that the log promised rests on a file that is being
//! made. It is removed, and made again when there is room.

use std::io;

use rustix::io::Errno;

/// What the disk has, against what the log leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    reserve_bytes: u64,
    segment_bytes: u64,
    pub free_bytes: u64,
    /// The log makes no segment, and retains none.
    pub short: bool,
    /// Segments that nobody needs are given back to the disk.
    pub low: bool,
}

impl Room {
    #[must_use]
    pub fn new(reserve_bytes: u64, segment_bytes: u64) -> Self {
        Self { reserve_bytes, segment_bytes, free_bytes: u64::MAX, short: false, low: false }
    }

    /// Takes in what the disk says now.
    pub fn look(&mut self, free_bytes: u64) {
        let segments = if self.short { 2 } else { 1 };
        let needed = self.segment_bytes.saturating_mul(segments);
        self.short = free_bytes < self.reserve_bytes.saturating_add(needed);
        let half = self.reserve_bytes / 2;
        self.low = free_bytes < if self.low { half + half / 2 } else { half };
        self.free_bytes = free_bytes;
    }
}

/// Whether the disk refused for want of room: blocks, inodes or a quota.
#[must_use]
pub fn is_no_room(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(Errno::NOSPC.raw_os_error()) || code == Some(Errno::DQUOT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(room: &mut Room, free: &[u64]) -> Vec<(bool, bool)> {
        let look = |free: &u64| {
            room.look(*free);
            (room.short, room.low)
        };
        free.iter().map(look).collect()
    }

    #[test]
    fn each_level_is_left_only_well_above_where_it_was_entered() {
        let mut room = Room::new(1000, 64);
        let down = [2000, 1064, 1063, 500, 499, 0];
        let seen = [(0, 0), (0, 0), (1, 0), (1, 0), (1, 1), (1, 1)].map(|(a, b)| (a > 0, b > 0));
        assert_eq!(levels(&mut room, &down), seen);
        let up = [500, 749, 750, 1064, 1127, 1128];
        let seen = [(1, 1), (1, 1), (1, 0), (1, 0), (1, 0), (0, 0)].map(|(a, b)| (a > 0, b > 0));
        assert_eq!(levels(&mut room, &up), seen);
    }

    #[test]
    fn without_a_reserve_only_the_next_segment_counts() {
        let mut room = Room::new(0, 64);
        assert_eq!(levels(&mut room, &[64, 63, 127, 128]).len(), 4);
        assert!(!room.short && !room.low);
        room.look(0);
        assert!(room.short && !room.low);
    }

    #[test]
    fn a_quota_is_want_of_room_and_a_broken_disk_is_not() {
        let of = |code| is_no_room(&io::Error::from_raw_os_error(code));
        assert_eq!([28, 122, 5, 13, 27].map(of), [true, true, false, false, false]);
        assert!(!is_no_room(&io::Error::other("no room")));
    }
}

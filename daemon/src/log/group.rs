//! The group being gathered: entries, records, and the tree over their leaves.

use crate::format::{
    ALIGN, GROUP_HEADER_BYTES, GroupHeader, LogEntry, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::memory::Region;
use crate::merkle::{Hash, Tree};
use crate::pages::PageVec;

use super::walk::Position;
use super::window::Key;

/// Where the group begins in its buffer: a segment's first one is written with that one's header.
const GROUP_AT: usize = SEGMENT_HEADER_BYTES as usize;
const BODY_AT: usize = GROUP_AT + GROUP_HEADER_BYTES;

/// Records are gathered where they are written from; there is one copy of them, and one write.
///
/// ```text
///   0                 4096           4224
///   │ segment header  │ group header │ [entries] │ records ... │ zeros
///   └ with the first  └ 4096-aligned, as direct I/O wants it   └ to 4096
///     group only
/// ```
///
/// Entries are few: they are put before the records when the group is closed.
pub struct Group {
    buffer: PageVec,
    entries: Vec<u8>,
    tree: Tree,
    pub count: u32,
    /// Ids of its records, for the segment's sidecar.
    pub keys: Vec<Key>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            buffer: PageVec::zeros(BODY_AT),
            entries: Vec::new(),
            tree: Tree::default(),
            count: 0,
            keys: Vec::new(),
        }
    }
}

impl Group {
    /// Room for `records_bytes` of records and `entries_bytes` of entries: all of its memory.
    pub fn reserve(&mut self, records_bytes: usize, entries_bytes: usize) -> [Region<'_>; 2] {
        self.buffer.reserve(BODY_AT + records_bytes + entries_bytes);
        self.entries.reserve(entries_bytes);
        [self.buffer.region(), Region::of_vec(&self.entries)]
    }

    pub fn push_entry(&mut self, entry: &LogEntry) {
        entry.write(&mut self.entries);
    }

    /// Copies one record; `leaf` is the worker's.
    pub fn push_record(&mut self, record: &[u8], leaf: Hash) {
        self.buffer.extend_from_slice(record);
        self.buffer.pad_to(8);
        self.tree.push(leaf);
        self.count += 1;
    }

    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.entries.len() + self.records().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body_bytes() == 0
    }

    fn records(&self) -> &[u8] {
        &self.buffer[BODY_AT..]
    }

    /// The header of this group, as the next one behind `position`.
    #[must_use]
    pub fn header(&self, position: &Position, salt: u64, epoch: u64, now_ns: u64) -> GroupHeader {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.entries), self.records());
        GroupHeader {
            salt,
            group: position.group + 1,
            first_seq: position.next_seq,
            count: self.count,
            entries_bytes: u32::try_from(self.entries.len()).expect("bounded by the limits"),
            records_bytes: u32::try_from(self.records().len()).expect("bounded by the limits"),
            body_crc: crc,
            recorded_at_ns: now_ns,
            epoch,
            chain: position.chain,
            root: self.tree.root(),
        }
    }

    /// Closes the group: the bytes to be written, whole pages. Only [`Group::clear`] may follow.
    pub fn close(&mut self, header: &GroupHeader, segment: Option<&SegmentHeader>) -> &[u8] {
        let (entries, end) = (self.entries.len(), self.buffer.len());
        self.buffer.set_len(end + entries);
        let out = self.buffer.as_mut_slice();
        if entries > 0 {
            out.copy_within(BODY_AT..end, BODY_AT + entries);
            out[BODY_AT..BODY_AT + entries].copy_from_slice(&self.entries);
        }
        out[GROUP_AT..BODY_AT].copy_from_slice(&header.encode());
        // Zeros to the end of the page, so that the kernel never has to read the rest of it first.
        self.buffer.pad_to(ALIGN as usize);
        let Some(segment) = segment else { return &self.buffer[GROUP_AT..] };
        self.buffer.as_mut_slice()[..GROUP_AT].copy_from_slice(&segment.encode());
        &self.buffer
    }

    pub fn clear(&mut self) {
        self.buffer.set_len(BODY_AT);
        self.entries.clear();
        self.tree.clear();
        self.keys.clear();
        self.count = 0;
    }
}

//! The group being gathered: entries, records, and the tree over their leaves.

use crate::format::{GROUP_HEADER_BYTES, GroupHeader, LogEntry};
use crate::merkle::{Hash, Tree};

use super::walk::Position;
use super::window::Key;

#[derive(Default)]
pub struct Group {
    entries: Vec<u8>,
    records: Vec<u8>,
    tree: Tree,
    pub count: u32,
    /// Ids of its records, for the segment's sidecar.
    pub keys: Vec<Key>,
}

impl Group {
    pub fn push_entry(&mut self, entry: &LogEntry) {
        entry.write(&mut self.entries);
    }

    /// Copies one record; `leaf` is the worker's.
    pub fn push_record(&mut self, record: &[u8], leaf: Hash) {
        self.records.extend_from_slice(record);
        self.records.resize(self.records.len().next_multiple_of(8), 0);
        self.tree.push(leaf);
        self.count += 1;
    }

    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.entries.len() + self.records.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body_bytes() == 0
    }

    /// The header of this group, as the next one behind `position`.
    #[must_use]
    pub fn header(&self, position: &Position, salt: u64, epoch: u64, now_ns: u64) -> GroupHeader {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&self.entries), &self.records);
        GroupHeader {
            salt,
            group: position.group + 1,
            first_seq: position.next_seq,
            count: self.count,
            entries_bytes: u32::try_from(self.entries.len()).expect("bounded by the limits"),
            records_bytes: u32::try_from(self.records.len()).expect("bounded by the limits"),
            body_crc: crc,
            recorded_at_ns: now_ns,
            epoch,
            chain: position.chain,
            root: self.tree.root(),
        }
    }

    /// What is written, in order: header, entries, records, and zeros to the end of the page, so
    /// that the kernel never has to read the rest of a page first.
    #[must_use]
    pub fn parts<'a>(&'a self, header: &'a [u8; GROUP_HEADER_BYTES]) -> [&'a [u8]; 4] {
        const ZEROS: [u8; crate::format::ALIGN as usize] = [0; crate::format::ALIGN as usize];
        let bytes = GROUP_HEADER_BYTES + self.body_bytes();
        let padding = bytes.next_multiple_of(ZEROS.len()) - bytes;
        [header, &self.entries, &self.records, &ZEROS[..padding]]
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.records.clear();
        self.tree.clear();
        self.keys.clear();
        self.count = 0;
    }
}

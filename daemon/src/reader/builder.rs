//! Makes segments without a log writer: for tests and tools, never for a log in service.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use certeus_ipc::record::{
    Attributes, FLAG_OPAQUE, KIND_EVENT, RECORD_HEADER_BYTES, RecordHeader, Tag,
};
use certeus_ipc::verdict::Verdict;

use super::segment::{FIRST_GROUP_OFFSET, path_of};
use crate::format::{GroupHeader, LogEntry, ProducerEntry, SegmentHeader};
use crate::merkle::{Tree, leaf, salt};

/// One record to write; attributes that are `None` are not given.
#[derive(Clone, Debug, Default)]
pub struct Event<'a> {
    pub producer_no: u64,
    pub ticket: u64,
    pub attributes: [Option<&'a [u8]>; 8],
    pub data: &'a [u8],
    pub opaque: bool,
    pub escalated: bool,
    /// 0 means an event.
    pub kind: u8,
}

/// Where a group was written.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub header: GroupHeader,
    pub segment_no: u64,
    pub offset: u64,
}

/// Writes groups, one after the other, and segments. Nothing is synced.
pub struct SegmentBuilder {
    dir: PathBuf,
    log_uuid: [u8; 16],
    log_key: [u8; 32],
    epoch: u64,
    segment: Option<(File, SegmentHeader)>,
    offset: u64,
    next_seq: u64,
    last: Option<GroupHeader>,
    last_bytes: Vec<u8>,
    entries: Vec<u8>,
    records: Vec<u8>,
    count: u32,
    tree: Tree,
}

impl SegmentBuilder {
    #[must_use]
    pub fn new(dir: &Path, log_uuid: [u8; 16], log_key: [u8; 32]) -> Self {
        Self {
            dir: dir.to_path_buf(),
            log_uuid,
            log_key,
            epoch: 1,
            segment: None,
            offset: 0,
            next_seq: 1,
            last: None,
            last_bytes: Vec::new(),
            entries: Vec::new(),
            records: Vec::new(),
            count: 0,
            tree: Tree::default(),
        }
    }

    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Opens the next segment. `before_next_seq` claims numbers that were never written; with
    /// `copy_last`, as a start does, the last group is copied into it.
    pub fn segment(
        &mut self,
        before_next_seq: Option<u64>,
        copy_last: bool,
    ) -> std::io::Result<u64> {
        let before_segment_no = self.segment.as_ref().map_or(0, |(_, header)| header.segment_no);
        let segment_no = before_segment_no + 1;
        self.next_seq = before_next_seq.unwrap_or(self.next_seq);
        self.epoch += u64::from(copy_last);
        let header = SegmentHeader {
            log_uuid: self.log_uuid,
            segment_no,
            salt: u64::from_le_bytes(self.log_uuid[..8].try_into().expect("8 bytes")) ^ segment_no,
            created_at_ns: 1,
            epoch: self.epoch,
            before_segment_no,
            before_end_offset: self.offset,
            before_group: self.last.map_or(0, |last| last.group),
            before_next_seq: self.next_seq,
            before_chain: self.last.map_or([0; 32], |last| last.hash()),
            before_root: self.last.map_or([0; 32], |last| last.root),
        };
        let mut file = File::create_new(path_of(&self.dir, segment_no))?;
        file.write_all(&header.encode())?;
        self.segment = Some((file, header));
        self.offset = FIRST_GROUP_OFFSET;
        if let Some(last) = self.last.filter(|_| copy_last) {
            let copied = GroupHeader { salt: header.salt, ..last };
            let body = std::mem::take(&mut self.last_bytes);
            self.write(copied, &body)?;
            self.last_bytes = body;
        }
        Ok(segment_no)
    }

    pub fn producer(&mut self, producer_no: u64, uid: u32, tenant: &str, source: &str) {
        let entry = ProducerEntry {
            producer_no,
            tenant_no: 1,
            uid,
            producer: [producer_no as u8; 16],
            birth_seq: 0,
            tenant: tenant.into(),
            source: source.into(),
        };
        LogEntry::Producer(entry).write(&mut self.entries);
    }

    pub fn record(&mut self, event: &Event<'_>) {
        let mut attributes = Attributes::default();
        for (tag, value) in Tag::ALL.into_iter().zip(event.attributes) {
            attributes.set(tag, value);
        }
        let bytes = RECORD_HEADER_BYTES + attributes.bytes() + event.data.len();
        let header = RecordHeader {
            bytes: u32::try_from(bytes).expect("a record is bounded"),
            kind: if event.kind == 0 { KIND_EVENT } else { event.kind },
            verdict: if event.escalated { Verdict::Escalated } else { Verdict::Accepted },
            flags: if event.opaque { FLAG_OPAQUE } else { 0 },
            tenant_no: 1,
            attributes_bytes: u32::try_from(attributes.bytes()).expect("attributes are bounded"),
            producer_no: event.producer_no,
            ticket: event.ticket,
        };
        let start = self.records.len();
        self.records.resize(start + RECORD_HEADER_BYTES, 0);
        header.write(&mut self.records[start..]);
        attributes.write(&mut self.records);
        self.records.extend_from_slice(event.data);
        let salt = salt(&self.log_key, event.producer_no, event.ticket);
        self.tree.push(leaf(&salt, &self.records[start..]));
        self.records.resize(self.records.len().next_multiple_of(8), 0);
        self.count += 1;
    }

    /// Writes what was gathered as one group.
    pub fn commit(&mut self, recorded_at_ns: u64) -> std::io::Result<Written> {
        assert!(self.count > 0 || !self.entries.is_empty(), "a group holds something");
        let (_, segment) = self.segment.as_ref().expect("a segment is open");
        let mut body = std::mem::take(&mut self.entries);
        let entries_bytes = u32::try_from(body.len()).expect("a group is bounded");
        body.append(&mut self.records);
        let header = GroupHeader {
            salt: segment.salt,
            group: self.last.map_or(0, |last| last.group) + 1,
            first_seq: self.next_seq,
            count: self.count,
            entries_bytes,
            records_bytes: u32::try_from(body.len()).expect("a group is bounded") - entries_bytes,
            body_crc: crc32c::crc32c(&body),
            recorded_at_ns,
            epoch: self.epoch,
            chain: self.last.map_or([0; 32], |last| last.hash()),
            root: self.tree.root(),
        };
        let (segment_no, offset) = (segment.segment_no, self.offset);
        self.write(header, &body)?;
        self.next_seq = header.next_seq();
        self.last = Some(header);
        self.last_bytes = body;
        self.count = 0;
        self.tree.clear();
        Ok(Written { header, segment_no, offset })
    }

    fn write(&mut self, header: GroupHeader, body: &[u8]) -> std::io::Result<()> {
        let (file, _) = self.segment.as_ref().expect("a segment is open");
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(body);
        bytes.resize(header.group_bytes() as usize, 0);
        file.write_all_at(&bytes, self.offset)?;
        self.offset += header.group_bytes();
        Ok(())
    }
}

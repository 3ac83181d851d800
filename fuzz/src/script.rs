//! A log written by a script: the honest steps of a log writer, damage, and groups whose CRC is
//! right though no log writer makes them.

use std::collections::BTreeMap;

use certeus_core::format::{
    GroupHeader, LogEntry, ProducerEntry, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use certeus_core::merkle::{Tree, leaf, salt};
use certeus_ipc::record::{Attributes, KIND_EVENT, RECORD_HEADER_BYTES, RecordHeader, Tag};
use certeus_ipc::verdict::Verdict;

use crate::input::Input;

pub const LOG_KEY: [u8; 32] = [9; 32];
const SEGMENTS_MAX: usize = 5;
const GROUPS_MAX: usize = 12;
const TIME_NS: u64 = 1_800_000_000_000_000_000;

#[derive(Default)]
pub struct Script {
    /// Whole files, by the number of the segment.
    pub files: BTreeMap<u64, Vec<u8>>,
    /// What was written by honest steps, by `seq`.
    pub written: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Bytes were changed, cut or taken away behind the log writer's back.
    pub damaged: bool,
    /// Somebody wrote what no log writer writes, with the right CRC.
    pub forged: bool,
    header: Option<SegmentHeader>,
    last: Option<(GroupHeader, Vec<u8>)>,
    next_seq: u64,
    ticket: u64,
    epoch: u64,
    groups: usize,
    declared: bool,
}

impl Script {
    #[must_use]
    pub fn run(input: &mut Input<'_>) -> Self {
        let mut script = Self { next_seq: 1, epoch: 1, ..Self::default() };
        script.segment(false, None);
        while !input.is_empty() {
            script.step(input);
        }
        script
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 9 {
            0 => self.segment(false, None),
            1 => self.segment(true, None),
            2 | 3 => {
                let count = input.below(4) as u32 + 1;
                let bytes = input.byte();
                self.group(count, input.bytes(usize::from(bytes)), None);
            }
            4 => {
                let field = (input.byte(), input.near(self.next_seq));
                self.group(input.below(3) as u32, input.bytes(8), Some(field));
            }
            5 => self.raw_group(input),
            6 => {
                let field = (input.byte(), input.near(self.next_seq));
                self.segment(field.0 & 0x80 != 0, Some(field));
            }
            7 => self.damage(input),
            _ => self.cut(input),
        }
    }

    /// The next segment; `start`: as a start makes it, with a copy of the last group.
    fn segment(&mut self, start: bool, forged: Option<(u8, u64)>) {
        if self.files.len() >= SEGMENTS_MAX {
            return;
        }
        let before = self.header;
        let segment_no = before.map_or(1, |before| before.segment_no + 1);
        let end = before.map_or(0, |_| self.files.values().next_back().map_or(0, Vec::len));
        self.epoch += u64::from(start);
        let last = self.last.as_ref().map(|(header, _)| header);
        let mut header = SegmentHeader {
            log_uuid: [7; 16],
            segment_no,
            salt: 0x5a17_0000 + segment_no,
            created_at_ns: TIME_NS,
            epoch: self.epoch,
            before_segment_no: before.map_or(0, |before| before.segment_no),
            before_end_offset: end as u64,
            before_group: last.map_or(0, |last| last.group),
            before_next_seq: self.next_seq,
            before_chain: last.map_or([0; 32], GroupHeader::hash),
            before_root: last.map_or([0; 32], |last| last.root),
        };
        if let Some((field, value)) = forged {
            self.forged = true;
            match field % 10 {
                0 => header.log_uuid = [value as u8; 16],
                1 => header.segment_no = value,
                2 => header.salt = value,
                3 => header.epoch = value,
                4 => header.before_segment_no = value,
                5 => header.before_end_offset = value,
                6 => header.before_group = value,
                7 => header.before_next_seq = value,
                8 => header.before_chain = [value as u8; 32],
                _ => header.before_root = [value as u8; 32],
            }
        }
        self.files.insert(segment_no, header.encode());
        assert_eq!(header.encode().len() as u64, SEGMENT_HEADER_BYTES);
        self.header = Some(SegmentHeader { segment_no, ..header });
        self.declared = false;
        if let Some((last, body)) = self.last.clone().filter(|_| start) {
            self.put(&GroupHeader { salt: header.salt, ..last }, &body);
        }
    }

    fn group(&mut self, count: u32, data: &[u8], forged: Option<(u8, u64)>) {
        if self.groups >= GROUPS_MAX || (count == 0 && forged.is_none()) {
            return;
        }
        let mut body = Vec::new();
        if !std::mem::replace(&mut self.declared, true) {
            producer().write(&mut body);
        }
        let entries_bytes = body.len() as u32;
        let mut tree = Tree::default();
        for index in 0..count {
            self.ticket += 1;
            let record = record(self.ticket, data);
            tree.push(leaf(&salt(&LOG_KEY, 1, self.ticket), &record));
            body.extend_from_slice(&record);
            body.resize(body.len().next_multiple_of(8), 0);
            if forged.is_none() {
                let seq = self.next_seq.wrapping_add(u64::from(index));
                self.written.insert(seq, (self.ticket, data.to_vec()));
            }
        }
        let mut header = self.header_of(&body, entries_bytes, count);
        header.root = tree.root();
        if let Some((field, value)) = forged {
            self.forge(&mut header, field, value);
        }
        self.commit(header, body);
    }

    /// A group of any bytes, with any number of records in it.
    fn raw_group(&mut self, input: &mut Input<'_>) {
        if self.groups >= GROUPS_MAX {
            return;
        }
        self.forged = true;
        let (count, split) = (input.byte(), input.byte());
        let length = usize::from(input.byte());
        let mut body = input.bytes(length).to_vec();
        body.resize(body.len().next_multiple_of(8), 0);
        let entries_bytes = (usize::from(split) % (body.len() + 1)) as u32;
        let header = self.header_of(&body, entries_bytes, u32::from(count));
        self.commit(header, body);
    }

    fn header_of(&self, body: &[u8], entries_bytes: u32, count: u32) -> GroupHeader {
        let last = self.last.as_ref().map(|(header, _)| header);
        GroupHeader {
            salt: self.header.expect("a segment is open").salt,
            group: last.map_or(0, |last| last.group).wrapping_add(1),
            first_seq: self.next_seq,
            count,
            entries_bytes,
            records_bytes: body.len() as u32 - entries_bytes,
            body_crc: crc32c::crc32c(body),
            recorded_at_ns: TIME_NS + self.groups as u64,
            epoch: self.epoch,
            chain: last.map_or([0; 32], GroupHeader::hash),
            root: [0; 32],
        }
    }

    fn forge(&mut self, header: &mut GroupHeader, field: u8, value: u64) {
        self.forged = true;
        match field % 10 {
            0 => header.salt = value,
            1 => header.group = value,
            2 => header.first_seq = value,
            3 => header.count = value as u32,
            4 => header.entries_bytes = value as u32,
            5 => header.records_bytes = value as u32,
            6 => header.recorded_at_ns = value,
            7 => header.epoch = value,
            8 => header.chain = [value as u8; 32],
            _ => header.root = [value as u8; 32],
        }
    }

    fn commit(&mut self, header: GroupHeader, body: Vec<u8>) {
        self.put(&header, &body);
        self.next_seq = header.first_seq.wrapping_add(u64::from(header.count));
        self.last = Some((header, body));
        self.groups += 1;
    }

    fn put(&mut self, header: &GroupHeader, body: &[u8]) {
        let number = self.header.expect("a segment is open").segment_no;
        // The file may have been taken away: what is written then is in no directory.
        let Some(file) = self.files.get_mut(&number) else { return };
        file.extend_from_slice(&header.encode());
        file.extend_from_slice(body);
        file.resize(file.len().next_multiple_of(4096), 0);
    }

    fn file(&mut self, input: &mut Input<'_>) -> Option<u64> {
        let numbers: Vec<u64> = self.files.keys().copied().collect();
        (!numbers.is_empty()).then(|| numbers[input.below(numbers.len())])
    }

    /// Changes a byte; most of a page is padding, so the place is one of its first 512.
    fn damage(&mut self, input: &mut Input<'_>) {
        let Some(number) = self.file(input) else { return };
        let file = self.files.get_mut(&number).expect("just seen");
        let at = input.below(16) * 4096 + input.below(512);
        if let Some(byte) = file.get_mut(at) {
            *byte ^= input.byte().max(1);
            self.damaged = true;
        }
    }

    /// Cuts a file, or takes it away.
    fn cut(&mut self, input: &mut Input<'_>) {
        let Some(number) = self.file(input) else { return };
        self.damaged = true;
        let bytes = usize::from(input.short()) * 4;
        if bytes == 0 {
            self.files.remove(&number);
        } else {
            self.files.get_mut(&number).expect("just seen").truncate(bytes);
        }
    }
}

fn producer() -> LogEntry {
    LogEntry::Producer(ProducerEntry {
        producer_no: 1,
        tenant_no: 1,
        uid: 0,
        producer: [1; 16],
        birth_seq: 0,
        tenant: "default".into(),
        source: "fuzz".into(),
    })
}

fn record(ticket: u64, data: &[u8]) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.set(Tag::Type, Some(b"t"));
    let id = ticket.to_string();
    attributes.set(Tag::Id, Some(id.as_bytes()));
    let mut record = vec![0; RECORD_HEADER_BYTES];
    attributes.write(&mut record);
    record.extend_from_slice(data);
    let header = RecordHeader {
        bytes: record.len() as u32,
        kind: KIND_EVENT,
        verdict: Verdict::Accepted,
        flags: 0,
        tenant_no: 1,
        attributes_bytes: attributes.bytes() as u32,
        producer_no: 1,
        ticket,
    };
    header.write(&mut record);
    record
}

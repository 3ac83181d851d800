//! `certeus log inspect`: where one record stands, and everything that is derived from it.

use certeus_ipc::record::{Record, Tag};

use super::segment::{self, FIRST_GROUP_OFFSET, Scanner, Segment};
use super::{LogReader, Result};
use crate::format::{GROUP_HEADER_BYTES, GroupHeader, LogEntry, ProducerEntry, SegmentHeader};
use crate::keyed::{content_digest, dedup_key};
use crate::merkle::{Hash, leaf, root_of, salt};

/// One record of a group.
pub struct Place {
    pub seq: u64,
    /// Of the record, in its segment's file.
    pub offset: u64,
    pub bytes: u64,
    pub uid: Option<u32>,
    /// What only the log's key can tell.
    pub keyed: Option<Keyed>,
}

pub struct Keyed {
    pub leaf: Hash,
    /// Key and digest of the dedup window, of a record with an id.
    pub dedup: Option<([u8; 16], u64)>,
}

/// A group that holds a number that was asked for.
pub struct GroupView {
    pub segment_no: u64,
    pub offset: u64,
    pub header: GroupHeader,
    pub entries: usize,
    /// Whether the root comes out of the records; without key, nobody knows.
    pub root_matches: Option<bool>,
    pub places: Vec<Place>,
}

impl LogReader {
    /// The group that holds `seq`. `None`: no whole group of the log does.
    pub fn group_of(&self, seq: u64, log_key: Option<&[u8; 32]>) -> Result<Option<GroupView>> {
        let headers = segment::active_headers(self.dir())?;
        let place = headers.iter().rposition(|header| header.before_next_seq <= seq);
        let place = place.unwrap_or(0);
        // Where its own segment is lost, the last group of it stands in the next one, as a copy.
        for index in [Some(place), place.checked_add(1), place.checked_sub(1)] {
            let Some(header) = index.and_then(|index| headers.get(index)) else { continue };
            let successor = headers.iter().find(|next| next.segment_no > header.segment_no);
            if let Some(view) = self.group_in(header, successor.copied(), seq, log_key)? {
                return Ok(Some(view));
            }
        }
        Ok(None)
    }

    fn group_in(
        &self,
        header: &SegmentHeader,
        successor: Option<SegmentHeader>,
        seq: u64,
        log_key: Option<&[u8; 32]>,
    ) -> Result<Option<GroupView>> {
        let Some(mut segment) = Segment::open(self.dir(), header.segment_no, false)? else {
            return Ok(None);
        };
        segment.successor = successor;
        let end = segment.end_offset();
        let mut producers: Vec<ProducerEntry> = Vec::new();
        let mut scanner = Scanner::new(&mut segment, FIRST_GROUP_OFFSET, end);
        while let Some((offset, group)) = scanner.next_group(None, |_| true)? {
            let body = scanner.body(&group);
            let (entries, records) = body.split_at(group.entries_bytes as usize);
            let entries = LogEntry::parse_all(entries).unwrap_or_default();
            let count = entries.len();
            producers.extend(entries.into_iter().filter_map(|entry| match entry {
                LogEntry::Producer(producer) => Some(producer),
                _ => None,
            }));
            if group.first_seq <= seq && seq < group.next_seq() {
                let at = offset + GROUP_HEADER_BYTES as u64 + u64::from(group.entries_bytes);
                return Ok(Some(GroupView {
                    segment_no: header.segment_no,
                    offset,
                    header: group,
                    entries: count,
                    root_matches: log_key.map(|key| root_of(key, records) == Some(group.root)),
                    places: places(&group, at, records, &producers, log_key),
                }));
            }
            scanner.advance(&group);
        }
        Ok(None)
    }
}

fn places(
    group: &GroupHeader,
    mut offset: u64,
    mut records: &[u8],
    producers: &[ProducerEntry],
    log_key: Option<&[u8; 32]>,
) -> Vec<Place> {
    let mut places = Vec::new();
    let mut seq = group.first_seq;
    while let Some(record) = Record::parse(records) {
        let number = record.header.producer_no;
        let producer = producers.iter().rev().find(|one| one.producer_no == number);
        let keyed = log_key.map(|key| Keyed {
            leaf: leaf(&salt(key, number, record.header.ticket), record.bytes),
            dedup: dedup(key, &record, producer),
        });
        let bytes = record.bytes.len() as u64;
        places.push(Place { seq, offset, bytes, uid: producer.map(|one| one.uid), keyed });
        let padded = record.padded_bytes().min(records.len());
        offset += padded as u64;
        records = &records[padded..];
        seq += 1;
    }
    places
}

/// The same that a start computes when it reads a segment without its sidecar.
pub fn dedup(
    key: &[u8; 32],
    record: &Record<'_>,
    producer: Option<&ProducerEntry>,
) -> Option<([u8; 16], u64)> {
    let id = record.attributes.get(Tag::Id)?;
    let producer = producer?;
    let source = record.attributes.get(Tag::Source).unwrap_or(producer.source.as_bytes());
    let digest = content_digest(key, &record.attributes, record.header.flags, record.data);
    Some((dedup_key(key, producer.tenant.as_bytes(), source, id), digest))
}

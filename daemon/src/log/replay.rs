//! Taking a group of the log into the tables, as the live writer did when it made it.

use certeus_ipc::record::{Record, Tag};
use certeus_ipc::verdict::{Entry, Reason};

use std::io;

use super::producers::without_seq;
use super::recovery::Recovered;
use super::walk::{Found, group_at};
use super::window::{Key, Window};
use crate::disk::DiskFile;
use crate::format::{LogEntry, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::gap::GapEntry;
use crate::keyed::{content_digest, dedup_key};

/// Remembers an id. One that a smaller window had forgotten stands in the log again: the later
/// event counts, so that the window is the newest ids in log order, whatever its size was before.
pub fn remember(window: &mut Window, key: Key) {
    if window.get(&key.key).is_none_or(|known| known.seq < key.seq) {
        window.insert(key);
    }
}

/// Takes one group into the tables, as the live writer did when it made it.
pub fn replay(
    found: &mut Recovered,
    segment_no: u64,
    group: &Found,
    log_key: &[u8; 32],
    keys: &mut Vec<Key>,
) {
    let header = &group.header;
    let mut records = group.records();
    let entries = LogEntry::parse_all(group.entries()).unwrap_or_default();
    if entries.iter().any(|entry| matches!(entry, LogEntry::Gap(_))) {
        // As the start did that wrote the record: what was told in lost groups is not known.
        found.producers.forget_all(header.first_seq);
    }
    found.producers.replay(segment_no, &entries);
    for entry in &entries {
        if let LogEntry::Producer(who) = entry {
            found.declared.insert(who.producer_no, who.clone());
        }
    }
    // Tickets of one producer come in ticket order only when records and entries are merged; that
    // somebody was active is taken in the order of the live writer: records, then entries.
    let mut decided: Vec<(u64, Entry)> = Vec::new();
    let mut seq = header.first_seq;
    while let Some(record) = Record::parse(records) {
        let producer_no = record.header.producer_no;
        let entry = Entry {
            ticket: record.header.ticket,
            seq,
            group: header.group,
            count: 1,
            verdict: record.header.verdict,
            reason: Reason::None,
        };
        decided.push((producer_no, entry));
        found.producers.touch(producer_no, header.group, seq);
        // Without its entry, which damage may have taken, an older segment's table may know it.
        let known = || found.producers.get(producer_no).map(|known| &known.entry);
        let who = found.declared.get(&producer_no).or_else(known);
        if let (Some(id), Some(who)) = (record.attributes.get(Tag::Id), who) {
            let source = record.attributes.get(Tag::Source).unwrap_or(who.source.as_bytes());
            let tenant = who.tenant.as_bytes();
            let flags = record.header.flags;
            let key = Key {
                key: dedup_key(log_key, tenant, source, id),
                seq,
                digest: content_digest(log_key, &record.attributes, flags, record.data),
            };
            remember(&mut found.window, key);
            keys.push(key);
        }
        seq += 1;
        records = &records[record.padded_bytes().min(records.len())..];
    }
    for entry in &entries {
        if let LogEntry::Verdict(told) = entry {
            let entry = without_seq(told.ticket, told.verdict, told.reason, told.seq);
            decided.push((told.producer_no, entry));
            found.producers.touch(told.producer_no, header.group, header.next_seq() - 1);
        }
    }
    decided.sort_by_key(|(producer_no, entry)| (*producer_no, entry.ticket));
    for (producer_no, entry) in decided {
        found.producers.replay_ticket(producer_no, entry);
    }
}

/// The gap records of a segment: they stand in its first group, or behind the copied one.
pub fn recorded(file: &impl DiskFile, segment: &SegmentHeader) -> io::Result<Vec<GapEntry>> {
    let mut gaps = Vec::new();
    let mut offset = SEGMENT_HEADER_BYTES;
    for _ in 0..2 {
        let Some(group) = group_at(file, offset, u64::MAX, segment.salt)? else { break };
        let entries = LogEntry::parse_all(group.entries()).unwrap_or_default();
        gaps.extend(entries.into_iter().filter_map(|entry| match entry {
            LogEntry::Gap(gap) => Some(gap),
            _ => None,
        }));
        offset += group.header.group_bytes();
    }
    Ok(gaps)
}

//! Taking a group of the log into the tables, as the live writer did when it made it.

use certeus_ipc::record::{Record, Tag};
use certeus_ipc::verdict::{Entry, Reason};

use super::producers::without_seq;
use super::recovery::Recovered;
use super::walk::Found;
use super::window::{Key, Window};
use crate::format::LogEntry;
use crate::keyed::{content_digest, dedup_key};

/// Remembers an id, unless the window knows it still.
pub fn remember(window: &mut Window, key: Key) {
    if window.get(&key.key).is_none() {
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
    let (entries, mut records) = group.body.split_at(header.entries_bytes as usize);
    let entries = LogEntry::parse_all(entries).unwrap_or_default();
    found.producers.replay(segment_no, &entries);
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
        if let (Some(id), Some(producer)) =
            (record.attributes.get(Tag::Id), found.producers.get(producer_no))
        {
            let session_source = producer.entry.source.as_bytes();
            let source = record.attributes.get(Tag::Source).unwrap_or(session_source);
            let tenant = producer.entry.tenant.as_bytes();
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

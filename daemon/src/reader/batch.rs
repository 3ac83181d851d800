//! A batch: whole groups of one UTC day as they lie in the log, and where each row is in them.

use std::collections::HashMap;
use std::sync::Arc;

use certeus_ipc::record::{KIND_EVENT, KIND_MUST_UNDERSTAND, RECORD_VERSION, Record, RecordHeader};

use super::Cursor;
use super::segment::Window;
use crate::format::{GROUP_HEADER_BYTES, GroupHeader, LogEntry, u32_at};
use crate::merkle::Hash;
use crate::pages::{Pool, Pooled};

/// Numbers that the log does not hold any more, first and last included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub first_seq: u64,
    pub last_seq: u64,
    pub reason: &'static str,
}

/// What a row knows of its producer.
#[derive(Debug, PartialEq, Eq)]
pub struct Producer {
    pub producer_no: u64,
    pub tenant: String,
    pub source: String,
}

/// The dictionary of the segment being read, and of the one before: damaged entries of this one
/// may still stand there.
#[derive(Default)]
pub struct Producers {
    current: HashMap<u64, Arc<Producer>>,
    /// `None`: that segment was not read.
    before: Option<HashMap<u64, Arc<Producer>>>,
    entered: bool,
}

impl Producers {
    pub fn next_segment(&mut self) {
        let before = std::mem::take(&mut self.current);
        self.before = std::mem::replace(&mut self.entered, true).then_some(before);
    }

    #[must_use]
    pub fn knows_before(&self) -> bool {
        self.before.is_some()
    }

    /// Takes over the dictionary of the segment before, which was read for it alone.
    pub fn set_before(&mut self, before: Self) {
        self.before = Some(before.current);
    }

    /// Takes over what the entries of one group tell of producers.
    pub fn take(&mut self, entries: &[u8]) -> Result<(), &'static str> {
        if entries.is_empty() {
            return Ok(());
        }
        let parsed = LogEntry::parse_all(entries)
            .ok_or("an entry is of a kind that this version does not understand")?;
        for entry in parsed {
            if let LogEntry::Producer(entry) = entry {
                let producer_no = entry.producer_no;
                let producer = Producer { producer_no, tenant: entry.tenant, source: entry.source };
                self.current.insert(producer_no, Arc::new(producer));
            }
        }
        Ok(())
    }

    fn get(&self, producer_no: u64) -> Option<&Arc<Producer>> {
        self.current.get(&producer_no).or_else(|| self.before.as_ref()?.get(&producer_no))
    }
}

/// No producer of this number is known: its entry was in bytes that are damaged.
const UNKNOWN: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Row {
    /// Of the record, in the batch's bytes.
    offset: u32,
    producer: u32,
    /// `seq` less the batch's first.
    seq_delta: u32,
    group: u32,
}

/// One row, borrowed from its batch.
pub struct RowView<'a> {
    pub seq: u64,
    pub recorded_at_ns: u64,
    pub group: u64,
    /// `None`: the entry that names it was in damaged bytes.
    pub producer: Option<&'a Producer>,
    pub record: Record<'a>,
}

/// Owns the bytes that it was read from; immutable.
pub struct Batch {
    pub first_seq: u64,
    pub last_seq: u64,
    /// Of the last group in it; of the cursor, for a gap without rows.
    pub group: u64,
    pub root: Hash,
    pub epoch: u64,
    pub segment_no: u64,
    /// The earliest; 0 for a gap without rows.
    pub recorded_at_ns: u64,
    pub gaps: Vec<Gap>,
    bytes: Pooled,
    rows: Vec<Row>,
    groups: Vec<GroupHeader>,
    producers: Vec<Arc<Producer>>,
}

impl Batch {
    #[must_use]
    pub fn of_gap(gap: Gap, cursor: &Cursor, segment_no: u64) -> Self {
        Self {
            first_seq: gap.first_seq,
            last_seq: gap.last_seq,
            group: cursor.group,
            root: cursor.root,
            epoch: cursor.epoch,
            segment_no,
            recorded_at_ns: 0,
            gaps: vec![gap],
            bytes: Pool::default().take(),
            rows: Vec::new(),
            groups: Vec::new(),
            producers: Vec::new(),
        }
    }

    /// One event by itself, from a record that was taken out of a log. `None`: that is no event.
    #[must_use]
    pub fn of_record(
        seq: u64,
        recorded_at_ns: u64,
        producer: Option<(String, String)>,
        record: &[u8],
    ) -> Option<Self> {
        let whole = Record::parse(record)?;
        let event = record[5] == KIND_EVENT && whole.bytes.len() == record.len();
        let gap = Gap { first_seq: seq, last_seq: seq, reason: "" };
        let mut batch = Self::of_gap(gap, &Cursor::start(), 0);
        batch.gaps.clear();
        batch.recorded_at_ns = recorded_at_ns;
        batch.bytes.extend_from_slice(record);
        batch.rows.push(Row { offset: 0, producer: 0, seq_delta: 0, group: 0 });
        batch.groups.push(GroupHeader {
            salt: 0,
            group: 0,
            first_seq: seq,
            count: 1,
            entries_bytes: 0,
            records_bytes: 0,
            body_crc: 0,
            recorded_at_ns,
            epoch: 0,
            chain: [0; 32],
            root: [0; 32],
        });
        let producer_no = whole.header.producer_no;
        batch.producers.extend(
            producer.map(|(tenant, source)| Arc::new(Producer { producer_no, tenant, source })),
        );
        event.then_some(batch)
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the log that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The UTC day of all its rows, as `YYYYMMDD`.
    #[must_use]
    pub fn day(&self) -> u32 {
        day_of(self.recorded_at_ns)
    }

    /// Index of the first row whose number is above `seq`.
    #[must_use]
    pub fn row_behind(&self, seq: u64) -> usize {
        self.rows.partition_point(|row| self.first_seq + u64::from(row.seq_delta) <= seq)
    }

    /// The row; `index < rows()`.
    #[must_use]
    pub fn row(&self, index: usize) -> RowView<'_> {
        let row = self.rows[index];
        let group = &self.groups[row.group as usize];
        RowView {
            seq: self.first_seq + u64::from(row.seq_delta),
            recorded_at_ns: group.recorded_at_ns,
            group: group.group,
            producer: self.producers.get(row.producer as usize).map(Arc::as_ref),
            record: Record::parse(&self.bytes[row.offset as usize..]).expect("parsed when built"),
        }
    }
}

/// Gathers groups into a batch.
pub struct Builder {
    batch: Batch,
    body_bytes: u64,
    /// `producer_no` to index in the batch's list; the last one is tried first.
    index: HashMap<u64, u32>,
    last: (u64, u32),
}

impl Builder {
    #[must_use]
    pub fn new(segment_no: u64) -> Self {
        let gap = Gap { first_seq: 0, last_seq: 0, reason: "" };
        let mut batch = Batch::of_gap(gap, &Cursor::start(), segment_no);
        batch.gaps.clear();
        Self { batch, body_bytes: 0, index: HashMap::new(), last: (0, UNKNOWN) }
    }

    #[must_use]
    pub fn groups(&self) -> usize {
        self.batch.groups.len()
    }

    /// Whether `header`'s group belongs into the next batch.
    #[must_use]
    pub fn is_full(&self, header: &GroupHeader, rows_max: usize, bytes_max: usize) -> bool {
        let Some(first) = self.batch.groups.first() else {
            return false;
        };
        self.batch.rows.len() + header.count as usize > rows_max
            || self.body_bytes + header.body_bytes() > bytes_max as u64
            || day_of(header.recorded_at_ns) != day_of(first.recorded_at_ns)
    }

    /// Takes the group at the window's position. An error leaves the builder useless.
    pub fn push(
        &mut self,
        header: &GroupHeader,
        window: &Window,
        producers: &Producers,
    ) -> Result<(), &'static str> {
        let batch = &mut self.batch;
        if batch.groups.is_empty() {
            batch.first_seq = header.first_seq;
            batch.recorded_at_ns = header.recorded_at_ns;
        }
        let group = u32::try_from(batch.groups.len()).expect("groups of a batch");
        let start = GROUP_HEADER_BYTES + header.entries_bytes as usize;
        let records = &window.rest()[start..start + header.records_bytes as usize];
        let base = window.passed_bytes() + start;
        let mut at = 0;
        for seq in header.first_seq..header.next_seq() {
            let rest = records.get(at..).filter(|rest| rest.len() >= 8).ok_or(SHORT)?;
            let bytes = u32_at(rest, 0) as usize;
            if bytes < 8 || bytes > rest.len() {
                return Err(SHORT);
            }
            if rest[5] == KIND_EVENT {
                Record::parse(rest).ok_or(MALFORMED)?;
                let producer_no = RecordHeader::parse(rest).ok_or(MALFORMED)?.producer_no;
                if self.last != (producer_no, self.last.1) || self.last.1 == UNKNOWN {
                    self.last =
                        (producer_no, index_of(&mut self.index, batch, producers, producer_no));
                }
                batch.rows.push(Row {
                    offset: u32::try_from(base + at).expect("a batch is far below 4 GiB"),
                    producer: self.last.1,
                    seq_delta: u32::try_from(seq - batch.first_seq).expect("rows of a batch"),
                    group,
                });
            } else if rest[5] & KIND_MUST_UNDERSTAND != 0 || rest[4] != RECORD_VERSION {
                return Err("a record is of a kind that this version does not understand");
            } else {
                let reason = super::reason::UNKNOWN_KIND;
                batch.gaps.push(Gap { first_seq: seq, last_seq: seq, reason });
            }
            at += bytes.next_multiple_of(8);
        }
        batch.last_seq = header.next_seq() - 1;
        batch.group = header.group;
        batch.root = header.root;
        batch.epoch = header.epoch;
        batch.recorded_at_ns = batch.recorded_at_ns.min(header.recorded_at_ns);
        batch.groups.push(*header);
        self.body_bytes += header.body_bytes();
        Ok(())
    }

    /// Takes over the bytes, which the rows point into.
    pub fn own(&mut self, window: Window) {
        self.batch.bytes = window.into_passed();
    }

    #[must_use]
    pub fn finish(self) -> Batch {
        self.batch
    }
}

const SHORT: &str = "it holds fewer records than its header says";
const MALFORMED: &str = "a record is malformed or of a version that this certeus does not read";

fn index_of(
    index: &mut HashMap<u64, u32>,
    batch: &mut Batch,
    producers: &Producers,
    producer_no: u64,
) -> u32 {
    if let Some(known) = index.get(&producer_no) {
        return *known;
    }
    // Not noted when it is not known: a later group of the batch may name it.
    let Some(producer) = producers.get(producer_no) else {
        return UNKNOWN;
    };
    let place = u32::try_from(batch.producers.len()).expect("producers of a batch");
    batch.producers.push(producer.clone());
    index.insert(producer_no, place);
    place
}

/// UTC day as `YYYYMMDD`, after Howard Hinnant's `civil_from_days`.
#[must_use]
pub fn day_of(time_ns: u64) -> u32 {
    let days = time_ns / 86_400_000_000_000 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    u32::try_from(year * 10_000 + month * 100 + day).expect("a year of a 64-bit nanosecond clock")
}

#[cfg(test)]
mod tests {
    use super::day_of;

    #[test]
    fn days_are_those_of_the_calendar() {
        let day = 86_400_000_000_000;
        for (days, expected) in [
            (0, 19_700_101),
            (58, 19_700_228),
            (59, 19_700_301),
            (11_016, 20_000_229),
            (11_017, 20_000_301),
            (20_453, 20_251_231),
            (20_454, 20_260_101),
        ] {
            assert_eq!(day_of(days * day), expected);
            assert_eq!(day_of(days * day + day - 1), expected);
        }
    }
}

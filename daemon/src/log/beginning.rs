//! Where the log begins: by its oldest segment, and by what was recorded before older ones went.

use std::io;

use super::decision::{Begins, From, Gap, Recorded, fits};
use super::progress::Missing;
use super::recovery::Segments;
use super::trim;
use crate::disk::Disk;
use crate::format::SegmentHeader;

/// One row of [`BEGINNING`].
pub struct BeginningRow {
    pub label: &'static str,
    pub recorded: &'static [Recorded],
    pub begins: &'static [Begins],
    pub from: From,
    pub gap: Gap,
}

/// Where the log begins. A record is synced before anything below it goes, oldest first: so what is
/// missing above it was taken by nobody of ours.
pub const BEGINNING: &[BeginningRow] = &[
    beginning("unrecorded", &[Recorded::Lost], &[], From::Oldest, Gap::No),
    beginning("trimmed", &[Recorded::Good], &[Begins::At], From::Record, Gap::No),
    beginning("trimming", &[Recorded::Good], &[Begins::Before], From::Oldest, Gap::No),
    beginning("vanished", &[Recorded::Good], &[Begins::Behind], From::Record, Gap::IfMissing),
    beginning("all-vanished", &[Recorded::Good], &[Begins::Nowhere], From::Record, Gap::IfMissing),
];

const fn beginning(
    label: &'static str,
    recorded: &'static [Recorded],
    begins: &'static [Begins],
    from: From,
    gap: Gap,
) -> BeginningRow {
    BeginningRow { label, recorded, begins, from, gap }
}

#[must_use]
pub fn beginning_row(recorded: Recorded, begins: Begins) -> &'static BeginningRow {
    let found =
        BEGINNING.iter().find(|row| fits(row.recorded, &recorded) && fits(row.begins, &begins));
    found.expect("a test goes through every observation")
}

impl<D: Disk> Segments<'_, D> {
    /// Reads the record of trims, and compares it with the oldest segment.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let path = self.dir.join(trim::NAME);
        let record = trim::read(self.disk, self.dir).map_err(super::progress::naming(&path))?;
        let record = record.map(|(_, point, made)| (point, made));
        let uuid = self.found.log_uuid;
        let record = record.filter(|(point, _)| uuid.is_none_or(|uuid| uuid == point.log_uuid));
        let recorded = if record.is_some() { Recorded::Good } else { Recorded::Lost };
        self.found.made = record.map(|(_, made)| made);
        let record = record.map(|(point, _)| point);
        let point = record.unwrap_or_default();
        let begins = match self.used.first() {
            None => Begins::Nowhere,
            Some(oldest) if oldest.number < point.segment_no => Begins::Before,
            Some(oldest) if oldest.number > point.segment_no => Begins::Behind,
            Some(_) => Begins::At,
        };
        let row = beginning_row(recorded, begins);
        if row.from == From::Record {
            self.begin = Some(point);
        }
        if row.gap != Gap::No {
            self.found.older.push((point.segment_no, row.label));
        }
        self.found.trimmed = record;
        Ok(())
    }

    /// Errors: [`Missing`], where the log that was served is not in its directory: there is none,
    /// or another one. A disk that is not mounted looks so, and what was acknowledged is on it.
    pub(super) fn are_of_the_served(&self) -> io::Result<()> {
        let Some(served) = self.settings.served else { return Ok(()) };
        let is = self.found.log_uuid.or(self.found.trimmed.map(|point| point.log_uuid));
        if is.map_or(!self.used.is_empty(), |uuid| uuid == served) {
            return Ok(()); // Headers that are damaged tell no name.
        }
        Err(io::Error::other(Missing { dir: self.dir.to_path_buf(), is, served }))
    }

    /// What is missing before the oldest segment though nothing recorded that it may go.
    pub(super) fn miss_the_beginning(&mut self) {
        let Some(point) = self.begin else { return };
        self.found.position.next_seq = point.next_seq;
        let Some(oldest) = self.used.first() else {
            // Every segment is gone: whatever a follower has confirmed above this was in them.
            self.found.position.group = point.group;
            self.found.position.chain = point.chain;
            self.found.position.root = point.root;
            self.miss(point.segment_no, point.segment_no + 1);
            return;
        };
        let to = oldest.valid.map_or(oldest.number, |header| {
            // What the oldest header does not count as before it was never there.
            oldest.number.min(header.before_segment_no + 1)
        });
        self.miss(point.segment_no, to);
    }

    /// The oldest segment is about to be read, and the table that it goes on from is nowhere: who
    /// was told what in segments that are gone is not known, and is never guessed.
    pub(super) fn miss_the_table(&mut self, taken: Option<u64>, header: &SegmentHeader) {
        let SegmentHeader { before_segment_no, before_next_seq, .. } = *header;
        if before_next_seq > 1 && taken != Some(before_segment_no) {
            self.found.producers.forget_all(before_next_seq);
            self.found.older.push((before_segment_no, "sidecar-lost"));
        }
    }

    /// A sidecar between two that are there is gone: the window has all ids from the second one on.
    pub(super) fn count_on_from(&mut self, taken: Option<u64>, number: u64, first_seq: u64) {
        if taken.is_some_and(|taken| taken + 1 != number) {
            self.found.dedup_floor = first_seq;
        }
    }
}

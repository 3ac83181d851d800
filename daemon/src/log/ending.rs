//! Whether the newest segment is there: by what was recorded before it could be begun.
//!
//! The end of a log tells nothing of a segment that is gone behind it. So the helper records each
//! spare that it has made, synced, before the log writer may take it: an event can be acknowledged
//! only in a segment that the record names. The record never waits for an acknowledgement, nor an
//! acknowledgement for it; it is written once a segment, ahead.
//!
//! How much a vanished segment held nobody knows. The log goes on above all that it could have
//! held, so that no number comes again. A spare that was deleted looks the same as a segment that
//! was begun, and is told the same: a loss that may be none is better than one in silence.

use std::io;
use std::path::Path;

use super::decision::{Gap, Made, fits};
use super::recovery::{Recovered, Segments};
use super::trim::{Newest, Record};
use crate::disk::Disk;
use certeus_ipc::record::RECORD_HEADER_BYTES;

/// One row of [`ENDING`].
pub struct EndingRow {
    pub label: &'static str,
    pub made: &'static [Made],
    pub gap: Gap,
}

/// Whether what was made last is there.
pub const ENDING: &[EndingRow] = &[
    EndingRow { label: "unrecorded", made: &[Made::Lost], gap: Gap::No },
    EndingRow { label: "begun", made: &[Made::Begun], gap: Gap::No },
    EndingRow { label: "ahead", made: &[Made::Ahead], gap: Gap::No },
    EndingRow { label: "vanished", made: &[Made::Apart, Made::Gone], gap: Gap::Yes },
];

#[must_use]
pub fn ending_row(made: Made) -> &'static EndingRow {
    let found = ENDING.iter().find(|row| fits(row.made, &made));
    found.expect("a test goes through every observation")
}

impl<D: Disk> Segments<'_, D> {
    /// Goes on above whatever the segments behind the newest one that is there may have held.
    pub(super) fn miss_the_end(&mut self) {
        let before = self.begin.map_or(0, |point| point.segment_no - 1);
        let newest_no = self.used.last().map_or(before, |item| item.number);
        let Some(Newest { segment_no, bytes }) = self.found.made else { return };
        let spare = self.found.spares.iter().copied().filter(|spare| *spare > newest_no).min();
        let made = match spare {
            _ if segment_no <= newest_no => Made::Begun,
            Some(spare) if spare == newest_no + 1 => Made::Ahead,
            Some(_) => Made::Apart,
            None => Made::Gone,
        };
        let row = ending_row(made);
        if row.gap == Gap::No {
            self.found.begun_no = newest_no;
            return;
        }
        let last_no = spare.map_or(segment_no, |spare| spare - 1);
        self.found.begun_no = last_no;
        self.miss(newest_no + 1, last_no + 1);
        let held_max = (last_no - newest_no) * bytes / RECORD_HEADER_BYTES as u64;
        let next_seq = self.found.position.next_seq + held_max;
        self.go_on_at(next_seq.max(self.settings.follower.seq + 1));
        self.found.label = row.label;
    }
}

/// Before a spare is taken, which a start that dies would leave nowhere: it is made no more.
pub(super) fn unmake_spares<D: Disk>(disk: &D, dir: &Path, found: &Recovered) -> io::Result<()> {
    let Some(made) = found.made.filter(|made| made.segment_no > found.begun_no) else {
        return Ok(());
    };
    Record::open(disk, dir)?.write_newest(Newest { segment_no: found.begun_no, ..made })
}

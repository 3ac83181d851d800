//! A segment with a successor and without a sidecar that can be believed: its groups are read.

use std::io;

use super::decision::{self, Groups, Header, Older, Quarantine, Reach, Reading, older_row};
use super::quarantine::Range;
use super::recovery::{Cause, Item, Kept, Segments, groups_of};
use super::walk::read_what_is_left;
use crate::disk::{Disk, DiskFile};
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::gap::GapReason;

impl<D: Disk> Segments<'_, D> {
    /// Notes the row of the decision table for a segment with a successor.
    pub(super) fn tell(
        &mut self,
        index: usize,
        sidecar: decision::Sidecar,
        groups: Groups,
        reach: Reach,
    ) -> &'static decision::OlderRow {
        let item = &self.used[index];
        let row = older_row(Older { header: item.header, sidecar, groups, reach });
        self.found.older.push((item.number, row.label));
        row
    }

    /// A segment that has a successor and no sidecar: read up to where the successor says it ends,
    /// and give it its sidecar now.
    pub(super) fn read_older(&mut self, index: usize) -> io::Result<()> {
        let Item { number, header: state, bytes, unreadable, .. } = self.used[index];
        let lost = decision::Sidecar::Lost;
        let first_seq = self.found.position.next_seq;
        let kept = Kept { segment_no: number, bytes, first_seq };
        if state == Header::Unwritten {
            self.tell(index, lost, Groups::None, Reach::Reached);
            self.found.kept.push(kept);
            return Ok(());
        }
        let file = self.open(number)?;
        let successor = self.successor(index);
        let named = successor.filter(|header| header.before_segment_no == number);
        let header = match self.used[index].valid {
            Some(header) => Some(header),
            None => self.guess_header(&file, bytes, number)?,
        };
        let Some(header) = header else {
            self.tell(index, lost, Groups::None, Reach::Short);
            self.damaged(&file, number, 0, bytes, successor.as_ref());
            self.found.kept.push(kept);
            return Ok(());
        };
        let forked = named.map_or(Ok(false), |next| is_forked(&file, &header, &next))?;
        if forked {
            let row = self.tell(index, lost, Groups::Whole, Reach::Forked);
            if row.reading == Reading::Aside {
                self.found.older.pop();
                self.set_aside(
                    &Item { number, header: state, valid: Some(header), bytes, unreadable },
                    row.label,
                    true,
                )?;
                self.miss(number, number + 1);
                return Ok(());
            }
        }
        if state == Header::Damaged {
            self.arrive(index, &header)?;
        }
        let end = named.map_or(u64::MAX, |next| next.before_end_offset);
        let mut keys = Vec::new();
        let walk = self.walk_into(&file, &header, end, &mut keys)?;
        let groups = groups_of(&walk);
        let reached = named.is_none_or(|next| {
            walk.end_offset >= next.before_end_offset && walk.position.group >= next.before_group
        });
        let reach = if reached { Reach::Reached } else { Reach::Short };
        let row = self.tell(index, lost, groups, reach);
        self.note_holes(&file, number, &walk.holes);
        match row.quarantine {
            Quarantine::Segment => self.damaged(&file, number, 0, bytes, successor.as_ref()),
            Quarantine::Holes if !reached => {
                let left = end.saturating_sub(walk.end_offset);
                self.damaged(&file, number, walk.end_offset, left, successor.as_ref());
            }
            _ => {}
        }
        self.found.end = (number, walk.end_offset);
        self.seal(number, header.before_next_seq, walk.position.next_seq, keys)?;
        let first_seq = header.before_next_seq;
        self.found.kept.push(Kept { segment_no: number, bytes, first_seq });
        Ok(())
    }

    /// Bytes up to what the successor names cannot be read: kept for a look, and the reason of
    /// whatever number is missing there.
    pub(super) fn damaged(
        &mut self,
        file: &D::File,
        segment_no: u64,
        offset: u64,
        bytes: u64,
        successor: Option<&SegmentHeader>,
    ) {
        let first_seq = self.found.position.next_seq;
        let next_seq = successor.map_or(0, |header| header.before_next_seq);
        let last_seq = if first_seq < next_seq { next_seq - 1 } else { 0 };
        if bytes > 0 {
            self.copy_aside(file, Range { segment_no, offset, bytes, first_seq, last_seq });
            self.cause = Cause { reason: GapReason::Damaged, segment_no, offset, bytes };
        }
    }
}

/// Whether the segment holds the group that its successor names as the last one, and it is another.
fn is_forked(
    file: &impl DiskFile,
    header: &SegmentHeader,
    next: &SegmentHeader,
) -> io::Result<bool> {
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < next.before_end_offset {
        let mut head = [0; crate::format::GROUP_HEADER_BYTES];
        let read = read_what_is_left(file, offset, &mut head)?;
        let group = crate::format::GroupHeader::parse(&head[..read]);
        let Some(group) = group.filter(|group| group.salt == header.salt) else {
            return Ok(false);
        };
        if group.group == next.before_group {
            return Ok(group.hash() != next.before_chain);
        }
        offset += group.group_bytes();
    }
    Ok(false)
}

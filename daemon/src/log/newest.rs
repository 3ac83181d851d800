//! The newest segment that was ever begun: where the log ends.

use std::io;

use super::decision::{End, Groups, Header, Newest, Quarantine, Take, newest_row};
use super::quarantine::Range;
use super::recovery::{Cause, Item, Kept, Segments, groups_of};
use super::walk::{Found, Tail, group_at, read_what_is_left};
use super::window::Key;
use crate::disk::Disk;
use crate::format::{ALIGN, GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::gap::GapReason;
use crate::merkle;

/// No group that was under way is longer than the ring that it came through.
const TAIL_BYTES_MAX: u64 = 4 * 1024 * 1024;

impl<D: Disk> Segments<'_, D> {
    pub(super) fn read_newest(&mut self, index: usize) -> io::Result<()> {
        let Item { number, header: state, valid, bytes, unreadable } = self.used[index];
        let file = self.open(number)?;
        let header = match valid {
            Some(header) => Some(header),
            None => self.guess_header(&file, bytes, number)?,
        };
        if let (Header::Damaged, Some(header)) = (state, &header) {
            self.cause = Cause { reason: GapReason::Damaged, segment_no: number, offset: 0, bytes };
            self.arrive(index, header)?;
        }
        let mut keys = Vec::new();
        let walk = match &header {
            Some(header) => Some(self.walk_into(&file, header, bytes, &mut keys)?),
            None => None,
        };
        let refused = match &walk {
            Some(walk) => walk.refused.as_ref().and_then(io::Error::raw_os_error),
            None => unreadable.then(|| rustix::io::Errno::IO.raw_os_error()),
        };
        self.end_is_readable(number, refused.map(io::Error::from_raw_os_error))?;
        let groups = walk.as_ref().map_or(Groups::None, groups_of);
        let torn = walk.as_ref().is_some_and(|walk| walk.tail == Tail::Torn);
        let end = if torn { End::Torn } else { End::Unwritten };
        let row = newest_row(Newest { header: state, groups, end });
        self.found.label = row.label;
        self.found.torn = row.quarantine == Quarantine::Tail;
        let end_offset = walk.as_ref().map_or(SEGMENT_HEADER_BYTES, |walk| walk.end_offset);
        let holes = walk.as_ref().map_or(&[][..], |walk| &walk.holes);
        match row.quarantine {
            Quarantine::Nothing => {}
            Quarantine::Tail => {
                let bytes = (bytes - end_offset).min(TAIL_BYTES_MAX);
                self.copy_aside(&file, whole(number, end_offset, bytes));
            }
            Quarantine::Holes => self.note_holes(&file, number, holes),
            Quarantine::Segment => {
                self.copy_aside(&file, whole(number, 0, bytes));
                self.note_holes(&file, number, holes);
            }
        }
        match row.take {
            Take::Predecessor | Take::Start => self.end_at_predecessor(number, header.as_ref()),
            Take::NewestSegment => {
                let header = header.expect("groups were read by it");
                let groups = walk.map_or(0, |walk| walk.groups);
                self.end_in(number, end_offset, &header, groups, bytes, keys)?;
            }
        }
        Ok(())
    }

    /// The newest segment was never begun: its number comes again.
    fn end_at_predecessor(&mut self, segment_no: u64, header: Option<&SegmentHeader>) {
        self.found.segment_no = segment_no;
        if let Some(header) = header {
            self.found.end = (header.before_segment_no, header.before_end_offset);
        }
    }

    fn end_in(
        &mut self,
        segment_no: u64,
        end_offset: u64,
        header: &SegmentHeader,
        groups: u64,
        bytes: u64,
        keys: Vec<Key>,
    ) -> io::Result<()> {
        let only_the_copy = groups == 1
            && self.found.position.group == header.before_group
            && header.before_segment_no != 0;
        if only_the_copy {
            // A start that logged nothing: the new segment takes its number and its predecessor.
            self.end_at_predecessor(segment_no, Some(header));
            return Ok(());
        }
        self.found.segment_no = segment_no + 1;
        self.found.end = (segment_no, end_offset);
        let first_seq = header.before_next_seq;
        self.found.kept.push(Kept { segment_no, bytes, first_seq });
        self.seal(segment_no, first_seq, self.found.position.next_seq, keys)
    }

    /// The salt of a segment whose header is lost, from the groups behind it. Only a group that
    /// follows what was read, or whose root comes out by the log's key, counts: what a producer
    /// wrote into its data cannot.
    pub(super) fn guess_header(
        &self,
        file: &D::File,
        bytes: u64,
        segment_no: u64,
    ) -> io::Result<Option<SegmentHeader>> {
        let mut offset = SEGMENT_HEADER_BYTES;
        while offset < bytes {
            let mut head = [0; GROUP_HEADER_BYTES];
            let read = read_what_is_left(file, offset, &mut head)?;
            let group = GroupHeader::parse(&head[..read])
                .filter(|group| group.group >= self.found.position.group.max(1));
            let found = match group {
                Some(group) => group_at(file, offset, bytes, group.salt)?,
                None => None,
            };
            if let Some(found) = found.filter(|found| self.is_proven(found)) {
                return Ok(Some(SegmentHeader {
                    log_uuid: self.found.log_uuid.unwrap_or_default(),
                    segment_no,
                    salt: found.header.salt,
                    created_at_ns: 0,
                    epoch: found.header.epoch,
                    before_segment_no: 0,
                    before_end_offset: 0,
                    before_group: found.header.group - 1,
                    before_next_seq: found.header.first_seq,
                    before_chain: found.header.chain,
                    before_root: [0; 32],
                }));
            }
            offset += ALIGN;
        }
        Ok(None)
    }
}

impl<D: Disk> Segments<'_, D> {
    fn is_proven(&self, group: &Found) -> bool {
        let chain = self.found.position.chain;
        if chain != [0; 32] && (group.header.chain == chain || group.header.hash() == chain) {
            return true;
        }
        let root = merkle::root_of(&self.settings.log_key, group.records());
        group.header.count > 0 && root == Some(group.header.root)
    }
}

/// Bytes whose numbers, if they have any, nobody knows.
fn whole(segment_no: u64, offset: u64, bytes: u64) -> Range {
    Range { segment_no, offset, bytes, first_seq: 0, last_seq: 0 }
}

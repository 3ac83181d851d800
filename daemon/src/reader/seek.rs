//! Beginning at a number: which segment, by the headers; which group, by stepping over groups.
//!
//! Nothing is looked for before the number is durable: a group that is not may be written again,
//! with other events, and a place behind it would pass those over. Of the groups before the place
//! only those with entries are read whole, because entries name the producers; so at most one
//! segment is read, and mostly a few pages of it.

use super::batch::Producers;
use super::segment::{self, FIRST_GROUP_OFFSET, Scanner, Segment, Window};
use super::{Cursor, Error, LogReader, Result, reason};
use crate::format::SegmentHeader;

impl LogReader {
    /// Goes on at the group that holds the first number above `seq`; events before it in that
    /// group are read again. What was trimmed from there on is the first gap.
    pub fn seek_seq(&mut self, seq: u64) {
        let wanted = seq.saturating_add(1);
        self.seek(Cursor { next_seq: wanted, ..Cursor::start() });
        self.wanted = Some(wanted);
    }

    /// Finds the place of the number that was asked for, which is durable now.
    pub(super) fn find_wanted(&mut self) -> Result<()> {
        let Some(wanted) = self.wanted else {
            return Ok(());
        };
        let headers = segment::active_headers(&self.dir)?;
        let Some(oldest) = headers.first() else {
            return Ok(());
        };
        let place = headers.iter().rposition(|header| header.before_next_seq <= wanted);
        if let Some(place) = place {
            self.begin_in(&headers[place], wanted)?;
        } else if let Some(first_seq) = self.copied_behind(oldest)?.filter(|seq| *seq <= wanted) {
            self.seek(Cursor { next_seq: first_seq, ..Cursor::start() });
        }
        self.wanted = None;
        Ok(())
    }

    /// The first number of the group that a start has copied into the segment.
    fn copied_behind(&self, header: &SegmentHeader) -> Result<Option<u64>> {
        let Some(mut segment) = Segment::open(&self.dir, header.segment_no, false)? else {
            return Ok(None);
        };
        let mut window = Window::new(FIRST_GROUP_OFFSET);
        let Some(first) = segment.header_at(&mut window, None)? else {
            return Ok(None);
        };
        let copied = first.group == header.before_group && first.count > 0;
        let whole = copied && segment.body_is_whole(&mut window, &first)?;
        Ok(whole.then_some(first.first_seq))
    }

    fn begin_in(&mut self, header: &SegmentHeader, wanted: u64) -> Result<()> {
        self.seek(Cursor {
            group: header.before_group,
            root: header.before_root,
            next_seq: header.before_next_seq,
            epoch: header.epoch,
        });
        // Trimmed since its header was read: the first batch finds the oldest that is left.
        let Some(segment) = Segment::open(&self.dir, header.segment_no, false)? else {
            return Ok(());
        };
        self.enter(segment, reason::LOST)?;
        self.look_for_successor()?;
        self.step_to(wanted)
    }

    /// Damaged entries may still stand in the segment before: reads them there, if a reader that
    /// began in this segment has not.
    pub(super) fn learn_of_before(&mut self) -> Result<()> {
        let number = self.segment.as_ref().expect("entered by the caller").number;
        if self.producers.knows_before() {
            return Ok(());
        }
        let mut before = Producers::default();
        let headers = segment::active_headers(&self.dir)?;
        let place = headers.iter().rposition(|header| header.segment_no < number);
        let found = place.map(|place| Segment::open(&self.dir, headers[place].segment_no, false));
        if let Some(mut segment) = found.transpose()?.flatten() {
            segment.successor = place.and_then(|place| headers.get(place + 1)).copied();
            let end = segment.end_offset();
            let mut scanner = Scanner::new(&mut segment, FIRST_GROUP_OFFSET, end);
            while let Some((_, header)) = scanner.next_group(None, |_| true)? {
                let entries = &scanner.body(&header)[..header.entries_bytes as usize];
                // What cannot be understood there is told when that segment is read.
                let _ = before.take(entries);
                scanner.advance(&header);
            }
        }
        self.producers.set_before(before);
        Ok(())
    }

    /// Steps over the groups that end before `wanted`.
    fn step_to(&mut self, wanted: u64) -> Result<()> {
        let segment = self.segment.as_mut().expect("entered by the caller");
        let mut window = Window::pooled(self.offset, &self.pool, usize::MAX);
        let mut damaged = false;
        while let Some(header) = segment.header_at(&mut window, self.last.as_ref())? {
            let copied = header.group <= self.cursor.group;
            let next = header.first_seq == self.cursor.next_seq && header.first_seq < wanted;
            if !copied && (!next || header.next_seq() > wanted) {
                break;
            }
            if header.entries_bytes > 0 && !segment.body_is_whole(&mut window, &header)? {
                damaged = true;
            } else if header.entries_bytes > 0 {
                let (segment_no, offset) = (segment.number, window.position());
                let unknown = |what| Error::Unknown { segment_no, offset, what };
                let entries = &window.body(&header)[..header.entries_bytes as usize];
                self.producers.take(entries).map_err(unknown)?;
            }
            if !copied {
                self.cursor = Cursor {
                    group: header.group,
                    root: header.root,
                    next_seq: header.next_seq(),
                    epoch: header.epoch,
                };
            }
            if header.group == self.cursor.group {
                self.last = Some(header);
            }
            window.skip(&header);
            self.offset = window.position();
        }
        if damaged { self.learn_of_before() } else { Ok(()) }
    }
}

//! Whether a follower's position belongs to this log.

use super::segment::{self, FIRST_GROUP_OFFSET, Scanner, Segment};
use super::{Cursor, LogReader, Result};
use crate::format::{GroupHeader, SegmentHeader};
use crate::merkle::Hash;

/// What a follower may do with the position that its destination names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The log holds that very group: go on behind it.
    Ok,
    /// Nothing was delivered yet, and the log is whole from its beginning.
    Start,
    /// This log never had that group: it is another log's, or one of the two was restored.
    Diverged,
    /// The groups behind the position are trimmed already.
    BehindLog,
}

impl Status {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Start => "start",
            Self::Diverged => "diverged",
            Self::BehindLog => "behind-log",
        }
    }
}

impl LogReader {
    /// Compares the position with what the log holds. Reads the groups of at most one segment.
    ///
    /// A group that is damaged cannot be compared and counts as diverged.
    pub fn position_status(&self, group: u64, root: &Hash, seq: u64) -> Result<Status> {
        let headers = segment::active_headers(&self.dir)?;
        let Some(oldest) = headers.first() else {
            return Ok(if group == 0 { Status::Start } else { Status::Diverged });
        };
        if group < oldest.before_group {
            return Ok(Status::BehindLog);
        }
        if group == 0 {
            return Ok(Status::Start);
        }
        // Several segments may begin behind one group, later ones above a gap: the last one rules.
        if let Some(next) = headers.iter().rfind(|header| header.before_group == group) {
            let ours = next.before_root == *root && seq < next.before_next_seq;
            return Ok(if ours { Status::Ok } else { Status::Diverged });
        }
        let Some((found, next)) = self.find(&headers, group)? else {
            return Ok(Status::Diverged);
        };
        let between = found.next_seq() - 1 <= seq && next.is_none_or(|next| seq < next.first_seq);
        Ok(if found.root == *root && between { Status::Ok } else { Status::Diverged })
    }

    /// The cursor behind `group`, if the log still holds that group or the header that names it.
    pub fn cursor_behind(&self, group: u64) -> Result<Option<Cursor>> {
        let headers = segment::active_headers(&self.dir)?;
        if group == 0 {
            return Ok(Some(Cursor::start()));
        }
        if let Some((found, _)) = self.find(&headers, group)? {
            let next_seq = found.next_seq();
            return Ok(Some(Cursor { group, root: found.root, next_seq, epoch: found.epoch }));
        }
        Ok(headers.iter().find(|header| header.before_group == group).map(|header| Cursor {
            group,
            root: header.before_root,
            next_seq: header.before_next_seq,
            epoch: header.epoch,
        }))
    }

    /// The header of the oldest segment: what is before it is trimmed.
    pub fn oldest(&self) -> Result<Option<SegmentHeader>> {
        Ok(segment::active_headers(&self.dir)?.first().copied())
    }

    /// The group, and the one behind it in the same segment.
    fn find(
        &self,
        headers: &[SegmentHeader],
        group: u64,
    ) -> Result<Option<(GroupHeader, Option<GroupHeader>)>> {
        let place = headers.iter().rposition(|header| header.before_group < group);
        let Some(place) = place else { return Ok(None) };
        let Some(mut segment) = Segment::open(&self.dir, headers[place].segment_no, false)? else {
            return Ok(None);
        };
        segment.successor = headers.get(place + 1).copied();
        let end = segment.end_offset();
        let mut scanner = Scanner::new(&mut segment, FIRST_GROUP_OFFSET, end);
        let mut found: Option<GroupHeader> = None;
        while let Some((_, header)) = scanner.next_group(None, |_| true)? {
            if let Some(found) = found {
                return Ok(Some((found, Some(header))));
            }
            if header.group == group {
                found = Some(header);
            }
            scanner.advance(&header);
        }
        Ok(found.map(|found| (found, None)))
    }
}

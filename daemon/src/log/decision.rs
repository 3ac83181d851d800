//! What a start makes of what it finds: a labelled table, and nothing else.
//!
//! The newest segment that was ever activated is the one that counts: everything older ends where
//! the header of its successor says. Of it, a start observes four things and decides three.

/// The header of the newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    Valid,
    /// Neither zero nor valid.
    Damaged,
}

/// The groups of the newest segment, as far as they can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Groups {
    /// No valid group at all.
    None,
    /// Each follows the one before.
    Whole,
    /// A valid group comes behind bytes that are none.
    Holed,
}

/// What stands behind the last valid group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    Unwritten,
    Torn,
}

/// What a follower is known to have confirmed, against what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Floor {
    Below,
    /// A follower has more than the log: acknowledged groups are gone.
    Above,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Observation {
    pub header: Header,
    pub groups: Groups,
    pub end: End,
    pub floor: Floor,
}

/// Where the log is taken to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Behind the last valid group of the newest segment.
    NewestSegment,
    /// Where its predecessor ends: the newest segment was never begun, and its number comes again.
    Predecessor,
}

/// What is copied to the quarantine, unchanged in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quarantine {
    Nothing,
    /// The page behind the end: a group that was never acknowledged.
    Tail,
    /// Every damaged range between valid groups.
    Holes,
    /// The whole segment.
    Segment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub label: &'static str,
    pub take: Take,
    pub quarantine: Quarantine,
    /// Numbers are missing: readers will see a gap.
    pub gap: bool,
}

/// The table.
#[must_use]
pub fn decide(seen: Observation) -> Decision {
    use Quarantine::{Holes, Nothing, Segment, Tail};
    use Take::{NewestSegment, Predecessor};
    let (label, take, quarantine, gap) = match (seen.header, seen.groups, seen.end) {
        // A segment's header and first group are one sync: no group, nothing acknowledged.
        (Header::Valid, Groups::None, End::Unwritten) => ("empty", Predecessor, Nothing, false),
        (Header::Valid, Groups::None, End::Torn) => ("torn-first", Predecessor, Tail, false),
        (Header::Valid, Groups::Whole, End::Unwritten) => ("clean", NewestSegment, Nothing, false),
        (Header::Valid, Groups::Whole, End::Torn) => ("torn", NewestSegment, Tail, false),
        (Header::Valid, Groups::Holed, _) => ("holed", NewestSegment, Holes, true),
        // The same for a damaged header, unless groups stand behind it: those were acknowledged.
        (Header::Damaged, Groups::None, _) => ("torn-header", Predecessor, Segment, false),
        (Header::Damaged, _, _) => ("lost-header", NewestSegment, Segment, true),
    };
    // The log never goes on below what a follower has confirmed: those numbers were given out.
    match seen.floor {
        Floor::Below => Decision { label, take, quarantine, gap },
        Floor::Above => Decision { label: "below-follower", take, quarantine, gap: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_observation() -> Vec<Observation> {
        let mut all = Vec::new();
        for header in [Header::Valid, Header::Damaged] {
            for groups in [Groups::None, Groups::Whole, Groups::Holed] {
                for end in [End::Unwritten, End::Torn] {
                    for floor in [Floor::Below, Floor::Above] {
                        all.push(Observation { header, groups, end, floor });
                    }
                }
            }
        }
        all
    }

    #[test]
    fn every_observation_keeps_what_was_acknowledged() {
        for seen in every_observation() {
            let decision = decide(seen);
            // Acknowledged groups were read: they stay in the log.
            if seen.groups != Groups::None {
                assert_eq!(decision.take, Take::NewestSegment, "{seen:?}");
            }
            // Whatever is known to be missing is told, and only that.
            let missing = seen.floor == Floor::Above
                || seen.groups == Groups::Holed
                || (seen.header == Header::Damaged && seen.groups != Groups::None);
            assert_eq!(decision.gap, missing, "{seen:?}");
            // Whatever cannot be read and is not plainly unwritten is kept for a look.
            let unreadable = seen.header == Header::Damaged
                || seen.groups == Groups::Holed
                || seen.end == End::Torn;
            assert_eq!(decision.quarantine != Quarantine::Nothing, unreadable, "{seen:?}");
            assert_eq!(decision.take == Take::Predecessor, seen.groups == Groups::None, "{seen:?}");
        }
    }

    #[test]
    fn the_labels_are_the_documented_ones() {
        let labels: Vec<&str> =
            every_observation().into_iter().map(|seen| decide(seen).label).collect();
        for label in [
            "empty",
            "torn-first",
            "clean",
            "torn",
            "holed",
            "torn-header",
            "lost-header",
            "below-follower",
        ] {
            assert!(labels.contains(&label), "{label}");
        }
    }
}

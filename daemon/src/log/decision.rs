//! What a start makes of what it finds: labelled tables, and nothing else.
//!
//! A start looks at every file that has a segment's name ([`FILES`]): is it one of this log, and in
//! its place? What is not is *set aside*, whole, under another name, so that neither this start nor
//! any reader takes it for the log's. What is before the oldest one was trimmed if the record of
//! trims says so, and else it is lost ([`BEGINNING`](super::beginning::BEGINNING)). Of the segments
//! that are left, each one with a successor ([`OLDER`]) ends where the header of that says, and the
//! newest one ([`NEWEST`]) where its last group ends. In the end comes the floor: the log never
//! goes on below what a follower has confirmed.
//!
//! What tells a torn tail from damage: a group is written only when the sync of the one before has
//! returned. So bytes that are no group, with nothing valid behind them, were never acknowledged;
//! bytes that are no group *before* a valid one were, and so were those before the end that a
//! successor's header names.
//!
//! The drawing of the tables in `daemon/README.md` is [`drawing`], and a test holds the two
//! together. Each observation matches exactly one row, which another test goes through.

/// Whatever an observation can be.
pub trait Seen: Copy + PartialEq + 'static {
    const ALL: &'static [Self];
    fn word(self) -> &'static str;
}

macro_rules! seen {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $value:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$note])* $value,)* }
        impl Seen for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)*];
            fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)* }
            }
        }
    };
}

seen! {
    /// The first page of a file with a segment's name.
    Header {
        Valid = "valid",
        /// All zeros.
        Unwritten = "unwritten",
        /// Neither, or too short to be one.
        Damaged = "damaged",
        /// The number is missing between segments that are there.
        Absent = "absent",
    }
}

seen! {
    /// What a valid header says, against the file's name and the other headers.
    Place {
        /// It fits between its neighbours.
        Fits = "fits",
        /// It is the header of another number.
        OtherNumber = "other number",
        /// Its log has another uuid than the others.
        OtherLog = "other log",
        /// Its epoch, group, number or predecessor is not one that its place allows.
        OutOfLine = "out of line",
    }
}

seen! {
    /// The sidecar of a segment with a successor.
    Sidecar {
        /// It agrees with both headers.
        Good = "good",
        /// Not there, damaged, or of another life.
        Lost = "lost",
    }
}

seen! {
    /// The groups of a segment, as far as they can be read.
    Groups {
        /// No valid group at all.
        None = "none",
        /// Each follows the one before.
        Whole = "whole",
        /// A valid group comes behind bytes that are none.
        Holed = "holed",
    }
}

seen! {
    /// What stands at the end of a segment with a successor, by what that one names.
    Reach {
        /// The very group that the successor names as the last one.
        Reached = "reached",
        /// The groups end before it.
        Short = "short",
        /// A group of that number, and another one.
        Forked = "forked",
    }
}

seen! {
    /// What stands behind the last valid group of the newest segment.
    End {
        Unwritten = "unwritten",
        Torn = "torn",
    }
}

seen! {
    /// What a follower is known to have confirmed, against what was read.
    Floor {
        Below = "below",
        /// A follower has more than the log: acknowledged groups are gone.
        Above = "above",
    }
}

seen! {
    /// Where the log is taken to end.
    Take {
        /// Behind the last valid group of the newest segment.
        NewestSegment = "behind the last group",
        /// Where its predecessor ends: the newest segment was never begun, and its number comes
        /// again.
        Predecessor = "with the predecessor",
        Start = "at 0",
    }
}

seen! {
    /// The record of what was trimmed.
    Recorded {
        Good = "good",
        /// Not there, damaged, or of another log.
        Lost = "lost",
    }
}

seen! {
    /// The oldest segment, against the lowest one that the record says stays.
    Begins {
        At = "that one",
        Before = "an older one",
        Behind = "a newer one",
        Nowhere = "none",
    }
}

seen! {
    /// What numbers are missing is counted from.
    From {
        /// What is before it was trimmed.
        Oldest = "the oldest segment",
        Record = "the record",
    }
}

seen! {
    /// What is copied to the quarantine, unchanged in its place.
    Quarantine {
        Nothing = "nothing",
        /// What stands behind the end: a group that was never acknowledged.
        Tail = "the tail",
        /// Every damaged range between valid groups, and up to the end that a successor names.
        Holes = "the holes",
        Segment = "the segment",
    }
}

seen! {
    /// What becomes of a file with a segment's name.
    Use {
        /// The other two tables decide.
        Read = "read",
        /// Zero-filled ahead: it becomes the next segment.
        Spare = "a spare",
        /// Renamed, whole: the log goes on as if it was not there.
        Aside = "set aside",
    }
}

seen! {
    /// How much of a segment with a successor is read.
    Reading {
        Nothing = "nothing",
        /// That its groups are whole is left to readers.
        Sidecar = "the sidecar",
        /// And a new sidecar is written.
        Groups = "all groups",
        Aside = "set aside",
    }
}

seen! {
    /// Whether numbers can be missing: they are where the log goes on at a higher one.
    Gap {
        No = "no",
        IfMissing = "if numbers are missing",
        Yes = "yes",
    }
}

/// One row of [`FILES`]; an empty list matches everything.
pub struct FileRow {
    pub label: &'static str,
    pub header: &'static [Header],
    pub place: &'static [Place],
    /// Nothing but unwritten files comes behind it.
    pub last: &'static [bool],
    pub becomes: Use,
}

/// Every file with a segment's name.
pub const FILES: &[FileRow] = &[
    file("segment", &[Header::Valid], &[Place::Fits], &[], Use::Read),
    file("misnamed", &[Header::Valid], &[Place::OtherNumber], &[], Use::Aside),
    file("foreign", &[Header::Valid], &[Place::OtherLog], &[], Use::Aside),
    file("stale", &[Header::Valid], &[Place::OutOfLine], &[], Use::Aside),
    file("spare", &[Header::Unwritten], &[], &[true], Use::Spare),
    file("unbegun", &[Header::Unwritten], &[], &[false], Use::Read),
    file("headless", &[Header::Damaged], &[], &[], Use::Read),
    file("missing", &[Header::Absent], &[], &[], Use::Read),
];

const fn file(
    label: &'static str,
    header: &'static [Header],
    place: &'static [Place],
    last: &'static [bool],
    becomes: Use,
) -> FileRow {
    FileRow { label, header, place, last, becomes }
}

/// One row of [`OLDER`].
pub struct OlderRow {
    pub label: &'static str,
    pub header: &'static [Header],
    pub sidecar: &'static [Sidecar],
    pub groups: &'static [Groups],
    pub reach: &'static [Reach],
    pub reading: Reading,
    pub quarantine: Quarantine,
    pub gap: Gap,
}

const OLD: OlderRow = OlderRow {
    label: "",
    header: &[Header::Valid],
    sidecar: &[Sidecar::Lost],
    groups: &[],
    reach: &[],
    reading: Reading::Groups,
    quarantine: Quarantine::Nothing,
    gap: Gap::No,
};

/// A segment with a successor. That the groups of a sealed one are whole is not looked at: a reader
/// that comes there does, and derives the very range that a record would tell.
pub const OLDER: &[OlderRow] = &[
    OlderRow { label: "sealed", sidecar: &[Sidecar::Good], reading: Reading::Sidecar, ..OLD },
    OlderRow {
        label: "unsealed",
        groups: &[Groups::None, Groups::Whole],
        reach: &[Reach::Reached],
        ..OLD
    },
    OlderRow {
        label: "holed-older",
        groups: &[Groups::Holed],
        reach: &[Reach::Reached],
        quarantine: Quarantine::Holes,
        gap: Gap::IfMissing,
        ..OLD
    },
    OlderRow {
        label: "short",
        reach: &[Reach::Short],
        quarantine: Quarantine::Holes,
        gap: Gap::IfMissing,
        ..OLD
    },
    OlderRow {
        label: "forked",
        reach: &[Reach::Forked],
        reading: Reading::Aside,
        gap: Gap::IfMissing,
        ..OLD
    },
    OlderRow {
        label: "unbegun",
        header: &[Header::Unwritten],
        sidecar: &[],
        reading: Reading::Nothing,
        gap: Gap::IfMissing,
        ..OLD
    },
    OlderRow {
        label: "headless-sealed",
        header: &[Header::Damaged],
        sidecar: &[Sidecar::Good],
        reading: Reading::Sidecar,
        ..OLD
    },
    OlderRow {
        label: "headless-older",
        header: &[Header::Damaged],
        quarantine: Quarantine::Segment,
        gap: Gap::IfMissing,
        ..OLD
    },
    OlderRow {
        label: "missing",
        header: &[Header::Absent],
        sidecar: &[],
        reading: Reading::Nothing,
        gap: Gap::IfMissing,
        ..OLD
    },
];

/// One row of [`NEWEST`].
pub struct NewestRow {
    pub label: &'static str,
    pub header: &'static [Header],
    pub groups: &'static [Groups],
    pub end: &'static [End],
    pub take: Take,
    pub quarantine: Quarantine,
    pub gap: Gap,
}

const NEW: NewestRow = NewestRow {
    label: "",
    header: &[Header::Valid],
    groups: &[],
    end: &[],
    take: Take::NewestSegment,
    quarantine: Quarantine::Nothing,
    gap: Gap::No,
};

/// The newest segment that was ever begun; with `absent`, there is none.
pub const NEWEST: &[NewestRow] = &[
    NewestRow {
        label: "new",
        header: &[Header::Absent, Header::Unwritten],
        take: Take::Start,
        ..NEW
    },
    NewestRow { label: "clean", groups: &[Groups::Whole], end: &[End::Unwritten], ..NEW },
    NewestRow {
        label: "torn",
        groups: &[Groups::Whole],
        end: &[End::Torn],
        quarantine: Quarantine::Tail,
        ..NEW
    },
    // A segment's header and first group are one sync: no group, nothing acknowledged.
    NewestRow {
        label: "empty",
        groups: &[Groups::None],
        end: &[End::Unwritten],
        take: Take::Predecessor,
        ..NEW
    },
    NewestRow {
        label: "torn-first",
        groups: &[Groups::None],
        end: &[End::Torn],
        take: Take::Predecessor,
        quarantine: Quarantine::Tail,
        ..NEW
    },
    NewestRow {
        label: "holed",
        groups: &[Groups::Holed],
        quarantine: Quarantine::Holes,
        gap: Gap::Yes,
        ..NEW
    },
    // The same for a damaged header, unless groups stand behind it: those were acknowledged.
    NewestRow {
        label: "torn-header",
        header: &[Header::Damaged],
        groups: &[Groups::None],
        take: Take::Predecessor,
        quarantine: Quarantine::Segment,
        ..NEW
    },
    NewestRow {
        label: "lost-header",
        header: &[Header::Damaged],
        groups: &[Groups::Whole, Groups::Holed],
        quarantine: Quarantine::Segment,
        gap: Gap::IfMissing,
        ..NEW
    },
];

pub(super) fn fits<T: PartialEq>(wanted: &[T], seen: &T) -> bool {
    wanted.is_empty() || wanted.contains(seen)
}

/// The row for a file; `place` counts for a valid header only.
#[must_use]
pub fn file_row(header: Header, place: Place, last: bool) -> &'static FileRow {
    let found = FILES
        .iter()
        .find(|row| fits(row.header, &header) && fits(row.place, &place) && fits(row.last, &last));
    found.expect("a test goes through every observation")
}

/// What is seen of a segment with a successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Older {
    pub header: Header,
    pub sidecar: Sidecar,
    pub groups: Groups,
    pub reach: Reach,
}

impl OlderRow {
    #[must_use]
    pub fn matches(&self, seen: &Older) -> bool {
        fits(self.header, &seen.header)
            && fits(self.sidecar, &seen.sidecar)
            && fits(self.groups, &seen.groups)
            && fits(self.reach, &seen.reach)
    }
}

#[must_use]
pub fn older_row(seen: Older) -> &'static OlderRow {
    let found = OLDER.iter().find(|row| row.matches(&seen));
    found.expect("a test goes through every observation")
}

/// What is seen of the newest segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Newest {
    pub header: Header,
    pub groups: Groups,
    pub end: End,
}

impl NewestRow {
    #[must_use]
    pub fn matches(&self, seen: &Newest) -> bool {
        fits(self.header, &seen.header)
            && fits(self.groups, &seen.groups)
            && fits(self.end, &seen.end)
    }
}

#[must_use]
pub fn newest_row(seen: Newest) -> &'static NewestRow {
    let found = NEWEST.iter().find(|row| row.matches(&seen));
    found.expect("a test goes through every observation")
}

/// The label of the whole start: the newest segment's, unless a follower has more than the log.
#[must_use]
pub fn label(row: &'static NewestRow, floor: Floor) -> &'static str {
    match floor {
        Floor::Below => row.label,
        Floor::Above => BELOW_FOLLOWER,
    }
}

/// The log ends above the follower's position; the numbers between are a gap.
pub const BELOW_FOLLOWER: &str = "below-follower";

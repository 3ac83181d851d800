//! What became of a ticket: one enum everywhere, and the 40-byte entry of the verdict ring.

/// The outcome of one event. The numbers are on disk and in rings: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// Durable, has a `seq`.
    Accepted = 0,
    /// Durable, has a `seq`, wants a human.
    Escalated = 1,
    /// The same event is already there, under the `seq` told.
    Duplicate = 2,
    /// Refused, with a reason; nothing was stored.
    Rejected = 3,
}

impl Verdict {
    pub const ALL: [Self; 4] = [Self::Accepted, Self::Escalated, Self::Duplicate, Self::Rejected];

    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| *verdict as u8 == code)
    }

    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Escalated => "escalated",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
        }
    }

    /// Whether an event with this verdict is in the log under its own `seq`.
    #[must_use]
    pub const fn has_seq(self) -> bool {
        matches!(self, Self::Accepted | Self::Escalated)
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $word:literal;)*) => {
        /// Why an event was rejected: a stable number in rings and log, a stable word for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name = $code,)* }

        impl Reason {
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

reasons! {
    /// No reason: the event was not rejected.
    None = 0, "";
    /// The payload's own framing is wrong: attribute tags, lengths, order.
    MalformedEvent = 1, "malformed-event";
    /// Data is not one well-formed JSON text.
    InvalidJson = 2, "invalid-json";
    /// Text that is not UTF-8.
    InvalidUtf8 = 3, "invalid-utf8";
    /// Larger than `event_bytes_max`.
    TooLarge = 4, "too-large";
    /// Nested deeper than `depth_max`.
    TooDeep = 5, "too-deep";
    /// `\u0000`, escaped or not, which PostgreSQL's text cannot hold.
    NulCharacter = 6, "nul-character";
    /// Half of a surrogate pair.
    LoneSurrogate = 7, "lone-surrogate";
    /// A number beyond PostgreSQL's `numeric`.
    NumberOutOfRange = 8, "number-out-of-range";
    /// Not an RFC 3339 time within the years 0001..9999.
    InvalidTime = 9, "invalid-time";
    /// An attribute is empty, too long or of the wrong form.
    InvalidAttribute = 10, "invalid-attribute";
    /// `extensions` is not a flat object of at most 32 proper names.
    InvalidExtensions = 11, "invalid-extensions";
    /// This uid may not claim this source.
    SourceNotAllowed = 12, "source-not-allowed";
    /// The id is known in the window with other content.
    IdConflict = 13, "id-conflict";
}

impl Reason {
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| *reason as u8 == code)
    }
}

/// One entry: `count` tickets from `ticket` on with the same verdict and consecutive `seq`.
///
/// `seq` is the first event's own (accepted, escalated), the original's (duplicate, id-conflict) or
/// 0; `group` is the group that made it durable, or 0. Only accepted and escalated ones have
/// `count > 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub ticket: u64,
    pub seq: u64,
    pub group: u64,
    pub count: u32,
    pub verdict: Verdict,
    pub reason: Reason,
}

impl Entry {
    pub const BYTES: usize = crate::layout::VERDICT_BYTES;

    /// `ticket | seq | group | count:32 verdict:8 reason:8 zero:16 | zero`, as five words.
    #[must_use]
    pub fn to_words(self) -> [u64; 5] {
        let last = u64::from(self.count)
            | u64::from(self.verdict as u8) << 32
            | u64::from(self.reason as u8) << 40;
        [self.ticket, self.seq, self.group, last, 0]
    }

    /// `None`: not an entry that this version writes.
    #[must_use]
    pub fn from_words(words: [u64; 5]) -> Option<Self> {
        let [ticket, seq, group, last, zero] = words;
        if zero != 0 || last >> 48 != 0 {
            return None;
        }
        Some(Self {
            ticket,
            seq,
            group,
            count: last as u32,
            verdict: Verdict::from_code((last >> 32) as u8)?,
            reason: Reason::from_code((last >> 40) as u8)?,
        })
    }

    /// The last ticket of the run.
    #[must_use]
    pub fn last_ticket(&self) -> u64 {
        self.ticket + u64::from(self.count) - 1
    }

    /// Whether `next` continues this run, so that one entry can tell of both.
    #[must_use]
    pub fn continues(&self, next: &Self) -> bool {
        self.verdict.has_seq()
            && self.verdict == next.verdict
            && self.group == next.group
            && self.ticket + u64::from(self.count) == next.ticket
            && self.seq + u64::from(self.count) == next.seq
            && self.count.checked_add(next.count).is_some()
    }
}

//! The frames between a worker and the log writer, in the rings inside the daemon.
//!
//! ```text
//! pair (one shared object a worker, made by the supervisor, dead with either end)
//!   forward P 4096+F │ forward C 4096 │ return P 4096+R │ return C 4096
//!
//! forward, worker → log writer          return, log writer → worker
//!   EVENT    envelope 80, record          VERDICT  session, one verdict entry
//!   REJECT   envelope 80                  WELCOME  session, epoch, H, ...: answers HELLO
//!   HELLO    a session begins             REFUSED  session, reason: answers HELLO
//!   BYE      a session ended              END      session, reason
//! ```
//!
//! A *session* here is the worker's own slot number, which comes back with every answer. Both sides
//! are processes of the daemon: a frame that does not parse is a bug and ends the reader.

use certeus_ipc::layout::PAGE_BYTES;
use certeus_ipc::verdict::{Entry, Reason};

use crate::format::{u32_at, u64_at};
use crate::merkle::Hash;

pub const FORWARD_EVENT: u8 = 1;
pub const FORWARD_REJECT: u8 = 2;
pub const FORWARD_HELLO: u8 = 3;
pub const FORWARD_BYE: u8 = 4;

pub const RETURN_VERDICT: u8 = 1;
pub const RETURN_WELCOME: u8 = 2;
pub const RETURN_REFUSED: u8 = 3;
pub const RETURN_END: u8 = 4;

/// Bytes of the shared object of one pair.
#[must_use]
pub const fn pair_bytes(forward_bytes: u64, return_bytes: u64) -> u64 {
    4 * PAGE_BYTES as u64 + forward_bytes + return_bytes
}

/// Before each record (EVENT), or alone (REJECT). The frame's ticket is the event's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    pub session: u32,
    /// REJECT: the reason's code.
    pub reason: u8,
    /// Whether `key` and `digest` mean anything: the event has an id.
    pub has_key: bool,
    pub epoch: u64,
    pub producer_no: u64,
    /// The last ticket whose verdict the client has read: earlier ones need not be kept.
    pub settled_read: u64,
    /// Keyed hash of `(tenant, source, id)`.
    pub key: [u8; 16],
    /// Keyed hash of what the caller gave beside source and id.
    pub digest: u64,
}

impl Envelope {
    /// The envelope, and the leaf behind it.
    pub const BYTES: usize = 96;

    /// Writes envelope and leaf; `out` is at least [`Envelope::BYTES`] long.
    pub fn write(&self, leaf: &Hash, out: &mut [u8]) {
        out[0..4].copy_from_slice(&self.session.to_le_bytes());
        out[4..8].copy_from_slice(&[self.reason, u8::from(self.has_key), 0, 0]);
        out[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&self.producer_no.to_le_bytes());
        out[24..32].copy_from_slice(&self.settled_read.to_le_bytes());
        out[32..48].copy_from_slice(&self.key);
        out[48..56].copy_from_slice(&self.digest.to_le_bytes());
        out[56..64].fill(0);
        out[64..96].copy_from_slice(leaf);
    }

    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, Hash)> {
        let fixed = bytes.get(..Self::BYTES)?;
        let envelope = Self {
            session: u32_at(fixed, 0),
            reason: fixed[4],
            has_key: fixed[5] != 0,
            epoch: u64_at(fixed, 8),
            producer_no: u64_at(fixed, 16),
            settled_read: u64_at(fixed, 24),
            key: fixed[32..48].try_into().expect("16 bytes"),
            digest: u64_at(fixed, 48),
        };
        Some((envelope, fixed[64..96].try_into().expect("32 bytes")))
    }
}

/// A session begins, or goes on after a death. The frame's ticket is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub session: u32,
    pub uid: u32,
    pub producer: [u8; 16],
    /// `Some` for a resume: what the client was told when it was born.
    pub birth_seq: Option<u64>,
    /// The last ticket whose verdict the client has read; 0 for a new producer.
    pub settled: u64,
    pub tenant: String,
    pub source: String,
}

impl Hello {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.session.to_le_bytes());
        out.extend_from_slice(&self.uid.to_le_bytes());
        out.extend_from_slice(&self.producer);
        out.extend_from_slice(&self.birth_seq.unwrap_or(u64::MAX).to_le_bytes());
        out.extend_from_slice(&self.settled.to_le_bytes());
        for text in [&self.tenant, &self.source] {
            let length = u16::try_from(text.len()).expect("names are bounded");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..40)?;
        let mut rest = &bytes[40..];
        let mut text = || {
            let length = usize::from(u16::from_le_bytes(rest.get(..2)?.try_into().ok()?));
            let value = rest.get(2..2 + length)?;
            rest = &rest[2 + length..];
            String::from_utf8(value.to_vec()).ok()
        };
        Some(Self {
            session: u32_at(fixed, 0),
            uid: u32_at(fixed, 4),
            producer: fixed[8..24].try_into().expect("16 bytes"),
            birth_seq: Some(u64_at(fixed, 24)).filter(|seq| *seq != u64::MAX),
            settled: u64_at(fixed, 32),
            tenant: text()?,
            source: text()?,
        })
    }
}

/// A session ended. With `clean`, everything was settled and the producer will not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bye {
    pub session: u32,
    pub clean: bool,
    pub epoch: u64,
    pub producer_no: u64,
}

impl Bye {
    #[must_use]
    pub fn encode(&self) -> [u8; 24] {
        let mut out = [0; 24];
        out[0..4].copy_from_slice(&self.session.to_le_bytes());
        out[4] = u8::from(self.clean);
        out[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&self.producer_no.to_le_bytes());
        out
    }

    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let fixed = bytes.get(..24)?;
        Some(Self {
            session: u32_at(fixed, 0),
            clean: fixed[4] != 0,
            epoch: u64_at(fixed, 8),
            producer_no: u64_at(fixed, 16),
        })
    }
}

/// Why a session is refused or ended by the log writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// The producer was forgotten, so what became of its tickets cannot be told any more.
    ProducerExpired = 1,
    /// A ticket is missing: the ring was not written by our library.
    SequenceGap = 2,
    /// The same producer said hello again elsewhere.
    Superseded = 3,
    /// A known producer came with another source than the one that its events were logged under.
    SourceChanged = 4,
}

impl EndReason {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ProducerExpired => "producer-expired",
            Self::SequenceGap => "sequence-gap",
            Self::Superseded => "superseded",
            Self::SourceChanged => "source-changed",
        }
    }

    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::ProducerExpired, Self::SequenceGap, Self::Superseded, Self::SourceChanged]
            .into_iter()
            .find(|reason| *reason as u8 == code)
    }
}

/// One frame of the return ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    Verdict { session: u32, epoch: u64, entry: Entry },
    Welcome(Welcome),
    Refused { session: u32, reason: EndReason },
    End { session: u32, epoch: u64, reason: EndReason },
}

/// The log writer's answer to a hello. Verdicts above the hello's `settled` come before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub session: u32,
    pub tenant_no: u32,
    pub epoch: u64,
    pub producer_no: u64,
    /// The last ticket that is decided, for good: the client offers again what is above.
    pub high: u64,
    pub birth_seq: u64,
    pub log_uuid: [u8; 16],
}

impl Return {
    /// The largest encoded frame payload; the writer reserves a whole frame of it for each answer.
    pub const BYTES_MAX: usize = 64;

    /// The frame's kind, and its payload.
    #[must_use]
    pub fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = Vec::with_capacity(Self::BYTES_MAX);
        let head = |out: &mut Vec<u8>, session: u32, other: u32| {
            out.extend_from_slice(&session.to_le_bytes());
            out.extend_from_slice(&other.to_le_bytes());
        };
        match self {
            Self::Verdict { session, epoch, entry } => {
                head(&mut out, *session, 0);
                out.extend_from_slice(&epoch.to_le_bytes());
                for word in entry.to_words() {
                    out.extend_from_slice(&word.to_le_bytes());
                }
                (RETURN_VERDICT, out)
            }
            Self::Welcome(welcome) => {
                head(&mut out, welcome.session, welcome.tenant_no);
                for word in [welcome.epoch, welcome.producer_no, welcome.high, welcome.birth_seq] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
                out.extend_from_slice(&welcome.log_uuid);
                (RETURN_WELCOME, out)
            }
            Self::Refused { session, reason } => {
                head(&mut out, *session, *reason as u32);
                (RETURN_REFUSED, out)
            }
            Self::End { session, epoch, reason } => {
                head(&mut out, *session, *reason as u32);
                out.extend_from_slice(&epoch.to_le_bytes());
                (RETURN_END, out)
            }
        }
    }

    #[must_use]
    pub fn parse(kind: u8, bytes: &[u8]) -> Option<Self> {
        let length = match kind {
            RETURN_VERDICT | RETURN_WELCOME => 56,
            RETURN_REFUSED => 8,
            RETURN_END => 16,
            _ => return None,
        };
        let fixed = bytes.get(..length)?;
        let session = u32_at(fixed, 0);
        let word = |index: usize| u64_at(fixed, 8 + index * 8);
        let reason = || EndReason::from_code(fixed[4]);
        Some(match kind {
            RETURN_VERDICT => {
                let words = [word(1), word(2), word(3), word(4), word(5)];
                Self::Verdict { session, epoch: word(0), entry: Entry::from_words(words)? }
            }
            RETURN_WELCOME => Self::Welcome(Welcome {
                session,
                tenant_no: u32_at(fixed, 4),
                epoch: word(0),
                producer_no: word(1),
                high: word(2),
                birth_seq: word(3),
                log_uuid: fixed[40..56].try_into().expect("16 bytes"),
            }),
            RETURN_REFUSED => Self::Refused { session, reason: reason()? },
            _ => Self::End { session, epoch: word(0), reason: reason()? },
        })
    }
}

/// A reason by its code in an [`Envelope`]; unknown codes are a bug of the worker.
#[must_use]
pub fn reject_reason(envelope: &Envelope) -> Option<Reason> {
    Reason::from_code(envelope.reason).filter(|reason| *reason != Reason::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use certeus_ipc::verdict::Verdict;

    #[test]
    fn frames_survive_their_bytes_and_no_truncation() {
        let frames = [
            Return::Verdict {
                session: 1,
                epoch: 2,
                entry: Entry {
                    ticket: 3,
                    seq: 4,
                    group: 5,
                    count: 6,
                    verdict: Verdict::Escalated,
                    reason: Reason::None,
                },
            },
            Return::Welcome(Welcome {
                session: 1,
                tenant_no: 2,
                epoch: 3,
                producer_no: 4,
                high: 5,
                birth_seq: 6,
                log_uuid: [7; 16],
            }),
            Return::Refused { session: 1, reason: EndReason::ProducerExpired },
            Return::End { session: 1, epoch: 2, reason: EndReason::SequenceGap },
        ];
        for frame in frames {
            let (kind, bytes) = frame.encode();
            assert!(bytes.len() <= Return::BYTES_MAX);
            assert_eq!(Return::parse(kind, &bytes), Some(frame));
            assert_eq!(Return::parse(kind, &bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn hello_and_envelope_survive_their_bytes() {
        for birth_seq in [None, Some(0), Some(9)] {
            let hello = Hello {
                session: 1,
                uid: 2,
                producer: [3; 16],
                birth_seq,
                settled: 4,
                tenant: "default".into(),
                source: "checkout".into(),
            };
            assert_eq!(Hello::parse(&hello.encode()), Some(hello));
        }
        let envelope = Envelope {
            session: 1,
            reason: 2,
            has_key: true,
            epoch: 3,
            producer_no: 4,
            settled_read: 5,
            key: [6; 16],
            digest: 7,
        };
        let mut bytes = [0xee; Envelope::BYTES];
        envelope.write(&[8; 32], &mut bytes);
        assert_eq!(Envelope::parse(&bytes), Some((envelope, [8; 32])));
        let bye = Bye { session: 1, clean: true, epoch: 2, producer_no: 3 };
        assert_eq!(Bye::parse(&bye.encode()), Some(bye));
    }
}

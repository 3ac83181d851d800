//! Doors: what comes in a known format becomes payloads of an ordinary session.
//!
//! A *door* is a process of the daemon that takes events for programs which have no ring: over
//! HTTP, from syslog, from the journal. It is a producer like any other. Its Python reads a block
//! of bytes and knows nothing of what is in it; here the block becomes the payloads of client
//! frames (`ipc/src/record.rs`) in one buffer, and `Ring.append_payloads` copies that into the
//! ring.
//!
//! ```text
//!   socket ── block ──▶ a format ──▶ Encoder ── payloads ──▶ ring ──▶ worker
//!                            │ refused: index, word                    │ verdict
//! ```
//!
//! A door refuses what it cannot read: what has no proper envelope, no id where the format asks
//! for one, a source that nobody may claim here. Everything else is the worker's to judge, and is
//! told by its verdict: the same event gets the same answer through every door and from the
//! library. So nothing that an [`Encoder`] emits can end the session, and nothing is checked twice
//! but where one value ends and the next begins.
//!
//! What is logged is what was sent: JSON keeps its own bytes, and nothing is guessed.

mod base64;
pub mod cloudevents;
pub mod encoder;
pub mod framing;
pub mod lines;
mod object;
pub mod otlp;
pub mod syslog;
#[cfg(test)]
mod tests;
pub mod writer;

use std::borrow::Cow;

use certeus_ipc::verdict::Reason;

pub use encoder::{Encoder, Rules};

/// Why a door takes an event not: a stable word, the worker's own where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Cow<'static, str>);

impl Refusal {
    /// CloudEvents: no `specversion`, or not `1.0`.
    pub const SPECVERSION: Self = Self(Cow::Borrowed("specversion"));
    /// CloudEvents: a required attribute is absent, null or empty.
    pub const MISSING_ID: Self = Self(Cow::Borrowed("missing-id"));
    pub const MISSING_SOURCE: Self = Self(Cow::Borrowed("missing-source"));
    pub const MISSING_TYPE: Self = Self(Cow::Borrowed("missing-type"));
    /// CloudEvents: `data_base64` is not what RFC 4648 calls base64.
    pub const INVALID_BASE64: Self = Self(Cow::Borrowed("invalid-base64"));
    /// CloudEvents: `data` and `data_base64` in one event.
    pub const TWO_DATA: Self = Self(Cow::Borrowed("data-and-base64"));
    /// An extension has a name that certeus gives to what it adds when it shows an event.
    pub const RESERVED_NAME: Self = Self(Cow::Borrowed("reserved-name"));
    /// The stream ended within a message that has its length before it.
    pub const CUT_OFF: Self = Self(Cow::Borrowed("cut-off"));
    /// Something else where a JSON object has to be.
    pub const NOT_AN_OBJECT: Self = Self(Cow::Borrowed("not-an-object"));

    /// OTLP: a message is not one in protobuf's binary notation.
    pub const INVALID_PROTOBUF: Self = Self(Cow::Borrowed("invalid-protobuf"));

    #[must_use]
    pub fn no_field(name: &str) -> Self {
        Self(format!("no-field-{name}").into())
    }

    #[must_use]
    pub fn field_is_no_text(name: &str) -> Self {
        Self(format!("field-{name}-is-no-text").into())
    }

    #[must_use]
    pub fn word(&self) -> &str {
        &self.0
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self(reason.word().into())
    }
}

//! The buffer that every door fills, and the rules of the session that it goes to.
//!
//! The buffer is a sequence of `bytes u32, little-endian │ payload`. Nothing is allocated for an
//! event but what the buffer grows by.

use certeus_ipc::layout::RING_BYTES_MAX;
use certeus_ipc::record::{Attributes, PREFIX_BYTES, Tag, write_payload};
use certeus_ipc::verdict::Reason;

use super::Refusal;
use crate::worker::Sources;

/// What a session takes, fixed when it begins.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Bytes of data.
    pub event_bytes_max: usize,
    /// The session's own source: an event that has it carries none.
    pub source: Vec<u8>,
    /// Sources that may be claimed; the own one is claimed by who names it.
    pub sources: Sources,
}

impl Rules {
    /// The longest payload that keeps these rules.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        let attributes: usize = Tag::ALL.into_iter().map(|tag| 3 + tag.bytes_max()).sum();
        PREFIX_BYTES + attributes + self.event_bytes_max
    }
}

/// Fills one buffer. Each event of the input is told once: [`Encoder::note`].
#[derive(Debug)]
pub struct Encoder<'r> {
    rules: &'r Rules,
    pub payloads: Vec<u8>,
    /// Payloads in the buffer.
    pub count: usize,
    /// Events of the input, refused ones included.
    pub seen: usize,
    /// Index among those seen, and why.
    pub refused: Vec<(usize, Refusal)>,
    /// Bytes of the input that nobody needs to give again.
    pub consumed: usize,
    /// For what a format has to put together; a door takes it and gives it back.
    pub(super) scratch: Vec<u8>,
}

impl<'r> Encoder<'r> {
    /// Begins an empty buffer, for about `input_bytes` of input.
    #[must_use]
    pub fn new(rules: &'r Rules, input_bytes: usize) -> Self {
        assert!(rules.event_bytes_max as u64 <= RING_BYTES_MAX, "a payload's length is 32 bits");
        Self {
            rules,
            payloads: Vec::with_capacity(input_bytes + input_bytes / 4),
            count: 0,
            seen: 0,
            refused: Vec::new(),
            consumed: 0,
            scratch: Vec::new(),
        }
    }

    /// The most bytes of data that an event may have.
    #[must_use]
    pub fn event_bytes_max(&self) -> usize {
        self.rules.event_bytes_max
    }

    /// Counts the event that was just looked at, and keeps why it was refused.
    pub fn note(&mut self, outcome: Result<(), Refusal>) {
        if let Err(refusal) = outcome {
            self.refused.push((self.seen, refusal));
        }
        self.seen += 1;
    }

    /// Writes the payload of one event, whose source is as the event itself says; none: the
    /// session's own.
    ///
    /// Refused, with nothing written: an attribute that is empty or too long, a source that is not
    /// to be claimed, data that is too large. All else is left to the worker.
    pub fn push(
        &mut self,
        attributes: &Attributes<'_>,
        flags: u8,
        data: &[u8],
    ) -> Result<(), Reason> {
        let mut attributes = *attributes;
        for tag in Tag::ALL {
            let bytes = attributes.get(tag).map_or(1, <[u8]>::len);
            if bytes == 0 || bytes > tag.bytes_max() {
                return Err(match tag {
                    Tag::Time => Reason::InvalidTime,
                    Tag::Extensions => Reason::InvalidExtensions,
                    _ => Reason::InvalidAttribute,
                });
            }
        }
        if let Some(source) = attributes.get(Tag::Source) {
            // The session may have its own; whoever names it must be allowed to, as any other.
            if !self.rules.sources.allow(source) {
                return Err(Reason::SourceNotAllowed);
            }
            if source == self.rules.source {
                attributes.set(Tag::Source, None);
            }
        }
        if data.len() > self.rules.event_bytes_max {
            return Err(Reason::TooLarge);
        }
        let bytes = PREFIX_BYTES + attributes.bytes() + data.len();
        let length = u32::try_from(bytes).expect("attributes and data are bounded");
        self.payloads.extend_from_slice(&length.to_le_bytes());
        write_payload(&mut self.payloads, &attributes, flags, data);
        self.count += 1;
        Ok(())
    }
}

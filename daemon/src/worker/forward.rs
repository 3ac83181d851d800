//! One turn of one session: from the client's ring to the pair's forward ring.
//!
//! A payload is copied once, straight to where the log writer will read it, and only that copy is
//! looked at: the client may change its own ring at any time. Envelope and record header are
//! written before it, so an event costs one copy and no allocation.
//!
//! ```text
//!   client frame              prefix 8 │ attributes │ data
//!                                      ▼ one copy
//!   forward frame   envelope, leaf 96 │ record header 32 │ attributes │ data │ zeros to 8
//! ```

use certeus_ipc::record::{
    Attributes, FLAG_OPAQUE, KIND_EVENT, PREFIX_BYTES, RECORD_HEADER_BYTES, RecordHeader, Tag,
};
use certeus_ipc::ring::{Frame, Full, Memory, Violation};
use certeus_ipc::verdict::{Reason, Verdict};

use super::pair::Pair;
use super::session::{Link, Session};
use crate::envelope::{Envelope, FORWARD_EVENT, FORWARD_REJECT, Welcome};
use crate::validate::{self, Limits};
use crate::{keyed, merkle};

/// The only kind of a client's frame.
pub const CLIENT_EVENT: u8 = 1;

/// What one session may take in one turn, so that nobody starves.
pub const TURN_RECORDS_MAX: u64 = 256;
pub const TURN_BYTES_MAX: u64 = 64 * 1024;

const HEAD_BYTES: usize = Envelope::BYTES + RECORD_HEADER_BYTES;
const NO_LEAF: merkle::Hash = [0; 32];

/// What every session of a worker shares.
pub struct Rules {
    pub limits: Limits,
    pub log_key: [u8; 32],
}

/// Why a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nothing is left to read.
    Empty,
    /// The session has had its share.
    Budget,
    /// The forward ring is full.
    Full,
}

/// What one turn did, for the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub read: u64,
    pub bytes: u64,
    pub forwarded: u64,
    /// By [`Reason`]'s code.
    pub rejected: [u32; 16],
}

/// Reads a share of the session's ring and forwards it.
///
/// Tickets that were decided before this session was welcomed are only stepped over. Errors: what
/// the client did that no honest one does; all before it has been forwarded.
pub fn take_turn(
    session: &mut Session,
    pair: &mut Pair,
    rules: &Rules,
    counts: &mut Counts,
) -> Result<Stop, Violation> {
    let Link::Live(welcome) = session.link else { return Ok(Stop::Empty) };
    if let Some(frame) = session.pending.take() {
        if forward(session, &welcome, frame, pair, rules, counts).is_err() {
            session.pending = Some(frame);
            return Ok(Stop::Full);
        }
    }
    if session.closing.is_none() {
        session.consumer.poll()?;
    }
    let (mut records, mut bytes) = (0, 0);
    while records < TURN_RECORDS_MAX && bytes < TURN_BYTES_MAX {
        let Some(frame) = session.consumer.next_frame()? else { return Ok(Stop::Empty) };
        if frame.kind != CLIENT_EVENT || frame.flags != 0 {
            return Err(Violation::Kind);
        }
        if frame.ticket != session.next_ticket {
            return Err(Violation::Ticket);
        }
        session.note_read(frame.end_position);
        records += 1;
        bytes += frame.payload_bytes;
        counts.read += 1;
        if frame.ticket <= welcome.high {
            continue;
        }
        if forward(session, &welcome, frame, pair, rules, counts).is_err() {
            session.pending = Some(frame);
            return Ok(Stop::Full);
        }
    }
    Ok(Stop::Budget)
}

/// Puts one event, or its rejection, into the forward ring.
fn forward(
    session: &Session,
    welcome: &Welcome,
    frame: Frame,
    pair: &mut Pair,
    rules: &Rules,
    counts: &mut Counts,
) -> Result<(), Full> {
    let envelope = Envelope {
        session: session.number,
        epoch: welcome.epoch,
        producer_no: welcome.producer_no,
        settled_read: session.settled_read(),
        ..Envelope::default()
    };
    let shape = match Shape::of(session, frame, pair, rules) {
        Ok(shape) => shape,
        Err(reason) => {
            reject(pair, frame.ticket, envelope, reason)?;
            counts.rejected[reason as usize] += 1;
            return Ok(());
        }
    };
    let padded = shape.record_bytes.next_multiple_of(8);
    let claimed_bytes = (Envelope::BYTES + padded) as u64;
    let claim = pair.claim(claimed_bytes)?;
    let out = pair.claimed(&claim);
    let body = &mut out[HEAD_BYTES..Envelope::BYTES + shape.record_bytes];
    let memory = session.consumer.memory();
    memory.p.copy_out(memory.data_offset(frame.payload_index) + PREFIX_BYTES, body);
    #[cfg(test)]
    crate::failpoint::watch::passed("copied");
    let made = make_record(out, &shape, session, welcome, frame.ticket, envelope, rules);
    match made {
        Ok(()) => {
            pair.commit(claim, claimed_bytes, FORWARD_EVENT, frame.ticket);
            counts.forwarded += 1;
            counts.bytes += frame.payload_bytes;
        }
        Err(reason) => {
            Envelope { reason: reason as u8, ..envelope }.write(&NO_LEAF, pair.claimed(&claim));
            pair.commit(claim, Envelope::BYTES as u64, FORWARD_REJECT, frame.ticket);
            counts.rejected[reason as usize] += 1;
        }
    }
    Ok(())
}

fn reject(pair: &mut Pair, ticket: u64, envelope: Envelope, reason: Reason) -> Result<(), Full> {
    let claim = pair.claim(Envelope::BYTES as u64)?;
    Envelope { reason: reason as u8, ..envelope }.write(&NO_LEAF, pair.claimed(&claim));
    pair.commit(claim, Envelope::BYTES as u64, FORWARD_REJECT, ticket);
    Ok(())
}

/// The lengths of an event, from the one word before it. The word is loaded once.
struct Shape {
    attributes_bytes: usize,
    flags: u8,
    record_bytes: usize,
}

impl Shape {
    fn of(session: &Session, frame: Frame, pair: &Pair, rules: &Rules) -> Result<Self, Reason> {
        let payload_bytes = usize::try_from(frame.payload_bytes).expect("64-bit");
        let body_bytes = payload_bytes.checked_sub(PREFIX_BYTES).ok_or(Reason::MalformedEvent)?;
        let prefix = session.consumer.memory().data_load(frame.payload_index);
        let attributes_bytes = prefix as u32 as usize;
        if prefix >> 40 != 0 || attributes_bytes > body_bytes {
            return Err(Reason::MalformedEvent);
        }
        let record_bytes = RECORD_HEADER_BYTES + body_bytes;
        let framed_bytes = (Envelope::BYTES + record_bytes).next_multiple_of(8) as u64;
        if body_bytes - attributes_bytes > rules.limits.event_bytes_max
            || framed_bytes > pair.payload_bytes_max()
        {
            return Err(Reason::TooLarge);
        }
        Ok(Self { attributes_bytes, flags: (prefix >> 32) as u8, record_bytes })
    }
}

/// Checks the copied event and writes what stands before it, and the zeros behind.
fn make_record(
    out: &mut [u8],
    shape: &Shape,
    session: &Session,
    welcome: &Welcome,
    ticket: u64,
    mut envelope: Envelope,
    rules: &Rules,
) -> Result<(), Reason> {
    let (head, body) = out.split_at_mut(HEAD_BYTES);
    let (body, padding) = body.split_at_mut(shape.record_bytes - RECORD_HEADER_BYTES);
    let (attribute_bytes, data) = body.split_at(shape.attributes_bytes);
    let attributes = validate::check(attribute_bytes, shape.flags, data, rules.limits)?;
    key(&mut envelope, session, &attributes, shape.flags, data, rules)?;
    let header = RecordHeader {
        bytes: u32::try_from(shape.record_bytes).expect("rings are below 4 GiB"),
        kind: KIND_EVENT,
        verdict: Verdict::Accepted,
        flags: shape.flags & FLAG_OPAQUE,
        tenant_no: welcome.tenant_no,
        attributes_bytes: u32::try_from(shape.attributes_bytes).expect("rings are below 4 GiB"),
        producer_no: welcome.producer_no,
        ticket,
    };
    header.write(&mut head[Envelope::BYTES..]);
    // What an earlier event left here must not be logged with this one.
    padding.fill(0);
    let salt = merkle::salt(&rules.log_key, welcome.producer_no, ticket);
    let leaf = merkle::leaf(&salt, &out[Envelope::BYTES..Envelope::BYTES + shape.record_bytes]);
    envelope.write(&leaf, out);
    Ok(())
}

/// Looks whether the source may be claimed, and makes key and digest of an event with an id.
fn key(
    envelope: &mut Envelope,
    session: &Session,
    attributes: &Attributes<'_>,
    flags: u8,
    data: &[u8],
    rules: &Rules,
) -> Result<(), Reason> {
    let identity = &session.identity;
    let source = match attributes.get(Tag::Source) {
        Some(source) if identity.allowed.allow(source) => source,
        Some(_) => return Err(Reason::SourceNotAllowed),
        None => identity.source.as_bytes(),
    };
    if let Some(id) = attributes.get(Tag::Id) {
        envelope.has_key = true;
        envelope.key = keyed::dedup_key(&rules.log_key, identity.tenant.as_bytes(), source, id);
        envelope.digest = keyed::content_digest(&rules.log_key, attributes, flags, data);
    }
    Ok(())
}

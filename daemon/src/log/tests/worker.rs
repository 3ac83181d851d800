//! A worker that the tests play: it writes the forward ring and reads the return ring.

use std::os::fd::{AsFd, OwnedFd};

use certeus_ipc::layout::PAGE_BYTES;
use certeus_ipc::memory::{Mapped, Mapping};
use certeus_ipc::record::{Attributes, KIND_EVENT, RECORD_HEADER_BYTES, RecordHeader, Tag};
use certeus_ipc::ring::{Consumer, Producer};
use certeus_ipc::verdict::{Reason, Verdict};
use rustix::event::{EventfdFlags, eventfd};

use super::{LOG_KEY, memory};
use crate::envelope::{
    Bye, Envelope, FORWARD_BYE, FORWARD_EVENT, FORWARD_HELLO, FORWARD_REJECT, Hello, Return,
    Welcome, pair_bytes,
};
use crate::keyed::{content_digest, dedup_key};
use crate::log::peer::Peer;
use crate::merkle::{leaf, salt};

/// What a worker knows of one live session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    pub number: u32,
    pub producer: u8,
    pub epoch: u64,
    pub producer_no: u64,
    pub tenant_no: u32,
    pub high: u64,
    pub birth_seq: u64,
    /// The last ticket whose verdict the client has read.
    pub settled: u64,
}

impl Session {
    pub fn new(producer: u8, welcome: &Welcome) -> Self {
        Self {
            number: welcome.session,
            producer,
            epoch: welcome.epoch,
            producer_no: welcome.producer_no,
            tenant_no: welcome.tenant_no,
            high: welcome.high,
            birth_seq: welcome.birth_seq,
            settled: 0,
        }
    }

    fn envelope(&self) -> Envelope {
        Envelope {
            session: self.number,
            epoch: self.epoch,
            producer_no: self.producer_no,
            settled_read: self.settled,
            ..Envelope::default()
        }
    }
}

pub struct Worker {
    pub number: usize,
    pub forward: Producer<Mapped>,
    pub returns: Consumer<Mapped>,
    _return_bell: OwnedFd,
    sessions: u32,
}

impl Worker {
    pub fn new(number: usize, forward_bytes: u64, return_bytes: u64) -> (Self, Peer) {
        let fd = memory(pair_bytes(forward_bytes, return_bytes));
        let bell = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let (forward_bell, return_bell) = (bell(), bell());
        let copy = return_bell.try_clone().unwrap();
        let peer =
            Peer::attach(fd.as_fd(), forward_bytes, return_bytes, forward_bell, copy).unwrap();
        let page = PAGE_BYTES as u64;
        let ring = |offset: u64, bytes: u64| {
            let p = Mapping::at(fd.as_fd(), offset, (page + bytes) as usize, true).unwrap();
            let c = Mapping::at(fd.as_fd(), offset + page + bytes, PAGE_BYTES, true).unwrap();
            Mapped::new(p, c, bytes)
        };
        let worker = Self {
            number,
            forward: Producer::new(ring(0, forward_bytes)),
            returns: Consumer::new(ring(2 * page + forward_bytes, return_bytes)),
            _return_bell: return_bell,
            sessions: number as u32 * 1000,
        };
        (worker, peer)
    }

    /// Puts one frame into the ring. False: there is no room.
    pub fn send(&mut self, kind: u8, ticket: u64, payload: &[u8]) -> bool {
        let sent = self.forward.append(payload, kind, 0, ticket).is_ok();
        let _rings = self.forward.publish();
        sent
    }

    /// Says hello for a session, whose number is returned.
    pub fn hello(&mut self, producer: u8, birth_seq: Option<u64>, settled: u64) -> u32 {
        self.hello_as(producer, &format!("source-{producer}"), birth_seq, settled)
    }

    pub fn hello_as(
        &mut self,
        producer: u8,
        source: &str,
        birth_seq: Option<u64>,
        settled: u64,
    ) -> u32 {
        self.sessions += 1;
        let hello = Hello {
            session: self.sessions,
            uid: 1000,
            producer: [producer; 16],
            birth_seq,
            settled,
            tenant: "default".into(),
            source: source.into(),
        };
        assert!(self.send(FORWARD_HELLO, 0, &hello.encode()));
        self.sessions
    }

    pub fn bye(&mut self, session: &Session, clean: bool) {
        let Session { number, epoch, producer_no, .. } = *session;
        let bye = Bye { session: number, clean, epoch, producer_no };
        assert!(self.send(FORWARD_BYE, 0, &bye.encode()));
    }

    pub fn event(&mut self, session: &Session, ticket: u64, data: &str) {
        assert!(self.offer(session, ticket, None, data));
    }

    pub fn event_with_id(&mut self, session: &Session, ticket: u64, id: &str, data: &str) {
        assert!(self.offer(session, ticket, Some(id), data));
    }

    /// Forwards an event as the real worker does. False: there is no room.
    pub fn offer(&mut self, session: &Session, ticket: u64, id: Option<&str>, data: &str) -> bool {
        let mut attributes = Attributes::default();
        attributes.set(Tag::Type, Some(b"t"));
        attributes.set(Tag::Id, id.map(str::as_bytes));
        let bytes = RECORD_HEADER_BYTES + attributes.bytes() + data.len();
        let mut record = vec![0; RECORD_HEADER_BYTES];
        RecordHeader {
            bytes: bytes as u32,
            kind: KIND_EVENT,
            verdict: Verdict::Accepted,
            flags: 0,
            tenant_no: session.tenant_no,
            attributes_bytes: attributes.bytes() as u32,
            producer_no: session.producer_no,
            ticket,
        }
        .write(&mut record);
        attributes.write(&mut record);
        record.extend_from_slice(data.as_bytes());
        let salt = salt(&LOG_KEY, session.producer_no, ticket);
        let leaf = leaf(&salt, &record);
        let mut envelope = session.envelope();
        if let Some(id) = id {
            let source = format!("source-{}", session.producer);
            envelope.has_key = true;
            envelope.key = dedup_key(&LOG_KEY, b"default", source.as_bytes(), id.as_bytes());
            envelope.digest = content_digest(&LOG_KEY, &attributes, 0, data.as_bytes());
        }
        let mut payload = vec![0; Envelope::BYTES];
        envelope.write(&leaf, &mut payload);
        record.resize(record.len().next_multiple_of(8), 0);
        payload.extend_from_slice(&record);
        self.send(FORWARD_EVENT, ticket, &payload)
    }

    /// A rejection without data. False: there is no room.
    pub fn reject(&mut self, session: &Session, ticket: u64, reason: Reason) -> bool {
        let envelope = Envelope { reason: reason as u8, ..session.envelope() };
        let mut payload = vec![0; Envelope::BYTES];
        envelope.write(&[0; 32], &mut payload);
        self.send(FORWARD_REJECT, ticket, &payload)
    }

    /// Everything that was told since; its room is given back.
    pub fn take(&mut self) -> Vec<Return> {
        self.take_some(usize::MAX)
    }

    pub fn take_some(&mut self, count_max: usize) -> Vec<Return> {
        let mut told = Vec::new();
        self.returns.poll().unwrap();
        while told.len() < count_max {
            let Some(frame) = self.returns.next_frame().unwrap() else { break };
            let memory = self.returns.memory();
            let mut bytes = vec![0; frame.payload_bytes as usize];
            memory.p.copy_out(memory.data_offset(frame.payload_index), &mut bytes);
            told.push(Return::parse(frame.kind, &bytes).expect("a frame of the envelope"));
        }
        self.returns.release(self.returns.read());
        told
    }
}

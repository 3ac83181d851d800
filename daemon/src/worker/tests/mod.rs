//! The kernel between a client and a log writer that the tests play, on real memory and sockets.

mod acks;
mod flow;
mod hostile;
mod replacement;
mod speed;
mod tally;

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use certeus_ipc::layout::{C_BYTES, P_WAKE_HEAD, P_WAKE_SETTLED, PAGE_BYTES};
use certeus_ipc::memory::{Mapped, Mapping};
use certeus_ipc::record::{Attributes, Record, Tag, write_payload};
use certeus_ipc::ring::{Consumer, Producer};
use certeus_ipc::verdict::{Entry, Reason, Verdict};
use certeus_ipc::verdict_ring::Reader;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

use super::{Event, Identity, Kernel, Sources};
use crate::board::{BOARD_PAGES, Board, PAGE_WORKER, Page, worker};
use crate::envelope::{
    Bye, Envelope, FORWARD_BYE, FORWARD_EVENT, FORWARD_HELLO, FORWARD_REJECT, Hello, Return,
    Welcome, pair_bytes,
};
use crate::merkle::Hash;
use crate::validate::Limits;

pub const LOG_KEY: [u8; 32] = [7; 32];
pub const RING_BYTES: u64 = 64 * 1024;
pub const LIMITS: Limits = Limits { event_bytes_max: 4096, depth_max: 8 };

pub fn memory(bytes: u64) -> OwnedFd {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, bytes).unwrap();
    fd
}

fn bell() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// Waits until a bell was rung, for as long as it takes (the test's own time limit holds).
pub fn wait_for(bell: &OwnedFd) {
    poll(&mut [PollFd::new(bell, PollFlags::IN)], None).unwrap();
    quiet(bell);
}

/// Whether a bell was rung; it is silent afterwards.
pub fn quiet(bell: &OwnedFd) -> bool {
    let mut word = [0; 8];
    rustix::io::read(bell, &mut word).is_ok()
}

pub struct World {
    pub kernel: Kernel,
    pub page: Page,
    pub log: Log,
}

impl World {
    /// A kernel with a log writer of 64 KiB rings.
    pub fn new() -> Self {
        Self::with_rings(RING_BYTES, RING_BYTES)
    }

    pub fn with_rings(forward_bytes: u64, return_bytes: u64) -> Self {
        let board = memory((BOARD_PAGES * PAGE_BYTES) as u64);
        let page = Board::map(board.as_fd()).unwrap().page(PAGE_WORKER);
        let mut kernel = Kernel::new(page.clone(), LOG_KEY, LIMITS).unwrap();
        let log = Log::attach(&mut kernel, forward_bytes, return_bytes);
        Self { kernel, page, log }
    }

    /// Lets the kernel do all that it can do without sleeping.
    pub fn run(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let before = self.moved();
            events.extend(self.kernel.run(0).unwrap());
            if self.moved() == before {
                return events;
            }
        }
    }

    fn moved(&self) -> [u64; 4] {
        let words = [worker::EVENTS_TOTAL, worker::SETTLED_TOTAL, worker::ENDED_TOTAL];
        let [events, settled, ended] = words.map(|word| self.page.get(word));
        [events, settled, ended, self.kernel.in_flight()]
    }

    /// A live session, and its number and epoch.
    pub fn connect(&mut self, producer: u8) -> Client {
        let mut client = Client::add(&mut self.kernel, producer, None, 0);
        self.run();
        let hellos = self.log.take();
        let [Forward::Hello(hello)] = &hellos[..] else { panic!("{hellos:?}") };
        assert_eq!(hello.session, client.number);
        client.welcome = self.log.welcome(client.number, 0);
        let events = self.run();
        assert_eq!(events, [Event::Welcomed(client.number, client.welcome)]);
        client
    }

    /// A new log writer instead of the one before.
    pub fn replace_log(&mut self) {
        self.kernel.detach().unwrap();
        let epoch = self.log.epoch;
        self.log = Log::attach(&mut self.kernel, RING_BYTES, RING_BYTES);
        self.log.epoch = epoch + 100;
    }
}

/// The other end of the pair.
pub struct Log {
    forward: Consumer<Mapped>,
    returns: Producer<Mapped>,
    pub forward_bell: OwnedFd,
    return_bell: OwnedFd,
    epoch: u64,
}

#[derive(Debug, PartialEq)]
pub enum Forward {
    Event { ticket: u64, envelope: Envelope, leaf: Hash, record: Vec<u8> },
    Reject { ticket: u64, envelope: Envelope, reason: Reason },
    Hello(Hello),
    Bye(Bye),
}

impl Forward {
    pub fn ticket(&self) -> Option<u64> {
        match self {
            Self::Event { ticket, .. } | Self::Reject { ticket, .. } => Some(*ticket),
            _ => None,
        }
    }

    pub fn data(&self) -> &[u8] {
        let Self::Event { record, .. } = self else { panic!("{self:?}") };
        Record::parse(record).unwrap().data
    }
}

impl Log {
    fn attach(kernel: &mut Kernel, forward_bytes: u64, return_bytes: u64) -> Self {
        let fd = memory(pair_bytes(forward_bytes, return_bytes));
        let (forward_bell, return_bell) = (bell(), bell());
        let copies = [&forward_bell, &return_bell].map(|bell| bell.try_clone().unwrap());
        let [forward_copy, return_copy] = copies;
        kernel.attach(fd.as_fd(), forward_bytes, return_bytes, forward_copy, return_copy).unwrap();
        let page = PAGE_BYTES as u64;
        let ring = |offset: u64, bytes: u64| {
            let p = Mapping::at(fd.as_fd(), offset, (page + bytes) as usize, true).unwrap();
            let c = Mapping::at(fd.as_fd(), offset + page + bytes, PAGE_BYTES, true).unwrap();
            Mapped::new(p, c, bytes)
        };
        let returns = ring(2 * page + forward_bytes, return_bytes);
        returns.p.word(P_WAKE_HEAD).store(u64::MAX, Ordering::Relaxed);
        Self {
            forward: Consumer::new(ring(0, forward_bytes)),
            returns: Producer::new(returns),
            forward_bell,
            return_bell,
            epoch: 100,
        }
    }

    /// Everything that has been forwarded; its room is given back.
    pub fn take(&mut self) -> Vec<Forward> {
        let frames = self.look();
        self.forward.release(self.forward.read());
        let wanted = self.forward.memory().p.word(P_WAKE_HEAD).load(Ordering::SeqCst);
        if self.forward.released() >= wanted {
            rustix::io::write(&self.return_bell, &1_u64.to_ne_bytes()).unwrap();
        }
        frames
    }

    /// Waits, as a log writer does, until something has been forwarded, and takes it.
    pub fn take_sleepily(&mut self) -> Vec<Forward> {
        loop {
            let frames = self.take();
            if !frames.is_empty() {
                return frames;
            }
            if self.forward.prepare_sleep().unwrap() {
                wait_for(&self.forward_bell);
            }
            self.forward.woke();
        }
    }

    /// Everything that has been forwarded; its room is still taken.
    pub fn look(&mut self) -> Vec<Forward> {
        let mut frames = Vec::new();
        self.forward.poll().unwrap();
        while let Some(frame) = self.forward.next_frame().unwrap() {
            let mut bytes = vec![0; frame.payload_bytes as usize];
            let memory = self.forward.memory();
            memory.p.copy_out(memory.data_offset(frame.payload_index), &mut bytes);
            let ticket = frame.ticket;
            frames.push(match frame.kind {
                FORWARD_EVENT => {
                    let (envelope, leaf) = Envelope::parse(&bytes).unwrap();
                    let record = bytes[Envelope::BYTES..].to_vec();
                    Forward::Event { ticket, envelope, leaf, record }
                }
                FORWARD_REJECT => {
                    let (envelope, _) = Envelope::parse(&bytes).unwrap();
                    assert_eq!(bytes.len(), Envelope::BYTES, "an envelope alone");
                    let reason = Reason::from_code(envelope.reason).unwrap();
                    Forward::Reject { ticket, envelope, reason }
                }
                FORWARD_HELLO => Forward::Hello(Hello::parse(&bytes).unwrap()),
                FORWARD_BYE => Forward::Bye(Bye::parse(&bytes).unwrap()),
                kind => panic!("a frame of kind {kind}"),
            });
        }
        frames
    }

    pub fn answer(&mut self, answer: Return) {
        let (kind, bytes) = answer.encode();
        self.returns.append(&bytes, kind, 0, 0).unwrap();
        if self.returns.publish() {
            rustix::io::write(&self.return_bell, &1_u64.to_ne_bytes()).unwrap();
        }
    }

    /// Welcomes a session under a new epoch.
    pub fn welcome(&mut self, session: u32, high: u64) -> Welcome {
        self.epoch += 1;
        let welcome = Welcome {
            session,
            tenant_no: 3,
            epoch: self.epoch,
            producer_no: 40 + u64::from(session & 0xffff),
            high,
            birth_seq: 17,
            log_uuid: [9; 16],
        };
        self.answer(Return::Welcome(welcome));
        welcome
    }

    /// The epoch of the next welcome.
    pub fn next_epoch(&self) -> u64 {
        self.epoch + 1
    }
}

/// A client: the writing side of its ring, the reading side of its verdicts.
pub struct Client {
    pub number: u32,
    pub welcome: Welcome,
    pub p: Arc<Mapping>,
    pub ring: Producer<Mapped>,
    pub verdicts: Reader<Mapping>,
    pub doorbell: OwnedFd,
    pub socket: OwnedFd,
    pub ticket: u64,
}

impl Client {
    pub fn add(kernel: &mut Kernel, producer: u8, birth_seq: Option<u64>, settled: u64) -> Self {
        let (p, c) = (memory(PAGE_BYTES as u64 + RING_BYTES), memory(C_BYTES as u64));
        let doorbell = bell();
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        let identity = Identity {
            uid: 1000,
            producer: [producer; 16],
            tenant: "default".into(),
            source: "check".into(),
            allowed: Sources::new(["check", "other/*"]),
            birth_seq,
            settled,
        };
        let copy = doorbell.try_clone().unwrap();
        let number =
            kernel.add_session(identity, p.as_fd(), c.as_fd(), RING_BYTES, copy, ours).unwrap();
        let p = Mapping::new(p.as_fd(), PAGE_BYTES + RING_BYTES as usize, true).unwrap();
        let c = Mapping::new(c.as_fd(), C_BYTES, false).unwrap();
        let mut client = Self {
            number,
            welcome: Welcome {
                session: number,
                tenant_no: 0,
                epoch: 0,
                producer_no: 0,
                high: 0,
                birth_seq: 0,
                log_uuid: [0; 16],
            },
            ring: Producer::new(Mapped::new(p.clone(), c.clone(), RING_BYTES)),
            verdicts: Reader::new(p.clone(), c),
            p,
            doorbell,
            socket: theirs,
            ticket: settled,
        };
        client.wake_at(u64::MAX, u64::MAX);
        client
    }

    /// Appends one event of type `t`, and rings if the kernel sleeps.
    pub fn append(&mut self, data: &str) -> u64 {
        self.append_with(&[], data).expect("room in the client's ring")
    }

    pub fn append_with(&mut self, values: &[(Tag, &str)], data: &str) -> Option<u64> {
        let mut attributes = Attributes::default();
        attributes.set(Tag::Type, Some(b"t"));
        for (tag, value) in values {
            attributes.set(*tag, Some(value.as_bytes()));
        }
        let mut payload = Vec::new();
        write_payload(&mut payload, &attributes, 0, data.as_bytes());
        self.append_payload(&payload)
    }

    pub fn append_payload(&mut self, payload: &[u8]) -> Option<u64> {
        self.ring.append(payload, 1, 0, self.ticket + 1).ok()?;
        self.ticket += 1;
        self.publish();
        Some(self.ticket)
    }

    /// Appends without publishing. False: the ring is full.
    pub fn append_quietly(&mut self, data: &str) -> bool {
        let mut attributes = Attributes::default();
        attributes.set(Tag::Type, Some(b"t"));
        let mut payload = Vec::new();
        write_payload(&mut payload, &attributes, 0, data.as_bytes());
        let fits = self.ring.append(&payload, 1, 0, self.ticket + 1).is_ok();
        self.ticket += u64::from(fits);
        fits
    }

    pub fn publish(&mut self) {
        if self.ring.publish() {
            self.ring_doorbell();
        }
    }

    pub fn ring_doorbell(&self) {
        rustix::io::write(&self.doorbell, &1_u64.to_ne_bytes()).unwrap();
    }

    pub fn wake_at(&mut self, settled: u64, head: u64) {
        self.p.word(P_WAKE_SETTLED).store(settled, Ordering::SeqCst);
        self.p.word(P_WAKE_HEAD).store(head, Ordering::SeqCst);
    }

    pub fn settled(&mut self) -> u64 {
        self.verdicts.poll().unwrap()
    }

    /// Every verdict that is out and not yet read.
    pub fn read_verdicts(&mut self) -> Vec<Entry> {
        let settled = self.settled();
        let mut entries = Vec::new();
        while let Some(entry) = self.verdicts.next().unwrap() {
            entries.push(entry);
        }
        if self.verdicts.acknowledge(settled) {
            self.ring_doorbell();
        }
        entries
    }

    /// Bells that have been rung since the last call.
    pub fn bells(&self) -> usize {
        let mut count = 0;
        let mut byte = [0; 8];
        while let Ok((length, _)) = recv(&self.socket, &mut byte, RecvFlags::DONTWAIT) {
            if length == 0 {
                break;
            }
            assert_eq!(&byte[..length], &[1]);
            count += 1;
        }
        count
    }

    pub fn accepted(&self, ticket: u64, count: u32) -> Return {
        let entry = Entry {
            ticket,
            seq: 1000 + ticket,
            group: 5,
            count,
            verdict: Verdict::Accepted,
            reason: Reason::None,
        };
        Return::Verdict { session: self.number, epoch: self.welcome.epoch, entry }
    }

    pub fn rejected(&self, ticket: u64, reason: Reason) -> Return {
        let verdict = Verdict::Rejected;
        let entry = Entry { ticket, seq: 0, group: 0, count: 1, verdict, reason };
        Return::Verdict { session: self.number, epoch: self.welcome.epoch, entry }
    }
}

pub fn tickets(frames: &[Forward]) -> VecDeque<u64> {
    frames.iter().filter_map(Forward::ticket).collect()
}

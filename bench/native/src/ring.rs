//! A ring as the daemon makes it for a session, and the two ends as library and worker use them.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use certeus_ipc::layout::{C_BYTES, KIND_EVENT_FRAME, PAGE_BYTES};
use certeus_ipc::memory::{Mapped, Mapping};
use certeus_ipc::ring::{Consumer, Producer};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::io::Errno;

use crate::payload::sum;
use crate::work::{Read, Turn, Write};

/// What a worker takes of one session before it looks at the next.
pub const TURN_RECORDS_MAX: u64 = 256;
pub const TURN_BYTES_MAX: u64 = 64 * 1024;

/// The three shared objects of one ring; to be made before the fork.
pub struct Ring {
    pub p: OwnedFd,
    pub c: OwnedFd,
    pub bell: OwnedFd,
    ring_bytes: u64,
}

impl Ring {
    #[must_use]
    pub fn new(ring_bytes: u64) -> Self {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Self {
            p: memory(c"certeus-p", PAGE_BYTES as u64 + ring_bytes),
            c: memory(c"certeus-c", C_BYTES as u64),
            bell: eventfd(0, flags).expect("cannot make an eventfd"),
            ring_bytes,
        }
    }

    /// The writing end, mapped as a client maps it.
    #[must_use]
    pub fn writer(&self) -> Writer<'_> {
        let producer = Producer::new(self.map(true, false));
        Writer { producer, bell: self.bell.as_fd(), number: 0 }
    }

    /// The reading end, mapped as a worker maps it.
    #[must_use]
    pub fn reader(&self, blocking: bool) -> Reader {
        let doorbell = blocking.then(|| Doorbell::new(self.bell.as_fd()));
        let copy = vec![0; self.ring_bytes as usize / 8];
        Reader { consumer: Consumer::new(self.map(false, true)), copy, ticket: 0, doorbell }
    }

    fn map(&self, p_writable: bool, c_writable: bool) -> Mapped {
        let p_bytes = PAGE_BYTES + self.ring_bytes as usize;
        let p = Mapping::new(self.p.as_fd(), p_bytes, p_writable).expect("cannot map P");
        let c = Mapping::new(self.c.as_fd(), C_BYTES, c_writable).expect("cannot map C");
        Mapped::new(p, c, self.ring_bytes)
    }
}

fn memory(name: &CStr, bytes: u64) -> OwnedFd {
    let memory = memfd_create(name, MemfdFlags::CLOEXEC).expect("cannot make shared memory");
    fallocate(&memory, FallocateFlags::empty(), 0, bytes).expect("cannot fill shared memory");
    memory
}

/// Appends, publishes, and rings the bell of a reader that sleeps.
pub struct Writer<'a> {
    producer: Producer<Mapped>,
    bell: BorrowedFd<'a>,
    number: u64,
}

impl Write for Writer<'_> {
    /// A full ring is tried again at once.
    #[inline]
    fn write(&mut self, payload: &[u8]) {
        while self.producer.append(payload, KIND_EVENT_FRAME, 0, self.number + 1).is_err() {
            self.publish();
            std::hint::spin_loop();
        }
        self.number += 1;
    }

    #[inline]
    fn publish(&mut self) {
        if self.producer.publish() {
            // A full counter is a bell already rung.
            let _ = rustix::io::write(self.bell, &1u64.to_ne_bytes());
        }
    }
}

/// Polls, copies each payload once as a worker does, and sums the copy.
pub struct Reader {
    pub consumer: Consumer<Mapped>,
    copy: Vec<u8>,
    ticket: u64,
    doorbell: Option<Doorbell>,
}

impl Reader {
    /// Reads what there is, at most a worker's share of one session. Its bytes are the caller's to
    /// release.
    ///
    /// Panics on what no honest producer writes.
    #[inline]
    pub fn take(&mut self, sum: impl Fn(&[u8]) -> u64) -> Turn {
        let mut turn = Turn::default();
        if !self.consumer.poll().expect("an honest tail") {
            return turn;
        }
        let mut bytes = 0;
        while turn.events < TURN_RECORDS_MAX && bytes < TURN_BYTES_MAX {
            let Some(frame) = self.consumer.next_frame().expect("an honest frame") else { break };
            self.ticket += 1;
            assert!(frame.ticket == self.ticket, "ticket {} came out of order", frame.ticket);
            let out = &mut self.copy[..frame.payload_bytes as usize];
            let memory = self.consumer.memory();
            memory.p.copy_out(memory.data_offset(frame.payload_index), out);
            turn.sum = turn.sum.wrapping_add(sum(out));
            turn.events += 1;
            bytes += frame.payload_bytes;
        }
        turn
    }

    /// Gives back what was read.
    #[inline]
    pub fn release(&mut self) {
        self.consumer.release(self.consumer.read());
    }
}

impl Read for Reader {
    #[inline]
    fn read(&mut self) -> Turn {
        let turn = self.take(sum);
        if turn.events > 0 {
            self.release();
        } else if let Some(doorbell) = &self.doorbell {
            if self.consumer.prepare_sleep().expect("an honest tail") {
                doorbell.wait();
            }
            self.consumer.woke();
        }
        turn
    }
}

/// The worker's way to wait: epoll, edge-triggered, the counter is never read.
struct Doorbell(OwnedFd);

impl Doorbell {
    fn new(bell: BorrowedFd<'_>) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).expect("cannot make an epoll");
        epoll::add(&epoll, bell, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)
            .expect("cannot watch the doorbell");
        Self(epoll)
    }

    fn wait(&self) {
        let mut events = [std::mem::MaybeUninit::uninit(); 1];
        match epoll::wait(&self.0, &mut events, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("cannot wait for the doorbell: {error}"),
        }
    }
}

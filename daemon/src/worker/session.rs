//! One session: its client's ring, where each ticket stands, and its link to the log writer.
//!
//! ```text
//!   ticket      1 .. released │ .. settled │ .. queued │ .. next - 1 │ next ..
//!               bytes given   │ verdict    │ verdict   │ read, sent  │ not read
//!               back (head)   │ published  │ here      │ on          │
//! ```
//!
//! `ends[i]` is the position behind ticket `released + 1 + i`: the private memory of where `head`
//! may go when that ticket is settled. Everything right of `settled` is forgotten when the log
//! writer dies; the client's ring still holds it from `head` on.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use certeus_ipc::layout::{C_BYTES, P_SETTLED_READ, PAGE_BYTES, RING_BYTES_MAX, RING_BYTES_MIN};
use certeus_ipc::memory::{Mapped, Mapping};
use certeus_ipc::ring::{Consumer, Frame, Memory, Violation};
use certeus_ipc::verdict::{Entry, Verdict};
use certeus_ipc::verdict_ring::{Words, Writer};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::acks::Acks;
use super::sources::Sources;
use super::tally::Tally;
use crate::envelope::{Bye, Hello, Welcome};
use crate::failpoint::failpoint;
use crate::inode;

/// The only byte that ever goes over a session's socket without being JSON.
const BELL: u8 = 1;

/// No honest producer gets so far; sums of tickets do not overflow.
const TICKET_MAX: u64 = 1 << 62;

/// What the daemon knows of a client before its session begins.
pub struct Identity {
    pub uid: u32,
    pub producer: [u8; 16],
    pub tenant: String,
    pub source: String,
    pub allowed: Sources,
    /// `Some`: the client resumes, and was told this when it was born.
    pub birth_seq: Option<u64>,
    /// The last ticket whose verdict the client has read in an earlier session.
    pub settled: u64,
}

/// Where the session stands with the log writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is no log writer.
    Away,
    /// HELLO is sent, or queued.
    Greeting,
    /// Welcomed: events flow.
    Live(Welcome),
}

/// Why a session reads no further than the tail it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The client is gone: forward what it committed, then BYE.
    Gone { clean: bool },
    /// The worker drains: settle what the client committed, then tell it to connect again.
    Drain,
}

pub struct Session {
    /// Given by the table of sessions.
    pub number: u32,
    pub identity: Identity,
    pub consumer: Consumer<Mapped>,
    pub link: Link,
    /// The client was told that it is welcome, or will be at once.
    pub welcomed: bool,
    pub closing: Option<Closing>,
    /// A frame read but not forwarded, for want of room.
    pub pending: Option<Frame>,
    /// The ticket that the next frame must have.
    pub next_ticket: u64,
    released: u64,
    ends: VecDeque<u64>,
    queue: VecDeque<Entry>,
    /// The last ticket whose verdict is here.
    queued: u64,
    verdicts: Writer<Mapping>,
    doorbell: OwnedFd,
    socket: Option<OwnedFd>,
    rung_settled: u64,
    rung_head: u64,
    /// What was settled when the bell was last rung for a full verdict ring.
    rung_stalled: u64,
    /// In the worker's list of sessions to look at.
    pub listed: bool,
    /// The client rings the doorbell; the session is not looked at before.
    pub armed: bool,
    /// Looks in a row that found nothing.
    pub idle_looks: u32,
    /// The second of the worker in which it last handed something over.
    pub active_in: u64,
    pub acks: Acks,
    pub tally: Tally,
}

/// What one publication did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    pub settled: u64,
    pub released: u64,
    pub bell: bool,
}

impl Session {
    /// Maps P read-only and C writable, which must happen before C is sealed against writing.
    ///
    /// A mapped page can never fault away (SIGBUS): both objects are sealed against shrinking
    /// before the client has them, and are checked here to be as long as their mapping. A hole that
    /// the client punches into P reads as zeros.
    pub fn new(
        identity: Identity,
        p: BorrowedFd<'_>,
        c: BorrowedFd<'_>,
        ring_bytes: u64,
        doorbell: OwnedFd,
        socket: OwnedFd,
    ) -> rustix::io::Result<Self> {
        let proper = ring_bytes.is_power_of_two()
            && (RING_BYTES_MIN..=RING_BYTES_MAX).contains(&ring_bytes)
            && identity.settled <= TICKET_MAX
            && inode::bytes(p)? == PAGE_BYTES as u64 + ring_bytes
            && inode::bytes(c)? == C_BYTES as u64;
        if !proper {
            return Err(Errno::INVAL);
        }
        let p = Mapping::new(p, PAGE_BYTES + ring_bytes as usize, false)?;
        let c = Mapping::new(c, C_BYTES, true)?;
        let settled = identity.settled;
        let mut verdicts = Writer::new(p.clone(), c.clone());
        verdicts.publish(settled);
        Ok(Self {
            number: 0,
            identity,
            consumer: Consumer::new(Mapped::new(p, c, ring_bytes)),
            link: Link::Away,
            welcomed: false,
            closing: None,
            pending: None,
            next_ticket: settled + 1,
            released: settled,
            ends: VecDeque::new(),
            queue: VecDeque::new(),
            queued: settled,
            verdicts,
            doorbell,
            socket: Some(socket),
            rung_settled: u64::MAX,
            rung_head: u64::MAX,
            rung_stalled: u64::MAX,
            listed: false,
            armed: false,
            idle_looks: 0,
            active_in: 0,
            acks: Acks::new(settled),
            tally: Tally::default(),
        })
    }

    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }

    pub fn ring_bytes(&self) -> u64 {
        self.consumer.memory().ring_bytes()
    }

    /// Tickets that were read and whose bytes are still the client's only copy.
    pub fn in_flight(&self) -> u64 {
        self.ends.len() as u64
    }

    /// The last ticket that the client has read the verdict of, as far as that can be true.
    pub fn settled_read(&self) -> u64 {
        let read = self.consumer.memory().p.load_relaxed(P_SETTLED_READ);
        read.min(self.verdicts.settled())
    }

    /// Everything that was committed before the session closed has been forwarded.
    pub fn is_drained(&self) -> bool {
        self.pending.is_none() && self.consumer.read() == self.consumer.tail_seen()
    }

    /// The last ticket whose verdict is out.
    pub fn settled(&self) -> u64 {
        self.verdicts.settled()
    }

    /// Every ticket read has its verdict out.
    pub fn is_settled(&self) -> bool {
        self.verdicts.settled() + 1 == self.next_ticket
    }

    /// What a HELLO says: all that is published counts as read, since nothing takes it back.
    pub fn hello(&self) -> Hello {
        Hello {
            session: self.number,
            uid: self.identity.uid,
            producer: self.identity.producer,
            birth_seq: self.identity.birth_seq,
            settled: self.verdicts.settled(),
            tenant: self.identity.tenant.clone(),
            source: self.identity.source.clone(),
        }
    }

    /// What a BYE says, once welcomed.
    pub fn bye(&self, clean: bool) -> Option<Bye> {
        let Link::Live(welcome) = self.link else { return None };
        let Welcome { epoch, producer_no, .. } = welcome;
        Some(Bye { session: self.number, clean, epoch, producer_no })
    }

    /// The log writer is gone: forgets what it was sent and what it said that is not published.
    pub fn forget(&mut self) {
        self.link = Link::Away;
        self.pending = None;
        self.consumer.rewind();
        self.consumer.woke();
        self.ends.clear();
        self.next_ticket = self.released + 1;
        self.queue.clear();
        self.queued = self.verdicts.settled();
        self.armed = false;
    }

    /// The log writer's answer. Tickets up to `high` are decided, and their verdicts came before.
    pub fn welcome(&mut self, welcome: Welcome) {
        assert!(self.link == Link::Greeting, "a welcome that nobody asked for");
        assert!(welcome.high >= self.verdicts.settled(), "a mark below what is published");
        if !self.welcomed {
            self.welcomed = true;
            self.identity.birth_seq = Some(welcome.birth_seq);
            self.released = welcome.high;
            self.next_ticket = welcome.high + 1;
            self.acks = Acks::new(welcome.high);
        }
        // A client that claims to have read less than it has is answered with less than it asks.
        self.queued = self.queued.max(welcome.high);
        self.link = Link::Live(welcome);
    }

    /// Notes that the frame of `next_ticket` was read.
    pub fn note_read(&mut self, end_position: u64) {
        self.ends.push_back(end_position);
        self.next_ticket += 1;
    }

    /// Takes a verdict of the log writer. What is known already is ignored.
    pub fn enqueue(&mut self, epoch: u64, mut entry: Entry) {
        match self.link {
            Link::Away => return,
            Link::Greeting => {}
            Link::Live(welcome) if welcome.epoch != epoch => return,
            Link::Live(_) => {
                assert!(entry.ticket <= self.queued + 1, "a ticket without a verdict");
                assert!(entry.last_ticket() < self.next_ticket, "a verdict without a ticket");
            }
        }
        if entry.last_ticket() <= self.queued {
            return;
        }
        if entry.ticket <= self.queued {
            let known = self.queued + 1 - entry.ticket;
            entry.ticket += known;
            entry.seq += if entry.verdict.has_seq() { known } else { 0 };
            entry.count -= u32::try_from(known).expect("less than the run");
        }
        self.queued = entry.last_ticket();
        match self.queue.back_mut() {
            Some(back) if back.continues(&entry) => back.count += entry.count,
            _ => self.queue.push_back(entry),
        }
    }

    /// A verdict waits for room in the verdict ring.
    pub fn is_stalled(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Publishes what is queued, in this order: verdicts, `settled`, `head`, bell.
    ///
    /// Accepted runs that find the verdict ring full are left out, everything else waits for room.
    pub fn publish(&mut self) -> Published {
        let before = self.verdicts.settled();
        let mut settled = before;
        if !self.queue.is_empty() {
            failpoint("worker-before-verdicts");
        }
        while let Some(entry) = self.queue.front() {
            if self.verdicts.room() > 0 {
                self.verdicts.push(*entry);
            } else if entry.verdict != Verdict::Accepted {
                break;
            }
            settled = entry.last_ticket();
            self.tally.count(entry);
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            settled = self.queued;
        }
        if settled > before {
            failpoint("worker-after-verdicts");
            failpoint("worker-before-settled");
            self.verdicts.publish(settled);
            failpoint("worker-after-settled");
        }
        let released = self.release(settled);
        if released > 0 {
            failpoint("worker-after-head");
        }
        self.tally.settled += settled - before;
        let told = settled > before || released > 0;
        let wanted = told && self.is_awaited();
        let bell = (wanted | self.is_newly_stalled()) && self.ring();
        Published { settled: settled - before, released, bell }
    }

    /// Gives the bytes of all settled tickets back. Returns how many tickets those were.
    fn release(&mut self, settled: u64) -> u64 {
        let count = settled.saturating_sub(self.released).min(self.ends.len() as u64);
        if count > 0 {
            let position = self.ends[count as usize - 1];
            self.ends.drain(..count as usize);
            self.released += count;
            failpoint("worker-before-head");
            self.consumer.release(position);
        }
        count
    }

    /// Whether the client waits for a value that is reached now; once for each value.
    fn is_awaited(&mut self) -> bool {
        // In this order: the fence of the first one is for both.
        let head_wanted = self.consumer.head_wanted();
        let settled_wanted = self.verdicts.settled_wanted();
        let settled =
            self.verdicts.settled() >= settled_wanted && settled_wanted != self.rung_settled;
        let head = self.consumer.released() >= head_wanted && head_wanted != self.rung_head;
        if settled {
            self.rung_settled = settled_wanted;
        }
        if head {
            self.rung_head = head_wanted;
        }
        settled || head
    }

    /// Whether a verdict has begun to wait for room. The client may sleep on a ticket behind it,
    /// and reads what would make the room only once it is woken.
    fn is_newly_stalled(&mut self) -> bool {
        let settled = self.verdicts.settled();
        self.is_stalled() && std::mem::replace(&mut self.rung_stalled, settled) != settled
    }

    fn ring(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        // A full socket is a bell already rung; a dead one is told by its end of file.
        send(socket, &[BELL], SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok()
    }

    /// The client is gone, or goes: nothing behind the tail of this moment is read.
    pub fn close(&mut self, closing: Closing) -> Result<(), Violation> {
        if let Closing::Gone { .. } = closing {
            self.socket = None;
        }
        if !matches!(self.closing, Some(Closing::Gone { .. })) {
            self.consumer.poll()?;
        }
        self.closing = Some(closing);
        Ok(())
    }

    /// Says that the session is not looked at until its doorbell rings. True: nothing has come, and
    /// no room for a verdict that waits.
    pub fn arm(&mut self) -> Result<bool, Violation> {
        self.armed = true;
        let quiet = if self.closing.is_some() {
            self.consumer.announce_sleep();
            self.is_drained()
        } else {
            self.consumer.prepare_sleep()?
        };
        Ok(quiet && !(self.is_stalled() && self.verdicts.room() > 0))
    }

    /// Says that the session is looked at again.
    pub fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.consumer.woke();
        }
    }
}

//! One attached worker: its pair of rings, and the answers that wait for their sync.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};

use certeus_ipc::layout::{PAGE_BYTES, frame_bytes};
use certeus_ipc::memory::{Mapped, Mapping};
use certeus_ipc::ring::{Consumer, Frame, Memory, Producer, Violation};
use certeus_ipc::verdict::Entry;

use crate::envelope::{Return, Welcome, pair_bytes};
use crate::failpoint::failpoint;

/// What a resumed session is told once everything of it is durable.
pub struct Answer {
    pub welcome: Welcome,
    /// Verdicts above this are told again.
    pub settled: u64,
}

pub struct Peer {
    pub forward: Consumer<Mapped>,
    returns: Producer<Mapped>,
    pub forward_bell: OwnedFd,
    return_bell: OwnedFd,
    /// Verdicts of this cycle, in the order of decision; runs are merged.
    verdicts: Vec<(u32, u64, Entry)>,
    /// Other frames of this cycle, told after the verdicts.
    pub answers: Vec<Answer>,
    pub others: Vec<Return>,
    /// Frames for which the return ring had no room yet.
    outbox: VecDeque<Return>,
    /// A frame that was looked at and left for later: a full log takes no events.
    held: Option<Frame>,
}

impl Peer {
    /// Maps a pair. The descriptors of the bells become the peer's own.
    pub fn attach(
        pair: BorrowedFd<'_>,
        forward_bytes: u64,
        return_bytes: u64,
        forward_bell: OwnedFd,
        return_bell: OwnedFd,
    ) -> rustix::io::Result<Self> {
        let page = PAGE_BYTES as u64;
        let at = |offset: u64, bytes: u64| {
            Mapping::at(pair, offset, usize::try_from(bytes).expect("fits"), true)
        };
        let forward_p = at(0, page + forward_bytes)?;
        let forward_c = at(page + forward_bytes, page)?;
        let return_p = at(2 * page + forward_bytes, page + return_bytes)?;
        let return_c = at(3 * page + forward_bytes + return_bytes, page)?;
        assert_eq!(
            pair_bytes(forward_bytes, return_bytes),
            4 * page + forward_bytes + return_bytes
        );
        let returns = Producer::new(Mapped::new(return_p, return_c, return_bytes));
        returns.disarm_room();
        Ok(Self {
            forward: Consumer::new(Mapped::new(forward_p, forward_c, forward_bytes)),
            returns,
            forward_bell,
            return_bell,
            verdicts: Vec::new(),
            answers: Vec::new(),
            others: Vec::new(),
            outbox: VecDeque::new(),
            held: None,
        })
    }

    /// All memory of the pair.
    pub fn mappings(&self) -> [&Mapping; 4] {
        let (forward, returns) = (self.forward.memory(), self.returns.memory());
        [&forward.p, &forward.c, &returns.p, &returns.c]
    }

    /// Looks at the forward ring once. True: there are frames to take.
    pub fn poll(&mut self) -> Result<bool, Violation> {
        Ok(self.forward.poll()? || self.held.is_some())
    }

    pub fn next_frame(&mut self) -> Result<Option<Frame>, Violation> {
        match self.held.take() {
            Some(frame) => Ok(Some(frame)),
            None => self.forward.next_frame(),
        }
    }

    /// Puts the frame that `next_frame` gave back.
    pub fn hold(&mut self, frame: Frame) {
        self.held = Some(frame);
    }

    /// How many frames may be taken so that each can be answered.
    pub fn room(&mut self) -> usize {
        if !self.outbox.is_empty() {
            return 0;
        }
        let ring_bytes = self.returns.memory().ring_bytes();
        let frame = frame_bytes(Return::BYTES_MAX as u64);
        let used = self.returns.committed() - self.returns.head();
        // One frame may be lost to padding at the end of the ring.
        let free = (ring_bytes - used) / frame;
        let waiting = self.verdicts.len() + self.answers.len() + self.others.len();
        usize::try_from(free).expect("fits").saturating_sub(waiting + 1)
    }

    pub fn tell(&mut self, session: u32, epoch: u64, entry: Entry) {
        if let Some((last_session, last_epoch, last)) = self.verdicts.last_mut() {
            if *last_session == session && *last_epoch == epoch && last.continues(&entry) {
                last.count += entry.count;
                return;
            }
        }
        self.verdicts.push((session, epoch, entry));
    }

    /// Says that this end is about to sleep: until something comes or, where nothing can be taken
    /// before the worker has read answers, until there is room for them. True: it is not yet so.
    pub fn prepare_sleep(&mut self) -> Result<bool, Violation> {
        if self.room() == 0 {
            return Ok(!self.returns.arm_room());
        }
        self.forward.prepare_sleep()
    }

    /// Says that this end is awake: no bell is needed.
    pub fn woke(&mut self) {
        self.forward.woke();
        self.returns.disarm_room();
    }

    /// Verdicts into the return ring, then the worker's bell. True: something was told.
    pub fn publish_verdicts(&mut self, again: impl Fn(&Answer) -> Vec<Entry>) -> bool {
        for (session, epoch, entry) in self.verdicts.drain(..) {
            self.outbox.push_back(Return::Verdict { session, epoch, entry });
        }
        for answer in self.answers.drain(..) {
            let Welcome { session, epoch, .. } = answer.welcome;
            for entry in again(&answer) {
                self.outbox.push_back(Return::Verdict { session, epoch, entry });
            }
            self.outbox.push_back(Return::Welcome(answer.welcome));
        }
        self.outbox.extend(self.others.drain(..));
        let mut wrote = false;
        let mut welcome = false;
        while let Some(frame) = self.outbox.front() {
            let (kind, payload) = frame.encode();
            if self.returns.append(&payload, kind, 0, 0).is_err() {
                break;
            }
            welcome |= matches!(frame, Return::Welcome(_));
            self.outbox.pop_front();
            wrote = true;
        }
        if welcome {
            failpoint("log-before-welcome");
        }
        let asleep = wrote && self.returns.publish();
        if welcome {
            failpoint("log-after-welcome");
        }
        if asleep {
            ring(&self.return_bell);
        }
        wrote
    }

    /// Gives the forward ring's bytes back, and wakes a worker that waits for them.
    pub fn release(&mut self) {
        let position = match self.held {
            Some(frame) => frame.end_position - frame_bytes(frame.payload_bytes),
            None => self.forward.read(),
        };
        if position == self.forward.released() {
            return;
        }
        self.forward.release(position);
        if self.forward.head_wanted() <= position {
            ring(&self.return_bell);
        }
    }
}

/// Rings an eventfd. A full counter means that it is rung already.
pub fn ring(bell: &OwnedFd) {
    match rustix::io::retry_on_intr(|| rustix::io::write(bell, &1_u64.to_ne_bytes())) {
        Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
        Err(error) => panic!("cannot ring a bell of our own: {error}"),
    }
}

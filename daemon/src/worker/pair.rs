//! The worker's end of its pair with the log writer: produces `forward`, consumes `return`.
//!
//! A pair is not durable and never re-attached: when either process dies the supervisor destroys
//! it, and the survivor forgets what it held. Both ends are processes of the daemon, so what a
//! frame of the return ring says is believed, and what cannot be is a bug that ends the worker.
//!
//! HELLO and BYE go by a queue of their own that a full ring cannot lose, in order among
//! themselves; a BYE is queued only when all events of its session are already in the ring.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use certeus_ipc::layout::{PAGE_BYTES, payload_bytes_max};
use certeus_ipc::memory::{Mapped, Mapping};
use certeus_ipc::ring::{Claim, Consumer, Full, Producer};
use rustix::io::{Errno, retry_on_intr, write};

use crate::envelope::{Return, pair_bytes};
use crate::failpoint::failpoint;
use crate::inode;

pub struct Pair {
    forward: Producer<Mapped>,
    forward_bell: OwnedFd,
    returns: Consumer<Mapped>,
    return_bell: OwnedFd,
    /// Frames of HELLO and BYE, not yet in the ring.
    control: VecDeque<(u8, Vec<u8>)>,
    /// Whether `forward` is to be published.
    unpublished: bool,
    /// The last position at which the log writer was woken for room in the return ring.
    woken_at: u64,
}

impl Pair {
    /// Maps both rings; the descriptor of the memory may be closed afterwards.
    pub fn map(
        memory: BorrowedFd<'_>,
        forward_bytes: u64,
        return_bytes: u64,
        forward_bell: OwnedFd,
        return_bell: OwnedFd,
    ) -> rustix::io::Result<Self> {
        for bytes in [forward_bytes, return_bytes] {
            if !bytes.is_power_of_two() || bytes < PAGE_BYTES as u64 {
                return Err(Errno::INVAL);
            }
        }
        if inode::bytes(memory)? != pair_bytes(forward_bytes, return_bytes) {
            return Err(Errno::INVAL);
        }
        let page = PAGE_BYTES as u64;
        let ring = |offset: u64, bytes: u64| -> rustix::io::Result<Mapped> {
            let p = Mapping::at(memory, offset, (page + bytes) as usize, true)?;
            let c = Mapping::at(memory, offset + page + bytes, PAGE_BYTES, true)?;
            Ok(Mapped::new(p, c, bytes))
        };
        let forward = Producer::new(ring(0, forward_bytes)?);
        forward.disarm_room();
        Ok(Self {
            forward,
            forward_bell,
            returns: Consumer::new(ring(2 * page + forward_bytes, return_bytes)?),
            return_bell,
            control: VecDeque::new(),
            unpublished: false,
            woken_at: 0,
        })
    }

    /// All of its memory.
    pub fn mappings(&self) -> [&Mapping; 4] {
        let (forward, returns) = (self.forward.memory(), self.returns.memory());
        [&forward.p, &forward.c, &returns.p, &returns.c]
    }

    pub fn return_bell(&self) -> BorrowedFd<'_> {
        self.return_bell.as_fd()
    }

    /// The largest payload that a frame of the forward ring carries.
    pub fn payload_bytes_max(&self) -> u64 {
        payload_bytes_max(self.forward_bytes())
    }

    fn forward_bytes(&self) -> u64 {
        use certeus_ipc::ring::Memory;
        self.forward.memory().ring_bytes()
    }

    pub fn claim(&mut self, payload_bytes: u64) -> Result<Claim, Full> {
        self.forward.claim(payload_bytes)
    }

    /// The claimed bytes.
    pub fn claimed(&mut self, claim: &Claim) -> &mut [u8] {
        // SAFETY: this side holds the claim, and the borrow of `self` keeps it the only user.
        unsafe { self.forward.memory().slice(claim.payload_index, claim.payload_bytes) }
    }

    pub fn commit(&mut self, claim: Claim, payload_bytes: u64, kind: u8, ticket: u64) {
        self.forward.commit(claim, payload_bytes, kind, 0, ticket);
        self.unpublished = true;
    }

    /// Queues a HELLO or BYE.
    pub fn control(&mut self, kind: u8, payload: Vec<u8>) {
        self.control.push_back((kind, payload));
    }

    /// Puts queued HELLOs and BYEs into the ring, as far as there is room. True: some went.
    pub fn flush_control(&mut self) -> bool {
        let before = self.control.len();
        while let Some((kind, payload)) = self.control.front() {
            if self.forward.append(payload, *kind, 0, 0).is_err() {
                break;
            }
            self.unpublished = true;
            self.control.pop_front();
        }
        self.control.len() < before
    }

    /// Makes committed frames visible, once a batch; wakes the log writer if it sleeps.
    pub fn publish(&mut self) {
        if !std::mem::take(&mut self.unpublished) {
            return;
        }
        failpoint("worker-before-forward");
        let asleep = self.forward.publish();
        failpoint("worker-after-forward");
        if asleep {
            ring(&self.forward_bell);
        }
    }

    /// Hands every frame of the return ring to `take`, and its bytes back to the log writer.
    /// True: there was one.
    pub fn take_returns(&mut self, mut take: impl FnMut(Return)) -> bool {
        assert!(self.returns.poll().is_ok(), "the log writer's tail is impossible");
        let mut any = false;
        while let Some(frame) =
            self.returns.next_frame().expect("the log writer's frames are whole")
        {
            // SAFETY: committed by the log writer, whom we trust not to write there any more, and
            // not yet released by us.
            let bytes =
                unsafe { self.returns.memory().slice(frame.payload_index, frame.payload_bytes) };
            take(Return::parse(frame.kind, bytes).expect("a frame of envelope.rs"));
            any = true;
        }
        if any {
            self.release_returns();
        }
        any
    }

    fn release_returns(&mut self) {
        let position = self.returns.read();
        failpoint("worker-before-returns");
        self.returns.release(position);
        failpoint("worker-after-returns");
        let wanted = self.returns.head_wanted();
        if position >= wanted && wanted != self.woken_at {
            self.woken_at = wanted;
            ring(&self.forward_bell);
        }
    }

    /// Says that this end is about to sleep; `blocked`: it waits for room in the forward ring.
    /// True: nothing has come meanwhile.
    pub fn prepare_sleep(&mut self, blocked: bool) -> bool {
        let quiet = self.returns.prepare_sleep().expect("the log writer's tail is possible");
        let full = blocked || !self.control.is_empty();
        quiet && !(full && self.forward.arm_room())
    }

    /// Says that this end is awake: no bell is needed.
    pub fn woke(&mut self) {
        self.returns.woke();
        self.forward.disarm_room();
    }
}

/// Adds one to an eventfd. A full one is already rung.
fn ring(bell: &OwnedFd) {
    match retry_on_intr(|| write(bell, &1_u64.to_ne_bytes())) {
        Ok(_) | Err(Errno::AGAIN) => {}
        Err(error) => panic!("cannot ring the log writer's bell: {error}"),
    }
}

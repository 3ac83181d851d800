//! The steady loop: cycle while there is work, sleep on the workers' bells, return to Python for
//! whatever else became readable.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;

use super::LogWriter;
use super::peer::Peer;
use crate::disk::Disk;

/// The token of every bell: which worker rang is seen from its ring.
const BELL: u64 = u64::MAX;
/// How long a full log is left alone.
const RETRY: Duration = Duration::from_millis(5);

pub struct Loop<D: Disk> {
    pub writer: LogWriter<D>,
    epoll: OwnedFd,
}

impl<D: Disk> Loop<D> {
    pub fn new(writer: LogWriter<D>) -> io::Result<Self> {
        Ok(Self { writer, epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    pub fn attach(&mut self, worker: usize, peer: Peer) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, &peer.forward_bell, EventData::new_u64(BELL), flags)?;
        self.writer.attach(worker, peer);
        Ok(())
    }

    pub fn detach(&mut self, worker: usize) -> io::Result<()> {
        if let Some(peer) = self.writer.peer(worker) {
            epoll::delete(&self.epoll, &peer.forward_bell)?;
        }
        self.writer.detach(worker);
        Ok(())
    }

    /// [`Loop::run`] returns when `fd` is readable.
    pub fn watch(&mut self, fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
        let data = EventData::new_u64(u64::try_from(number).expect("a descriptor"));
        Ok(epoll::add(&self.epoll, fd.as_fd(), data, EventFlags::IN)?)
    }

    /// Works for at most `timeout`; the watched descriptors that are readable.
    ///
    /// Errors: the log failed, and the process must end.
    pub fn run(&mut self, timeout: Duration) -> io::Result<Vec<RawFd>> {
        let deadline = Instant::now() + timeout;
        loop {
            let busy = self.writer.cycle()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let mut wait = Duration::ZERO;
            if !busy {
                let idle = self.writer.prepare_sleep()?;
                let waiting = self.writer.is_waiting();
                wait = if waiting {
                    RETRY.min(left)
                } else if idle {
                    left
                } else {
                    Duration::ZERO
                };
            }
            let readable = self.wait(wait)?;
            self.writer.woke(!wait.is_zero());
            if !readable.is_empty() || wait >= left {
                self.writer.publish_gauges();
                return Ok(readable);
            }
        }
    }

    fn wait(&self, timeout: Duration) -> io::Result<Vec<RawFd>> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; 16];
        match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((ready, _)) => {
                let tokens = ready.iter().map(|event| { event.data }.u64());
                Ok(tokens.filter(|token| *token != BELL).map(|token| token as RawFd).collect())
            }
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

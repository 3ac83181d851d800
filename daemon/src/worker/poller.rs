//! One epoll over everything that wakes a worker.
//!
//! Doorbells and the return bell are watched edge-triggered and never read: each write is a new
//! edge, and the counter's value says nothing that the rings do not. Foreign descriptors are
//! watched level-triggered for Python, which reads them.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// What became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Session(u32),
    Returns,
    Watched(RawFd),
}

const SESSION: u64 = 1 << 32;
const RETURNS: u64 = 2 << 32;
const WATCHED: u64 = 3 << 32;
const BATCH: usize = 64;

impl Ready {
    fn token(self) -> EventData {
        EventData::new_u64(match self {
            Self::Session(number) => SESSION | u64::from(number),
            Self::Returns => RETURNS,
            Self::Watched(fd) => WATCHED | u64::from(fd as u32),
        })
    }

    fn from_token(token: u64) -> Self {
        let low = token as u32;
        match token & !u64::from(u32::MAX) {
            SESSION => Self::Session(low),
            RETURNS => Self::Returns,
            WATCHED => Self::Watched(low as RawFd),
            _ => unreachable!("a token that we did not make"),
        }
    }
}

pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub fn new() -> rustix::io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches a bell or doorbell.
    pub fn add_bell(&self, bell: BorrowedFd<'_>, ready: Ready) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, bell, ready.token(), EventFlags::IN | EventFlags::ET)
    }

    /// Watches a descriptor for reading, which also tells its end of file.
    pub fn add_watched(&self, fd: BorrowedFd<'_>, number: RawFd) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, fd, Ready::Watched(number).token(), EventFlags::IN)
    }

    /// Comes before the descriptor is closed: a duplicate elsewhere would keep it watched.
    pub fn remove(&self, fd: impl AsFd) -> rustix::io::Result<()> {
        epoll::delete(&self.epoll, fd)
    }

    /// Waits at most `timeout_ms`, then adds what is ready to `out`. A signal ends the wait with
    /// nothing.
    pub fn wait(&self, timeout_ms: u64, out: &mut Vec<Ready>) -> rustix::io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout_ms / 1000).unwrap_or(i64::MAX),
            tv_nsec: (timeout_ms % 1000 * 1_000_000) as i64,
        };
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((ready, _)) => {
                out.extend(ready.iter().map(|event| Ready::from_token({ event.data }.u64())));
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

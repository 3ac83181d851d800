//! A position that one process publishes and others follow: the log's durable seq.
//!
//! As everywhere, each waiter publishes the position at which it wants to be woken, and nobody is
//! woken for less. Here the words lie on the board, and who publishes never waits for who follows.

use crate::sync::{AtomicU64, Ordering, fence};

/// Says that everything up to `position` can be read.
pub fn publish(reached: &AtomicU64, position: u64) {
    // SYNC: followed position release → acquire: who sees it can read everything up to it.
    reached.store(position, Ordering::Release);
}

/// The position published last.
#[must_use]
pub fn reached(reached: &AtomicU64) -> u64 {
    // SYNC: followed position release → acquire: who sees it can read everything up to it.
    reached.load(Ordering::Acquire)
}

/// The position at which the follower wants its bell, for after [`publish`].
#[must_use]
pub fn wanted(wish: &AtomicU64) -> u64 {
    // SYNC: follower wake-up: the position is stored before the wish is loaded here, and the wish
    // before the position there, each with a full fence between, so one side sees the other.
    fence(Ordering::SeqCst);
    wish.load(Ordering::Relaxed)
}

/// Asks for a bell once `position` is published; what is published already.
#[must_use]
pub fn want(wish: &AtomicU64, position: u64, reached: &AtomicU64) -> u64 {
    wish.store(position, Ordering::Relaxed);
    // SYNC: follower wake-up: the position is stored before the wish is loaded there, and the wish
    // before the position here, each with a full fence between, so one side sees the other.
    fence(Ordering::SeqCst);
    self::reached(reached)
}

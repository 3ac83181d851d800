//! The worker's steady loop: client rings to the log writer, verdicts back to the clients.
//!
//! ```text
//!   client rings                                                     log writer
//!     P,C,E ──┐   take turns (forward.rs)                ┌──▶ forward ring ══▶
//!     P,C,E ──┼──▶ copy once, validate, leaf, key ───────┘
//!     P,C,E ──┘
//!        ▲        publish (session.rs):                  ┌─── return ring ◀══
//!        └─────── verdicts, settled, head, bell ◀────────┘
//! ```
//!
//! One call of [`Kernel::run`] does all of that until Python is wanted: a descriptor that Python
//! watches, a session that began or ended, or the time given. It holds no policy: who may have a
//! session, and what a client is told in words, is `certeusd/worker`.
//!
//! # A session's life
//!
//! ```text
//!             attach                WELCOME
//!   Away ───────────▶ Greeting ───────────────▶ Live ──▶ freed: goodbye, end of file (when all
//!    ▲                   │ REFUSED ▶ freed        │        that was committed is forwarded), drain
//!    └───────────────────┴── detach: forget ◀─────┘        (when it is settled), violation, END
//! ```
//!
//! Whatever the log writer had not answered when it died is forgotten and read again from the
//! client's ring, which is the only retransmit buffer. Numbers of sessions carry a generation, so
//! an answer that comes late finds nobody (`slots.rs`).
//!
//! # Who harms whom
//!
//! A client writes P and rings E, nothing else. Its words are loaded once and checked; a value that
//! no honest client writes ends this session with a name. Turns are bounded, so a busy client
//! delays others by at most its turn; a full forward ring stops everybody alike, and it is served
//! round robin when it has room again.
//!
//! # Sleep
//!
//! Before it sleeps the worker says so in every ring that it reads, and looks once more; whoever
//! writes later rings. A session that is not looked at is *armed*: its client rings the doorbell.
//! There is no spinning: below four CPUs it would take the time from the very process that is
//! waited for.

mod acks;
mod forward;
mod kernel;
mod pair;
mod poller;
mod session;
mod slots;
mod sources;
mod tally;

pub use kernel::{Event, Kernel};
pub use session::Identity;
pub use slots::SLOTS_MAX;
pub use sources::Sources;
pub use tally::{Seen, Tally};

#[cfg(test)]
mod tests;

//! Rings, records and sessions: everything that crosses a process boundary as bytes.
//!
//! [`ring`] is the algorithm, [`layout`] the addresses, [`memory`] the mapped pages, [`record`] the
//! bytes of one event, [`verdict`] what comes back, [`verdict_ring`] how; [`follow`] is the one
//! position that is no ring's. `py` (feature `python`) is the native half of the `certeus` package;
//! no other module knows Python. The drawing and the memory-ordering argument are in
//! `ipc/README.md`. loom runs all of it but the mapped pages, over its own atomics ([`sync`]).

pub mod follow;
pub mod layout;
#[cfg(not(loom))]
pub mod memory;
pub mod record;
pub mod ring;
pub mod sync;
pub mod verdict;
pub mod verdict_ring;

#[cfg(feature = "python")]
mod py;

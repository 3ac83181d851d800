//! Everything that processes share, under every interleaving that loom finds.
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test --release -p certeus-ipc --no-default-features`
//!
//! | file | what |
//! |---|---|
//! | `memory.rs` | the pages that loom watches, orders taken away, stores that a death cuts short |
//! | `ring.rs` | commit, reuse, the end of the ring |
//! | `verdicts.rs` | verdicts before `settled`, entries used again |
//! | `wake.rs` | sleeping and waking, in every direction, in clients' rings and inside the daemon |
//! | `death.rs` | either side dies before each of its stores |
//! | `hostile.rs` | a peer that stores anything at any time |
//! | `weakened.rs` | which models notice each order that is taken away |
//!
//! Data of a ring and entries of verdicts are cells that loom checks for races, so a copy that
//! overlaps a store is found even where it would read the right value. A lost wake-up is a
//! deadlock, which loom reports. Three preemptions; `ipc/README.md` has the argument and the table.
#![cfg(loom)]

mod death;
mod hostile;
mod memory;
mod ring;
mod verdicts;
mod wake;
mod weakened;

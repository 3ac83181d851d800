//! Kernels of the certeus daemon: what is done once an event or once a group.
//!
//! `worker` and `log` are the two steady loops, `reader` and `copy` what followers use, `door` what
//! makes events of foreign formats. [`format`] and [`envelope`] are the bytes that they share: on
//! disk, and between worker and log writer.
//! `daemon/README.md` draws the whole.

pub mod board;
pub mod copy;
pub mod datagrams;
pub mod direct;
pub mod disk;
pub mod door;
pub mod envelope;
pub mod failpoint;
pub mod format;
pub mod gap;
pub mod inode;
pub mod keyed;
pub mod log;
pub mod memory;
pub mod merkle;
pub mod pages;
pub mod reader;
pub mod timeslice;
pub mod validate;
pub mod worker;

#[cfg(feature = "python")]
mod py;

//! What the measuring programs share: two pinned processes, a clock, payloads, one JSON object.
//!
//! Every program of this crate is two processes. It forks its second one before it has threads,
//! pins each to a CPU of its own, and what they share is mapped memory. Its only argument is a JSON
//! object ([`settings::Settings`]), its only output another ([`measurement::Measurement`]).
//!
//! *Same work.* Whoever writes an event gives it its number and copies the whole payload to where
//! the reader finds it; whoever reads sums every byte ([`payload`]). Both sums are part of the
//! result, so that neither side can leave work out.
//!
//! *Clock.* `CLOCK_MONOTONIC`, which is one `rdtsc` and a multiplication in the vDSO: the same
//! clock on every architecture, with nothing of our own to calibrate. The time that one reading
//! takes is in every measured time, and told as `timer_ns`.

pub mod client;
pub mod clock;
pub mod measurement;
pub mod payload;
pub mod process;
pub mod ring;
pub mod session;
pub mod settings;
pub mod span;
pub mod work;

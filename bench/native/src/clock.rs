//! Time, and the processor time of processes.

use rustix::time::{ClockId, Timespec, clock_gettime};

const READINGS: usize = 10_000;

/// Monotonic nanoseconds.
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    to_ns(clock_gettime(ClockId::Monotonic))
}

/// The least difference of two readings in a row: what no measured time can go below.
#[must_use]
pub fn timer_ns() -> u64 {
    let mut before = now_ns();
    let mut least = u64::MAX;
    for _ in 0..READINGS {
        let now = now_ns();
        if now > before {
            least = least.min(now - before);
        }
        before = now;
    }
    least
}

/// User and system time of a living process.
#[must_use]
pub fn cpu_ns(pid: libc::pid_t) -> u64 {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls only write the two values above.
    let status = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    assert!(status == 0, "cannot find the clock of process {pid}: is it alive?");
    // SAFETY: as above.
    let status = unsafe { libc::clock_gettime(clock, &mut time) };
    assert!(status == 0, "cannot read the clock of process {pid}: is it alive?");
    to_ns(Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec })
}

fn to_ns(time: Timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

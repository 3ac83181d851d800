//! A short time slice, for who wakes often and works little.
//!
//! Linux runs first whose virtual deadline is earliest, and a deadline is as far away as a slice is
//! long. Worker and log writer work for some ten µs and sleep again; with the default slice of
//! milliseconds they stand in line behind producers that never sleep, and with them everybody who
//! waits for a sync. With a slice of their own they come first and take no more of a processor than
//! before: it is a promise to be brief, no priority, so it needs no privilege. Linux has it since
//! 6.12; an older one takes it and does nothing.

use std::io;

/// What one group takes of a processor, about.
const SLICE_NS: u64 = 100_000;

/// `struct sched_attr` of `sched_setattr(2)`, in its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

const SIZE: usize = std::mem::size_of::<Attributes>();

/// Shortens the slice of the calling thread, and of those that it starts from now on. False: the
/// kernel knows no such thing.
///
/// Errors: it is forbidden, by a filter of system calls for instance.
pub fn shorten() -> io::Result<bool> {
    let mut attributes = read()?;
    attributes.runtime_ns = SLICE_NS;
    // SAFETY: the kernel reads `size` bytes of a struct that is alive.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })?;
    Ok(read()?.runtime_ns == SLICE_NS)
}

fn read() -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes at most the given size into a struct that is alive; any bytes are a
    // valid one.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, SIZE, 0) })?;
    Ok(attributes)
}

fn check(returned: libc::c_long) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_shortened_where_the_kernel_knows_it_and_nothing_else_changes() {
        std::thread::spawn(|| {
            let before = read().unwrap();
            let took = shorten().unwrap();
            let after = read().unwrap();
            assert_eq!((after.policy, after.nice), (before.policy, before.nice));
            assert_eq!(took, after.runtime_ns == SLICE_NS);
        })
        .join()
        .unwrap();
    }
}

//! The second process, where each runs, and the few words by which they agree on begin and end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps this process on one CPU.
///
/// Panics when it may not run there.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .unwrap_or_else(|error| panic!("cannot run on CPU {cpu}: {error}; give others in cpus"));
}

/// Ends this process with SIGALRM in `seconds`: what spins cannot see that its peer is dead.
pub fn end_after(seconds: f64) {
    // SAFETY: no handler is installed; the signal's default ends the process.
    unsafe { libc::alarm(seconds.ceil() as u32) };
}

/// A forked process.
pub struct Child(libc::pid_t);

impl Child {
    #[must_use]
    pub fn pid(&self) -> libc::pid_t {
        self.0
    }

    /// Waits for its end. Panics when it failed.
    pub fn join(self) {
        let mut status = 0;
        // SAFETY: our own child, waited for once.
        let pid = unsafe { libc::waitpid(self.0, &mut status, 0) };
        assert!(pid == self.0 && status == 0, "the second process failed with status {status}");
    }
}

/// Runs `body` in a second process, which dies with this one.
///
/// Panics where this process has more than one thread: a fork would copy their locks as they are.
pub fn fork(body: impl FnOnce()) -> Child {
    let threads = std::fs::read_dir("/proc/self/task").expect("cannot list threads").count();
    assert!(threads == 1, "cannot fork a process of {threads} threads");
    // SAFETY: a single thread, so the child's memory is consistent; it returns into no caller.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "cannot fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        return Child(pid);
    }
    // SAFETY: a plain system call.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let failed = catch_unwind(AssertUnwindSafe(body)).is_err();
    // SAFETY: ends the child without the parent's destructors and buffers.
    unsafe { libc::_exit(i32::from(failed)) }
}

/// One word a cache line, and a neighbour line between, shared with processes forked later.
pub struct Board(NonNull<AtomicU64>);

/// The words of a [`Board`].
#[derive(Clone, Copy)]
pub enum Slot {
    /// The writer has begun.
    Ready,
    /// Not zero: the writer is to end.
    Stop,
    /// Not zero: the writer has ended, the other words are final.
    Done,
    /// Events written.
    Written,
    /// Sum of what was written.
    WrittenSum,
    /// Sum of what the second process read.
    ReadSum,
    /// For a program's own use.
    Ping,
    Pong,
}

const SLOT_WORDS: usize = 128 / 8;
const BOARD_BYTES: usize = 4096;

impl Board {
    #[must_use]
    #[allow(clippy::new_without_default)] // it maps memory
    pub fn new() -> Self {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: fresh memory at an address of the kernel's choice; never unmapped.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), BOARD_BYTES, prot, MapFlags::SHARED) };
        Self(NonNull::new(base.expect("cannot map a page").cast()).expect("mmap gave an address"))
    }

    #[must_use]
    pub fn word(&self, slot: Slot) -> &AtomicU64 {
        // SAFETY: within the page, aligned, zeroed by the kernel, only accessed as atomics.
        unsafe { self.0.add(slot as usize * SLOT_WORDS).as_ref() }
    }

    pub fn set(&self, slot: Slot, value: u64) {
        self.word(slot).store(value, Ordering::Release);
    }

    #[must_use]
    pub fn get(&self, slot: Slot) -> u64 {
        self.word(slot).load(Ordering::Acquire)
    }

    /// Spins until the word is not zero.
    pub fn wait(&self, slot: Slot) -> u64 {
        loop {
            let value = self.get(slot);
            if value != 0 {
                return value;
            }
            std::hint::spin_loop();
        }
    }
}

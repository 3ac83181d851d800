//! Mapped pages: the real [`Memory`] of a ring, and plain words beside it.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

pub use crate::layout::PAGE_BYTES;
use crate::layout::{C_HEAD, C_NEED_WAKEUP, P_TAIL, P_WAKE_HEAD};
use crate::ring::{Memory, Word};
use crate::sync::{AtomicU64, Ordering};
use crate::verdict_ring::Words;

/// The huge page of x86-64, and of aarch64 with pages of 4096 bytes.
pub const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// One shared mapping, unmapped when the last owner goes.
pub struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    writable: bool,
}

// SAFETY: a mapping is only an address; all access goes through atomics or is the caller's unsafe.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of `fd`, shared. The descriptor may be closed afterwards.
    pub fn new(fd: BorrowedFd<'_>, bytes: usize, writable: bool) -> rustix::io::Result<Arc<Self>> {
        Self::at(fd, 0, bytes, writable)
    }

    /// Maps `bytes` of `fd` from `offset` (a multiple of the page) on, shared; where huge pages of
    /// the object can be huge pages of the mapping, if it is long enough for one.
    pub fn at(
        fd: BorrowedFd<'_>,
        offset: u64,
        bytes: usize,
        writable: bool,
    ) -> rustix::io::Result<Arc<Self>> {
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let hint = if bytes < HUGE_PAGE_BYTES { 0 } else { aligned(bytes, offset)? };
        // SAFETY: a fresh mapping, which replaces none, aliases no Rust object.
        let base = unsafe {
            let hint = std::ptr::without_provenance_mut(hint);
            mmap(hint, bytes, prot, MapFlags::SHARED, fd, offset)?
        };
        let base = NonNull::new(base.cast()).expect("mmap gave an address");
        Ok(Arc::new(Self { base, bytes, writable }))
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Keeps the mapping out of children that this process forks: they would share a ring that has
    /// one producer. A child must not touch this object, nor drop it.
    pub fn forbid_fork(&self) -> rustix::io::Result<()> {
        let base = self.base.as_ptr().cast();
        // SAFETY: our own mapping, whole; in this process the advice changes nothing.
        unsafe { madvise(base, self.bytes, Advice::LinuxDontFork) }
    }

    /// The address of byte `offset`; the caller keeps within `bytes()`.
    #[must_use]
    pub fn pointer(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.bytes);
        // SAFETY: within the mapping, as just asserted.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// The word at `offset`, a multiple of 8. Storing into a read-only mapping faults.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.bytes);
        // SAFETY: aligned, within the mapping, and shared memory is only ever read as atomics.
        unsafe { AtomicU64::from_ptr(self.pointer(offset).cast()) }
    }

    /// Copies `out.len()` bytes from `offset` (a multiple of 8): whole words, each loaded once.
    ///
    /// The peer may write meanwhile: the copy is then some mixture, never undefined.
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= self.bytes);
        let mut at = offset;
        let mut words = out.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.word(at).load(Ordering::Relaxed).to_le_bytes());
            at += 8;
        }
        for byte in words.into_remainder() {
            // SAFETY: within the mapping, as asserted; volatile, since the peer may write.
            *byte = unsafe { self.pointer(at).read_volatile() };
            at += 1;
        }
    }
}

/// An address where `bytes` are free, as far from a huge page's beginning as `offset` is.
///
/// Only a hint: if another thread takes the place meanwhile, the kernel chooses another one.
fn aligned(bytes: usize, offset: u64) -> rustix::io::Result<usize> {
    let space_bytes = bytes + HUGE_PAGE_BYTES;
    // SAFETY: fresh pages that nobody may touch, and that nobody else knows of.
    let space = unsafe {
        let (null, flags) = (std::ptr::null_mut(), MapFlags::PRIVATE | MapFlags::NORESERVE);
        let space = mmap_anonymous(null, space_bytes, ProtFlags::empty(), flags)?;
        munmap(space, space_bytes)?;
        space as usize
    };
    let within = offset as usize % HUGE_PAGE_BYTES;
    Ok((space - within).next_multiple_of(HUGE_PAGE_BYTES) + within)
}

impl Words for Mapping {
    fn word(&self, offset: usize) -> &AtomicU64 {
        Self::word(self, offset)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this mapping was made in `new` and nobody borrows it any more.
        unsafe { munmap(self.base.as_ptr().cast(), self.bytes) }
            .expect("munmap of our own mapping");
    }
}

/// One ring over two mappings: P (words and data) and C (words).
#[derive(Clone)]
pub struct Mapped {
    pub p: Arc<Mapping>,
    pub c: Arc<Mapping>,
    ring_bytes: u64,
}

impl Mapped {
    #[must_use]
    pub fn new(p: Arc<Mapping>, c: Arc<Mapping>, ring_bytes: u64) -> Self {
        assert!(p.bytes() as u64 == PAGE_BYTES as u64 + ring_bytes && c.bytes() >= PAGE_BYTES);
        Self { p, c, ring_bytes }
    }

    /// Offset in P of the data at `index`.
    #[must_use]
    pub fn data_offset(&self, index: u64) -> usize {
        PAGE_BYTES + index as usize
    }

    /// The claimed bytes, for building a payload in place. Producer side only.
    ///
    /// # Safety
    /// `index..index + bytes` lies within a claim that this side holds, or within frames that a
    /// trusted producer has committed and this consumer not yet released.
    #[must_use]
    #[allow(clippy::mut_from_ref)] // shared memory: the claim, not the borrow, makes it exclusive
    pub unsafe fn slice(&self, index: u64, bytes: u64) -> &mut [u8] {
        assert!(index + bytes <= self.ring_bytes);
        let pointer = self.p.pointer(self.data_offset(index));
        // SAFETY: within the mapping, and exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(pointer, bytes as usize) }
    }
}

impl Memory for Mapped {
    fn ring_bytes(&self) -> u64 {
        self.ring_bytes
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        match word {
            Word::Tail => self.p.word(P_TAIL),
            Word::Head => self.c.word(C_HEAD),
            Word::NeedWakeup => self.c.word(C_NEED_WAKEUP),
            Word::WakeHead => self.p.word(P_WAKE_HEAD),
        }
    }

    fn data_load(&self, index: u64) -> u64 {
        self.p.word(self.data_offset(index)).load(Ordering::Relaxed)
    }

    fn data_store(&self, index: u64, value: u64) {
        self.p.word(self.data_offset(index)).store(value, Ordering::Relaxed);
    }

    fn data_write(&self, index: u64, bytes: &[u8]) {
        // SAFETY: only a producer writes data, and only into what it has claimed.
        unsafe { self.slice(index, bytes.len() as u64) }.copy_from_slice(bytes);
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    fn data_prefetch(&self, index: u64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let word: *const AtomicU64 = self.p.word(self.data_offset(index));
        // SAFETY: a hint, of an address within the mapping; nothing is read as far as Rust knows.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(word.cast()) };
    }
}

//! `[memory]`: memory that is resident, locked, in huge pages, before the first event needs it.
//!
//! Each is a wish. What is refused is counted with the kernel's reason and told by Python; nothing
//! fails for it.
//!
//! **Huge pages.** Rings are shared objects of the kernel's tmpfs. `MFD_HUGETLB` would make each a
//! whole number of reserved huge pages, in its size as in every mapping of it, the clients' too:
//! another layout of the ring, and a pool that an administrator has to fill. `MADV_HUGEPAGE` does
//! nothing for pages that are allocated already (ours are, so that none is missing later), nor
//! where `shmem_enabled` is `never`, its default. `MADV_COLLAPSE` (Linux 6.1) makes huge pages of
//! what is there, in sealed objects and read-only mappings alike, whatever that switch says: the
//! one way that works for all of it. It takes whole huge pages only, so a mapping begins where the
//! huge pages of its object do ([`Mapping::at`]); what is left at the ends stays small.
//!
//! Every wish makes the memory resident first: there is nothing to lock or to collapse else.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;

use certeus_ipc::memory::{HUGE_PAGE_BYTES, Mapping, PAGE_BYTES};
use rustix::mm::{Advice, madvise, mlock};

/// What `[memory]` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject), pyo3(from_item_all))]
pub struct Wishes {
    pub prefault: bool,
    pub huge_pages: bool,
    pub lock: bool,
}

/// What came of one wish, in bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub asked_bytes: u64,
    pub got_bytes: u64,
    /// The kernel's last reason for the difference, an errno; 0: there is none.
    pub refused: i32,
}

impl Outcome {
    fn note(&mut self, bytes: usize, result: io::Result<()>) {
        self.asked_bytes += bytes as u64;
        match result {
            Ok(()) => self.got_bytes += bytes as u64,
            Err(error) => self.refused = error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

/// Whole pages of this process, lent for a call.
#[derive(Clone, Copy)]
pub struct Region<'a> {
    base: *mut c_void,
    bytes: usize,
    populate: Advice,
    owner: std::marker::PhantomData<&'a ()>,
}

impl<'a> Region<'a> {
    #[must_use]
    pub fn of_mapping(mapping: &'a Mapping) -> Self {
        let populate = if mapping.is_writable() {
            Advice::LinuxPopulateWrite
        } else {
            Advice::LinuxPopulateRead
        };
        Self::new(mapping.pointer(0), mapping.bytes(), populate)
    }

    /// What a vector has allocated, used or not. It shares the pages at its ends with others, so
    /// they are left alone.
    #[must_use]
    pub fn of_vec<T>(vec: &'a Vec<T>) -> Self {
        let start = vec.as_ptr() as usize;
        let first = start.next_multiple_of(PAGE_BYTES);
        let end = (start + vec.capacity() * size_of::<T>()) / PAGE_BYTES * PAGE_BYTES;
        let base = vec.as_ptr().cast::<u8>().wrapping_add(first - start).cast_mut();
        Self::new(base, end.saturating_sub(first), Advice::LinuxPopulateWrite)
    }

    fn new(base: *mut u8, bytes: usize, populate: Advice) -> Self {
        Self { base: base.cast(), bytes, populate, owner: std::marker::PhantomData }
    }

    fn populate(self) -> io::Result<()> {
        // SAFETY: our own pages; they are read or written back as they are.
        Ok(unsafe { madvise(self.base, self.bytes, self.populate) }?)
    }

    fn lock(self) -> io::Result<()> {
        // SAFETY: our own pages, which stay what they are.
        Ok(unsafe { mlock(self.base, self.bytes) }?)
    }

    /// The whole huge pages in it.
    fn huge_pages(self) -> impl Iterator<Item = *mut c_void> {
        let start = self.base as usize;
        let skipped = start.next_multiple_of(HUGE_PAGE_BYTES) - start;
        let count = self.bytes.saturating_sub(skipped) / HUGE_PAGE_BYTES;
        let first = self.base.wrapping_byte_add(skipped);
        (0..count).map(move |at| first.wrapping_byte_add(at * HUGE_PAGE_BYTES))
    }
}

fn collapse(page: *mut c_void) -> io::Result<()> {
    // SAFETY: our own pages; their bytes stay what they are.
    match unsafe { libc::madvise(page, HUGE_PAGE_BYTES, libc::MADV_COLLAPSE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Fulfils wishes, and remembers what came of them, for each kind of memory.
#[derive(Default)]
pub struct Preparer {
    wishes: Wishes,
    told: BTreeMap<(&'static str, &'static str), Outcome>,
}

impl Preparer {
    #[must_use]
    pub fn new(wishes: Wishes) -> Self {
        Self { wishes, told: BTreeMap::new() }
    }

    /// Prepares `region`, which belongs to the kind `what`.
    pub fn prepare(&mut self, what: &'static str, region: Region<'_>) {
        let Wishes { prefault, huge_pages, lock } = self.wishes;
        if self.wishes == Wishes::default() || region.bytes == 0 {
            return;
        }
        let resident = region.populate();
        if prefault {
            self.outcome(what, "prefault").note(region.bytes, resident);
        }
        if huge_pages {
            let outcome = self.outcome(what, "huge_pages");
            region.huge_pages().for_each(|page| outcome.note(HUGE_PAGE_BYTES, collapse(page)));
        }
        if lock {
            self.outcome(what, "lock").note(region.bytes, region.lock());
        }
    }

    fn outcome(&mut self, what: &'static str, key: &'static str) -> &mut Outcome {
        self.told.entry((what, key)).or_default()
    }

    /// What has come of each wish since the last call: kind, key, outcome.
    pub fn take(&mut self) -> Vec<(&'static str, &'static str, Outcome)> {
        let told = std::mem::take(&mut self.told).into_iter();
        told.map(|((what, key), outcome)| (what, key, outcome)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::AsFd;

    fn mapping(offset: u64, bytes: usize) -> std::sync::Arc<Mapping> {
        let fd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, offset + bytes as u64).unwrap();
        Mapping::at(fd.as_fd(), offset, bytes, true).unwrap()
    }

    #[test]
    fn a_mapping_begins_where_the_huge_pages_of_its_object_do() {
        let page = PAGE_BYTES as u64;
        for (offset, bytes, whole) in [
            (0, PAGE_BYTES + 2 * HUGE_PAGE_BYTES, 2),
            (page, 2 * HUGE_PAGE_BYTES, 1),
            (page, 2 * HUGE_PAGE_BYTES - PAGE_BYTES, 1),
            (5 * page, HUGE_PAGE_BYTES, 0),
            (0, HUGE_PAGE_BYTES, 1),
            (0, HUGE_PAGE_BYTES - PAGE_BYTES, 0),
        ] {
            let mapping = mapping(offset, bytes);
            let region = Region::of_mapping(&mapping);
            let pages: Vec<_> = region.huge_pages().collect();
            assert_eq!(pages.len(), whole, "{bytes} from {offset} on");
            for page in pages {
                let within = page as usize - region.base as usize;
                assert_eq!(page as usize % HUGE_PAGE_BYTES, 0);
                assert_eq!((offset as usize + within) % HUGE_PAGE_BYTES, 0, "of the object");
                assert!(within + HUGE_PAGE_BYTES <= bytes);
            }
        }
    }

    #[test]
    fn a_region_of_a_vector_is_within_its_allocation() {
        for capacity in [0, 1, 511, 512, 1023, 1024, 5000, 100_000] {
            let vec: Vec<u64> = Vec::with_capacity(capacity);
            let region = Region::of_vec(&vec);
            let (base, end) = (region.base as usize, region.base as usize + region.bytes);
            assert_eq!((base % PAGE_BYTES, end % PAGE_BYTES), (0, 0));
            let start = vec.as_ptr() as usize;
            let bytes = vec.capacity() * 8;
            assert!(base >= start && (region.bytes == 0 || end <= start + bytes));
            assert!(region.bytes + 2 * PAGE_BYTES > bytes, "all but the ends");
        }
    }

    #[test]
    fn nothing_is_done_and_nothing_told_without_a_wish() {
        let mapping = mapping(0, HUGE_PAGE_BYTES);
        let mut memory = Preparer::default();
        memory.prepare("test", Region::of_mapping(&mapping));
        assert_eq!(memory.take(), []);
    }

    #[test]
    fn what_is_refused_is_told_with_its_errno() {
        let mut memory = Preparer::new(Wishes { prefault: true, huge_pages: true, lock: true });
        let nowhere = Region::new(std::ptr::null_mut(), HUGE_PAGE_BYTES, Advice::LinuxPopulateRead);
        memory.prepare("test", nowhere);
        let told = memory.take();
        assert_eq!(
            told.iter().map(|row| row.1).collect::<Vec<_>>(),
            ["huge_pages", "lock", "prefault"]
        );
        for (_, key, outcome) in told {
            let errno = outcome.refused;
            assert_eq!((outcome.asked_bytes, outcome.got_bytes), (HUGE_PAGE_BYTES as u64, 0));
            assert!([libc::ENOMEM, libc::EINVAL, libc::EPERM].contains(&errno), "{key}: {errno}");
        }
        assert_eq!(memory.take(), [], "told once");
    }
}

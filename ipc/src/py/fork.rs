//! Whether this process is still the one that made a ring.
//!
//! A ring's mappings are MADV_DONTFORK, so in a forked child their addresses are nobody's, or
//! worse, somebody else's. One page a process is MADV_WIPEONFORK instead: a child finds zeros
//! there, however it was forked, for the cost of one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::PyResult;
use pyo3::exceptions::PyOSError;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};

use crate::layout::PAGE_BYTES;

struct Page(*const AtomicU64);

// SAFETY: the page lives as long as the process and is only accessed as an atomic.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

static PAGE: OnceLock<Page> = OnceLock::new();
/// Ordinary memory, which a child inherits: its next stamp differs from every one of its parent's.
static LAST: AtomicU64 = AtomicU64::new(0);

/// What the page held when a ring was made.
#[derive(Clone, Copy)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp of this process.
    pub fn take() -> PyResult<Self> {
        let word = word()?;
        if word.load(Ordering::Relaxed) == 0 {
            word.store(LAST.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        Ok(Self(word.load(Ordering::Relaxed)))
    }

    /// False in every child.
    pub fn is_current(self) -> bool {
        // SAFETY: a stamp exists, so the page does; it is never unmapped.
        let word = PAGE.get().map(|page| unsafe { &*page.0 });
        word.is_some_and(|word| word.load(Ordering::Relaxed) == self.0)
    }
}

fn word() -> PyResult<&'static AtomicU64> {
    if PAGE.get().is_none() {
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a fresh private page at an address of the kernel's choice.
        let page = unsafe {
            mmap_anonymous(std::ptr::null_mut(), PAGE_BYTES, prot, MapFlags::PRIVATE)
                .and_then(|page| madvise(page, PAGE_BYTES, Advice::LinuxWipeOnFork).map(|()| page))
        };
        let page = page.map_err(|error| PyOSError::new_err(error.to_string()))?;
        let _ = PAGE.set(Page(page.cast()));
    }
    let page = PAGE.get().expect("set above, under the GIL");
    // SAFETY: page-aligned, zeroed by the kernel, never unmapped.
    Ok(unsafe { &*page.0 })
}

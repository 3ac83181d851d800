//! Bytes that begin at a page: what direct I/O reads into and writes from.
//!
//! The kernel moves them between memory and disk by itself: no copy, and no page of its cache for
//! bytes that are written once and read once.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use crate::memory::Region;

/// What direct I/O aligns memory, offsets and lengths to; no file system here asks for more.
pub const PAGE: usize = 4096;
/// By how much a large buffer grows.
const STEP: usize = 1 << 20;
/// What a pool keeps: one is filled while another is read from.
const POOL_BUFFERS_MAX: usize = 2;

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

const ZERO: Page = Page([0; PAGE]);

/// A growing buffer. It keeps its room, and what was in it, for the next use.
#[derive(Default)]
pub struct PageVec {
    pages: Vec<Page>,
    len: usize,
}

impl PageVec {
    /// `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        Self { pages: vec![ZERO; len.div_ceil(PAGE)], len }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.room()[..self.len]
    }

    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.len;
        &mut self.room_mut()[..len]
    }

    /// Makes it `len` bytes long. New bytes are any: zeros, or what an earlier use has left there.
    pub fn set_len(&mut self, len: usize) {
        if len > self.pages.len() * PAGE {
            // Doubled while it is small; a large one has no more than it needs.
            let wanted = len.next_power_of_two().min(len.next_multiple_of(STEP)).div_ceil(PAGE);
            self.pages.reserve_exact(wanted - self.pages.len());
            self.pages.resize(wanted, ZERO);
        }
        self.len = len;
    }

    /// Has room for `bytes` in all before they come.
    pub fn reserve(&mut self, bytes: usize) {
        let len = self.len;
        self.set_len(bytes.max(len));
        self.len = len;
    }

    /// All of its memory.
    #[must_use]
    pub fn region(&self) -> Region<'_> {
        Region::of_vec(&self.pages)
    }

    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let from = self.len;
        self.set_len(from + bytes.len());
        self.as_mut_slice()[from..].copy_from_slice(bytes);
    }

    /// Appends zeros up to a multiple of `align`.
    pub fn pad_to(&mut self, align: usize) {
        let from = self.len;
        self.set_len(from.next_multiple_of(align));
        self.as_mut_slice()[from..].fill(0);
    }

    /// Takes the first `count` bytes away.
    pub fn drain(&mut self, count: usize) {
        self.as_mut_slice().copy_within(count.., 0);
        self.len -= count;
    }

    fn room(&self) -> &[u8] {
        // SAFETY: pages are arrays of bytes, all of them initialised, one behind the other.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr().cast(), self.pages.len() * PAGE) }
    }

    fn room_mut(&mut self) -> &mut [u8] {
        let bytes = self.pages.len() * PAGE;
        // SAFETY: as above, and borrowed for as long as the result.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), bytes) }
    }
}

/// Buffers come back to their pool when their user is done: to have one mapped anew costs more than
/// to fill it.
#[derive(Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<PageVec>>>);

impl Pool {
    #[must_use]
    pub fn take(&self) -> Pooled {
        let kept = self.0.lock().expect("nobody panics with the lock").pop();
        Pooled { buffer: kept.unwrap_or_default(), pool: self.clone() }
    }
}

/// A buffer of a pool, empty at first.
pub struct Pooled {
    buffer: PageVec,
    pool: Pool,
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut kept = self.pool.0.lock().expect("nobody panics with the lock");
        if kept.len() < POOL_BUFFERS_MAX {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.set_len(0);
            kept.push(buffer);
        }
    }
}

impl Deref for Pooled {
    type Target = PageVec;

    fn deref(&self) -> &PageVec {
        &self.buffer
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut PageVec {
        &mut self.buffer
    }
}

impl Deref for PageVec {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Whether direct I/O takes these bytes at this offset.
#[must_use]
pub fn is_aligned(offset: u64, bytes: &[u8]) -> bool {
    let odd = offset as usize | bytes.as_ptr() as usize | bytes.len();
    odd % PAGE == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_at_a_page_however_it_grew() {
        let mut pages = PageVec::default();
        for step in 1..40_usize {
            pages.extend_from_slice(&vec![step as u8; step * 997]);
            assert!(is_aligned(0, &pages.as_slice()[..pages.len() / PAGE * PAGE]));
        }
        let expected: Vec<u8> =
            (1..40_usize).flat_map(|step| vec![step as u8; step * 997]).collect();
        assert_eq!(pages.as_slice(), expected);
    }

    #[test]
    fn padding_is_zeros_whatever_was_there_before() {
        let mut pages = PageVec::default();
        pages.extend_from_slice(&[7; 3 * PAGE]);
        pages.set_len(0);
        pages.extend_from_slice(&[1; 13]);
        pages.pad_to(8);
        assert_eq!(&pages[..], [[1_u8; 13].as_slice(), &[0; 3]].concat());
        pages.pad_to(PAGE);
        assert!(pages.len() == PAGE && pages[16..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_buffer_comes_back_to_its_pool_empty() {
        let pool = Pool::default();
        let place = {
            let mut one = pool.take();
            one.extend_from_slice(&[1; 5 * PAGE]);
            one.as_ptr()
        };
        let (again, other) = (pool.take(), pool.take());
        assert!(again.is_empty() && other.is_empty());
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn what_is_not_at_a_page_is_not_aligned() {
        let pages = PageVec::zeros(2 * PAGE);
        assert!(is_aligned(8192, &pages));
        assert!(!is_aligned(8192 + 512, &pages));
        assert!(!is_aligned(0, &pages[1..=PAGE]));
        assert!(!is_aligned(0, &pages[..PAGE - 1]));
    }
}

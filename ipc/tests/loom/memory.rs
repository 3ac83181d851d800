//! Shared memory that loom watches.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use certeus_ipc::layout::{
    C_HEAD, C_NEED_WAKEUP, C_SETTLED, C_VERDICTS_WRITTEN, P_SETTLED_READ, P_TAIL, P_VERDICTS_READ,
    P_WAKE_HEAD, P_WAKE_SETTLED, PAGE_BYTES, VERDICT_BYTES,
};
use certeus_ipc::ring::{Memory, Word};
use certeus_ipc::sync::{AtomicU64, Ordering};
use certeus_ipc::verdict::{Entry, Reason, Verdict};
use certeus_ipc::verdict_ring::Words;
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};

pub const RING_BYTES: u64 = 256;
pub const VERDICTS: usize = 2;

/// The order that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weak {
    Nothing,
    TailRelease,
    HeadRelease,
    WrittenRelease,
    SettledRelease,
    ReadRelease,
    Acquire,
    SeqCst,
}

impl Weak {
    fn takes_release_of(self, page: &Page, offset: usize) -> bool {
        let (of_p, word) = match self {
            Self::TailRelease => (true, P_TAIL),
            Self::ReadRelease => (true, P_VERDICTS_READ),
            Self::HeadRelease => (false, C_HEAD),
            Self::SettledRelease => (false, C_SETTLED),
            Self::WrittenRelease => (false, C_VERDICTS_WRITTEN),
            Self::Nothing | Self::Acquire | Self::SeqCst => return false,
        };
        page.is_p == of_p && offset == word
    }
}

/// P or C: the words of its page, then the ring's data or the verdicts' entries.
pub struct Page {
    is_p: bool,
    weak: Weak,
    words: Vec<(usize, AtomicU64)>,
    cells: Vec<UnsafeCell<u64>>,
}

// SAFETY: the cells are checked by loom, which is the point.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn new(weak: Weak, is_p: bool, cell_bytes: usize) -> Arc<Self> {
        let never = [P_WAKE_SETTLED, P_WAKE_HEAD];
        let of_p = [P_TAIL, P_VERDICTS_READ, P_SETTLED_READ, P_WAKE_SETTLED, P_WAKE_HEAD];
        let of_c = [C_HEAD, C_NEED_WAKEUP, C_SETTLED, C_VERDICTS_WRITTEN];
        let first = |at| if is_p && never.contains(&at) { u64::MAX } else { 0 };
        let offsets: &[usize] = if is_p { &of_p } else { &of_c };
        Arc::new(Self {
            is_p,
            weak,
            words: offsets.iter().map(|at| (*at, AtomicU64::new(first(*at)))).collect(),
            cells: (0..cell_bytes / 8).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn load_cell(&self, at: usize) -> u64 {
        // SAFETY: loom reports a concurrent store.
        self.cells[at / 8].with(|word| unsafe { *word })
    }

    fn store_cell(&self, at: usize, value: u64) {
        // SAFETY: loom reports a concurrent access.
        self.cells[at / 8].with_mut(|word| unsafe { *word = value });
    }
}

/// The orders as they are written in the crate.
struct Written<'a, T>(&'a T);

impl Words for Written<'_, Page> {
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.0.words.iter().find(|(at, _)| *at == offset).expect("a word of this page").1
    }
}

impl Words for Page {
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words.iter().find(|(at, _)| *at == offset).expect("a word of this page").1
    }
    fn load_relaxed(&self, offset: usize) -> u64 {
        match offset.checked_sub(PAGE_BYTES) {
            Some(at) => self.load_cell(at),
            None => Written(self).load_relaxed(offset),
        }
    }
    fn store_relaxed(&self, offset: usize, value: u64) {
        match offset.checked_sub(PAGE_BYTES) {
            Some(at) => self.store_cell(at, value),
            None => Written(self).store_relaxed(offset, value),
        }
    }
    fn store_release(&self, offset: usize, value: u64) {
        if self.weak.takes_release_of(self, offset) {
            return self.word(offset).store(value, Ordering::Relaxed);
        }
        Written(self).store_release(offset, value);
    }
    fn fence_acquire(&self) {
        if self.weak != Weak::Acquire {
            Written(self).fence_acquire();
        }
    }
    fn fence_seq_cst(&self) {
        if self.weak != Weak::SeqCst {
            Written(self).fence_seq_cst();
        }
    }
    fn verdict_count(&self) -> u64 {
        VERDICTS as u64
    }
}

/// Both pages of one ring.
#[derive(Clone)]
pub struct Ring {
    pub p: Arc<Page>,
    pub c: Arc<Page>,
    bytes: u64,
}

impl Ring {
    pub fn new(weak: Weak) -> Self {
        Self::of(weak, RING_BYTES)
    }

    pub fn of(weak: Weak, bytes: u64) -> Self {
        let p = Page::new(weak, true, bytes as usize);
        Self { p, c: Page::new(weak, false, VERDICTS * VERDICT_BYTES), bytes }
    }

    fn place(&self, word: Word) -> (&Page, usize) {
        match word {
            Word::Tail => (&self.p, P_TAIL),
            Word::Head => (&self.c, C_HEAD),
            Word::NeedWakeup => (&self.c, C_NEED_WAKEUP),
            Word::WakeHead => (&self.p, P_WAKE_HEAD),
        }
    }
}

impl Memory for Written<'_, Ring> {
    fn ring_bytes(&self) -> u64 {
        self.0.ring_bytes()
    }
    fn word(&self, word: Word) -> &AtomicU64 {
        self.0.word(word)
    }
    fn data_load(&self, index: u64) -> u64 {
        self.0.data_load(index)
    }
    fn data_store(&self, index: u64, value: u64) {
        self.0.data_store(index, value);
    }
    fn data_write(&self, index: u64, bytes: &[u8]) {
        self.0.data_write(index, bytes);
    }
}

impl Memory for Ring {
    fn ring_bytes(&self) -> u64 {
        self.bytes
    }
    fn word(&self, word: Word) -> &AtomicU64 {
        let (page, offset) = self.place(word);
        Words::word(page, offset)
    }
    fn store_release(&self, word: Word, value: u64) {
        let (page, offset) = self.place(word);
        if page.weak.takes_release_of(page, offset) {
            return self.store_relaxed(word, value);
        }
        Written(self).store_release(word, value);
    }
    fn fence_acquire(&self) {
        if self.p.weak != Weak::Acquire {
            Written(self).fence_acquire();
        }
    }
    fn fence_seq_cst(&self) {
        if self.p.weak != Weak::SeqCst {
            Written(self).fence_seq_cst();
        }
    }
    fn data_load(&self, index: u64) -> u64 {
        self.p.load_cell(index as usize)
    }
    fn data_store(&self, index: u64, value: u64) {
        self.p.store_cell(index as usize, value);
    }
    fn data_write(&self, index: u64, bytes: &[u8]) {
        for (at, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            self.data_store(index + at as u64 * 8, word);
        }
    }
}

/// How many stores a process still makes: none of those behind its death is ever made.
#[derive(Clone)]
pub struct Life(Rc<Cell<u32>>);

impl Life {
    pub fn of(stores: u32) -> Self {
        Self(Rc::new(Cell::new(stores)))
    }

    /// From now on so many.
    pub fn set(&self, stores: u32) {
        self.0.set(stores);
    }

    pub fn is_left(&self) -> bool {
        self.0.get() > 0
    }

    /// Whether one more store is made.
    fn step(&self) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(1));
        left > 0
    }
}

/// Memory as a process sees it that dies within its life.
#[derive(Clone)]
pub struct Mortal<T>(pub T, pub Life);

impl Memory for Mortal<Ring> {
    fn ring_bytes(&self) -> u64 {
        self.0.ring_bytes()
    }
    fn word(&self, word: Word) -> &AtomicU64 {
        self.0.word(word)
    }
    fn store_relaxed(&self, word: Word, value: u64) {
        if self.1.step() {
            self.0.store_relaxed(word, value);
        }
    }
    fn store_release(&self, word: Word, value: u64) {
        if self.1.step() {
            self.0.store_release(word, value);
        }
    }
    fn data_load(&self, index: u64) -> u64 {
        self.0.data_load(index)
    }
    fn data_store(&self, index: u64, value: u64) {
        if self.1.step() {
            self.0.data_store(index, value);
        }
    }
    fn data_write(&self, index: u64, bytes: &[u8]) {
        if self.1.step() {
            self.0.data_write(index, bytes);
        }
    }
}

impl Words for Mortal<Arc<Page>> {
    fn word(&self, offset: usize) -> &AtomicU64 {
        Words::word(&*self.0, offset)
    }
    fn load_relaxed(&self, offset: usize) -> u64 {
        self.0.load_relaxed(offset)
    }
    fn store_relaxed(&self, offset: usize, value: u64) {
        if self.1.step() {
            self.0.store_relaxed(offset, value);
        }
    }
    fn store_release(&self, offset: usize, value: u64) {
        if self.1.step() {
            self.0.store_release(offset, value);
        }
    }
    fn verdict_count(&self) -> u64 {
        self.0.verdict_count()
    }
}

/// An eventfd, or a session's socket.
#[derive(Clone)]
pub struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    pub fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }
    pub fn ring(&self) {
        *self.0.0.lock().expect("nobody panics with it") = true;
        self.0.1.notify_one();
    }
    pub fn wait(&self) {
        let mut rung = self.0.0.lock().expect("nobody panics with it");
        while !*rung {
            rung = self.0.1.wait(rung).expect("nobody panics with it");
        }
        *rung = false;
    }
}

pub fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

pub fn rejected(ticket: u64) -> Entry {
    let (verdict, reason) = (Verdict::Rejected, Reason::TooDeep);
    Entry { ticket, seq: 0, group: 0, count: 1, verdict, reason }
}

//! The ring and the verdict ring under every interleaving that loom finds (three preemptions).
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test --release -p certeus-ipc --no-default-features`
//!
//! Longer than 500 lines: the memory that loom watches, the models over it and the table of what
//! each of them catches belong side by side, since a model means nothing without the other two.
//!
//! The data of a ring are cells that loom checks for races, so a copy that overlaps a store is
//! found even where it would read the right value. [`Weak`] takes one ordering away: for each of
//! them a model must fail, and `weakened` holds that. `ipc/README.md` has the table.
#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use certeus_ipc::layout::{C_NEED_WAKEUP, C_SETTLED, C_VERDICTS_WRITTEN, PAGE_BYTES};
use certeus_ipc::layout::{P_SETTLED_READ, P_VERDICTS_READ, P_WAKE_SETTLED, VERDICT_BYTES};
use certeus_ipc::ring::{Consumer, Memory, Producer, Word};
use certeus_ipc::verdict::{Entry, Reason, Verdict};
use certeus_ipc::verdict_ring::{Reader, Words, Writer};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

const RING_BYTES: u64 = 256;
const FRAME: u64 = 32;
const KIND: u8 = 1;

/// The ordering that is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weak {
    Nothing,
    TailRelease,
    HeadRelease,
    WrittenRelease,
    SettledRelease,
    ReadRelease,
    Acquire,
    SeqCst,
}

fn release_unless(weak: bool) -> Ordering {
    if weak { Ordering::Relaxed } else { Ordering::Release }
}

struct Shared {
    weak: Weak,
    tail: AtomicU64,
    head: AtomicU64,
    need_wakeup: AtomicU64,
    data: Vec<UnsafeCell<u64>>,
}

#[derive(Clone)]
struct Ring(Arc<Shared>);

impl Ring {
    fn new(weak: Weak) -> Self {
        Self(Arc::new(Shared {
            weak,
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
            need_wakeup: AtomicU64::new(0),
            data: (0..RING_BYTES / 8).map(|_| UnsafeCell::new(0)).collect(),
        }))
    }

    fn word(&self, word: Word) -> &AtomicU64 {
        match word {
            Word::Tail => &self.0.tail,
            Word::Head => &self.0.head,
            Word::NeedWakeup => &self.0.need_wakeup,
        }
    }
}

// SAFETY: the cells are checked by loom, which is the point.
unsafe impl Send for Ring {}

impl Memory for Ring {
    fn ring_bytes(&self) -> u64 {
        RING_BYTES
    }
    fn load_relaxed(&self, word: Word) -> u64 {
        self.word(word).load(Ordering::Relaxed)
    }
    fn store_relaxed(&self, word: Word, value: u64) {
        self.word(word).store(value, Ordering::Relaxed);
    }
    fn store_release(&self, word: Word, value: u64) {
        let weak = matches!(
            (word, self.0.weak),
            (Word::Tail, Weak::TailRelease) | (Word::Head, Weak::HeadRelease)
        );
        self.word(word).store(value, release_unless(weak));
    }
    fn fence_acquire(&self) {
        if self.0.weak != Weak::Acquire {
            fence(Ordering::Acquire);
        }
    }
    fn fence_seq_cst(&self) {
        if self.0.weak != Weak::SeqCst {
            fence(Ordering::SeqCst);
        }
    }
    fn data_load(&self, index: u64) -> u64 {
        // SAFETY: loom reports a concurrent store.
        self.0.data[index as usize / 8].with(|word| unsafe { *word })
    }
    fn data_store(&self, index: u64, value: u64) {
        // SAFETY: loom reports a concurrent access.
        self.0.data[index as usize / 8].with_mut(|word| unsafe { *word = value });
    }
    fn data_write(&self, index: u64, bytes: &[u8]) {
        for (at, chunk) in bytes.chunks_exact(8).enumerate() {
            let word = u64::from_le_bytes(chunk.try_into().unwrap());
            self.data_store(index + at as u64 * 8, word);
        }
    }
}

/// An eventfd.
struct Bell(Mutex<bool>, Condvar);

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(false), Condvar::new()))
    }
    fn ring(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_one();
    }
    fn wait(&self) {
        let mut rung = self.0.lock().unwrap();
        while !*rung {
            rung = self.1.wait(rung).unwrap();
        }
        *rung = false;
    }
}

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

/// A 32-byte frame whose payload tells its ticket twice.
fn append(producer: &mut Producer<Ring>, ticket: u64) -> bool {
    let word = (ticket * 7).to_le_bytes();
    producer.append(&[word, word].concat(), KIND, 0, ticket).is_ok()
}

/// Reads one frame and checks it whole; its ticket.
fn take(consumer: &mut Consumer<Ring>) -> Option<u64> {
    let frame = consumer.next_frame().unwrap()?;
    for at in [0, 8] {
        assert_eq!(consumer.memory().data_load(frame.payload_index + at), frame.ticket * 7);
    }
    assert_eq!((frame.kind, frame.payload_bytes), (KIND, 16));
    Some(frame.ticket)
}

/// A ring whose first `frames` frames were committed, consumed and released before.
fn rolled(weak: Weak, frames: u64) -> (Producer<Ring>, Consumer<Ring>) {
    let ring = Ring::new(weak);
    let mut producer = Producer::new(ring.clone());
    let mut consumer = Consumer::new(ring);
    for ticket in 0..frames {
        assert!(append(&mut producer, ticket));
        let _ = producer.publish();
        assert!(consumer.poll().unwrap());
        assert_eq!(take(&mut consumer), Some(ticket));
        consumer.release(consumer.read());
    }
    (producer, consumer)
}

fn commit_and_consume(weak: Weak) {
    model(move || {
        let (mut producer, mut consumer) = rolled(weak, 0);
        let writer = thread::spawn(move || {
            for ticket in 1..=3 {
                assert!(append(&mut producer, ticket));
                let _ = producer.publish();
            }
        });
        let mut next = 1;
        for _ in 0..2 {
            consumer.poll().unwrap();
            while let Some(ticket) = take(&mut consumer) {
                assert_eq!(ticket, next);
                next += 1;
            }
            thread::yield_now();
        }
        writer.join().unwrap();
        consumer.poll().unwrap();
        while let Some(ticket) = take(&mut consumer) {
            assert_eq!(ticket, next);
            next += 1;
        }
        assert_eq!(next, 4, "nothing lost, nothing twice");
    });
}

/// A full ring: the producer may only overwrite what the consumer has released.
fn reuse(weak: Weak) {
    model(move || {
        let (mut producer, mut consumer) = rolled(weak, 0);
        for ticket in 1..=RING_BYTES / FRAME {
            assert!(append(&mut producer, ticket));
        }
        assert!(!append(&mut producer, 9), "back-pressure");
        let _ = producer.publish();
        let writer = thread::spawn(move || {
            let mut done = false;
            for _ in 0..2 {
                done = done || append(&mut producer, 9);
                thread::yield_now();
            }
            let _ = producer.publish();
            (producer, done)
        });
        consumer.poll().unwrap();
        assert_eq!(take(&mut consumer), Some(1));
        consumer.release(consumer.read());
        let (mut producer, done) = writer.join().unwrap();
        if !done {
            assert!(append(&mut producer, 9), "released bytes are free");
            let _ = producer.publish();
        }
        consumer.poll().unwrap();
        for ticket in 2..=9 {
            assert_eq!(take(&mut consumer), Some(ticket));
        }
    });
}

/// The end of the ring is 16 bytes away: a frame of 32 needs a PAD before it.
fn wrap_with_pad(weak: Weak) {
    model(move || {
        let (mut producer, mut consumer) = rolled(weak, 7);
        producer.append(&[], KIND, 0, 7).unwrap();
        let _ = producer.publish();
        consumer.poll().unwrap();
        consumer.next_frame().unwrap().unwrap();
        consumer.release(consumer.read());
        let writer = thread::spawn(move || {
            assert!(append(&mut producer, 8));
            let _ = producer.publish();
            assert_eq!(producer.committed(), RING_BYTES + FRAME);
        });
        consumer.poll().unwrap();
        let early = take(&mut consumer);
        writer.join().unwrap();
        consumer.poll().unwrap();
        assert_eq!(early.or_else(|| take(&mut consumer)), Some(8));
        assert_eq!(consumer.read(), RING_BYTES + FRAME);
    });
}

/// A consumer that sleeps whenever there is nothing is woken for everything. A lost wake-up is a
/// deadlock, which loom reports.
fn wake_up(weak: Weak) {
    model(move || {
        let (mut producer, mut consumer) = rolled(weak, 0);
        let bell = Bell::new();
        let doorbell = bell.clone();
        let writer = thread::spawn(move || {
            for ticket in 1..=3 {
                assert!(append(&mut producer, ticket));
                if producer.publish() {
                    doorbell.ring();
                }
            }
        });
        let mut next = 1;
        while next <= 3 {
            consumer.poll().unwrap();
            while let Some(ticket) = take(&mut consumer) {
                assert_eq!(ticket, next);
                next += 1;
            }
            if next <= 3 && consumer.prepare_sleep().unwrap() {
                bell.wait();
            }
            consumer.woke();
        }
        writer.join().unwrap();
    });
}

#[test]
fn frames_are_seen_whole_and_in_order() {
    commit_and_consume(Weak::Nothing);
}

#[test]
fn only_released_bytes_are_written_again() {
    reuse(Weak::Nothing);
}

#[test]
fn a_frame_wraps_behind_a_pad() {
    wrap_with_pad(Weak::Nothing);
}

#[test]
fn no_wake_up_is_lost() {
    wake_up(Weak::Nothing);
}

#[test]
fn a_producer_may_die_at_each_step() {
    for steps in 0..=4 {
        model(move || {
            let (mut producer, mut consumer) = rolled(Weak::Nothing, 0);
            let writer = thread::spawn(move || {
                assert!(append(&mut producer, 1));
                let _ = producer.publish();
                // The second frame: claim, payload, header, commit; the process dies after `steps`.
                if steps == 0 {
                    return;
                }
                let claim = producer.claim(16).unwrap();
                if steps == 1 {
                    return;
                }
                let word = 14u64.to_le_bytes();
                producer.memory().data_write(claim.payload_index, &[word, word].concat());
                if steps == 2 {
                    return;
                }
                producer.commit(claim, 16, KIND, 0, 2);
                if steps == 3 {
                    return;
                }
                let _ = producer.publish();
            });
            consumer.poll().unwrap();
            let mut seen = 0;
            while let Some(ticket) = take(&mut consumer) {
                seen = ticket;
            }
            writer.join().unwrap();
            consumer.poll().unwrap();
            while let Some(ticket) = take(&mut consumer) {
                assert_eq!(ticket, seen + 1);
                seen = ticket;
            }
            assert_eq!(seen, if steps == 4 { 2 } else { 1 }, "all that was committed, no more");
        });
    }
}

#[test]
fn a_consumer_may_die_at_each_step_and_its_successor_starts_from_head() {
    for steps in 0..=4 {
        model(move || {
            let (mut producer, mut consumer) = rolled(Weak::Nothing, 0);
            assert!(append(&mut producer, 1));
            let _ = producer.publish();
            let memory = producer.memory().clone();
            let writer = thread::spawn(move || {
                assert!(append(&mut producer, 2));
                let _ = producer.publish();
                producer
            });
            let mut released = 0;
            // poll, read, release, read again; the process dies after `steps`.
            if steps > 0 {
                consumer.poll().unwrap();
            }
            if steps > 1 {
                assert_eq!(take(&mut consumer), Some(1));
            }
            if steps > 2 {
                consumer.release(consumer.read());
                released = 1;
            }
            if steps > 3 {
                consumer.poll().unwrap();
                let _ = take(&mut consumer);
            }
            let _dead = consumer;
            let mut successor = Consumer::at(memory.clone(), memory.load_relaxed(Word::Head));
            let mut producer = writer.join().unwrap();
            assert!(append(&mut producer, 3));
            let _ = producer.publish();
            successor.poll().unwrap();
            for ticket in released + 1..=3 {
                assert_eq!(take(&mut successor), Some(ticket), "nothing lost, nothing twice");
            }
            assert_eq!(take(&mut successor), None);
        });
    }
}

// --- a hostile producer -----------------------------------------------------------------------

/// A ring of words that anybody may store at any time.
#[derive(Clone)]
struct Open(Arc<Vec<AtomicU64>>);

const OPEN_BYTES: u64 = 128;
const OPEN_TAIL: usize = OPEN_BYTES as usize / 8;

impl Memory for Open {
    fn ring_bytes(&self) -> u64 {
        OPEN_BYTES
    }
    fn load_relaxed(&self, word: Word) -> u64 {
        self.0[OPEN_TAIL + word as usize].load(Ordering::Relaxed)
    }
    fn store_relaxed(&self, word: Word, value: u64) {
        self.0[OPEN_TAIL + word as usize].store(value, Ordering::Relaxed);
    }
    fn store_release(&self, word: Word, value: u64) {
        self.0[OPEN_TAIL + word as usize].store(value, Ordering::Release);
    }
    fn fence_acquire(&self) {
        fence(Ordering::Acquire);
    }
    fn fence_seq_cst(&self) {
        fence(Ordering::SeqCst);
    }
    fn data_load(&self, index: u64) -> u64 {
        self.0[index as usize / 8].load(Ordering::Relaxed)
    }
    fn data_store(&self, index: u64, value: u64) {
        self.0[index as usize / 8].store(value, Ordering::Relaxed);
    }
    fn data_write(&self, _: u64, _: &[u8]) {
        unreachable!("the hostile producer stores words");
    }
}

#[test]
fn a_hostile_producer_ends_its_session_or_is_read_within_bounds() {
    const PAD: u64 = 0xff << 32;
    let headers = [0, 1 << 32 | 16, PAD | 112, PAD, u64::from(u32::MAX), 1 << 50, u64::MAX];
    for tail in [16, 32, 128, 144, 24, u64::MAX, u64::MAX - 15] {
        for header in headers {
            model(move || {
                let ring = Open(Arc::new((0..OPEN_TAIL + 3).map(|_| AtomicU64::new(0)).collect()));
                let mut consumer = Consumer::new(ring.clone());
                let hostile = thread::spawn(move || {
                    ring.store_relaxed(Word::Tail, tail);
                    ring.data_store(0, header);
                    ring.store_relaxed(Word::Tail, 0);
                    ring.data_store(16, header);
                });
                let mut read = 0;
                'polls: for _ in 0..2 {
                    if consumer.poll().is_err() {
                        break;
                    }
                    for frames in 0.. {
                        assert!(frames <= OPEN_BYTES / 16, "bounded work");
                        match consumer.next_frame() {
                            Err(_) => break 'polls,
                            Ok(None) => break,
                            Ok(Some(frame)) => {
                                let end = frame.payload_index + frame.payload_bytes;
                                assert!(end <= OPEN_BYTES, "within the ring");
                            }
                        }
                        assert!(consumer.read() > read && consumer.read() <= OPEN_BYTES);
                        read = consumer.read();
                    }
                }
                hostile.join().unwrap();
            });
        }
    }
}

// --- the verdict ring -------------------------------------------------------------------------

const VERDICTS: usize = 2;

struct Page {
    weak: Weak,
    words: Vec<(usize, AtomicU64)>,
    entries: Vec<UnsafeCell<u64>>,
}

impl Page {
    fn new(weak: Weak) -> Arc<Self> {
        let offsets = [
            C_NEED_WAKEUP,
            C_SETTLED,
            C_VERDICTS_WRITTEN,
            P_SETTLED_READ,
            P_VERDICTS_READ,
            P_WAKE_SETTLED,
        ];
        // P and C have words at the same offsets; each page has its own object here.
        let words = offsets.iter().map(|at| (*at, AtomicU64::new(0))).collect();
        let entries = (0..VERDICTS * VERDICT_BYTES / 8).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Self { weak, words, entries })
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.words.iter().find(|(at, _)| *at == offset).expect("a word of the page").1
    }
}

// SAFETY: the cells are checked by loom, which is the point.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Words for Page {
    fn load_relaxed(&self, offset: usize) -> u64 {
        if offset >= PAGE_BYTES {
            // SAFETY: loom reports a concurrent store.
            return self.entries[(offset - PAGE_BYTES) / 8].with(|word| unsafe { *word });
        }
        self.word(offset).load(Ordering::Relaxed)
    }
    fn store_relaxed(&self, offset: usize, value: u64) {
        if offset >= PAGE_BYTES {
            // SAFETY: loom reports a concurrent access.
            self.entries[(offset - PAGE_BYTES) / 8].with_mut(|word| unsafe { *word = value });
            return;
        }
        self.word(offset).store(value, Ordering::Relaxed);
    }
    fn store_release(&self, offset: usize, value: u64) {
        // The same offset means another word in P than in C; no model weakens both at once.
        let weak = match self.weak {
            Weak::WrittenRelease => offset == C_VERDICTS_WRITTEN,
            Weak::SettledRelease => offset == C_SETTLED,
            Weak::ReadRelease => offset == P_VERDICTS_READ,
            _ => false,
        };
        self.word(offset).store(value, release_unless(weak));
    }
    fn fence_acquire(&self) {
        if self.weak != Weak::Acquire {
            fence(Ordering::Acquire);
        }
    }
    fn fence_seq_cst(&self) {
        if self.weak != Weak::SeqCst {
            fence(Ordering::SeqCst);
        }
    }
    fn verdict_count(&self) -> u64 {
        VERDICTS as u64
    }
}

fn rejected(ticket: u64) -> Entry {
    let (verdict, reason) = (Verdict::Rejected, Reason::TooDeep);
    Entry { ticket, seq: 0, group: 0, count: 1, verdict, reason }
}

/// Weakens only the page that `c` asks for, or the one that the client writes.
fn pages(weak: Weak) -> (Arc<Page>, Arc<Page>) {
    let of_c = matches!(weak, Weak::WrittenRelease | Weak::SettledRelease);
    let of_p = matches!(weak, Weak::ReadRelease);
    let p = Page::new(if of_c { Weak::Nothing } else { weak });
    let c = Page::new(if of_p { Weak::Nothing } else { weak });
    (p, c)
}

/// Who sees `settled >= t` can read the verdict of t.
fn verdict_before_settled(weak: Weak) {
    model(move || {
        let (p, c) = pages(weak);
        let (mut writer, mut reader) = (Writer::new(p.clone(), c.clone()), Reader::new(p, c));
        let worker = thread::spawn(move || {
            writer.push(rejected(1));
            writer.publish(1);
        });
        let settled = reader.poll().unwrap();
        let entry = reader.next().unwrap();
        assert!(settled == 0 || entry == Some(rejected(1)), "settled without its verdict");
        worker.join().unwrap();
    });
}

/// More verdicts than the ring holds: an entry is written again only after it was read.
fn verdicts_wrap(weak: Weak) {
    model(move || {
        let (p, c) = pages(weak);
        let (mut writer, mut reader) = (Writer::new(p.clone(), c.clone()), Reader::new(p, c));
        writer.push(rejected(1));
        writer.push(rejected(2));
        writer.publish(2);
        let worker = thread::spawn(move || {
            for _ in 0..2 {
                if writer.room() > 0 {
                    writer.push(rejected(3));
                    writer.publish(3);
                    break;
                }
                thread::yield_now();
            }
        });
        reader.poll().unwrap();
        assert_eq!(reader.next(), Ok(Some(rejected(1))));
        let _ = reader.acknowledge(1);
        assert_eq!(reader.next(), Ok(Some(rejected(2))));
        worker.join().unwrap();
    });
}

/// A client that sleeps until its ticket is settled is woken.
fn settled_bell(weak: Weak) {
    model(move || {
        let (p, c) = pages(weak);
        p.store_relaxed(P_WAKE_SETTLED, u64::MAX);
        let (mut writer, reader) = (Writer::new(p.clone(), c.clone()), Reader::new(p, c));
        let bell = Bell::new();
        let socket = bell.clone();
        let worker = thread::spawn(move || {
            writer.publish(1);
            if writer.settled_wanted().is_some() {
                socket.ring();
            }
        });
        if !reader.arm(1) {
            bell.wait();
        }
        worker.join().unwrap();
    });
}

/// A worker that sleeps because the verdict ring is full is woken when there is room.
fn room_for_verdicts(weak: Weak) {
    model(move || {
        let (p, c) = pages(weak);
        let mut writer = Writer::new(p.clone(), c.clone());
        let mut reader = Reader::new(p, c.clone());
        writer.push(rejected(1));
        writer.push(rejected(2));
        writer.publish(2);
        let bell = Bell::new();
        let doorbell = bell.clone();
        let worker = thread::spawn(move || {
            c.store_relaxed(C_NEED_WAKEUP, 1);
            c.fence_seq_cst();
            if writer.room() == 0 {
                bell.wait();
            }
        });
        reader.poll().unwrap();
        reader.next().unwrap().unwrap();
        if reader.acknowledge(1) {
            doorbell.ring();
        }
        worker.join().unwrap();
    });
}

#[test]
fn a_verdict_is_there_before_settled() {
    verdict_before_settled(Weak::Nothing);
}

#[test]
fn a_verdict_is_read_before_its_entry_is_written_again() {
    verdicts_wrap(Weak::Nothing);
}

#[test]
fn a_client_is_woken_when_its_ticket_is_settled() {
    settled_bell(Weak::Nothing);
}

#[test]
fn a_worker_is_woken_when_the_verdict_ring_has_room() {
    room_for_verdicts(Weak::Nothing);
}

// --- weakened ---------------------------------------------------------------------------------

type Model = (&'static str, fn(Weak));

const MODELS: [Model; 8] = [
    ("commit_and_consume", commit_and_consume),
    ("reuse", reuse),
    ("wrap_with_pad", wrap_with_pad),
    ("wake_up", wake_up),
    ("verdict_before_settled", verdict_before_settled),
    ("verdicts_wrap", verdicts_wrap),
    ("settled_bell", settled_bell),
    ("room_for_verdicts", room_for_verdicts),
];

/// The models that notice when an ordering is taken away.
fn caught_by(weak: Weak) -> Vec<&'static str> {
    MODELS
        .into_iter()
        .filter(|(_, model)| catch_unwind(AssertUnwindSafe(|| model(weak))).is_err())
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn every_ordering_is_needed_by_some_model() {
    for (weak, caught) in [
        (Weak::TailRelease, &["commit_and_consume", "wrap_with_pad", "wake_up"][..]),
        (Weak::HeadRelease, &["reuse"]),
        (Weak::WrittenRelease, &["verdict_before_settled"]),
        (Weak::SettledRelease, &["verdict_before_settled"]),
        (Weak::ReadRelease, &["verdicts_wrap"]),
        (
            Weak::Acquire,
            &[
                "commit_and_consume",
                "reuse",
                "wrap_with_pad",
                "wake_up",
                "verdict_before_settled",
                "verdicts_wrap",
            ],
        ),
        (Weak::SeqCst, &["wake_up", "settled_bell", "room_for_verdicts"]),
    ] {
        assert_eq!(caught_by(weak), caught, "without {weak:?}");
    }
}

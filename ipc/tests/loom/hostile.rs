//! A peer that stores anything at any time: the honest side does bounded work within its bounds, or
//! says that the session is over.
//!
//! loom chooses which of the stored values each load sees, so one run of stores is every mixture of
//! them.

use std::sync::Arc;

use certeus_ipc::layout::{
    C_NEED_WAKEUP, C_SETTLED, C_VERDICTS_WRITTEN, P_VERDICTS_READ, PAGE_BYTES, VERDICT_BYTES,
};
use certeus_ipc::ring::{Consumer, Memory, Producer, Word};
use certeus_ipc::sync::{AtomicU64, Ordering};
use certeus_ipc::verdict_ring::{Reader, Words, Writer};
use loom::thread;

use crate::memory::{VERDICTS, model, rejected};

const BYTES: u64 = 128;
const PAD: u64 = 0xff << 32;
const FRAME: u64 = 1 << 32;

/// A ring of words that anybody may store at any time.
#[derive(Clone)]
struct Open(Arc<Vec<AtomicU64>>);

impl Open {
    fn new() -> Self {
        Self(Arc::new((0..BYTES / 8 + 4).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Memory for Open {
    fn ring_bytes(&self) -> u64 {
        BYTES
    }
    fn word(&self, word: Word) -> &AtomicU64 {
        &self.0[BYTES as usize / 8 + word as usize]
    }
    fn data_load(&self, index: u64) -> u64 {
        assert!(index < BYTES, "within the ring");
        self.0[index as usize / 8].load(Ordering::Relaxed)
    }
    fn data_store(&self, index: u64, value: u64) {
        assert!(index < BYTES, "within the ring");
        self.0[index as usize / 8].store(value, Ordering::Relaxed);
    }
    fn data_write(&self, _: u64, bytes: &[u8]) {
        assert!(bytes.is_empty(), "no data here");
    }
}

/// Reads what there is, twice; every frame lies within what was polled.
fn read(consumer: &mut Consumer<Open>) {
    for _ in 0..2 {
        if consumer.poll().is_err() {
            return;
        }
        for frames in 0.. {
            assert!(frames <= BYTES / 16, "bounded work");
            let before = consumer.read();
            match consumer.next_frame() {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some(frame)) => {
                    assert!(frame.payload_index + frame.payload_bytes <= BYTES, "within the ring");
                    assert_eq!(frame.end_position, consumer.read());
                }
            }
            assert!(consumer.read() > before && consumer.read() <= consumer.tail_seen());
            assert!(consumer.tail_seen() - consumer.released() <= BYTES);
        }
    }
}

#[test]
fn a_hostile_tail_and_hostile_headers_are_read_within_bounds() {
    let headers = [FRAME | 16, PAD | 112, PAD, 0, u64::from(u32::MAX), 1 << 50, u64::MAX];
    for tails in [[16, 32, 128], [128, 144, 0], [24, u64::MAX, 16], [112, u64::MAX - 15, 128]] {
        for first in headers {
            model(move || {
                let ring = Open::new();
                let mut consumer = Consumer::new(ring.clone());
                ring.data_store(0, first);
                let hostile = thread::spawn(move || {
                    for (tail, header) in tails.into_iter().zip(headers.into_iter().cycle()) {
                        ring.store_relaxed(Word::Tail, tail);
                        ring.data_store(0, header);
                        ring.data_store(16, first);
                        ring.data_store(32, header);
                    }
                });
                read(&mut consumer);
                hostile.join().unwrap();
            });
        }
    }
}

#[test]
fn a_hostile_header_is_looked_at_once() {
    // Honest when it was published; anything a moment later.
    for lie in [FRAME | 112, PAD | 112, 1 << 50, u64::MAX, 0] {
        model(move || {
            let ring = Open::new();
            let mut producer = Producer::new(ring.clone());
            let mut consumer = Consumer::new(ring.clone());
            (1..=8).for_each(|ticket| producer.append(&[], 1, 0, ticket).unwrap());
            let _ = producer.publish();
            let hostile = thread::spawn(move || {
                ring.data_store(16, lie);
                ring.data_store(112, lie);
            });
            read(&mut consumer);
            hostile.join().unwrap();
        });
    }
}

#[test]
fn a_hostile_head_gives_no_room_that_is_not_there() {
    for heads in [[32, 16, u64::MAX], [64, 24, 0], [BYTES, BYTES + 16, 32], [u64::MAX - 15, 1, 16]]
    {
        model(move || {
            let ring = Open::new();
            let mut producer = Producer::new(ring.clone());
            (1..=8).for_each(|ticket| producer.append(&[], 1, 0, ticket).unwrap());
            let hostile = thread::spawn(move || {
                heads.into_iter().for_each(|head| ring.store_relaxed(Word::Head, head));
            });
            let mut believed = 0;
            for ticket in 9..=11 {
                let _ = producer.append(&[], 1, 0, ticket);
                let head = producer.head();
                assert!(head >= believed && head <= producer.committed(), "back, or ahead of us");
                assert!(producer.committed() - head <= BYTES, "over one that is not released");
                believed = head;
            }
            let _ = producer.head_is_possible();
            hostile.join().unwrap();
        });
    }
}

/// Pages of words that anybody may store at any time.
struct OpenPage(Vec<(usize, AtomicU64)>);

impl OpenPage {
    fn new() -> Arc<Self> {
        let entries = (0..VERDICTS * VERDICT_BYTES / 8).map(|at| PAGE_BYTES + at * 8);
        // `P_VERDICTS_READ` and `P_SETTLED_READ` stand at the same offsets as the last two.
        let words = [C_NEED_WAKEUP, C_SETTLED, C_VERDICTS_WRITTEN];
        Arc::new(Self(words.into_iter().chain(entries).map(|at| (at, AtomicU64::new(0))).collect()))
    }
}

impl Words for OpenPage {
    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.0.iter().find(|(at, _)| *at == offset).expect("a word of the page").1
    }
    fn verdict_count(&self) -> u64 {
        VERDICTS as u64
    }
}

#[test]
fn a_hostile_count_of_verdicts_read_gives_no_room_that_is_not_there() {
    model(|| {
        let (p, c) = (OpenPage::new(), OpenPage::new());
        let mut writer = Writer::new(p.clone(), c);
        let hostile = thread::spawn(move || {
            for read in [1, u64::MAX, 0, 3, 2, 1] {
                p.store_relaxed(P_VERDICTS_READ, read);
            }
        });
        for ticket in 1..=3 {
            let room = writer.room();
            assert!((room..=VERDICTS).contains(&writer.room()), "room once told stays");
            if room == 0 {
                break;
            }
            writer.push(rejected(ticket));
            writer.publish(ticket);
        }
        hostile.join().unwrap();
    });
}

#[test]
fn a_hostile_daemon_is_garbage_or_is_read_within_bounds() {
    let entries = [[1, 0, 0, 1, 0], [u64::MAX, 0, 0, u64::MAX, 0], [0; 5], [1, 2, 3, 1 << 63, 0]];
    let lies = [(2, 2), (1, u64::MAX), (3, 1), (u64::MAX, 0)];
    for (entry, lie) in entries.into_iter().flat_map(|entry| lies.map(|lie| (entry, lie))) {
        model(move || {
            let (p, c) = (OpenPage::new(), OpenPage::new());
            for (at, word) in entry.into_iter().chain(entries[0]).enumerate() {
                c.store_relaxed(PAGE_BYTES + at * 8, word);
            }
            let mut reader = Reader::new(p, c.clone());
            let hostile = thread::spawn(move || {
                c.store_relaxed(C_VERDICTS_WRITTEN, 2);
                c.store_relaxed(C_SETTLED, 1);
                c.store_relaxed(PAGE_BYTES, lie.1);
                c.store_relaxed(C_VERDICTS_WRITTEN, lie.0);
                c.store_relaxed(C_SETTLED, lie.1);
            });
            let (mut settled, mut told) = (0, 0);
            for _ in 0..2 {
                let Ok(now) = reader.poll() else { break };
                assert!(now >= settled, "settled went back");
                settled = now;
                while let Ok(Some(entry)) = reader.next() {
                    told += 1;
                    assert!(told <= 2 * VERDICTS, "bounded work");
                    assert!(entry.ticket > 0 && entry.count > 0);
                    assert!(entry.last_ticket() >= entry.ticket);
                }
                let _ = reader.acknowledge(settled);
            }
            hostile.join().unwrap();
        });
    }
}

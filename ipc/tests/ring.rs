//! The ring against a queue, over plain memory and with tiny rings, so that wrapping is common.
#![cfg(not(loom))]

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use certeus_ipc::layout::{KIND_PAD, frame_bytes, payload_bytes_max};
use certeus_ipc::ring::{Consumer, Frame, Full, Memory, Producer, Violation, Word};
use proptest::prelude::*;

const WORDS: usize = 4;

#[derive(Clone)]
struct Plain(Rc<Vec<AtomicU64>>, u64);

impl Plain {
    fn new(ring_bytes: u64) -> Self {
        let words = (0..ring_bytes as usize / 8 + WORDS).map(|_| AtomicU64::new(0));
        Self(Rc::new(words.collect()), ring_bytes)
    }
    fn payload(&self, frame: &Frame) -> Vec<u8> {
        let words = frame.payload_bytes.div_ceil(8);
        let bytes =
            (0..words).flat_map(|n| self.data_load(frame.payload_index + n * 8).to_le_bytes());
        bytes.take(frame.payload_bytes as usize).collect()
    }
}

impl Memory for Plain {
    fn ring_bytes(&self) -> u64 {
        self.1
    }
    fn word(&self, word: Word) -> &AtomicU64 {
        &self.0[self.1 as usize / 8 + word as usize]
    }
    fn data_load(&self, index: u64) -> u64 {
        assert!(index < self.1, "within the data");
        self.0[index as usize / 8].load(Ordering::Relaxed)
    }
    fn data_store(&self, index: u64, value: u64) {
        assert!(index < self.1, "within the data");
        self.0[index as usize / 8].store(value, Ordering::Relaxed);
    }
    fn data_write(&self, index: u64, bytes: &[u8]) {
        for (n, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.data_store(index + n as u64 * 8, u64::from_le_bytes(word));
        }
    }
}

fn pair(ring_bytes: u64) -> (Producer<Plain>, Consumer<Plain>, Plain) {
    let memory = Plain::new(ring_bytes);
    (Producer::new(memory.clone()), Consumer::new(memory.clone()), memory)
}

#[test]
fn what_is_not_published_is_not_seen() {
    let (mut producer, mut consumer, _) = pair(1024);
    producer.append(b"hello", 1, 0, 1).unwrap();
    assert_eq!(consumer.poll(), Ok(false));
    let _ = producer.publish();
    assert_eq!(consumer.poll(), Ok(true));
    assert_eq!(consumer.next_frame().unwrap().unwrap().ticket, 1);
}

#[test]
fn a_dropped_claim_leaves_nothing() {
    let (mut producer, mut consumer, memory) = pair(1024);
    let _aborted = producer.claim(100).unwrap();
    producer.append(b"x", 1, 0, 1).unwrap();
    let _ = producer.publish();
    consumer.poll().unwrap();
    let frame = consumer.next_frame().unwrap().unwrap();
    assert_eq!(memory.payload(&frame), b"x");
}

#[test]
fn a_claim_may_be_committed_shorter() {
    let (mut producer, mut consumer, memory) = pair(1024);
    let claim = producer.claim(100).unwrap();
    memory.data_write(claim.payload_index, b"short");
    producer.commit(claim, 5, 1, 0, 1);
    assert_eq!(producer.committed(), frame_bytes(5));
    let _ = producer.publish();
    consumer.poll().unwrap();
    let frame = consumer.next_frame().unwrap().unwrap();
    assert_eq!(memory.payload(&frame), b"short");
}

#[test]
fn a_full_ring_is_told_and_two_of_the_largest_always_fit() {
    let (mut producer, _, _) = pair(1024);
    let largest = vec![0; payload_bytes_max(1024) as usize];
    for ticket in 1..=8 {
        producer.append(&largest, 1, 0, ticket).unwrap();
    }
    assert_eq!(producer.append(b"", 1, 0, 9), Err(Full));
    assert_eq!(producer.committed(), 1024);
}

#[test]
fn the_doorbell_is_wanted_only_while_the_consumer_sleeps() {
    let (mut producer, mut consumer, _) = pair(1024);
    assert!(!producer.publish());
    assert_eq!(consumer.prepare_sleep(), Ok(true));
    producer.append(b"x", 1, 0, 1).unwrap();
    assert!(producer.publish());
    consumer.woke();
    assert!(!producer.publish());
    assert_eq!(consumer.prepare_sleep(), Ok(false), "there is something to read");
}

#[test]
fn a_rewound_consumer_reads_again_from_what_it_released() {
    let (mut producer, mut consumer, _) = pair(1024);
    for ticket in 1..=3 {
        producer.append(b"x", 1, 0, ticket).unwrap();
    }
    let _ = producer.publish();
    consumer.poll().unwrap();
    let first = consumer.next_frame().unwrap().unwrap();
    consumer.release(first.end_position);
    consumer.next_frame().unwrap().unwrap();
    consumer.rewind();
    assert_eq!(consumer.next_frame().unwrap().unwrap().ticket, 2);
}

#[test]
fn a_consumer_that_lies_about_head_gains_nothing_for_the_producer() {
    let (mut producer, _, memory) = pair(1024);
    for ticket in 1..=8 {
        producer.append(&[0; 112], 1, 0, ticket).unwrap();
    }
    for lie in [1025, 4096, u64::MAX] {
        memory.store_relaxed(Word::Head, lie);
        assert!(!producer.head_is_possible());
        assert_eq!(producer.append(b"", 1, 0, 9), Err(Full));
    }
    memory.store_relaxed(Word::Head, 128);
    assert!(producer.head_is_possible());
    assert_eq!(producer.append(b"", 1, 0, 9), Ok(()));
}

const fn header(payload_bytes: u64, kind: u8, flags: u8) -> u64 {
    payload_bytes | (kind as u64) << 32 | (flags as u64) << 40
}

#[test]
fn each_kind_of_garbage_has_its_name() {
    // tail, first header, what is told
    let cases = [
        (8, 0, Violation::Position),
        (1024 + 16, 0, Violation::Position),
        (u64::MAX - 15, 0, Violation::Position),
        (16, header(1, 1, 0), Violation::Length),
        (1024, header(u64::from(u32::MAX), 1, 0), Violation::Length),
        (1024, header(payload_bytes_max(1024) + 1, 1, 0), Violation::Length),
        (1024, 1 << 48, Violation::Kind),
        (1024, u64::MAX, Violation::Kind),
        (1024, header(16, KIND_PAD, 0), Violation::Kind),
        (1024, header(1024 - 16, KIND_PAD, 1), Violation::Kind),
        (512, header(1024 - 16, KIND_PAD, 0), Violation::Length),
    ];
    for (tail, first, violation) in cases {
        let (_, mut consumer, memory) = pair(1024);
        memory.data_store(0, first);
        memory.store_relaxed(Word::Tail, tail);
        let told = consumer.poll().and_then(|_| consumer.next_frame());
        assert_eq!(told, Err(violation), "tail {tail}, header {first:#x}");
    }
}

#[test]
fn a_tail_that_goes_back_is_a_violation() {
    let (mut producer, mut consumer, memory) = pair(1024);
    producer.append(b"x", 1, 0, 1).unwrap();
    let _ = producer.publish();
    consumer.poll().unwrap();
    memory.store_relaxed(Word::Tail, 16);
    assert_eq!(consumer.poll(), Err(Violation::Position));
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Publish,
    Read,
    Release,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..48).prop_map(Step::Append),
        3 => Just(Step::Publish),
        5 => Just(Step::Read),
        4 => Just(Step::Release),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn a_ring_is_a_queue(steps in steps()) {
        let (mut producer, mut consumer, memory) = pair(512);
        // Not released, oldest first; `read` of them are read, `published` visible.
        let mut model: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let (mut read, mut published, mut ticket) = (0, 0, 0);
        let mut ends = VecDeque::new();
        for step in steps {
            match step {
                Step::Append(length) => {
                    let payload = vec![(ticket % 251) as u8; length];
                    let before = producer.committed();
                    match producer.append(&payload, 1, 0, ticket + 1) {
                        Ok(()) => {
                            ticket += 1;
                            model.push_back((ticket, payload));
                        }
                        Err(Full) => {
                            prop_assert_eq!(producer.committed(), before);
                            prop_assert!(!model.is_empty(), "an empty ring has room");
                        }
                    }
                }
                Step::Publish => { let _ = producer.publish(); published = model.len(); }
                Step::Read => {
                    consumer.poll().unwrap();
                    let frame = consumer.next_frame().unwrap();
                    prop_assert_eq!(frame.is_some(), read < published);
                    if let Some(frame) = frame {
                        let (ticket, payload) = &model[read];
                        prop_assert_eq!(frame.ticket, *ticket);
                        prop_assert_eq!(&memory.payload(&frame), payload);
                        ends.push_back(frame.end_position);
                        read += 1;
                    }
                }
                Step::Release => if let Some(end) = ends.pop_front() {
                    consumer.release(end);
                    model.pop_front();
                    read -= 1;
                    published -= 1;
                },
                Step::Restart => {
                    consumer = Consumer::at(memory.clone(), memory.load_relaxed(Word::Head));
                    ends.clear();
                    read = 0;
                }
            }
        }
    }

    #[test]
    fn no_garbage_makes_a_consumer_panic_or_read_outside(
        words in proptest::collection::vec(
            prop_oneof![any::<u64>(), 0u64..64, (0u64..64).prop_map(|n| n | 0xff << 32)], 64),
        tails in proptest::collection::vec(
            prop_oneof![any::<u64>(), (0u64..80).prop_map(|n| n * 16)], 1..4),
    ) {
        let (_, mut consumer, memory) = pair(512);
        for (n, word) in words.iter().enumerate() {
            memory.data_store(n as u64 * 8, *word);
        }
        'session: for tail in tails {
            memory.store_relaxed(Word::Tail, tail);
            if consumer.poll().is_err() { break; }
            for work in 0.. {
                prop_assert!(work <= 512 / 16, "bounded work");
                match consumer.next_frame() {
                    Err(_) => break 'session,
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        prop_assert!(frame.payload_index + frame.payload_bytes <= 512);
                        consumer.release(frame.end_position);
                    }
                }
            }
        }
    }
}

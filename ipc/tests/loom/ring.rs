//! Commit, reuse, and the end of the ring.

use certeus_ipc::ring::{Consumer, Memory, Producer};
use loom::thread;

use crate::memory::{RING_BYTES, Ring, Weak, model};

pub const FRAME: u64 = 32;
pub const KIND: u8 = 1;

/// A 32-byte frame whose payload tells its ticket twice. False: the ring is full.
pub fn append<M: Memory>(producer: &mut Producer<M>, ticket: u64) -> bool {
    let word = (ticket * 7).to_le_bytes();
    producer.append(&[word, word].concat(), KIND, 0, ticket).is_ok()
}

/// Reads one frame and checks it whole; its ticket.
pub fn take<M: Memory>(consumer: &mut Consumer<M>) -> Option<u64> {
    let frame = consumer.next_frame().expect("an honest producer's frame")?;
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

pub fn commit_and_consume(weak: Weak) {
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

/// Two frames and a dropped claim, one publication: all of them or none are seen.
pub fn batch(weak: Weak) {
    model(move || {
        let (mut producer, mut consumer) = rolled(weak, 0);
        let writer = thread::spawn(move || {
            assert!(append(&mut producer, 1));
            drop(producer.claim(16).unwrap());
            assert!(append(&mut producer, 2));
            let _ = producer.publish();
        });
        let early = if consumer.poll().unwrap() { 2 } else { 0 };
        for ticket in 1..=early {
            assert_eq!(take(&mut consumer), Some(ticket));
        }
        assert_eq!(take(&mut consumer), None);
        writer.join().unwrap();
        consumer.poll().unwrap();
        for ticket in early + 1..=2 {
            assert_eq!(take(&mut consumer), Some(ticket));
        }
    });
}

/// A full ring: the producer may only overwrite what the consumer has released.
pub fn reuse(weak: Weak) {
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
pub fn wrap_with_pad(weak: Weak) {
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

/// The same, and what stands at the beginning of the ring is still being read: neither PAD nor
/// frame is written before there is room for both.
pub fn wrap_waits_for_head(weak: Weak) {
    model(move || {
        let (mut producer, mut consumer) = rolled(weak, 0);
        for ticket in 1..=7 {
            assert!(append(&mut producer, ticket));
        }
        producer.append(&[], KIND, 0, 8).unwrap();
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
        for ticket in 2..=7 {
            assert_eq!(take(&mut consumer), Some(ticket));
        }
        let (mut producer, done) = writer.join().unwrap();
        assert!(done || append(&mut producer, 9), "released bytes are free");
        let _ = producer.publish();
        consumer.poll().unwrap();
        assert_eq!(consumer.next_frame().unwrap().map(|frame| frame.ticket), Some(8));
        assert_eq!(take(&mut consumer), Some(9));
        assert_eq!(consumer.read(), RING_BYTES + FRAME);
    });
}

#[test]
fn frames_are_seen_whole_and_in_order() {
    commit_and_consume(Weak::Nothing);
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    batch(Weak::Nothing);
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
fn a_pad_waits_for_the_frame_that_is_read() {
    wrap_waits_for_head(Weak::Nothing);
}

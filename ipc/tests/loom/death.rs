//! Death of either side before each of its stores: [`Life`] counts them, and none behind its end is
//! made. The kernel closes a dead process's descriptors, which wakes whoever waits for it.

use certeus_ipc::ring::{Consumer, Memory, Producer, Word};
use certeus_ipc::sync::{AtomicU64, Ordering};
use certeus_ipc::verdict_ring::{Reader, Writer};
use loom::thread;
use std::sync::Arc;

use crate::memory::{Bell, Life, Mortal, RING_BYTES, Ring, Weak, model, rejected};
use crate::ring::{FRAME, KIND, append, take};

/// The peer's descriptors are closed: told by the same descriptor as its bell.
#[derive(Clone)]
struct End(Arc<AtomicU64>, Bell);

impl End {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)), Bell::new())
    }
    fn close(&self) {
        self.0.store(1, Ordering::Release);
        self.1.ring();
    }
    fn is_closed(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }
}

/// Reads all there is, sleeps, and goes on until the producer is dead and its ring is empty; the
/// tickets that it has seen.
fn serve(consumer: &mut Consumer<Ring>, end: &End, first: u64) -> u64 {
    let mut next = first;
    loop {
        let last_look = end.is_closed();
        consumer.poll().unwrap();
        while let Some(ticket) = take(consumer) {
            assert_eq!(ticket, next, "nothing lost, nothing twice");
            next += 1;
        }
        if last_look {
            return next - first;
        }
        if consumer.prepare_sleep().unwrap() {
            end.1.wait();
        }
        consumer.woke();
    }
}

/// One frame, then two at once; whatever was published is read, even with the doorbell never rung.
#[test]
fn a_producer_may_die_before_each_store() {
    const STORES: [u32; 3] = [3, 4, 11];
    for stores in 0..=STORES[2] {
        model(move || {
            let ring = Ring::new(Weak::Nothing);
            let mut consumer = Consumer::new(ring.clone());
            let end = End::new();
            let theirs = end.clone();
            let writer = thread::spawn(move || {
                let life = Life::of(stores);
                let mut producer = Producer::new(Mortal(ring, life.clone()));
                for tickets in [1..=1, 2..=3] {
                    tickets.for_each(|ticket| assert!(append(&mut producer, ticket)));
                    if producer.publish() && life.is_left() {
                        theirs.1.ring();
                    }
                }
                theirs.close();
            });
            let seen = serve(&mut consumer, &end, 1);
            let committed = if stores < STORES[1] { 0 } else { 1 };
            assert_eq!(seen, if stores < STORES[2] { committed } else { 3 });
            writer.join().unwrap();
        });
    }
}

/// The same at the end of the ring: PAD, frame, tail.
#[test]
fn a_producer_may_die_before_each_store_of_a_wrap() {
    const STORES: u32 = 2 + 3 + 1;
    for stores in 0..=STORES {
        model(move || {
            let ring = Ring::new(Weak::Nothing);
            let life = Life::of(u32::MAX);
            let mut producer = Producer::new(Mortal(ring.clone(), life.clone()));
            let mut consumer = Consumer::new(ring);
            for ticket in 1..=7 {
                assert!(append(&mut producer, ticket));
            }
            producer.append(&[], KIND, 0, 8).unwrap();
            let _ = producer.publish();
            consumer.poll().unwrap();
            while consumer.next_frame().unwrap().is_some() {}
            consumer.release(consumer.read());
            let end = End::new();
            let theirs = end.clone();
            let writer = thread::spawn(move || {
                life.set(stores);
                assert!(append(&mut producer, 9));
                assert_eq!(producer.committed(), RING_BYTES + FRAME);
                if producer.publish() && life.is_left() {
                    theirs.1.ring();
                }
                theirs.close();
            });
            assert_eq!(serve(&mut consumer, &end, 9), u64::from(stores == STORES));
            writer.join().unwrap();
        });
    }
}

/// What the worker does for two tickets: read, verdicts, `settled`, `head`, bell.
fn settle_two(ring: Ring, life: &Life, end: &End) {
    let (p, c) =
        (Arc::new(Mortal(ring.p.clone(), life.clone())), Mortal(ring.c.clone(), life.clone()));
    let mut writer = Writer::new(p, Arc::new(c));
    let mut consumer = Consumer::new(Mortal(ring, life.clone()));
    consumer.poll().unwrap();
    let ends: Vec<u64> =
        (1..=2).map(|_| consumer.next_frame().unwrap().unwrap().end_position).collect();
    for (ticket, position) in (1..=2).zip(ends) {
        writer.push(rejected(ticket));
        writer.publish(ticket);
        consumer.release(position);
        let due = consumer.head_wanted() <= consumer.released()
            || writer.settled_wanted() <= writer.settled();
        if due && life.is_left() {
            end.1.ring();
        }
    }
}

/// A client that sleeps on ticket 2 and goes on appending, below a worker that dies anywhere: it is
/// woken, it has the verdict of every ticket that is settled, and every frame that is not settled
/// stands whole in its ring, to be sent again.
#[test]
fn a_worker_may_die_before_each_store_of_a_publication() {
    // Entry, written, settled, head; twice.
    const STORES: u32 = 2 * (5 + 1 + 1 + 1);
    for stores in 0..=STORES {
        model(move || {
            let ring = Ring::new(Weak::Nothing);
            let mut producer = Producer::new(ring.clone());
            let mut last = RING_BYTES / FRAME;
            (1..=last).for_each(|ticket| assert!(append(&mut producer, ticket)));
            let _ = producer.publish();
            let mut reader = Reader::new(ring.p.clone(), ring.c.clone());
            let end = End::new();
            let (memory, theirs) = (ring.clone(), end.clone());
            let worker = thread::spawn(move || {
                settle_two(memory, &Life::of(stores), &theirs);
                theirs.close();
            });
            if !reader.arm(2) {
                end.1.wait();
            }
            last += u64::from(append(&mut producer, last + 1));
            let _ = producer.publish();
            worker.join().unwrap();
            let settled = reader.poll().unwrap();
            let mut known = 0;
            while let Some(entry) = reader.next().unwrap() {
                assert_eq!(entry, rejected(known + 1));
                known += 1;
            }
            assert!(settled <= known && known <= 2, "settled without its verdict");
            assert!(known >= u64::from(stores / 8), "a verdict that was published is there");
            resend(&mut producer, &ring, known, last);
        });
    }
}

/// Every frame above `high` is in the ring, from `head` on.
fn resend(producer: &mut Producer<Ring>, ring: &Ring, high: u64, last: u64) {
    let mut reader = Consumer::at(ring.clone(), producer.head());
    reader.poll().unwrap();
    let mut next = high + 1;
    while let Some(ticket) = take(&mut reader) {
        assert!(ticket <= next, "a frame that is not settled was given up");
        next += u64::from(ticket == next);
    }
    assert_eq!(next, last + 1, "all that was appended");
}

/// The log writer dies, the worker lives: it reads again from `head`, while the client goes on.
#[test]
fn a_rewound_consumer_reads_the_same_again() {
    model(|| {
        let ring = Ring::new(Weak::Nothing);
        let mut producer = Producer::new(ring.clone());
        let mut consumer = Consumer::new(ring);
        (1..=2).for_each(|ticket| assert!(append(&mut producer, ticket)));
        let _ = producer.publish();
        let client = thread::spawn(move || {
            let mut last = 2;
            for _ in 0..RING_BYTES / FRAME {
                last += u64::from(append(&mut producer, last + 1));
            }
            let _ = producer.publish();
            last
        });
        consumer.poll().unwrap();
        assert_eq!(take(&mut consumer), Some(1));
        consumer.release(consumer.read());
        let mut next = 2;
        while let Some(ticket) = take(&mut consumer) {
            assert_eq!(ticket, next);
            next += 1;
        }
        consumer.rewind();
        let last = client.join().unwrap();
        consumer.poll().unwrap();
        for ticket in 2..=last {
            assert_eq!(take(&mut consumer), Some(ticket), "nothing lost, nothing twice");
        }
        assert_eq!(take(&mut consumer), None);
    });
}

/// A reader of the old ring begins where a dead consumer had released.
#[test]
fn a_consumer_may_die_and_its_successor_starts_from_head() {
    for steps in 0..=2 {
        model(move || {
            let ring = Ring::new(Weak::Nothing);
            let mut producer = Producer::new(ring.clone());
            let mut consumer = Consumer::new(ring.clone());
            assert!(append(&mut producer, 1));
            let _ = producer.publish();
            let writer = thread::spawn(move || {
                assert!(append(&mut producer, 2));
                let _ = producer.publish();
                producer
            });
            consumer.poll().unwrap();
            assert_eq!(take(&mut consumer), Some(1));
            if steps > 0 {
                consumer.release(consumer.read());
            }
            if steps > 1 {
                consumer.poll().unwrap();
                let _ = take(&mut consumer);
            }
            let mut successor = Consumer::at(ring.clone(), ring.load_relaxed(Word::Head));
            let mut producer = writer.join().unwrap();
            assert!(append(&mut producer, 3));
            let _ = producer.publish();
            successor.poll().unwrap();
            for ticket in 1 + u64::from(steps > 0)..=3 {
                assert_eq!(take(&mut successor), Some(ticket), "nothing lost, nothing twice");
            }
            assert_eq!(take(&mut successor), None);
        });
    }
}

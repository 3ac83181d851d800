//! Sleeping and waking: nobody is woken for less than it wants, and nobody sleeps past it.

use std::sync::Arc;

use certeus_ipc::follow;
use certeus_ipc::ring::{Consumer, Full, Memory, Producer, Word};
use certeus_ipc::sync::AtomicU64;
use certeus_ipc::verdict_ring::{Reader, Writer};
use loom::cell::UnsafeCell;
use loom::thread;

use crate::memory::{Bell, RING_BYTES, Ring, Weak, model, rejected};
use crate::ring::{FRAME, KIND, append, take};

/// A consumer that sleeps whenever there is nothing is woken for everything.
pub fn wake_up(weak: Weak) {
    model(move || {
        let ring = Ring::new(weak);
        let (mut producer, mut consumer) = (Producer::new(ring.clone()), Consumer::new(ring));
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

/// A client that sleeps until half of its ring is free is woken then, and not before.
pub fn room_bell(weak: Weak) {
    model(move || {
        let ring = Ring::new(weak);
        let (mut producer, mut consumer) = (Producer::new(ring.clone()), Consumer::new(ring));
        for ticket in 1..=RING_BYTES / FRAME {
            assert!(append(&mut producer, ticket));
        }
        let _ = producer.publish();
        let bell = Bell::new();
        let socket = bell.clone();
        let client = thread::spawn(move || {
            while !append(&mut producer, 9) {
                if !producer.arm_room() {
                    bell.wait();
                }
                producer.disarm_room();
            }
        });
        consumer.poll().unwrap();
        for frames in 1..=4 {
            let _ = take(&mut consumer).unwrap();
            if frames % 2 == 0 {
                consumer.release(consumer.read());
                let due = consumer.head_wanted() <= consumer.released();
                assert!(!due || frames == 4, "woken for less than it wants");
                if due {
                    socket.ring();
                }
            }
        }
        client.join().unwrap();
    });
}

/// A client that sleeps until ticket 2 is settled is woken then, and not for ticket 1; the fence
/// behind `head` serves `settled` too.
pub fn settled_bell(weak: Weak) {
    model(move || {
        let ring = Ring::new(weak);
        let (p, c) = (ring.p.clone(), ring.c.clone());
        let (mut writer, reader) = (Writer::new(p.clone(), c.clone()), Reader::new(p, c));
        let consumer = Consumer::new(ring);
        let bell = Bell::new();
        let socket = bell.clone();
        let worker = thread::spawn(move || {
            for ticket in 1..=2 {
                writer.publish(ticket);
                let _ = consumer.head_wanted();
                let due = writer.settled_wanted() <= writer.settled();
                assert!(!due || ticket == 2, "woken for less than it wants");
                if due {
                    socket.ring();
                }
            }
        });
        if !reader.arm(2) {
            bell.wait();
        }
        reader.disarm();
        worker.join().unwrap();
    });
}

/// A worker that sleeps because the verdict ring is full is woken when there is room.
pub fn room_for_verdicts(weak: Weak) {
    model(move || {
        let ring = Ring::new(weak);
        let (p, c) = (ring.p.clone(), ring.c.clone());
        let mut writer = Writer::new(p.clone(), c.clone());
        let mut reader = Reader::new(p, c);
        let consumer = Consumer::new(ring);
        writer.push(rejected(1));
        writer.push(rejected(2));
        writer.publish(2);
        let bell = Bell::new();
        let doorbell = bell.clone();
        let worker = thread::spawn(move || {
            consumer.announce_sleep();
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

// --- inside the daemon ---------------------------------------------------------------------------

const PAIR_BYTES: u64 = 128;

/// One end of a pair: what it sends, what it takes, and how it sleeps.
struct End {
    out: Producer<Ring>,
    into: Consumer<Ring>,
    mine: Bell,
    theirs: Bell,
    blocked: bool,
    /// The wish that the other end was last woken for.
    rung: u64,
}

impl End {
    fn new(out: &Ring, into: &Ring, mine: &Bell, theirs: &Bell) -> Self {
        let (out, into) = (Producer::new(out.clone()), Consumer::new(into.clone()));
        let (mine, theirs) = (mine.clone(), theirs.clone());
        Self { out, into, mine, theirs, blocked: false, rung: u64::MAX }
    }

    /// Sends a frame without data, or remembers that there was no room.
    fn send(&mut self, ticket: u64) -> bool {
        self.blocked = self.out.append(&[], KIND, 0, ticket) == Err(Full);
        !self.blocked
    }

    fn publish(&mut self) {
        if self.out.publish() {
            self.theirs.ring();
        }
    }

    /// The next ticket that has come, if any.
    fn receive(&mut self) -> Option<u64> {
        self.into.poll().unwrap();
        self.into.next_frame().unwrap().map(|frame| frame.ticket)
    }

    /// Gives back what was received.
    fn release(&mut self) {
        if self.into.read() > self.into.released() {
            self.into.release(self.into.read());
            let wanted = self.into.head_wanted();
            if wanted <= self.into.released() && wanted != self.rung {
                self.rung = wanted;
                self.theirs.ring();
            }
        }
    }

    /// As the log writer, which takes nothing that it could not answer.
    fn sleep_for_room(&mut self) {
        if !self.out.arm_room() {
            self.mine.wait();
        }
        self.out.disarm_room();
    }

    /// As the worker: sleeps until something comes, or there is room again for what is blocked.
    fn sleep(&mut self) {
        if self.into.prepare_sleep().unwrap() && !(self.blocked && self.out.arm_room()) {
            self.mine.wait();
        }
        self.into.woke();
        self.out.disarm_room();
    }
}

/// Worker and log writer with a full forward ring between them, both asleep whenever they can be:
/// each event gets its answer.
pub fn pair(weak: Weak) {
    const EVENTS: u64 = PAIR_BYTES / 16 + 1;
    model(move || {
        let (forward, returns) = (Ring::of(weak, PAIR_BYTES), Ring::of(weak, PAIR_BYTES));
        let (worker_bell, log_bell) = (Bell::new(), Bell::new());
        let mut worker = End::new(&forward, &returns, &worker_bell, &log_bell);
        let mut log = End::new(&returns, &forward, &log_bell, &worker_bell);
        (1..EVENTS).for_each(|ticket| assert!(worker.send(ticket)));
        worker.publish();
        let log_writer = thread::spawn(move || {
            let mut answered = 0;
            while answered < EVENTS {
                let mut last = answered;
                while let Some(ticket) = log.receive() {
                    last = ticket;
                }
                // One run of verdicts answers all.
                if last > answered && log.send(last) {
                    answered = last;
                    log.publish();
                    log.release();
                } else {
                    log.sleep();
                }
            }
        });
        let (mut sent, mut settled) = (EVENTS - 1, 0);
        while settled < EVENTS {
            while let Some(ticket) = worker.receive() {
                assert!(ticket > settled && ticket <= sent);
                settled = ticket;
            }
            worker.release();
            if sent < EVENTS && worker.send(EVENTS) {
                sent = EVENTS;
                worker.publish();
            } else if settled < EVENTS {
                worker.sleep();
            }
        }
        log_writer.join().unwrap();
    });
}

/// A log writer whose answers fill the return ring, above a worker that sleeps: each is read.
pub fn answers(weak: Weak) {
    const ANSWERS: u64 = PAIR_BYTES / 16 + 1;
    model(move || {
        let (forward, returns) = (Ring::of(weak, PAIR_BYTES), Ring::of(weak, PAIR_BYTES));
        let (worker_bell, log_bell) = (Bell::new(), Bell::new());
        let mut worker = End::new(&forward, &returns, &worker_bell, &log_bell);
        let mut log = End::new(&returns, &forward, &log_bell, &worker_bell);
        (1..ANSWERS).for_each(|ticket| assert!(log.send(ticket)));
        let log_writer = thread::spawn(move || {
            log.publish();
            while !log.send(ANSWERS) {
                log.sleep_for_room();
            }
            log.publish();
        });
        let mut settled = 0;
        while settled < ANSWERS {
            while let Some(ticket) = worker.receive() {
                assert_eq!(ticket, settled + 1);
                settled = ticket;
            }
            worker.release();
            if settled < ANSWERS {
                worker.sleep();
            }
        }
        log_writer.join().unwrap();
    });
}

/// The log's groups, of which one is written.
struct Group(UnsafeCell<u64>);

// SAFETY: the cell is checked by loom, which is the point.
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

/// A follower that sleeps until `durable_seq` is 1 is woken then, and can read the group.
fn follower() {
    model(|| {
        let group = Arc::new(Group(UnsafeCell::new(0)));
        let durable = Arc::new(AtomicU64::new(0));
        let wish = Arc::new(AtomicU64::new(u64::MAX));
        let bell = Bell::new();
        let log = {
            let (group, durable) = (group.clone(), durable.clone());
            let (wish, bell) = (wish.clone(), bell.clone());
            thread::spawn(move || {
                // SAFETY: loom reports a concurrent access.
                group.0.with_mut(|bytes| unsafe { *bytes = 42 });
                follow::publish(&durable, 1);
                if follow::wanted(&wish) <= 1 {
                    bell.ring();
                }
            })
        };
        if follow::want(&wish, 1, &durable) == 0 {
            bell.wait();
        }
        assert_eq!(follow::reached(&durable), 1);
        // SAFETY: loom reports a concurrent access.
        assert_eq!(group.0.with(|bytes| unsafe { *bytes }), 42);
        log.join().unwrap();
    });
}

/// A follower that never sleeps reads whatever it is told of.
fn follower_looks() {
    model(|| {
        let group = Arc::new(Group(UnsafeCell::new(0)));
        let durable = Arc::new(AtomicU64::new(0));
        let log = {
            let (group, durable) = (group.clone(), durable.clone());
            thread::spawn(move || {
                // SAFETY: loom reports a concurrent access.
                group.0.with_mut(|bytes| unsafe { *bytes = 42 });
                follow::publish(&durable, 1);
            })
        };
        if follow::reached(&durable) == 1 {
            // SAFETY: loom reports a concurrent access.
            assert_eq!(group.0.with(|bytes| unsafe { *bytes }), 42);
        }
        log.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost() {
    wake_up(Weak::Nothing);
}

#[test]
fn a_client_is_woken_when_its_ring_has_room() {
    room_bell(Weak::Nothing);
}

#[test]
fn a_client_is_woken_when_its_ticket_is_settled() {
    settled_bell(Weak::Nothing);
}

#[test]
fn a_worker_is_woken_when_the_verdict_ring_has_room() {
    room_for_verdicts(Weak::Nothing);
}

#[test]
fn worker_and_log_writer_wake_each_other() {
    pair(Weak::Nothing);
}

#[test]
fn a_log_writer_is_woken_when_its_answers_have_room() {
    answers(Weak::Nothing);
}

#[test]
fn a_follower_is_woken_when_its_seq_is_durable() {
    follower();
}

#[test]
fn a_follower_reads_what_it_is_told_of() {
    follower_looks();
}

#[test]
fn nobody_wants_a_bell_for_room_who_has_not_said_so() {
    model(|| {
        let ring = Ring::new(Weak::Nothing);
        let producer = Producer::new(ring.clone());
        assert!(producer.arm_room(), "an empty ring has room");
        assert_eq!(ring.load_relaxed(Word::WakeHead), 0);
        producer.disarm_room();
        assert_eq!(Consumer::new(ring).head_wanted(), u64::MAX);
    });
}

//! Both ends of both rings against a peer that writes whatever it likes.
//!
//! The first byte chooses the end that is honest: the consumer of a ring, its producer, the writer
//! of a verdict ring, its reader. Everything else is what the other side stores, and when.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use certeus_ipc::layout::{
    C_BYTES, C_SETTLED, C_VERDICTS_WRITTEN, KIND_PAD, P_VERDICTS_READ, P_WAKE_SETTLED, PAGE_BYTES,
    frame_bytes, payload_bytes_max,
};
use certeus_ipc::ring::{Consumer, Frame, Memory, Producer, Violation, Word};
use certeus_ipc::verdict::{Entry, Reason, Verdict};
use certeus_ipc::verdict_ring::{Garbage, Reader, Words, Writer};

use crate::input::Input;

const RING_BYTES: u64 = 1024;
const VERDICTS: u64 = 4;

pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => consumer(&mut input),
        1 => producer(&mut input),
        2 => writer(&mut input),
        _ => reader(&mut input),
    }
}

/// Memory that knows how often each word of the data was loaded since the last look.
#[derive(Clone)]
struct Plain {
    words: Rc<RefCell<Vec<u64>>>,
    control: Rc<[AtomicU64; 4]>,
    loads: Rc<RefCell<Vec<u64>>>,
    stray: Rc<Cell<bool>>,
}

impl Plain {
    fn new() -> Self {
        Self {
            words: Rc::new(RefCell::new(vec![0; RING_BYTES as usize / 8])),
            control: Rc::default(),
            loads: Rc::default(),
            stray: Rc::default(),
        }
    }
}

impl Memory for Plain {
    fn ring_bytes(&self) -> u64 {
        RING_BYTES
    }
    fn word(&self, word: Word) -> &AtomicU64 {
        &self.control[word as usize]
    }
    fn data_load(&self, index: u64) -> u64 {
        assert!(index % 8 == 0 && index < RING_BYTES, "a load at {index}");
        self.loads.borrow_mut().push(index);
        self.words.borrow()[index as usize / 8]
    }
    fn data_store(&self, index: u64, value: u64) {
        assert!(index % 8 == 0 && index < RING_BYTES, "a store at {index}");
        self.words.borrow_mut()[index as usize / 8] = value;
    }
    fn data_write(&self, index: u64, bytes: &[u8]) {
        assert!(index + bytes.len() as u64 <= RING_BYTES, "a write at {index}");
        self.stray.set(true);
    }
}

/// What `ipc/README.md` says of the frames from `read` to `tail`: the model.
fn expected(words: &[u64], mut read: u64, tail: u64) -> Result<Option<Frame>, Violation> {
    while read < tail {
        let index = read % RING_BYTES;
        let (header, ticket) = (words[index as usize / 8], words[index as usize / 8 + 1]);
        let payload_bytes = header & 0xffff_ffff;
        let (kind, flags) = ((header >> 32) as u8, (header >> 40) as u8);
        let end_position = read + frame_bytes(payload_bytes);
        if header >> 48 != 0 {
            return Err(Violation::Kind);
        }
        if end_position > tail || index + frame_bytes(payload_bytes) > RING_BYTES {
            return Err(Violation::Length);
        }
        if kind == KIND_PAD {
            if end_position % RING_BYTES != 0 || flags != 0 {
                return Err(Violation::Kind);
            }
            read = end_position;
            continue;
        }
        if payload_bytes > payload_bytes_max(RING_BYTES) {
            return Err(Violation::Length);
        }
        let payload_index = index + 16;
        return Ok(Some(Frame { kind, flags, ticket, payload_index, payload_bytes, end_position }));
    }
    Ok(None)
}

fn consumer(input: &mut Input<'_>) {
    let memory = Plain::new();
    let mut consumer = Consumer::new(memory.clone());
    let mut ends = Vec::new();
    // Where a producer that does as the library does would be.
    let mut tail = 0_u64;
    while !input.is_empty() {
        let before = (consumer.read(), consumer.tail_seen());
        match input.byte() % 10 {
            0 => memory.data_store(input.below(RING_BYTES as usize / 8) as u64 * 8, input.near(0)),
            1 | 2 => {
                let length = input.near(24) & 0xffff_ffff;
                let kind = input.byte();
                let index = (tail % RING_BYTES) & !15;
                memory.data_store(index, length | u64::from(kind) << 32);
                memory.data_store(index + 8, input.near(1));
                tail = tail.wrapping_add(frame_bytes(length)) & !15;
            }
            3 => tail = input.near(tail),
            4 => memory.store_relaxed(Word::Tail, tail),
            5 => {
                if poll(&mut consumer, &memory).is_err() {
                    return;
                }
            }
            6 | 7 => {
                memory.loads.borrow_mut().clear();
                let wanted = expected(&memory.words.borrow(), before.0, before.1);
                let got = consumer.next_frame();
                assert_eq!(got, wanted);
                once(&memory.loads.borrow());
                match got {
                    Ok(Some(frame)) => ends.push(frame.end_position),
                    Ok(None) => {}
                    Err(_) => return,
                }
            }
            8 if !ends.is_empty() => {
                let count = input.below(ends.len()) + 1;
                let position = ends.drain(..count).next_back().expect("one at least");
                consumer.release(position);
                assert_eq!(memory.load_relaxed(Word::Head), position);
            }
            8 => {}
            _ => {
                consumer.rewind();
                ends.clear();
            }
        }
        assert!(consumer.released() <= consumer.read() && consumer.read() <= consumer.tail_seen());
        assert!(consumer.tail_seen() - consumer.released() <= RING_BYTES);
    }
}

fn poll(consumer: &mut Consumer<Plain>, memory: &Plain) -> Result<bool, Violation> {
    let (tail, before) = (memory.load_relaxed(Word::Tail), consumer.tail_seen());
    let possible = tail % 16 == 0 && tail >= before && tail - consumer.released() <= RING_BYTES;
    let got = consumer.poll();
    let more = consumer.read() < tail;
    assert_eq!(got, if possible { Ok(more) } else { Err(Violation::Position) });
    got
}

/// What a peer can change between two looks must be looked at once.
fn once(loads: &[u64]) {
    let mut sorted = loads.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), loads.len(), "a word was loaded twice: {loads:?}");
}

/// A producer whose consumer lies about `head`.
fn producer(input: &mut Input<'_>) {
    let memory = Plain::new();
    let mut producer = Producer::new(memory.clone());
    let mut believed = 0;
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => memory.store_relaxed(Word::Head, input.near(producer.committed())),
            1 => {
                let wanted = input.short() as u64 % (payload_bytes_max(RING_BYTES) + 1);
                if let Ok(claim) = producer.claim(wanted) {
                    let end = claim.payload_index + claim.payload_bytes;
                    assert!(end <= RING_BYTES && claim.payload_index % 16 == 0);
                    let used = input.below(wanted as usize + 1) as u64;
                    producer.commit(claim, used, 1, 0, 1);
                }
            }
            2 => drop(producer.claim(input.below(100) as u64)),
            _ => {
                let _ = producer.publish();
                assert_eq!(memory.load_relaxed(Word::Tail), producer.committed());
            }
        }
        let head = producer.head();
        assert!(head >= believed && head <= producer.committed(), "head {head}");
        assert!(producer.committed() - head <= RING_BYTES, "written over what is not read");
        believed = head;
    }
}

struct Pages(Vec<AtomicU64>);

impl Pages {
    fn new() -> Arc<Self> {
        Arc::new(Self((0..(PAGE_BYTES + 256) / 8).map(|_| AtomicU64::new(0)).collect()))
    }
}

impl Words for Pages {
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset < C_BYTES);
        &self.0[offset / 8]
    }
    fn verdict_count(&self) -> u64 {
        VERDICTS
    }
}

/// A writer of verdicts whose reader lies about what it has read.
fn writer(input: &mut Input<'_>) {
    let (p, c) = (Pages::new(), Pages::new());
    let mut writer = Writer::new(p.clone(), c.clone());
    let (mut pushed, mut published, mut read) = (0, 0, 0);
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => p.store_relaxed(P_VERDICTS_READ, input.near(published)),
            1 => p.store_relaxed(P_WAKE_SETTLED, input.near(published)),
            2 => {
                let told = p.load_relaxed(P_VERDICTS_READ);
                if told > read && told <= published {
                    read = told;
                }
                assert_eq!(writer.room() as u64, VERDICTS - (pushed - read));
                if writer.room() > 0 {
                    pushed += 1;
                    writer.push(Entry {
                        ticket: pushed,
                        seq: 0,
                        group: 0,
                        count: 1,
                        verdict: Verdict::Rejected,
                        reason: Reason::InvalidJson,
                    });
                }
            }
            _ => {
                writer.publish(pushed);
                published = pushed;
                assert_eq!(c.load_relaxed(C_VERDICTS_WRITTEN), pushed);
                assert_eq!(writer.settled_wanted(), p.load_relaxed(P_WAKE_SETTLED));
            }
        }
    }
}

/// A reader of verdicts below a daemon that lies.
fn reader(input: &mut Input<'_>) {
    let (p, c) = (Pages::new(), Pages::new());
    let mut reader = Reader::new(p.clone(), c.clone());
    let (mut settled, mut count) = (0, 0_u64);
    while !input.is_empty() {
        let told = match input.byte() % 5 {
            0 => {
                let entries = VERDICTS as usize * Entry::BYTES / 8;
                let offset = PAGE_BYTES + input.below(entries) * 8;
                c.store_relaxed(offset, input.near(1));
                Ok(())
            }
            1 => {
                c.store_relaxed(C_VERDICTS_WRITTEN, input.near(count));
                Ok(())
            }
            2 => {
                c.store_relaxed(C_SETTLED, input.near(settled));
                Ok(())
            }
            3 => reader.poll().map(|now| {
                assert!(now >= settled);
                settled = now;
                count = c.load_relaxed(C_VERDICTS_WRITTEN);
            }),
            _ => reader.next().map(|entry| {
                if let Some(entry) = entry {
                    assert!(entry.ticket > 0 && entry.count > 0);
                    assert!(entry.last_ticket() >= entry.ticket);
                }
                let _ = reader.acknowledge(settled);
            }),
        };
        if told == Err(Garbage) {
            return;
        }
    }
}

//! The work itself, the same for every system: what is written, what is read, what is timed.

use crate::client::Client;
use crate::clock::{now_ns, timer_ns};
use crate::measurement::{Measurement, Times};
use crate::payload::Payload;
use crate::process::{Board, Slot, end_after, fork, pin};
use crate::settings::Settings;
use crate::span::{Phase, Span, own_pid};

/// Looks for events between two looks at the clock.
const READS_BETWEEN_LOOKS: u64 = 16;
/// Looks in a row that find none, after which the client is looked at.
const IDLE_READS_MAX: u64 = 4096;
/// For a client to start, and to make its events beforehand.
const PRODUCER_PATIENCE_SECONDS: f64 = 120.0;
/// For starting and ending beside the time that is measured.
const PATIENCE_SECONDS: f64 = 30.0;

/// The writing end of a direction.
pub trait Write {
    /// Copies one event in; waits while there is no room.
    fn write(&mut self, payload: &[u8]);
    /// Makes visible what was written.
    fn publish(&mut self) {}
}

/// The reading end.
pub trait Read {
    /// Reads every byte of what there is, and gives its room back. It may wait for the first event.
    fn read(&mut self) -> Turn;
}

/// What was read at once.
#[derive(Clone, Copy, Default)]
pub struct Turn {
    pub events: u64,
    /// Of all bytes: [`crate::payload::sum`].
    pub sum: u64,
}

/// One process's ends of both directions, and what went through them.
struct End<W, R> {
    writer: W,
    reader: R,
    payload: Payload,
    written_sum: u64,
    read_sum: u64,
}

impl<W: Write, R: Read> End<W, R> {
    fn new((writer, reader): (W, R), settings: &Settings) -> Self {
        let payload = Payload::new(settings.payload_bytes);
        Self { writer, reader, payload, written_sum: 0, read_sum: 0 }
    }

    #[inline]
    fn send(&mut self, number: u64) {
        self.writer.write(self.payload.number(number, &mut self.written_sum));
        self.writer.publish();
    }

    #[inline]
    fn receive(&mut self) {
        let mut turn = Turn::default();
        while turn.events == 0 {
            turn = self.reader.read();
        }
        assert!(turn.events == 1, "one event is under way");
        self.read_sum = self.read_sum.wrapping_add(turn.sum);
    }
}

/// One event at a time: there, and another one back, each read in full before the next.
///
/// One way is half of a round trip; each round trip is measured by itself. `near` and `far` open
/// the ends in their own process, each pinned to its CPU.
pub fn one_way<W: Write, R: Read>(
    settings: &Settings,
    near: impl FnOnce() -> (W, R),
    far: impl FnOnce() -> (W, R),
) -> Measurement {
    end_after(settings.warmup_seconds + settings.seconds + PATIENCE_SECONDS);
    let board = Board::new();
    let child = fork(|| {
        pin(settings.last_cpu());
        answer(End::new(far(), settings), &board);
    });
    pin(settings.first_cpu());
    let timer_ns = timer_ns();
    let mut end = End::new(near(), settings);
    let mut times = Times::new();
    let mut span = Span::begin(settings, vec![own_pid(), child.pid()]);
    let mut number = 0;
    loop {
        number += 1;
        let sent_ns = now_ns();
        end.send(number);
        end.receive();
        let back_ns = now_ns();
        match span.tick(back_ns, number) {
            Phase::Warmup => {}
            Phase::Measured => times.record((back_ns - sent_ns) / 2),
            Phase::Over => break,
        }
    }
    // One more, which the other end answers before it leaves.
    board.set(Slot::Stop, 1);
    end.send(number + 1);
    end.receive();
    child.join();
    Measurement {
        bytes_each: settings.payload_bytes as u64,
        concurrency: 1,
        histogram: Some(times.encode()),
        timer_ns,
        written_sum: Some(end.written_sum.wrapping_add(board.get(Slot::WrittenSum))),
        read_sum: Some(end.read_sum.wrapping_add(board.get(Slot::ReadSum))),
        ..span.measurement()
    }
}

fn answer<W: Write, R: Read>(mut end: End<W, R>, board: &Board) {
    let (mut number, mut last) = (0, false);
    while !last {
        end.receive();
        last = board.get(Slot::Stop) != 0;
        number += 1;
        end.send(number);
    }
    board.set(Slot::WrittenSum, end.written_sum);
    board.set(Slot::ReadSum, end.read_sum);
}

/// As many events as go through: a second process writes as fast as there is room, this one reads.
pub fn throughput<W: Write, R: Read>(
    settings: &Settings,
    writer: impl FnOnce() -> W,
    reader: impl FnOnce() -> R,
) -> Measurement {
    end_after(settings.warmup_seconds + settings.seconds + PATIENCE_SECONDS);
    let board = Board::new();
    let child = fork(|| {
        pin(settings.first_cpu());
        write(writer(), settings, &board);
    });
    pin(settings.last_cpu());
    let mut reader = reader();
    board.wait(Slot::Ready);
    let mut span = Span::begin(settings, vec![own_pid(), child.pid()]);
    let (mut events, mut read_sum, mut reads) = (0, 0u64, 0u64);
    while board.get(Slot::Done) == 0 || events < board.get(Slot::Written) {
        let turn = reader.read();
        events += turn.events;
        read_sum = read_sum.wrapping_add(turn.sum);
        reads += 1;
        if reads % READS_BETWEEN_LOOKS == 0 && span.tick(now_ns(), events) == Phase::Over {
            board.set(Slot::Stop, 1);
        }
    }
    child.join();
    Measurement {
        bytes_each: settings.payload_bytes as u64,
        written_sum: Some(board.get(Slot::WrittenSum)),
        read_sum: Some(read_sum),
        ..span.measurement()
    }
}

fn write<W: Write>(mut writer: W, settings: &Settings, board: &Board) {
    let mut payload = Payload::new(settings.payload_bytes);
    let (mut number, mut written_sum) = (0, 0);
    board.set(Slot::Ready, 1);
    while board.get(Slot::Stop) == 0 {
        for _ in 0..settings.batch_events {
            number += 1;
            writer.write(payload.number(number, &mut written_sum));
        }
        writer.publish();
    }
    board.set(Slot::Written, number);
    board.set(Slot::WrittenSum, written_sum);
    board.set(Slot::Done, 1);
}

/// As many events as another program writes, until it is gone; the time begins with its first.
///
/// What it wrote is its own to tell: `written_sum` stays open.
pub fn consume<R: Read>(settings: &Settings, client: &Client, mut reader: R) -> Measurement {
    end_after(settings.warmup_seconds + settings.seconds + PRODUCER_PATIENCE_SECONDS);
    pin(settings.last_cpu());
    let mut span: Option<Span> = None;
    let (mut events, mut read_sum, mut reads, mut idle) = (0, 0u64, 0u64, 0u64);
    loop {
        let turn = reader.read();
        events += turn.events;
        read_sum = read_sum.wrapping_add(turn.sum);
        idle = if turn.events > 0 { 0 } else { idle + 1 };
        reads += 1;
        if events > 0 && reads % READS_BETWEEN_LOOKS == 0 {
            let span =
                span.get_or_insert_with(|| Span::begin(settings, vec![own_pid(), client.pid]));
            span.tick(now_ns(), events);
        }
        if idle > IDLE_READS_MAX {
            if client.is_over() {
                break;
            }
            idle = 0;
        }
    }
    let span = span.expect("the client wrote nothing");
    Measurement { read_sum: Some(read_sum), ..span.measurement() }
}

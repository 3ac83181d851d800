//! The floor of every latency between two processes: one cache line goes there and comes back.
//!
//! Two words, 128 bytes apart. Each side spins on the other's and answers by storing the number
//! that it saw. One way is half of a round trip; each round trip is measured by itself.

use std::sync::atomic::Ordering::{Acquire, Release};

use certeus_bench_native::clock::{now_ns, timer_ns};
use certeus_bench_native::measurement::{Measurement, Times};
use certeus_bench_native::process::{Board, Slot, end_after, fork, pin};
use certeus_bench_native::settings::Settings;
use certeus_bench_native::span::{Phase, Span, own_pid};

const END: u64 = u64::MAX;

fn main() {
    let settings = Settings::of_this_program();
    end_after(settings.warmup_seconds + settings.seconds + 30.0);
    let board = Board::new();
    let child = fork(|| answer(&board, settings.last_cpu()));
    pin(settings.first_cpu());
    let timer_ns = timer_ns();
    let mut times = Times::new();
    let mut span = Span::begin(&settings, vec![own_pid(), child.pid()]);
    let (ping, pong) = (board.word(Slot::Ping), board.word(Slot::Pong));
    let mut number = 0;
    loop {
        number += 1;
        let sent_ns = now_ns();
        ping.store(number, Release);
        while pong.load(Acquire) != number {}
        let back_ns = now_ns();
        match span.tick(back_ns, number) {
            Phase::Warmup => {}
            Phase::Measured => times.record((back_ns - sent_ns) / 2),
            Phase::Over => break,
        }
    }
    ping.store(END, Release);
    child.join();
    Measurement { concurrency: 1, histogram: Some(times.encode()), timer_ns, ..span.measurement() }
        .print();
}

fn answer(board: &Board, cpu: usize) {
    pin(cpu);
    let (ping, pong) = (board.word(Slot::Ping), board.word(Slot::Pong));
    let mut seen = 0;
    while seen != END {
        let number = ping.load(Acquire);
        if number != seen {
            pong.store(number, Release);
            seen = number;
        }
    }
}

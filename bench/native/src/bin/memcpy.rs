//! The floor of every throughput: how fast one processor copies memory, and nothing else.
//!
//! Payload after payload from one area to another, over and over; an area within the caches shows
//! what a small ring can reach, one far beyond them what memory can.

use certeus_bench_native::clock::{now_ns, timer_ns};
use certeus_bench_native::measurement::Measurement;
use certeus_bench_native::payload::sum;
use certeus_bench_native::process::{end_after, pin};
use certeus_bench_native::settings::Settings;
use certeus_bench_native::span::{Phase, Span, own_pid};

const COPIES_BETWEEN_LOOKS_BYTES: usize = 1 << 16;

fn main() {
    let settings = Settings::of_this_program();
    end_after(settings.warmup_seconds + settings.seconds + 30.0);
    pin(settings.first_cpu());
    let (bytes, count) = (settings.payload_bytes, settings.area_bytes / settings.payload_bytes);
    assert!(count > 0, "cannot copy {bytes} bytes within {}", settings.area_bytes);
    let from: Vec<u8> = (0..bytes * count).map(|at| (at % 251) as u8).collect();
    // Written once before, so that no page is new when it is copied to.
    let mut to = vec![u8::MAX; from.len()];
    let timer_ns = timer_ns();
    let look_every = (COPIES_BETWEEN_LOOKS_BYTES / bytes).max(1);
    let mut span = Span::begin(&settings, vec![own_pid()]);
    let mut copied = 0;
    loop {
        for (from, to) in from.chunks_exact(bytes).zip(to.chunks_exact_mut(bytes)) {
            to.copy_from_slice(std::hint::black_box(from));
            copied += 1;
            if copied % look_every == 0 && span.tick(now_ns(), copied as u64) == Phase::Over {
                break;
            }
        }
        if span.tick(now_ns(), copied as u64) == Phase::Over {
            break;
        }
    }
    let whole = copied >= count;
    Measurement {
        bytes_each: bytes as u64,
        concurrency: 1,
        timer_ns,
        written_sum: whole.then(|| sum(&from)),
        read_sum: whole.then(|| sum(&to)),
        ..span.measurement()
    }
    .print();
}

//! As many events as go through one ring.
//!
//! The writer publishes each `batch_events`, as `append_many` publishes a list, and what it has
//! committed when the ring is full. The reader takes a worker's share at a time and releases it.

use certeus_bench_native::ring::Ring;
use certeus_bench_native::settings::Settings;
use certeus_bench_native::work::throughput;

fn main() {
    let settings = Settings::of_this_program();
    let ring = Ring::new(settings.ring_bytes);
    throughput(&settings, || ring.writer(), || ring.reader(settings.blocking)).print();
}

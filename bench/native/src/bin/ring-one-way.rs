//! One event at a time: over one ring there, over another back.
//!
//! Both ends use the ring as library and worker do: claim, copy, commit, publish; poll, validate,
//! copy out, release. With `blocking` each end sleeps on its doorbell when it finds nothing, and is
//! woken by NEED_WAKEUP.

use certeus_bench_native::ring::Ring;
use certeus_bench_native::settings::Settings;
use certeus_bench_native::work::one_way;

fn main() {
    let settings = Settings::of_this_program();
    let (there, back) = (Ring::new(settings.ring_bytes), Ring::new(settings.ring_bytes));
    let near = || (there.writer(), back.reader(settings.blocking));
    let far = || (back.writer(), there.reader(settings.blocking));
    one_way(&settings, near, far).print();
}

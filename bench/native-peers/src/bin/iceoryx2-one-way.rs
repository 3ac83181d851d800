//! One event at a time: through one service there, through another back.

use certeus_bench_native::settings::Settings;
use certeus_bench_native::work::one_way;
use certeus_bench_native_peers::Channel;

fn main() {
    let settings = Settings::of_this_program();
    let open = |out, back| {
        // The reader first: the other side's writer waits for it.
        let reader = Channel::open(back, &settings).reader();
        (Channel::open(out, &settings).writer(), reader)
    };
    one_way(&settings, || open("there", "back"), || open("back", "there")).print();
}

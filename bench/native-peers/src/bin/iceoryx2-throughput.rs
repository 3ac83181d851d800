//! As many events as go through one service.

use certeus_bench_native::settings::Settings;
use certeus_bench_native::work::throughput;
use certeus_bench_native_peers::Channel;

fn main() {
    let settings = Settings::of_this_program();
    let channel = || Channel::open("there", &settings);
    throughput(&settings, || channel().writer(), || channel().reader()).print();
}

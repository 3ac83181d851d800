//! The reading end of a service that a program in another language writes to.

use certeus_bench_native::client::Client;
use certeus_bench_native::settings::Settings;
use certeus_bench_native::work::consume;
use certeus_bench_native_peers::Channel;

fn main() {
    let settings = Settings::of_this_program();
    let reader = Channel::open("there", &settings).reader();
    let client = Client::accept();
    client.send(&[1]); // the service is there
    consume(&settings, &client, reader).print();
}

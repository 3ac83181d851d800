//! A worker without a log, for producers in other languages: reads, sums, settles and releases.

use certeus_bench_native::client::Client;
use certeus_bench_native::session::Session;
use certeus_bench_native::settings::Settings;
use certeus_bench_native::work::consume;

fn main() {
    let settings = Settings::of_this_program();
    let client = Client::accept();
    consume(&settings, &client, Session::welcome(&client)).print();
}

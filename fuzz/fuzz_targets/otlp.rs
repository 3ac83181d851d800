#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| certeus_fuzz::otlp::run(data));

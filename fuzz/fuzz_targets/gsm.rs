#![no_main]

#[path = "../../tests/fuzz/gsm.rs"]
mod gsm;

libfuzzer_sys::fuzz_target!(|data: &[u8]| gsm::run(data));

#![no_main]

#[path = "../../tests/fuzz/autocancel.rs"]
mod autocancel;

libfuzzer_sys::fuzz_target!(|data: &[u8]| autocancel::run(data));

#![no_main]

#[path = "../../tests/fuzz/compose.rs"]
mod compose;

libfuzzer_sys::fuzz_target!(|data: &[u8]| compose::run(data));

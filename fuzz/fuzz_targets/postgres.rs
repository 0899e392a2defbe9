#![no_main]

#[path = "../../tests/fuzz/postgres.rs"]
mod postgres;

libfuzzer_sys::fuzz_target!(|data: &[u8]| postgres::run(data));

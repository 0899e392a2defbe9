#![no_main]

#[path = "../../tests/fuzz/spool.rs"]
mod spool;

libfuzzer_sys::fuzz_target!(|data: &[u8]| spool::run(data));

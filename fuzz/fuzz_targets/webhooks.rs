#![no_main]

#[path = "../../tests/fuzz/webhooks.rs"]
mod webhooks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| webhooks::run(data));

#![no_main]

#[path = "../../tests/fuzz/phone.rs"]
mod phone;

libfuzzer_sys::fuzz_target!(|data: &[u8]| phone::run(data));

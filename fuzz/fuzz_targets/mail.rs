#![no_main]

#[path = "../../tests/fuzz/mail.rs"]
mod mail;

libfuzzer_sys::fuzz_target!(|data: &[u8]| mail::run(data));

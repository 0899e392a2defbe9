#![no_main]

#[path = "../../tests/fuzz/smtp_replies.rs"]
mod smtp_replies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| smtp_replies::run(data));

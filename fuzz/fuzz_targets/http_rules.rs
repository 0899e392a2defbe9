#![no_main]

#[path = "../../tests/fuzz/http_rules.rs"]
mod http_rules;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http_rules::run(data));

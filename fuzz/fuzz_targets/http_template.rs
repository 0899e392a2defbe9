#![no_main]

#[path = "../../tests/fuzz/http_template.rs"]
mod http_template;

libfuzzer_sys::fuzz_target!(|data: &[u8]| http_template::run(data));

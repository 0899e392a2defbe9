#![no_main]

#[path = "../../tests/fuzz/url_template.rs"]
mod url_template;

libfuzzer_sys::fuzz_target!(|data: &[u8]| url_template::run(data));

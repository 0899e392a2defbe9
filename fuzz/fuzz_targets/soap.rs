#![no_main]

#[path = "../../tests/fuzz/soap.rs"]
mod soap;

libfuzzer_sys::fuzz_target!(|data: &[u8]| soap::run(data));

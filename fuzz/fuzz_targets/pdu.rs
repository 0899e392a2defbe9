#![no_main]

#[path = "../../tests/fuzz/pdu.rs"]
mod pdu;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pdu::run(data));

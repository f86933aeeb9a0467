//! Guided by coverage; what it asks for stands in `targets/redact.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::redact::target(data));

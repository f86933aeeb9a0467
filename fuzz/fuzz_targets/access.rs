//! Guided by coverage; what it asks for stands in `targets/access.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::access::target(data));

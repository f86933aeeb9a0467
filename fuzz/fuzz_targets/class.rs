//! Guided by coverage; what it asks for stands in `targets/class.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::class::target(data));

//! Guided by coverage; what it asks for stands in `targets/trace.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::trace::target(data));

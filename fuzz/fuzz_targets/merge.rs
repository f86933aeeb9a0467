//! Guided by coverage; what it asks for stands in `targets/merge.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::merge::target(data));

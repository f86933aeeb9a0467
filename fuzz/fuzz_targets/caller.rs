//! Guided by coverage; what it asks for stands in `targets/caller.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::caller::target(data));

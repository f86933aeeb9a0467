//! Guided by coverage; what it asks for stands in `targets/answer.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::answer::target(data));

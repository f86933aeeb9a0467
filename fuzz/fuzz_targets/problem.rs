//! Guided by coverage; what it asks for stands in `targets/problem.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::problem::target(data));

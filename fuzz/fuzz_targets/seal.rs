//! Guided by coverage; what it asks for stands in `targets/seal.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::seal::target(data));

//! Guided by coverage; what it asks for stands in `targets/batch.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::batch::target(data));

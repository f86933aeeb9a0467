//! Guided by coverage; what it asks for stands in `targets/journal.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::journal::target(data));

//! Guided by coverage; what it asks for stands in `targets/webhook.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::webhook::target(data));

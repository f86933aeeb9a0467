//! The targets: each takes any bytes and fails when perch breaks a promise. `fuzz_targets` guides them by coverage;
//! `tests/fuzz.rs` replays what was found.

pub mod access;
pub mod answer;
pub mod batch;
pub mod caller;
pub mod class;
pub mod codec;
pub mod config;
pub mod input;
pub mod journal;
pub mod ledger;
pub mod limits;
pub mod merge;
pub mod paging;
pub mod problem;
pub mod proxy;
pub mod redact;
pub mod rig;
pub mod seal;
pub mod trace;
pub mod webhook;
pub mod wire;

/// A target's name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 19] = [
    ("access", access::target),
    ("answer", answer::target),
    ("batch", batch::target),
    ("caller", caller::target),
    ("class", class::target),
    ("codec", codec::target),
    ("config", config::target),
    ("journal", journal::target),
    ("ledger", ledger::target),
    ("limits", limits::target),
    ("merge", merge::target),
    ("paging", paging::target),
    ("problem", problem::target),
    ("proxy", proxy::target),
    ("redact", redact::target),
    ("seal", seal::target),
    ("trace", trace::target),
    ("webhook", webhook::target),
    ("wire", wire::target),
];

//! Answers that are kept, and calls that asked for them.

use super::{MetricsError, counters, register};
use prometheus::{IntCounterVec, IntGauge, Registry};

/// What became of a call whose product is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// A kept answer of this process.
    Hit,
    /// An answer of another replica's.
    Shared,
    /// There was none.
    Miss,
    /// It wanted an answer of its own, or its connection is one for which nothing is served from memory.
    Bypass,
}

impl Looked {
    /// The metric's label, the value of `Perch-Cache`, and the word in the access line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Looked::Hit => "hit",
            Looked::Shared => "shared",
            Looked::Miss => "miss",
            Looked::Bypass => "bypass",
        }
    }
}

/// What is kept.
#[derive(Debug)]
pub struct Cached {
    /// Calls whose product is kept, by what became of them.
    calls: IntCounterVec,
    /// The memory that kept answers take.
    bytes: IntGauge,
    /// Answers that are kept.
    entries: IntGauge,
}

impl Cached {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let calls = counters(
            r,
            "perch_cache_calls_total",
            "Calls whose product is kept, by result",
            &["product", "result"],
        )?;
        let bytes = register(r, IntGauge::new("perch_cache_bytes", "Memory that kept answers take")?)?;
        let entries = register(r, IntGauge::new("perch_cache_entries", "Answers that are kept")?)?;
        Ok(Self { calls, bytes, entries })
    }

    /// One call.
    pub fn count(&self, product: &str, looked: Looked) {
        self.calls.with_label_values(&[product, looked.as_str()]).inc();
    }

    /// How much is kept now.
    pub fn holds(&self, bytes: usize, entries: usize) {
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
}

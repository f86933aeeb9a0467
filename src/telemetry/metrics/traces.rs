//! What became of spans.

use super::{MetricsError, counters};
use prometheus::{IntCounterVec, Registry};

/// Spans, by what became of them: `sent`, `dropped` because too many waited, `failed` because the collector did not take
/// them.
#[derive(Debug, Clone)]
pub struct Traced(IntCounterVec);

impl Traced {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let spans = counters(r, "perch_traces_total", "Spans by what became of them", &["outcome"])?;
        for outcome in ["sent", "dropped", "failed"] {
            spans.with_label_values(&[outcome]).inc_by(0);
        }
        Ok(Self(spans))
    }

    /// The collector took this many.
    pub fn sent(&self, spans: u64) {
        self.0.with_label_values(&["sent"]).inc_by(spans);
    }

    /// This many found no room.
    pub fn dropped(&self, spans: u64) {
        self.0.with_label_values(&["dropped"]).inc_by(spans);
    }

    /// The collector did not take this many.
    pub fn failed(&self, spans: u64) {
        self.0.with_label_values(&["failed"]).inc_by(spans);
    }
}

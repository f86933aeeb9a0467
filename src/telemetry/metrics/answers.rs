//! What was found in good answers: how fresh they are, and whether they are whole.

use super::{MetricsError, counters};
use prometheus::{IntCounterVec, Registry};

/// Counted once for each answer that was looked into.
#[derive(Debug)]
pub struct Answers {
    /// Answers that were too large or encoded, and were not looked into.
    pub uninspected: IntCounterVec,
}

impl Answers {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            uninspected: counters(
                r,
                "perch_uninspected_answers_total",
                "Good answers that were not looked into",
                &["product"],
            )?,
        })
    }
}

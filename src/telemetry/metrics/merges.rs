//! Calls that needed no exchange of their own.

use super::{MetricsError, counters};
use prometheus::{IntCounterVec, Registry};

/// What was saved.
#[derive(Debug)]
pub struct Merges {
    /// Calls that took the outcome of another exchange, by how.
    pub calls: IntCounterVec,
}

impl Merges {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            calls: counters(
                r,
                "perch_calls_merged_total",
                "Calls that took the outcome of another exchange",
                &["how"],
            )?,
        })
    }
}

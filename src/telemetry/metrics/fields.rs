//! How Finch's answers compare with their known shape, counted on samples.

use super::{MetricsError, counter, counters};
use prometheus::{IntCounter, IntCounterVec, Registry};

/// What became of the fields of the answers that were looked into. A clone counts into the same metrics.
#[derive(Debug, Clone)]
pub struct Fields {
    /// Fields by outcome: `value`, `null`, `unknown_field`, `unknown_enum`, `type`.
    pub outcomes: IntCounterVec,
    /// Answers looked into.
    pub samples: IntCounterVec,
    /// Answers that should have been looked into while too many others waited.
    pub dropped: IntCounter,
}

impl Fields {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            outcomes: counters(
                r,
                "perch_fields_total",
                "Fields of sampled answers against their known shape",
                &["product", "provider", "outcome"],
            )?,
            samples: counters(
                r,
                "perch_drift_samples_total",
                "Good answers compared with their known shape",
                &["product"],
            )?,
            dropped: counter(
                r,
                "perch_drift_dropped_total",
                "Samples dropped because too many waited to be compared",
            )?,
        })
    }
}

//! What failed, and what was done about it.

use super::{MetricsError, counters};
use crate::finch::catalogue::Known;
use prometheus::{IntCounterVec, Registry};

/// Failures of Finch's, of providers and of the network.
#[derive(Debug)]
pub struct Failures {
    /// Errors of Finch's by its own code. A code that perch does not know is `unknown_code`, an error
    /// without any is `none`.
    pub errors: IntCounterVec,
}

impl Failures {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let failures = Self {
            errors: counters(
                r,
                "perch_finch_errors_total",
                "Errors of Finch's by its code",
                &["finch_code"],
            )?,
        };
        // What should stay 0 must be there to be looked at.
        failures.errors.with_label_values(&[Known::Unknown.as_str()]).inc_by(0);
        Ok(failures)
    }
}

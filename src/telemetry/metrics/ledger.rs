//! The request ledger: what was written, what was lost, what waits.

use super::{MetricsError, counter, register};
use prometheus::{IntCounter, IntGauge, Registry};

/// How the request ledger does.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Calls written.
    pub written: IntCounter,
    /// Calls that are in no ledger: more waited than may, or the store would not take them.
    pub dropped: IntCounter,
    /// Calls that wait to be written.
    pub queue: IntGauge,
}

impl Recording {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            written: counter(r, "perch_ledger_written_total", "Calls written to the request ledger")?,
            dropped: counter(
                r,
                "perch_ledger_dropped_total",
                "Calls lost to the request ledger; must stay 0",
            )?,
            queue: register(
                r,
                IntGauge::new("perch_ledger_queue", "Calls that wait to be written to the request ledger")?,
            )?,
        })
    }
}

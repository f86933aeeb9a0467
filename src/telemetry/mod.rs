//! FLOOR 2: evidence. One line per call, one row of the ledger, one registry of metrics, one log for operators.

pub mod access;
pub mod clock;
pub mod drift;
pub mod ledger;
pub mod log;
pub mod metrics;
mod strange;
pub mod timeline;
pub mod traces;

pub use access::{AccessLine, AccessLog};
pub use drift::Drift;
pub use ledger::{Ledger, LedgerRules};
pub use metrics::Metrics;
pub use timeline::Timeline;
pub use traces::Traces;

use crate::finch::catalogue::Known;
use crate::finch::error::FinchError;
use std::sync::Arc;
use strange::Strange;

/// Where every finished call is told to.
#[derive(Debug)]
pub struct Telemetry {
    /// The counters behind `/metrics`.
    pub metrics: Metrics,
    /// How good answers compare with their known shape.
    pub drift: Drift,
    /// The way to the request ledger.
    pub ledger: Ledger,
    /// Who is told of them as traces, when somebody is.
    pub traces: Option<Traces>,
    access: AccessLog,
    strange: Strange,
}

impl Telemetry {
    /// Joins them, and starts to watch for drift.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        metrics: Metrics,
        access: AccessLog,
        ledger: Ledger,
        traces: Option<Traces>,
    ) -> std::io::Result<Arc<Self>> {
        let drift = Drift::start(metrics.fields.clone())?;
        Ok(Arc::new(Self { metrics, drift, ledger, traces, access, strange: Strange::default() }))
    }

    /// Tells a finished call once, to all of them.
    pub fn record(&self, line: AccessLine) {
        self.metrics.call(&line);
        if let Some(traces) = &self.traces {
            traces.record(&line);
        }
        if !self.access.write(&line) {
            self.metrics.access_lines_dropped.inc();
        }
        self.ledger.take(line);
    }

    /// Tells an error of Finch's once, and the first time that Finch says something it is not known to say.
    pub fn finch_error(&self, error: &FinchError) {
        let known = Known::of(error);
        self.metrics.failures.errors.with_label_values(&[known.as_str()]).inc();
        if known == Known::Unknown {
            self.strange.tell(error);
        }
    }

    /// Tells that an answer of Finch's held a secret, which was taken out.
    pub fn redacted(&self) {
        self.metrics.redactions.inc();
        tracing::error!("an answer of Finch's held a secret; it was taken out");
    }

    /// Writes what is still queued; call it last.
    pub fn flush(&self) {
        self.access.flush();
    }
}

/// The product label of a call whose path is not one of Finch's.
pub const UNKNOWN_PRODUCT: &str = "unknown";

//! Calls that needed no exchange of their own.

use super::{MetricsError, counters, register};
use prometheus::{IntCounterVec, IntGauge, Registry};

/// How a call took the outcome of another exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// It had been sent before.
    Resend,
    /// It read what was being read already.
    Coalesced,
    /// It was answered before.
    Cached,
}

impl Merged {
    const ALL: [Merged; 3] = [Merged::Resend, Merged::Coalesced, Merged::Cached];

    /// The metric's label, and the word in the access line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Merged::Resend => "resend",
            Merged::Coalesced => "coalesced",
            Merged::Cached => "cached",
        }
    }
}

/// What was saved.
#[derive(Debug)]
pub struct Merges {
    /// Calls that took the outcome of another exchange, by how.
    calls: IntCounterVec,
    /// Calls that wait for the outcome of another exchange now.
    waiting: IntGauge,
}

/// One call that waits. Dropping it says that it does no longer.
#[derive(Debug)]
pub struct Waiting(IntGauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Merges {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let calls = counters(
            r,
            "perch_calls_merged_total",
            "Calls that took the outcome of another exchange",
            &["how"],
        )?;
        // A rate over what is not there yet is no rate.
        for how in Merged::ALL {
            calls.with_label_values(&[how.as_str()]).inc_by(0);
        }
        let waiting = register(
            r,
            IntGauge::new("perch_calls_joined", "Calls that wait for the outcome of another exchange now")?,
        )?;
        Ok(Self { calls, waiting })
    }

    /// One call begins to wait.
    pub fn wait(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }

    /// One call that was not sent.
    pub fn count(&self, how: Merged) {
        self.calls.with_label_values(&[how.as_str()]).inc();
    }
}

//! Calls that needed no exchange of their own.

use super::{MetricsError, counters, register};
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Registry};

/// How a call took the outcome of another exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// It had been sent before.
    Resend,
    /// It read what was being read already.
    Coalesced,
    /// Its ids were asked for together with those of others.
    Batched,
    /// It was answered before.
    Cached,
}

impl Merged {
    const ALL: [Merged; 4] = [Merged::Resend, Merged::Coalesced, Merged::Batched, Merged::Cached];

    /// The metric's label, and the word in the access line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Merged::Resend => "resend",
            Merged::Coalesced => "coalesced",
            Merged::Batched => "batched",
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
    /// How many calls shared an attempt.
    crowds: Histogram,
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
        let crowds = register(
            r,
            Histogram::with_opts(
                HistogramOpts::new(
                    "perch_calls_per_shared_attempt",
                    "How many calls asked for their ids in one attempt",
                )
                .buckets(vec![2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0]),
            )?,
        )?;
        Ok(Self { calls, waiting, crowds })
    }

    /// One call begins to wait.
    pub fn wait(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }

    /// One attempt that is made for so many calls.
    pub fn crowd(&self, calls: usize) {
        self.crowds.observe(calls as f64);
    }

    /// One call that was not sent.
    pub fn count(&self, how: Merged) {
        self.calls.with_label_values(&[how.as_str()]).inc();
    }
}

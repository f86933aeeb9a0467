//! How long the places where things are remembered take: the store, and Redis.

use super::{MetricsError, counters, register};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Registry};
use std::time::Duration;

/// Seconds from a page in memory to the deadline of a statement.
const SECONDS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Times of the store and of Redis. A clone counts into the same metrics.
#[derive(Debug, Clone)]
pub struct Stores {
    store: HistogramVec,
    redis: HistogramVec,
    redis_errors: IntCounterVec,
}

/// Times of one store.
#[derive(Debug)]
pub struct StoreTimes {
    read: Histogram,
    write: Histogram,
}

/// Times of one script's calls.
#[derive(Debug)]
pub struct ScriptTimes {
    seconds: Histogram,
    errors: IntCounterVec,
    script: &'static str,
}

impl Stores {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            register(r, HistogramVec::new(options, labels)?)
        };
        Ok(Self {
            store: seconds(
                "perch_store_duration_seconds",
                "Time of a transaction of the store, waiting for it included",
                &["store", "op"],
            )?,
            redis: seconds(
                "perch_redis_duration_seconds",
                "Time of a call of a script in Redis",
                &["script"],
            )?,
            redis_errors: counters(
                r,
                "perch_redis_errors_total",
                "Calls of scripts and connections to Redis that failed, by how",
                &["script", "kind"],
            )?,
        })
    }

    /// Those of one kind of store.
    pub fn store(&self, kind: &'static str) -> StoreTimes {
        let of = |op| self.store.with_label_values(&[kind, op]);
        StoreTimes { read: of("read"), write: of("write") }
    }

    /// Those of one script; `kinds` are the ways in which it can fail.
    pub fn script(&self, script: &'static str, kinds: &[&str]) -> ScriptTimes {
        let errors = self.redis_errors.clone();
        // What should stay 0 must be there to be looked at.
        for kind in kinds {
            errors.with_label_values(&[script, kind]).inc_by(0);
        }
        ScriptTimes { seconds: self.redis.with_label_values(&[script]), errors, script }
    }
}

impl StoreTimes {
    /// A transaction that reads has ended, whatever came of it.
    pub fn read(&self, took: Duration) {
        self.read.observe(took.as_secs_f64());
    }

    /// A transaction that writes has ended, whatever came of it.
    pub fn wrote(&self, took: Duration) {
        self.write.observe(took.as_secs_f64());
    }
}

impl ScriptTimes {
    /// A call has ended, whatever came of it.
    pub fn called(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    /// A call or a connection has failed in this way.
    pub fn failed(&self, kind: &'static str) {
        self.errors.with_label_values(&[self.script, kind]).inc();
    }
}

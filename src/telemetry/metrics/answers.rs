//! What was found in good answers: how fresh they are, and whether they are whole.

use super::{MetricsError, counter, counters, register};
use crate::types::UnixMillis;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Registry};
use std::sync::atomic::{AtomicI64, Ordering};

/// From minutes to weeks: Finch renews data every day, assisted connections every week.
const AGES: [f64; 12] = [
    300.0,
    900.0,
    3_600.0,
    21_600.0,
    43_200.0,
    86_400.0,
    129_600.0,
    172_800.0,
    259_200.0,
    604_800.0,
    1_209_600.0,
    2_419_200.0,
];

/// How often a cut directory is warned of, in milliseconds. The counter tells how many there were.
const CUT_WARNED_EVERY: i64 = 60_000;

/// Why an answer was not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uninspected {
    /// It is larger than one answer that is looked into may be.
    TooLarge,
    /// Others that are looked into left no room for it.
    Crowded,
    /// It has a coding that was not asked for.
    Encoded,
}

impl Uninspected {
    const fn as_str(self) -> &'static str {
        match self {
            Uninspected::TooLarge => "too_large",
            Uninspected::Crowded => "crowded",
            Uninspected::Encoded => "encoded",
        }
    }
}

/// Counted once for each answer that was looked into.
#[derive(Debug)]
pub struct Answers {
    /// Answers that were too large or encoded, and were not looked into.
    uninspected: IntCounterVec,
    /// How old the data of answers was, where Finch says so.
    pub age: HistogramVec,
    /// Answers whose data Finch could not renew, by how its last attempt ended.
    pub stale: IntCounterVec,
    /// Second requests for the failed items of a batch, by what came of them.
    pub repairs: IntCounterVec,
    directory_cut: IntCounter,
    cut_warned_at: AtomicI64,
}

impl Answers {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            uninspected: counters(
                r,
                "perch_uninspected_answers_total",
                "Good answers that were not looked into",
                &["product", "why"],
            )?,
            age: register(
                r,
                HistogramVec::new(
                    HistogramOpts::new("perch_data_age_seconds", "Age of the data in answers")
                        .buckets(AGES.to_vec()),
                    &["product"],
                )?,
            )?,
            stale: counters(
                r,
                "perch_stale_answers_total",
                "Answers whose data Finch could not renew, by how its last attempt ended",
                &["product", "result"],
            )?,
            repairs: counters(
                r,
                "perch_batch_repairs_total",
                "Second requests for the failed items of a batch, by what came of them",
                &["product", "outcome"],
            )?,
            directory_cut: counter(
                r,
                "perch_directory_cut_total",
                "Directories of which only a part was answered although no page was asked for",
            )?,
            cut_warned_at: AtomicI64::new(i64::MIN),
        })
    }

    /// Counts an answer that was not looked into.
    pub fn uninspected(&self, product: &str, why: Uninspected) {
        self.uninspected.with_label_values(&[product, why.as_str()]).inc();
    }

    /// Counts a directory that was cut. Tells whether it is time to say so in the log.
    pub fn directory_cut(&self, now: UnixMillis) -> bool {
        self.directory_cut.inc();
        let last = self.cut_warned_at.load(Ordering::Relaxed);
        now.0.saturating_sub(last) >= CUT_WARNED_EVERY
            && self.cut_warned_at.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_is_counted_and_one_a_minute_is_told() {
        let answers = Answers::register(&Registry::new()).expect("metrics");
        let told = [0, 1, 59_999, 60_000, 60_001, 120_000].map(|now| answers.directory_cut(UnixMillis(now)));
        assert_eq!(told, [true, false, false, true, false, true]);
        assert_eq!(answers.directory_cut.get(), 6);
    }
}

//! Sums over the counters, for people who look at a page instead of a dashboard.

use super::Metrics;
use prometheus::IntCounterVec;
use prometheus::core::Collector;
use std::collections::BTreeMap;

/// Counts since this gateway began that have a story of their own when they are not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alarms {
    /// Calls that Finch refused for a limit.
    pub finch_429: u64,
    /// Tokens taken out of answers.
    pub redactions: u64,
    /// Failures of the vault.
    pub vault_errors: u64,
    /// Calls refused because what they spend could not be counted.
    pub no_ledger: u64,
    /// Access lines nobody read.
    pub access_lines_dropped: u64,
}

impl Metrics {
    /// Calls since this gateway began, by what became of them.
    pub fn calls_by_class(&self) -> BTreeMap<String, u64> {
        by_label(&self.calls, "class")
    }

    /// Calls since this gateway began, by what they count against.
    pub fn calls_by_product(&self) -> BTreeMap<String, u64> {
        by_label(&self.calls, "product")
    }

    /// What should be 0.
    pub fn alarms(&self) -> Alarms {
        Alarms {
            finch_429: by_label(&self.finch_429, "finch_code").values().sum(),
            redactions: self.redactions.get(),
            vault_errors: by_label(&self.vault_errors, "kind").values().sum(),
            no_ledger: self.no_ledger.get(),
            access_lines_dropped: self.access_lines_dropped.get(),
        }
    }
}

/// The sum of a counter for each value of one of its labels.
fn by_label(counters: &IntCounterVec, label: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for family in counters.collect() {
        for metric in family.get_metric() {
            let named = metric.get_label().iter().find(|pair| pair.name() == label);
            let Some(value) = named.map(|pair| pair.value().to_owned()) else { continue };
            // Counters of whole numbers are exact up to 2^53.
            *sums.entry(value).or_default() += metric.get_counter().get_value() as u64;
        }
    }
    sums
}

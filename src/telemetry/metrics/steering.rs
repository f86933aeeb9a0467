//! What an operator steers while perch runs: reloads, pauses, roll-out, limits that only look on.

use super::{MetricsError, counter, counters, gauges, register, whole};
use crate::types::Product;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry};

/// How the reading of a configuration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reloaded {
    /// Something new is in force.
    Changed,
    /// It says what is in force already.
    Unchanged,
    /// It cannot be used; what was in force stays.
    Refused,
}

impl Reloaded {
    /// Every end.
    pub const ALL: [Reloaded; 3] = [Reloaded::Changed, Reloaded::Unchanged, Reloaded::Refused];

    /// The label, and the word in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reloaded::Changed => "changed",
            Reloaded::Unchanged => "unchanged",
            Reloaded::Refused => "refused",
        }
    }
}

/// What is counted of it.
#[derive(Debug)]
pub struct Steering {
    reloads: IntCounterVec,
    last_reload: IntGauge,
    is_in_force: IntGauge,
    paused: IntGaugeVec,
    observes: IntGauge,
    observed: IntCounterVec,
    /// Calls refused because perch does not work for their customer or provider yet.
    pub not_rolled_out: IntCounter,
}

impl Steering {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let steering = Self {
            reloads: counters(
                r,
                "perch_config_reloads_total",
                "Times the configuration was read while perch ran",
                &["outcome"],
            )?,
            last_reload: register(
                r,
                IntGauge::new(
                    "perch_config_last_reload_timestamp_seconds",
                    "When the configuration was last read and found good",
                )?,
            )?,
            is_in_force: register(
                r,
                IntGauge::new(
                    "perch_config_last_reload_successful",
                    "1 when the configuration that was read last is in force, 0 when it was refused",
                )?,
            )?,
            paused: gauges(
                r,
                "perch_paused",
                "Customers, products and providers that are paused",
                &["scope"],
            )?,
            observes: register(
                r,
                IntGauge::new("perch_limiter_observes", "1 while limits count and hold nobody back")?,
            )?,
            observed: counters(
                r,
                "perch_limiter_observed_total",
                "Calls sent at once that the limits would have held back",
                &["product", "would"],
            )?,
            not_rolled_out: counter(
                r,
                "perch_rollout_refused_total",
                "Calls refused because perch does not work for whom they are yet",
            )?,
        };
        // What is looked at must be there from the start. What perch starts with is in force.
        steering.is_in_force.set(1);
        for outcome in Reloaded::ALL {
            steering.reloads.with_label_values(&[outcome.as_str()]).inc_by(0);
        }
        Ok(steering)
    }

    /// The configuration was read; `at` in seconds of the Unix epoch.
    pub fn reloaded(&self, outcome: Reloaded, at: i64) {
        self.reloads.with_label_values(&[outcome.as_str()]).inc();
        self.is_in_force.set(i64::from(outcome != Reloaded::Refused));
        if outcome != Reloaded::Refused {
            self.last_reload.set(at);
        }
    }

    /// The configuration that perch starts with was read then.
    pub fn started(&self, at: i64) {
        self.last_reload.set(at);
    }

    /// Takes over what is paused now, by scope.
    pub fn set_paused<'a>(&self, counts: impl IntoIterator<Item = (&'a str, u64)>) {
        for (scope, count) in counts {
            self.paused.with_label_values(&[scope]).set(whole(count));
        }
    }

    /// Takes over what the limits would have done so far: waits and refusals, by product.
    pub fn set_observed(&self, observes: bool, so_far: &[(Product, [u64; 2])]) {
        self.observes.set(i64::from(observes));
        for (product, counts) in so_far {
            for (would, count) in ["wait", "refuse"].into_iter().zip(counts) {
                if *count == 0 {
                    continue;
                }
                let counter = self.observed.with_label_values(&[product.as_str(), would]);
                counter.inc_by(count.saturating_sub(counter.get()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reading_is_told_until_one_is_in_force_again() {
        let steering = Steering::register(&Registry::new()).expect("metrics");
        let told = || (steering.is_in_force.get(), steering.last_reload.get());
        steering.started(10);
        assert_eq!(told(), (1, 10));
        for (outcome, at, expected) in [
            (Reloaded::Refused, 20, (0, 10)),
            (Reloaded::Refused, 30, (0, 10)),
            (Reloaded::Unchanged, 40, (1, 40)),
            (Reloaded::Refused, 50, (0, 40)),
            (Reloaded::Changed, 60, (1, 60)),
        ] {
            steering.reloaded(outcome, at);
            assert_eq!(told(), expected, "{outcome:?} at {at}");
        }
    }
}

//! When the requests for each product arrived, and which of them were refused: what a rate, a use of
//! quota and a lull can be computed from.

use super::limits::Window;
use super::settings::LimitSettings;
use crate::types::{Moment, Product};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The last arrivals of a product whose time is kept; all are counted. Hours at Finch's limits.
const TIMES_MAX: usize = 10_000;

/// How often something was called, and how often within one window at most.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) arrivals: u64,
    pub(super) worst: usize,
    window: Window,
}

impl Tally {
    /// One more, now.
    pub(super) fn count(&mut self, span: Duration, now: Moment) {
        self.arrivals += 1;
        self.window.push(now);
        self.worst = self.worst.max(self.window.count(span, now));
    }
}

#[derive(Debug, Default)]
struct OfProduct {
    tally: Tally,
    refused: u64,
    times: VecDeque<Moment>,
    refused_times: VecDeque<Moment>,
}

/// The arrivals of every product.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<Product, OfProduct>);

impl Arrivals {
    /// Notes one before anything is decided about it.
    pub(super) fn arrive(&mut self, product: Product, span: Duration, now: Moment) {
        let seen = self.0.entry(product).or_default();
        seen.tally.count(span, now);
        keep(&mut seen.times, now);
    }

    /// Notes that one which arrived now got a 429.
    pub(super) fn refuse(&mut self, product: Product, now: Moment) {
        let seen = self.0.entry(product).or_default();
        seen.refused += 1;
        keep(&mut seen.refused_times, now);
    }

    /// The tally of every product that was called, with its 429s.
    pub(super) fn tallies(&self) -> impl Iterator<Item = (Product, &Tally, u64)> {
        self.0.iter().map(|(product, seen)| (*product, &seen.tally, seen.refused))
    }

    /// The times as JSON, in milliseconds since the simulation began.
    pub(super) fn shown(&self, limits: &LimitSettings, now: Moment) -> Value {
        let products: serde_json::Map<String, Value> = self
            .0
            .iter()
            .map(|(product, seen)| {
                let shown = json!({
                    "arrivals": seen.tally.arrivals, "refused": seen.refused, "worst_window": seen.tally.worst,
                    "limit": limits.of(*product), "at_ms": millis(&seen.times),
                    "refused_at_ms": millis(&seen.refused_times),
                });
                (product.as_str().to_owned(), shown)
            })
            .collect();
        json!({
            "now_ms": since_begin(now), "window_ms": limits.window.as_millis() as u64, "products": products,
        })
    }
}

fn keep(times: &mut VecDeque<Moment>, now: Moment) {
    if times.len() >= TIMES_MAX {
        times.pop_front();
    }
    times.push_back(now);
}

fn millis(times: &VecDeque<Moment>) -> Vec<u64> {
    times.iter().copied().map(since_begin).collect()
}

fn since_begin(at: Moment) -> u64 {
    u64::try_from(at.since_origin().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    #[test]
    fn all_are_counted_the_fullest_window_stays_and_the_last_times_are_kept() {
        let mut arrivals = Arrivals::default();
        let span = Duration::from_secs(1);
        (0..3).for_each(|n| arrivals.arrive(Product::Payment, span, at(n * 100)));
        arrivals.refuse(Product::Payment, at(200));
        let many = TIMES_MAX as u64;
        (1..=many).for_each(|n| arrivals.arrive(Product::Payment, span, at(n * 2_000)));
        let shown = arrivals.shown(&LimitSettings::default(), at(5));
        let payment = &shown["products"]["payment"];
        let counts = [&payment["arrivals"], &payment["refused"], &payment["worst_window"], &payment["limit"]];
        assert_eq!(counts.map(Value::as_u64), [Some(many + 3), Some(1), Some(3), Some(12)]);
        let times = payment["at_ms"].as_array().expect("a list");
        assert_eq!(
            (times.len(), &times[0], &times[TIMES_MAX - 1]),
            (TIMES_MAX, &json!(2_000), &json!(many * 2_000))
        );
        assert_eq!(payment["refused_at_ms"], json!([200]));
        assert_eq!((&shown["now_ms"], &shown["window_ms"]), (&json!(5), &json!(60_000)));
    }
}

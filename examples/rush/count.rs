//! The arithmetic: what arrived at Finch, and what can be said of many values.

use super::Outcome;
use serde_json::Value;
use std::time::Duration;

/// What the simulator saw of one product. Times count from the start of the load.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    /// Requests in all.
    pub(crate) count: u64,
    /// 429s.
    pub(crate) refused: u64,
    /// The most within one window, at any time.
    pub(crate) worst_window: u64,
    /// The most that is granted within one window.
    pub(crate) limit: u32,
    /// When those came that were not refused.
    pub(crate) granted: Vec<Duration>,
    /// When those came that were.
    pub(crate) refusals: Vec<Duration>,
}

impl Arrivals {
    /// Reads one product of `/_sim/arrivals`; the load began at `origin` on the simulator's clock, in ms.
    pub(crate) fn read(report: &Value, product: &str, limit: u32, origin: u64) -> Outcome<Self> {
        let told = &report["products"][product];
        if told.is_null() {
            let (granted, refusals) = (Vec::new(), Vec::new());
            return Ok(Self { count: 0, refused: 0, worst_window: 0, limit, granted, refusals });
        }
        let number = |name: &str| told[name].as_u64().ok_or(format!("{product} has no {name}"));
        let times = |name: &str| -> Outcome<Vec<u64>> {
            let list = told[name].as_array().ok_or(format!("{product} has no {name}"))?;
            Ok(list.iter().filter_map(Value::as_u64).collect())
        };
        let refusals = times("refused_at_ms")?;
        let mut left = refusals.clone();
        let mut granted = times("at_ms")?;
        granted.retain(|at| match left.first() == Some(at) {
            true => {
                left.remove(0);
                false
            }
            false => true,
        });
        let since = |times: Vec<u64>| -> Vec<Duration> {
            times.into_iter().map(|at| Duration::from_millis(at.saturating_sub(origin))).collect()
        };
        Ok(Self {
            count: number("arrivals")?,
            refused: number("refused")?,
            worst_window: number("worst_window")?,
            limit,
            granted: since(granted),
            refusals: since(refusals),
        })
    }

    /// How many were granted in a span.
    pub(crate) fn granted_in(&self, from: Duration, to: Duration) -> usize {
        self.granted.iter().filter(|at| (from..to).contains(*at)).count()
    }

    /// The share of the quota that was used in a span: how full a rolling window was in the mean over all
    /// windows that lie in it. Plain counting would depend on whether a burst falls on an end of the span.
    pub(crate) fn used(&self, from: Duration, to: Duration, window: Duration) -> f64 {
        let window = window.as_secs_f64();
        let (first, last) = (from.as_secs_f64(), to.as_secs_f64() - window);
        if last <= first {
            let quota = f64::from(self.limit) * to.saturating_sub(from).as_secs_f64() / window;
            return self.granted_in(from, to) as f64 / quota;
        }
        // The windows that hold an arrival are those that begin during the window before it.
        let holding = |at: f64| (at.min(last) - (at - window).max(first)).max(0.0);
        let held = self.granted.iter().fold(0.0, |held, at| held + holding(at.as_secs_f64()));
        held / (last - first) / f64::from(self.limit)
    }

    /// Spans of at least this length without one, the ends of the run included.
    pub(crate) fn lulls(&self, at_least: Duration, end: Duration) -> Vec<(Duration, Duration)> {
        let froms = std::iter::once(Duration::ZERO).chain(self.granted.iter().copied());
        let tos = self.granted.iter().copied().chain([end]);
        froms.zip(tos).filter(|(from, to)| to.saturating_sub(*from) >= at_least).collect()
    }
}

/// Jain's index: 1 when all have the same, 1/n when one has everything.
pub(crate) fn jain(values: &[f64]) -> f64 {
    let (sum, squares) = values.iter().fold((0.0, 0.0), |(s, q), v| (s + v, q + v * v));
    if squares == 0.0 { 1.0 } else { sum * sum / (values.len() as f64 * squares) }
}

/// The value below which `share` of them lie, by nearest rank; none when there are none.
pub(crate) fn quantile(values: &[Duration], share: f64) -> Option<Duration> {
    let mut values = values.to_vec();
    values.sort();
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

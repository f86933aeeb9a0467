//! What came of a run. Arrivals at Finch and ends at the apps are counted; no limiter is asked.

use super::finch::WINDOW;
use super::limiter::End;
use super::plan::{Fault, Plan};
use crate::limit::fairness::{self, Customer};
use crate::types::{Moment, Priority};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::Duration;

/// A permit that was given just before a fault may be used just after it.
const AFTERGLOW: Duration = Duration::from_secs(2);

/// How long the consequences of a crash are looked at.
const CONVALESCENCE: Duration = Duration::from_secs(180);

/// What the calls of one priority met.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Waits {
    /// Half of those that were served waited at most so many seconds for the limiter.
    pub p50: f64,
    /// 99 of 100 did.
    pub p99: f64,
    /// How many ended without an answer of Finch, in percent.
    pub failed: f64,
    /// How many ended.
    pub calls: u64,
}

/// The figures of one run, from the end of the warm-up on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Requests that Finch served, in percent of its limit.
    pub used: f64,
    /// Requests that reached Finch.
    pub requests: u64,
    /// 429 for the product or the address at Finch.
    pub limited: u64,
    /// The same, an hour.
    pub limited_per_hour: f64,
    /// Those of them that an app saw, an hour.
    pub shown_per_hour: f64,
    /// The most requests that reached Finch within any window.
    pub worst_window: u64,
    /// Calls with a person behind them.
    pub interactive: Waits,
    /// Calls of jobs.
    pub batch: Waits,
    /// Jain's index over what customers got of their max-min-fair share: 1 is fair.
    pub jain: f64,
    /// Questions to the store for each request that was served.
    pub store_calls: f64,
    /// Seconds from the beginning to the first sending of all.
    pub began: Option<f64>,
    /// Seconds from the fault to the first sending more than two seconds after it.
    pub first_send: Option<f64>,
    /// Requests served while the fault lasted, or for three minutes after it, in percent of the
    /// limit.
    pub used_in_fault: Option<f64>,
    /// Seconds from the beginning to the last answer of a job.
    pub finished: Option<f64>,
}

/// Counts while a run lasts.
#[derive(Debug)]
pub(super) struct Measure {
    from: Moment,
    span: Duration,
    limit: f64,
    fault: Option<(Moment, Duration)>,
    accepted: u64,
    /// The same, fading in over the first window and out over the last one: whether a burst that
    /// comes once in a window falls just before an edge or just behind it makes no difference then.
    faded: f64,
    accepted_in_fault: u64,
    limited: u64,
    shown: u64,
    requests: u64,
    window: VecDeque<Moment>,
    worst_window: usize,
    waits: [Vec<f64>; Priority::ALL.len()],
    failed: [u64; Priority::ALL.len()],
    customers: Vec<Customer>,
    began: Option<Moment>,
    first_send: Option<Moment>,
    finished: Option<Moment>,
}

impl Measure {
    pub(super) fn new(plan: &Plan, customers: usize) -> Self {
        let fault_at = Moment::at(plan.fault_at());
        let fault = match plan.fault {
            None | Some(Fault::Hangups) => None,
            Some(Fault::StoreDown(span)) => Some((fault_at, span)),
            Some(Fault::StoreEmpty | Fault::Crash) => Some((fault_at, CONVALESCENCE)),
        };
        Self {
            from: Moment::at(plan.warmup()),
            span: plan.span.saturating_sub(plan.warmup()),
            limit: f64::from(plan.limit.get()),
            fault,
            accepted: 0,
            faded: 0.0,
            accepted_in_fault: 0,
            limited: 0,
            shown: 0,
            requests: 0,
            window: VecDeque::new(),
            worst_window: 0,
            waits: [Vec::new(), Vec::new()],
            failed: [0; Priority::ALL.len()],
            customers: vec![Customer::default(); customers],
            began: None,
            first_send: None,
            finished: None,
        }
    }

    /// This customer takes whatever it can get.
    pub(super) fn insatiable(&mut self, customer: usize) {
        self.customers[customer].is_insatiable = true;
    }

    pub(super) fn written(&mut self, now: Moment) {
        self.began.get_or_insert(now);
        if self.fault.is_some_and(|(at, _)| now > at + AFTERGLOW) {
            self.first_send.get_or_insert(now);
        }
    }

    /// A job is done.
    pub(super) fn finished(&mut self, now: Moment) {
        self.finished = Some(now);
    }

    /// A request of ours reached Finch.
    pub(super) fn arrived(&mut self, is_accepted: bool, now: Moment) {
        while self.window.front().is_some_and(|&at| at + WINDOW <= now) {
            self.window.pop_front();
        }
        self.window.push_back(now);
        self.worst_window = self.worst_window.max(self.window.len());
        if is_accepted && self.fault.is_some_and(|(at, span)| now >= at && now < at + span) {
            self.accepted_in_fault += 1;
        }
        if now < self.from {
            return;
        }
        self.requests += 1;
        match is_accepted {
            true => {
                self.accepted += 1;
                self.faded += self.weight(now);
            }
            false => self.limited += 1,
        }
    }

    /// How much a request counts towards the use of quota.
    fn weight(&self, now: Moment) -> f64 {
        let since = now.since(self.from);
        let edge = since.min(self.span.saturating_sub(since));
        (edge.as_secs_f64() / self.fade().as_secs_f64()).min(1.0)
    }

    fn fade(&self) -> Duration {
        WINDOW.min(self.span / 2).max(Duration::from_millis(1))
    }

    /// A call reached its end at the replica: what its SDK sees.
    pub(super) fn told(&mut self, end: End, now: Moment) {
        if end == End::Limited && now >= self.from {
            self.shown += 1;
        }
    }

    /// An app has its answer, or none. `waited` from its first call until the one that was served was let go.
    pub(super) fn ended(
        &mut self,
        customer: usize,
        priority: Priority,
        served: Option<Duration>,
        now: Moment,
    ) {
        if now < self.from {
            return;
        }
        let customer = &mut self.customers[customer];
        customer.asked += 1;
        match served {
            Some(waited) => {
                customer.served += 1;
                self.waits[priority as usize].push(waited.as_secs_f64());
            }
            None => self.failed[priority as usize] += 1,
        }
    }

    pub(super) fn figures(mut self, store_calls: u64) -> Figures {
        let hours = self.span.as_secs_f64() / 3600.0;
        let windows = |span: Duration| span.as_secs_f64() / WINDOW.as_secs_f64();
        Figures {
            used: percent(self.faded, self.limit * windows(self.span.saturating_sub(self.fade()))),
            requests: self.requests,
            limited: self.limited,
            limited_per_hour: real(self.limited) / hours,
            shown_per_hour: real(self.shown) / hours,
            worst_window: self.worst_window as u64,
            interactive: self.waits(Priority::Interactive),
            batch: self.waits(Priority::Batch),
            jain: fairness::jain(&self.customers),
            store_calls: real(store_calls) / real(self.accepted.max(1)),
            began: self.began.map(|at| at.since_origin().as_secs_f64()),
            first_send: self.fault.and_then(|(at, _)| Some(self.first_send?.since(at).as_secs_f64())),
            used_in_fault: self
                .fault
                .map(|(_, span)| percent(real(self.accepted_in_fault), self.limit * windows(span))),
            finished: self.finished.map(|at| at.since_origin().as_secs_f64()),
        }
    }

    fn waits(&mut self, priority: Priority) -> Waits {
        let failed = self.failed[priority as usize];
        let waits = &mut self.waits[priority as usize];
        waits.sort_by(f64::total_cmp);
        let calls = waits.len() as u64 + failed;
        Waits {
            p50: quantile(waits, 50),
            p99: quantile(waits, 99),
            failed: percent(real(failed), real(calls)),
            calls,
        }
    }
}

impl Figures {
    /// The figures of several runs as those of one: means, and sums of what is counted.
    pub fn of_all(runs: &[Figures]) -> Option<Figures> {
        let first = runs.first()?;
        let count = real(runs.len() as u64);
        let mean = |of: fn(&Figures) -> f64| runs.iter().map(of).sum::<f64>() / count;
        let mean_some = |of: fn(&Figures) -> Option<f64>| {
            let some: Vec<f64> = runs.iter().filter_map(of).collect();
            (!some.is_empty()).then(|| some.iter().sum::<f64>() / real(some.len() as u64))
        };
        let waits = |of: fn(&Figures) -> Waits| {
            let all: Vec<Waits> = runs.iter().map(of).collect();
            let mean = |of: fn(&Waits) -> f64| all.iter().map(of).sum::<f64>() / count;
            Waits {
                p50: mean(|w| w.p50),
                p99: mean(|w| w.p99),
                failed: mean(|w| w.failed),
                calls: all.iter().map(|w| w.calls).sum(),
            }
        };
        Some(Figures {
            used: mean(|f| f.used),
            requests: runs.iter().map(|f| f.requests).sum(),
            limited: runs.iter().map(|f| f.limited).sum(),
            limited_per_hour: mean(|f| f.limited_per_hour),
            shown_per_hour: mean(|f| f.shown_per_hour),
            worst_window: runs.iter().map(|f| f.worst_window).max().unwrap_or(first.worst_window),
            interactive: waits(|f| f.interactive),
            batch: waits(|f| f.batch),
            jain: mean(|f| f.jain),
            store_calls: mean(|f| f.store_calls),
            began: mean_some(|f| f.began),
            first_send: mean_some(|f| f.first_send),
            used_in_fault: mean_some(|f| f.used_in_fault),
            finished: mean_some(|f| f.finished),
        })
    }
}

/// The value that `percent` of 100 do not exceed; 0 when there is none.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0.0)
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}

/// Counts here stay far below 2^53.
#[allow(clippy::cast_precision_loss)]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        assert!((quantile(&[1.0, 2.0, 3.0, 4.0], 50) - 2.0).abs() < f64::EPSILON);
        assert!((quantile(&[1.0, 2.0, 3.0, 4.0], 99) - 4.0).abs() < f64::EPSILON);
        assert!(quantile(&[], 50).abs() < f64::EPSILON);
    }

    #[test]
    fn a_burst_at_every_windows_edge_is_full_use() {
        for shift in [0, 1, 30, 59] {
            let mut measure = Measure::new(&Plan::usual(), 1);
            for burst in 0..200 {
                (0..20).for_each(|_| {
                    measure.arrived(true, Moment::at(WINDOW * burst + Duration::from_secs(shift)))
                });
            }
            let used = measure.figures(0).used;
            assert!((used - 100.0).abs() < 1e-6, "{used} with bursts at second {shift}");
        }
    }

    #[test]
    fn the_worst_window_holds_the_most_arrivals_of_any() {
        let mut measure = Measure::new(&Plan::usual(), 1);
        for at in [0, 30, 59, 60, 61, 119, 300] {
            measure.arrived(true, Moment::at(Duration::from_secs(at)));
        }
        assert_eq!(measure.worst_window, 4, "30, 59, 60 and 61, or 60 to 119");
    }
}

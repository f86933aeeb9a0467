//! Who calls, how often, and how patiently.

use super::chance::Chance;
use crate::types::Priority;
use std::time::Duration;

/// How long a call with a person behind it may wait.
const INTERACTIVE_PATIENCE: Duration = Duration::from_secs(30);

/// How long a job's call may wait.
const BATCH_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Customers with people in front of a screen.
const PEOPLE: u32 = 10;

/// The part of the limit that they ask for.
const PEOPLE_PART: f64 = 0.2;

/// Calls in the largest burst.
const BURST_MAX: usize = 60;

/// A kind of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Workload {
    /// More is asked for than can be had: people, 15 small customers, 4 with 4 workers each, and
    /// one whale with 40 workers on one replica.
    Saturated,
    /// Three quarters of the limit are asked for, most of it in bursts of about 8.
    Busy,
    /// A job and nobody else: the run ends when it is done.
    Sync {
        /// For how many customers.
        customers: u32,
        /// How many calls for each of them.
        calls: u32,
    },
}

/// When a source calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// On its own, so many seconds apart.
    Alone(f64),
    /// Several at once, so many seconds apart.
    Bursts {
        /// Seconds between two bursts.
        apart: f64,
        /// Calls in one.
        calls: f64,
    },
    /// Again as soon as it was answered; when it was refused, after about ten seconds.
    Worker,
    /// The same, until so many calls were answered.
    Task(u32),
}

/// Something that calls.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    /// For which customer.
    pub(super) customer: usize,
    /// How urgent its calls are.
    pub(super) priority: Priority,
    /// When it calls.
    pub(super) pace: Pace,
    /// Whether it runs beside one replica alone.
    pub(super) is_whale: bool,
}

impl Source {
    /// Whether it calls again when it was answered, and not by the clock.
    pub(super) const fn waits_for_answers(&self) -> bool {
        matches!(self.pace, Pace::Worker | Pace::Task(_))
    }

    /// How long its calls may wait.
    pub(super) const fn patience(&self) -> Duration {
        match self.priority {
            Priority::Interactive => INTERACTIVE_PATIENCE,
            Priority::Batch => BATCH_PATIENCE,
        }
    }

    /// Seconds to its next call.
    pub(super) fn pause(&self, was_served: bool, chance: &mut Chance) -> f64 {
        match self.pace {
            Pace::Alone(apart) | Pace::Bursts { apart, .. } => chance.exponential(apart),
            Pace::Worker | Pace::Task(_) if was_served => chance.exponential(0.05),
            Pace::Worker | Pace::Task(_) => chance.between(8.0, 12.0),
        }
    }

    /// How many calls come at once.
    pub(super) fn calls(&self, chance: &mut Chance) -> usize {
        let Pace::Bursts { calls, .. } = self.pace else { return 1 };
        // Geometric: each call is the last one with the same probability.
        (1..BURST_MAX).find(|_| chance.happens(1.0 / calls)).unwrap_or(BURST_MAX)
    }
}

impl Workload {
    /// The days among them.
    pub const ALL: [Workload; 2] = [Workload::Saturated, Workload::Busy];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Workload::Saturated => "saturated",
            Workload::Busy => "busy",
            Workload::Sync { .. } => "sync",
        }
    }

    /// Everybody who calls when Finch's limit is `limit` a minute.
    pub(super) fn sources(self, limit: u32) -> Vec<Source> {
        match self {
            Workload::Saturated => saturated(f64::from(limit)),
            Workload::Busy => busy(f64::from(limit)),
            Workload::Sync { customers, calls } => sync(customers, calls, limit),
        }
    }
}

/// A job whose workers go through the customers, as many at once as it takes to keep a limit busy for five windows: half
/// of a batch call's patience, so that none of them waits in vain.
fn sync(customers: u32, calls: u32, limit: u32) -> Vec<Source> {
    let all = customers.saturating_mul(calls);
    let workers = all.min(limit.saturating_mul(5));
    let worker = |place: u32| Source {
        customer: (place % customers.max(1)) as usize,
        priority: Priority::Batch,
        pace: Pace::Task(all / workers + u32::from(place < all % workers)),
        is_whale: false,
    };
    (0..workers).map(worker).collect()
}

/// People who make `per_minute` calls together.
fn people(per_minute: f64) -> Vec<Source> {
    let apart = 60.0 * f64::from(PEOPLE) / per_minute;
    let person = |customer| Source {
        customer,
        priority: Priority::Interactive,
        pace: Pace::Alone(apart),
        is_whale: false,
    };
    (0..PEOPLE as usize).map(person).collect()
}

fn saturated(limit: f64) -> Vec<Source> {
    let mut sources = people(PEOPLE_PART * limit);
    let mut customer = PEOPLE as usize;
    let batch = |customer, pace, is_whale| Source { customer, priority: Priority::Batch, pace, is_whale };
    for _ in 0..15 {
        sources.push(batch(customer, Pace::Alone(60.0 / 0.3), false));
        customer += 1;
    }
    for _ in 0..4 {
        sources.extend(std::iter::repeat_n(batch(customer, Pace::Worker, false), 4));
        customer += 1;
    }
    sources.extend(std::iter::repeat_n(batch(customer, Pace::Worker, true), 40));
    sources
}

fn busy(limit: f64) -> Vec<Source> {
    /// Calls in a burst.
    const CALLS: f64 = 8.0;
    let mut sources = people(PEOPLE_PART * limit);
    let weights = zipf(20);
    let all: f64 = weights.iter().sum();
    for (place, weight) in weights.iter().enumerate() {
        let per_minute = 0.55 * limit * weight / all;
        sources.push(Source {
            customer: PEOPLE as usize + place,
            priority: Priority::Batch,
            pace: Pace::Bursts { apart: 60.0 * CALLS / per_minute, calls: CALLS },
            is_whale: false,
        });
    }
    sources
}

/// Zipf's weights: the second gets half of what the first gets, the third a third.
pub(super) fn zipf(places: usize) -> Vec<f64> {
    let mut weight = 0.0;
    std::iter::repeat_with(|| {
        weight += 1.0;
        1.0 / weight
    })
    .take(places)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls a minute of everybody who calls on their own.
    fn per_minute(sources: &[Source]) -> f64 {
        let of = |s: &Source| match s.pace {
            Pace::Alone(apart) => 60.0 / apart,
            Pace::Bursts { apart, calls } => 60.0 * calls / apart,
            Pace::Worker | Pace::Task(_) => 0.0,
        };
        sources.iter().map(of).sum()
    }

    #[test]
    fn a_busy_day_asks_for_three_quarters() {
        assert!((per_minute(&Workload::Busy.sources(20)) - 15.0).abs() < 1e-9);
        assert!((per_minute(&Workload::Busy.sources(12)) - 9.0).abs() < 1e-9);
    }

    #[test]
    fn a_saturated_day_has_one_whale_beside_many() {
        let sources = Workload::Saturated.sources(20);
        assert!((per_minute(&sources) - 8.5).abs() < 1e-9);
        let workers = |of: &dyn Fn(&Source) -> bool| sources.iter().filter(|s| of(s)).count();
        assert_eq!(workers(&|s| s.is_whale), 40);
        assert_eq!(workers(&|s| s.pace == Pace::Worker && !s.is_whale), 16);
        assert_eq!(sources.last().map(|s| s.customer), Some(29));
    }

    #[test]
    fn a_sync_has_all_its_calls_and_no_idle_worker() {
        for (customers, calls) in [(50, 1), (3, 25), (1, 10), (70, 9), (7, 0), (0, 7)] {
            let sources = Workload::Sync { customers, calls }.sources(20);
            let tasks = sources.iter().map(|s| match s.pace {
                Pace::Task(task) => task,
                Pace::Alone(_) | Pace::Bursts { .. } | Pace::Worker => 0,
            });
            assert_eq!(tasks.clone().sum::<u32>(), customers * calls);
            assert!(tasks.clone().all(|task| task > 0));
        }
    }

    #[test]
    fn bursts_hold_about_eight_calls() {
        let source = &Workload::Busy.sources(20)[PEOPLE as usize];
        let mut chance = Chance::new(1, 1);
        let calls: usize = (0..10_000).map(|_| source.calls(&mut chance)).sum();
        assert!((76_000..84_000).contains(&calls), "{calls} in 10000 bursts");
    }
}

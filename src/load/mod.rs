//! BESIDE: load on limiters in virtual time. A whole fleet, its store, its network and Finch are
//! numbers and a seed; the ledger in the middle is the real one. Hours take a moment, a seed gives
//! the same figures for ever, and other limiters meet the same arrivals.
//!
//! What it is not: a measurement. Latencies are assumed, clocks run alike, and a queue that never
//! runs dry makes every use of quota an upper bound.

mod baselines;
mod chance;
mod counters;
mod finch;
mod fleet;
pub mod goals;
mod limiter;
mod measure;
mod network;
mod ours;
mod plan;
mod run;
mod store;
mod workload;

pub use finch::Counting;
pub use measure::{Figures, Waits};
pub use network::Profile;
pub use plan::{Fault, LimiterKind, Plan};
pub use workload::Workload;

/// Runs one plan.
pub fn run(plan: &Plan) -> Figures {
    match baselines::Queues::new(plan) {
        Some(queues) => run::run(plan, queues),
        None => run::run(plan, ours::Perch::new(plan)),
    }
}

#[cfg(test)]
mod sync_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Fifty minutes of a saturated day.
    fn short(limiter: LimiterKind, replicas: usize) -> Plan {
        Plan { limiter, replicas, span: Duration::from_secs(3000), ..Plan::usual() }
    }

    #[test]
    fn perch_uses_the_quota_and_draws_no_429() {
        for replicas in [1, 10] {
            // Two hours: the minute in which a new store learns is not steady use.
            let span = Duration::from_secs(7200);
            let figures = run(&Plan { span, seed: 3, ..short(LimiterKind::Perch, replicas) });
            assert_eq!((figures.limited, figures.interactive.failed), (0, 0.0), "{replicas} replicas");
            assert!(figures.worst_window <= 20, "{} arrivals in a window", figures.worst_window);
            assert!(figures.used >= 97.0, "{:.1} % with {replicas} replicas", figures.used);
            assert!(figures.jain >= 0.99, "{:.3} with {replicas} replicas", figures.jain);
        }
    }

    #[test]
    fn limiters_that_count_sendings_or_minutes_draw_429s_on_the_same_day() {
        for limiter in [
            LimiterKind::None,
            LimiterKind::FixedWindow,
            LimiterKind::SlidingCounter,
            LimiterKind::GcraBurst,
            LimiterKind::GcraSpaced,
            LimiterKind::SendLog,
        ] {
            let figures = run(&short(limiter, 10));
            assert!(figures.limited > 10, "{limiter:?}: {} only", figures.limited);
            assert!(figures.worst_window > 20, "{limiter:?}: {} arrivals at most", figures.worst_window);
        }
    }

    #[test]
    fn perch_survives_what_breaks_without_a_429() {
        for fault in [
            Fault::StoreDown(Duration::from_secs(20)),
            Fault::StoreDown(Duration::from_secs(300)),
            Fault::StoreEmpty,
            Fault::Crash,
            Fault::Hangups,
        ] {
            let span = Duration::from_secs(1500);
            let figures = run(&Plan { fault: Some(fault), span, ..short(LimiterKind::Perch, 10) });
            assert_eq!(figures.limited, 0, "{fault:?}");
            assert!(figures.worst_window <= 20, "{fault:?}: {} arrivals", figures.worst_window);
        }
    }

    #[test]
    fn a_seed_gives_the_same_figures_again_and_another_one_others() {
        for limiter in [LimiterKind::Perch, LimiterKind::SendLog] {
            let plan = Plan { span: Duration::from_secs(900), ..short(limiter, 3) };
            assert_eq!(run(&plan), run(&plan));
            assert_ne!(run(&plan), run(&Plan { seed: 2, ..plan }));
        }
    }
}

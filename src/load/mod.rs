//! BESIDE: load on limiters in virtual time. A whole fleet, its store, its network and Finch are
//! numbers and a seed; the ledger in the middle is the real one. Hours take a moment, a seed gives
//! the same figures for ever, and other limiters meet the same arrivals.
//!
//! What it is not: a measurement. Latencies are assumed, clocks run alike, and a queue that never
//! runs dry makes every use of quota an upper bound.

mod baselines;
mod chance;
mod counters;
mod fair;
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

//! What one run is made of.

use super::finch::{Counting, FinchRules};
use super::network::Profile;
use super::workload::Workload;
use std::num::NonZeroU32;
use std::time::Duration;

/// A limiter under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimiterKind {
    /// perch as it ships.
    Perch,
    /// perch without pacing of batch.
    PerchUnpaced,
    /// No limiter at all.
    None,
    /// Every replica keeps to its own part of the limit.
    PerReplica,
    /// A counter for each minute on the clock, as `INCR` and `EXPIRE` make it.
    FixedWindow,
    /// Two such counters, weighted.
    SlidingCounter,
    /// The generic cell rate algorithm with a burst of the whole limit.
    GcraBurst,
    /// The same, one at a time.
    GcraSpaced,
    /// A log of the sends of the last window.
    SendLog,
    /// The same, and one second more.
    SendLogMargin,
}

impl LimiterKind {
    /// All of them, ours first.
    pub const ALL: [LimiterKind; 10] = [
        LimiterKind::Perch,
        LimiterKind::PerchUnpaced,
        LimiterKind::None,
        LimiterKind::PerReplica,
        LimiterKind::FixedWindow,
        LimiterKind::SlidingCounter,
        LimiterKind::GcraBurst,
        LimiterKind::GcraSpaced,
        LimiterKind::SendLog,
        LimiterKind::SendLogMargin,
    ];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            LimiterKind::Perch => "perch",
            LimiterKind::PerchUnpaced => "perch-unpaced",
            LimiterKind::None => "none",
            LimiterKind::PerReplica => "per-replica",
            LimiterKind::FixedWindow => "fixed-window",
            LimiterKind::SlidingCounter => "sliding-counter",
            LimiterKind::GcraBurst => "gcra-burst",
            LimiterKind::GcraSpaced => "gcra-spaced",
            LimiterKind::SendLog => "send-log",
            LimiterKind::SendLogMargin => "send-log-1s",
        }
    }
}

/// What goes wrong, at `Plan::fault_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The store is out for so long.
    StoreDown(Duration),
    /// The store comes back empty at once.
    StoreEmpty,
    /// Three replicas crash, the whale's among them.
    Crash,
    /// Throughout the run, one client in five hangs up while it waits.
    Hangups,
}

impl Fault {
    /// Reads `store-down:SECONDS`, `store-empty`, `crash` or `hangups`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("store-down", secs)) => Some(Fault::StoreDown(Duration::from_secs(secs.parse().ok()?))),
            Some(_) => None,
            None => match text {
                "store-empty" => Some(Fault::StoreEmpty),
                "crash" => Some(Fault::Crash),
                "hangups" => Some(Fault::Hangups),
                _ => None,
            },
        }
    }
}

/// One step of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The store answers nobody.
    StoreDown,
    /// The store answers again, and has forgotten nothing.
    StoreUp,
    /// The store has forgotten everything, and is another run.
    StoreEmpty,
    /// This replica is gone.
    Crash(usize),
}

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Who limits.
    pub limiter: LimiterKind,
    /// How many replicas there are. One of them needs no store.
    pub replicas: usize,
    /// The product's limit for a minute.
    pub limit: NonZeroU32,
    /// How long it lasts.
    pub span: Duration,
    /// What all chance follows from.
    pub seed: u64,
    /// The network to Finch.
    pub profile: Profile,
    /// Who calls.
    pub workload: Workload,
    /// How Finch counts.
    pub counting: Counting,
    /// Whether requests that Finch refuses count too.
    pub rejected_count: bool,
    /// Whether Finch's 429 has a `Retry-After`.
    pub tells_when: bool,
    /// Requests a minute of somebody else with the same application.
    pub stranger: f64,
    /// Finch's limit for the address, if it matters.
    pub ip_limit: Option<u32>,
    /// Whether perch takes an unanswered request to have arrived after five seconds.
    pub is_arrival_bounded: bool,
    /// How much of the limit perch leases out for outages, in percent.
    pub share: u8,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

impl Plan {
    /// perch alone, saturated, for three hours on an ordinary day.
    pub const fn usual() -> Self {
        Self {
            limiter: LimiterKind::Perch,
            replicas: 1,
            limit: NonZeroU32::MIN.saturating_add(19),
            span: Duration::from_secs(3 * 3600),
            seed: 1,
            profile: Profile::Real,
            workload: Workload::Saturated,
            counting: Counting::Rolling,
            rejected_count: false,
            tells_when: false,
            stranger: 0.0,
            ip_limit: None,
            is_arrival_bounded: true,
            share: 50,
            fault: None,
        }
    }

    /// How long it runs before anything is measured: until first windows have passed and queues
    /// are what they will be.
    pub(super) fn warmup(&self) -> Duration {
        Duration::from_secs(5 * 60).min(self.span / 3)
    }

    /// When the fault comes.
    pub(super) fn fault_at(&self) -> Duration {
        self.warmup() + Duration::from_secs(10 * 60).min(self.span / 3)
    }

    /// The fault, step by step, each with its time.
    pub(super) fn steps(&self) -> Vec<(Duration, Step)> {
        let at = self.fault_at();
        match self.fault {
            None | Some(Fault::Hangups) => Vec::new(),
            Some(Fault::StoreDown(span)) => vec![(at, Step::StoreDown), (at + span, Step::StoreUp)],
            Some(Fault::StoreEmpty) => vec![(at, Step::StoreEmpty)],
            Some(Fault::Crash) => {
                let last = self.replicas.saturating_sub(1);
                // The whale's is the last one; one is always left.
                let gone = [last, 1, self.replicas / 2];
                let gone = gone
                    .into_iter()
                    .enumerate()
                    .filter(|&(i, r)| r > 0 && r < self.replicas && !gone[..i].contains(&r));
                gone.map(|(_, r)| (at, Step::Crash(r))).collect()
            }
        }
    }

    /// Finch, as this run has it.
    pub(super) fn finch(&self) -> FinchRules {
        FinchRules {
            limit: self.limit,
            counting: self.counting,
            rejected_count: self.rejected_count,
            tells_when: self.tells_when,
            ip_limit: self.ip_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crashed(replicas: usize) -> Vec<usize> {
        let plan = Plan { replicas, fault: Some(Fault::Crash), ..Plan::usual() };
        let which = |(_, step)| match step {
            Step::Crash(replica) => Some(replica),
            Step::StoreDown | Step::StoreUp | Step::StoreEmpty => None,
        };
        plan.steps().into_iter().filter_map(which).collect()
    }

    #[test]
    fn a_crash_takes_three_replicas_and_leaves_one() {
        assert_eq!(crashed(10), [9, 1, 5]);
        assert_eq!(crashed(2), [1]);
        assert_eq!(crashed(1), Vec::<usize>::new());
    }
}

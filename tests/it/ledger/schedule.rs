//! Worlds to try the ledger in.

use super::{ANSWER_MAX, BOUND, GRACE, Millis, WINDOW};
use proptest::prelude::*;

/// What becomes of a request once its permit is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Finch counts it and answers.
    Answered,
    /// Finch counts it and refuses it: somebody else uses the application.
    Refused,
    /// Finch counts it and no answer ever comes.
    Lost,
    /// The connection breaks after the first byte; Finch never sees it.
    Broken,
    /// Not one byte is written.
    Unsent,
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) product: usize,
    /// Nobody, or one of three customers; the number is its weight, too.
    pub(super) customer: usize,
    pub(super) is_batch: bool,
    pub(super) comes: Millis,
    pub(super) patience: Millis,
    /// How late it asks again.
    pub(super) oversleeps: Millis,
    /// The first answer of the ledger is lost, and the question is repeated after so long.
    pub(super) loses_reply: Option<Millis>,
    pub(super) gives_up_after: Option<Millis>,
    /// Between the question and the connection.
    pub(super) connects: Millis,
    /// Between the connection and the first byte: less than the grace.
    pub(super) dawdles: Millis,
    pub(super) transit: Millis,
    pub(super) answers: Millis,
    pub(super) fate: Fate,
    pub(super) asks_again: bool,
}

/// One world: the limits, what is assumed of the network, and the calls.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    pub(super) limits: [u32; 2],
    pub(super) ip: u32,
    pub(super) ip_window: Millis,
    pub(super) is_bounded: bool,
    pub(super) paces: bool,
    pub(super) queue_max: usize,
    /// When, of which product or of the egress IP, and for how long.
    pub(super) hold: Option<(Millis, Option<usize>, Millis)>,
    /// The ledger is lost then, and learns from what was sent.
    pub(super) restart: Option<Millis>,
    pub(super) plans: Vec<Plan>,
}

impl Schedule {
    /// Whether everybody asks when told to, so that nobody loses a place.
    pub(super) fn is_calm(&self) -> bool {
        let is_prompt = |plan: &Plan| plan.oversleeps == 0 && plan.loses_reply.is_none();
        self.restart.is_none() && self.plans.iter().all(is_prompt)
    }
}

/// xorshift64*: enough to vary schedules, and the same everywhere.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn limit(&mut self) -> u32 {
        let most = if self.one_in(3) { 25 } else { 4 };
        1 + self.below(most) as u32
    }

    /// Mostly quick, with a heavy tail that ends at `most`.
    fn delay(&mut self, most: Millis) -> Millis {
        let scale = match self.below(20) {
            0 => most,
            1..=3 => 2_000,
            _ => 80,
        };
        self.below(scale.min(most) + 1)
    }

    pub(super) fn schedule(&mut self) -> Schedule {
        let limits = [self.limit(), self.limit()];
        let is_bounded = !self.one_in(3);
        let calls = u64::from(limits[0]) + 4 + self.below(14);
        // From a burst to an even flow at the limit.
        let spread = 1 + self.below(calls * WINDOW / u64::from(limits[0]));
        let tight_ip = self.one_in(4);
        let is_calm = self.one_in(2);
        Schedule {
            limits,
            ip: if tight_ip { 1 + self.below(calls) as u32 } else { 800 },
            ip_window: if self.one_in(2) { 300_000 } else { 20_000 + self.below(100_000) },
            is_bounded,
            paces: self.one_in(2),
            queue_max: if self.one_in(8) { 1 + self.below(6) as usize } else { 1_000 },
            hold: self.one_in(12).then(|| {
                (self.below(spread), self.one_in(2).then(|| self.below(3) as usize), self.below(60_000))
            }),
            restart: (!is_calm && self.one_in(4)).then(|| self.below(spread + WINDOW)),
            plans: (0..calls).map(|_| self.plan(spread, is_bounded, is_calm)).collect(),
        }
    }

    fn plan(&mut self, spread: Millis, is_bounded: bool, is_calm: bool) -> Plan {
        let transit_max = if is_bounded { BOUND } else { ANSWER_MAX };
        Plan {
            product: match self.below(8) {
                0 => 1,
                1 => 2,
                _ => 0,
            },
            customer: self.below(4) as usize,
            is_batch: self.one_in(3),
            comes: self.below(spread),
            patience: match self.below(6) {
                0 => 0,
                1 | 2 => self.below(20_000),
                _ => self.below(600_000),
            },
            oversleeps: if !is_calm && self.one_in(4) { self.below(2_000) } else { 0 },
            loses_reply: (!is_calm && self.one_in(8)).then(|| 100 + self.below(8_000)),
            gives_up_after: self.one_in(10).then(|| self.below(90_000)),
            connects: if self.one_in(6) { self.below(12_000) } else { 0 },
            dawdles: if self.one_in(6) { self.below(GRACE + 1) } else { 0 },
            transit: self.delay(transit_max),
            answers: self.delay(30_000),
            fate: match self.below(20) {
                0 => Fate::Lost,
                1 => Fate::Broken,
                2 => Fate::Unsent,
                3 => Fate::Refused,
                _ => Fate::Answered,
            },
            asks_again: self.one_in(8),
        }
    }
}

prop_compose! {
    fn any_plan(is_bounded: bool)(
        (product, customer, is_batch) in (0..3_usize, 0..4_usize, any::<bool>()),
        (comes, patience) in (0..200_000_u64, 0..600_000_u64),
        oversleeps in prop_oneof![4 => Just(0), 1 => 0..2_000_u64],
        loses_reply in prop::option::weighted(0.1, 100..8_000_u64),
        gives_up_after in prop::option::weighted(0.1, 0..90_000_u64),
        connects in prop_oneof![4 => Just(0), 1 => 0..12_000_u64],
        dawdles in prop_oneof![4 => Just(0), 1 => 0..=GRACE],
        transit in 0..=(if is_bounded { BOUND } else { ANSWER_MAX }),
        answers in 0..30_000_u64,
        fate in prop_oneof![
            Just(Fate::Answered), Just(Fate::Refused), Just(Fate::Lost), Just(Fate::Broken), Just(Fate::Unsent)
        ],
        asks_again in any::<bool>(),
    ) -> Plan {
        Plan {
            product, customer, is_batch, comes, patience, oversleeps, loses_reply, gives_up_after, connects,
            dawdles, transit, answers, fate, asks_again,
        }
    }
}

pub(super) fn any_schedule() -> impl Strategy<Value = Schedule> {
    any::<bool>().prop_flat_map(|is_bounded| {
        let plans = prop::collection::vec(any_plan(is_bounded), 1..40);
        let hold = prop::option::of((0..200_000_u64, prop::option::of(0..3_usize), 0..60_000_u64));
        let restart = prop::option::of(0..300_000_u64);
        let ip = (1..60_u32, 10_000..300_000_u64);
        ([1..6_u32, 1..6_u32], ip, any::<bool>(), 1..50_usize, hold, restart, plans).prop_map(
            move |(limits, (ip, ip_window), paces, queue_max, hold, restart, plans)| Schedule {
                limits,
                ip,
                ip_window,
                is_bounded,
                paces,
                queue_max,
                hold,
                restart,
                plans,
            },
        )
    })
}

//! The ledger against random schedules. What is safe is judged by an oracle that shares nothing
//! with the ledger: it knows when each request arrived at Finch, and counts windows.

use perch::limit::beat::Incarnation;
use perch::limit::{Admission, Ask, IpRule, Ledger, PerProduct, Reason, Rules, Ticket};
use perch::types::{Moment, Priority, Product};
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::Duration;

/// Milliseconds since the schedule began.
type Millis = u64;

const WINDOW: Millis = 60_000;
const BOUND: Millis = 5_000;
const ANSWER_MAX: Millis = 370_000;
const PRODUCTS: [Product; 3] = [Product::Directory, Product::Payment, Product::Introspect];

/// What becomes of a request once its permit is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Finch counts it and answers.
    Answered,
    /// Finch counts it and no answer ever comes.
    Lost,
    /// The connection breaks after the first byte; Finch never sees it.
    Broken,
    /// Not one byte is written.
    Unsent,
}

/// One call.
#[derive(Debug, Clone)]
struct Plan {
    product: usize,
    comes: Millis,
    patience: Millis,
    /// How late it asks again.
    oversleeps: Millis,
    gives_up_after: Option<Millis>,
    /// Between the grant and the first byte. When not zero the ledger is told of the sending.
    connects: Millis,
    transit: Millis,
    answers: Millis,
    fate: Fate,
    asks_again: bool,
}

/// One world: the limits, what is assumed of the network, and the calls.
#[derive(Debug, Clone)]
struct Schedule {
    limits: [u32; 2],
    ip: u32,
    ip_window: Millis,
    is_bounded: bool,
    queue_max: usize,
    plans: Vec<Plan>,
}

/// Which rule the ledger is driven by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// perch's: busy until a window after the answer.
    Cooling,
    /// Wrong: a log of sends.
    SendStamped,
    /// Wrong: busy while in flight only.
    InFlightOnly,
    /// Wrong: a window that is a little short.
    ShortWindow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask,
    GiveUp,
    AskAgain,
    Refund,
    Send,
    Count,
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unborn,
    Waiting { turn: usize },
    Granted,
    Gone,
}

fn ticket_of(i: usize) -> Ticket {
    Ticket::new(Incarnation(1), i as u64)
}

fn moment(at: Millis) -> Moment {
    Moment::at(Duration::from_millis(at))
}

fn millis(moment: Moment) -> Millis {
    u64::try_from(moment.since_origin().as_millis()).expect("a short schedule")
}

/// Runs one schedule in virtual time.
struct World<'a> {
    schedule: &'a Schedule,
    rule: Rule,
    ledger: Ledger,
    events: BinaryHeap<Reverse<(Millis, usize, Event)>>,
    phases: Vec<Phase>,
    /// When each waiting call asks next; an [`Event::Ask`] at another time is out of date.
    due: Vec<Millis>,
    turns: usize,
    last_turn_granted: [Option<usize>; 3],
    arrivals: [Vec<Millis>; 3],
    granted: usize,
}

impl<'a> World<'a> {
    fn new(schedule: &'a Schedule, rule: Rule) -> Self {
        let [directory, payment] = schedule.limits;
        let limits = PerProduct::from_fn(|product| match product {
            Product::Directory => NonZeroU32::new(directory),
            Product::Payment => NonZeroU32::new(payment),
            _ => None,
        });
        let mut rules = Rules::with_limits(limits);
        rules.window = Duration::from_millis(WINDOW);
        rules.answer_max = Duration::from_millis(ANSWER_MAX);
        rules.arrival_bound = schedule.is_bounded.then_some(Duration::from_millis(BOUND));
        let requests = NonZeroU32::new(schedule.ip).expect("an IP limit");
        rules.ip = IpRule { requests, window: Duration::from_millis(schedule.ip_window) };
        rules.queue_max = schedule.queue_max;
        if rule == Rule::SendStamped {
            rules.pad = Duration::ZERO;
        }
        if rule == Rule::ShortWindow {
            rules.window -= Duration::from_secs(1);
        }
        let events = schedule.plans.iter().enumerate().map(|(i, plan)| Reverse((plan.comes, i, Event::Ask)));
        World {
            schedule,
            rule,
            ledger: Ledger::new(rules),
            events: events.collect(),
            phases: vec![Phase::Unborn; schedule.plans.len()],
            due: schedule.plans.iter().map(|plan| plan.comes).collect(),
            turns: 0,
            last_turn_granted: [None; 3],
            arrivals: [Vec::new(), Vec::new(), Vec::new()],
            granted: 0,
        }
    }

    /// Runs to the end. An error tells what the ledger did wrong on the way; what Finch would say
    /// is [`judge`]'s.
    fn run(mut self) -> Result<Self, String> {
        while let Some(Reverse((now, i, event))) = self.events.pop() {
            self.happen(now, i, event).map_err(|what| format!("at {now} ms, call {i}, {event:?}: {what}"))?;
        }
        match self.phases.iter().position(|phase| matches!(phase, Phase::Unborn | Phase::Waiting { .. })) {
            Some(i) => Err(format!("call {i} was forgotten")),
            None => Ok(self),
        }
    }

    fn ask_of(&self, i: usize) -> Ask {
        let plan = &self.schedule.plans[i];
        Ask {
            ticket: ticket_of(i),
            product: PRODUCTS[plan.product],
            customer: None,
            priority: if i.is_multiple_of(3) { Priority::Batch } else { Priority::Interactive },
            deadline: moment(plan.comes + plan.patience),
        }
    }

    fn happen(&mut self, now: Millis, i: usize, event: Event) -> Result<(), String> {
        let schedule = self.schedule;
        let plan = &schedule.plans[i];
        let ticket = ticket_of(i);
        match event {
            Event::Ask if self.due[i] != now => {}
            Event::Ask => match self.phases[i] {
                Phase::Unborn | Phase::Waiting { .. } => self.ask(now, i)?,
                Phase::Granted | Phase::Gone => {}
            },
            Event::GiveUp => {
                if matches!(self.phases[i], Phase::Waiting { .. }) {
                    ensure(self.ledger.cancel(ticket), "a waiting call could not be cancelled")?;
                    self.phases[i] = Phase::Gone;
                    self.wake(now, &PRODUCTS);
                }
            }
            Event::AskAgain => {
                let used = self.used(plan.product, now);
                let admission = self.ledger.ask(&self.ask_of(i), moment(now));
                ensure(admission == Admission::Granted, "a granted ticket was not granted again")?;
                ensure(used == self.used(plan.product, now), "asking again changed what is spent")?;
            }
            Event::Refund => {
                ensure(self.ledger.refund(ticket), "an unsent permit could not be refunded")?;
                self.wake(now, &PRODUCTS);
            }
            Event::Send => {
                ensure(self.ledger.sent(ticket, moment(now)), "the permit ran out before its sending")?;
            }
            Event::Count => self.arrivals[plan.product].push(now),
            Event::Answer => match self.rule {
                Rule::Cooling | Rule::ShortWindow => self.ledger.arrived(ticket, moment(now)),
                Rule::SendStamped => {}
                Rule::InFlightOnly => {
                    self.ledger.refund(ticket);
                    self.wake(now, &PRODUCTS);
                }
            },
        }
        Ok(())
    }

    fn used(&self, product: usize, now: Millis) -> (Option<u32>, u32) {
        let of_product = self.ledger.standing(PRODUCTS[product], moment(now)).map(|standing| standing.used);
        (of_product, self.ledger.ip_standing(moment(now)).used)
    }

    /// Lets whoever is next in line ask, as [`Ledger::head`] wants it.
    fn wake(&mut self, now: Millis, products: &[Product]) {
        for head in products.iter().filter_map(|&product| self.ledger.head(product)) {
            let i = usize::try_from(head.0).expect("an index");
            self.due[i] = now;
            self.events.push(Reverse((now, i, Event::Ask)));
        }
    }

    fn ask(&mut self, now: Millis, i: usize) -> Result<(), String> {
        let schedule = self.schedule;
        let plan = &schedule.plans[i];
        let deadline = plan.comes + plan.patience;
        let is_new = self.phases[i] == Phase::Unborn;
        let turn = match self.phases[i] {
            Phase::Waiting { turn } => turn,
            Phase::Unborn | Phase::Granted | Phase::Gone => {
                self.turns += 1;
                self.turns
            }
        };
        match self.ledger.ask(&self.ask_of(i), moment(now)) {
            Admission::Granted => {
                ensure(now <= deadline, "granted after its deadline")?;
                let last = self.last_turn_granted[plan.product].replace(turn);
                ensure(last.is_none_or(|last| last < turn), "granted before one that came earlier")?;
                self.phases[i] = Phase::Granted;
                self.granted += 1;
                self.proceed(now, i);
                if !is_new {
                    self.wake(now, &[PRODUCTS[plan.product]]);
                }
            }
            Admission::Wait { until } => {
                let until = millis(until);
                ensure(until > now, "told to ask again at once")?;
                ensure(until <= deadline, "told to wait beyond its deadline")?;
                let wakes = until + plan.oversleeps;
                self.due[i] = wakes;
                self.events.push(Reverse((wakes, i, Event::Ask)));
                if is_new {
                    self.phases[i] = Phase::Waiting { turn };
                    if let Some(after) = plan.gives_up_after {
                        self.events.push(Reverse((now + after, i, Event::GiveUp)));
                    }
                }
            }
            Admission::Refused { retry_at, reason, .. } => {
                ensure(millis(retry_at) >= now, "told to come back in the past")?;
                let in_time = reason == Reason::Quota && now <= deadline && millis(retry_at) <= deadline;
                ensure(!in_time, "refused although it could be served in time")?;
                self.phases[i] = Phase::Gone;
                if !is_new {
                    self.wake(now, &PRODUCTS);
                }
            }
        }
        Ok(())
    }

    /// What follows from a grant.
    fn proceed(&mut self, now: Millis, i: usize) {
        let schedule = self.schedule;
        let plan = &schedule.plans[i];
        let mut at = |time, event| self.events.push(Reverse((time, i, event)));
        if plan.asks_again && plan.fate != Fate::Unsent {
            at(now + 1, Event::AskAgain);
        }
        if plan.fate == Fate::Unsent {
            at(now + plan.connects, Event::Refund);
            return;
        }
        let sends = now + plan.connects;
        // The stamp of a wrong rule stays at the grant.
        if plan.connects > 0 && self.rule == Rule::Cooling {
            at(sends, Event::Send);
        }
        if matches!(plan.fate, Fate::Answered | Fate::Lost) {
            at(sends + plan.transit, Event::Count);
        }
        if matches!(plan.fate, Fate::Answered | Fate::Broken) {
            at(sends + plan.transit + plan.answers, Event::Answer);
        }
        if self.rule == Rule::SendStamped {
            self.ledger.arrived(ticket_of(i), moment(now));
        }
    }
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// The oracle. From the arrivals alone: does any window, both ends included, hold too many?
fn judge(schedule: &Schedule, arrivals: &[Vec<Millis>; 3]) -> Result<(), String> {
    let all = arrivals.concat();
    for (what, arrivals, limit, window) in [
        ("directory", &arrivals[0], schedule.limits[0], WINDOW),
        ("payment", &arrivals[1], schedule.limits[1], WINDOW),
        ("the egress IP", &all, schedule.ip, schedule.ip_window),
    ] {
        let mut sorted = arrivals.clone();
        sorted.sort_unstable();
        let limit = limit as usize;
        for (first, one_too_many) in sorted.iter().zip(sorted.iter().skip(limit)) {
            if one_too_many - first <= window {
                return Err(format!("{what}: {} requests from {first} to {one_too_many} ms", limit + 1));
            }
        }
    }
    Ok(())
}

fn play(schedule: &Schedule, rule: Rule) -> Result<usize, String> {
    let world = World::new(schedule, rule).run()?;
    judge(schedule, &world.arrivals)?;
    Ok(world.granted)
}

/// xorshift64*: enough to vary schedules, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
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

    fn schedule(&mut self) -> Schedule {
        let limits = [self.limit(), self.limit()];
        let is_bounded = !self.one_in(3);
        let calls = u64::from(limits[0]) + 4 + self.below(14);
        // From a burst to an even flow at the limit.
        let spread = 1 + self.below(calls * WINDOW / u64::from(limits[0]));
        let tight_ip = self.one_in(4);
        Schedule {
            limits,
            ip: if tight_ip { 1 + self.below(calls) as u32 } else { 800 },
            ip_window: if self.one_in(2) { 300_000 } else { 20_000 + self.below(100_000) },
            is_bounded,
            queue_max: if self.one_in(8) { 1 + self.below(6) as usize } else { 1_000 },
            plans: (0..calls).map(|_| self.plan(spread, is_bounded)).collect(),
        }
    }

    fn plan(&mut self, spread: Millis, is_bounded: bool) -> Plan {
        let transit_max = if is_bounded { BOUND } else { ANSWER_MAX };
        Plan {
            product: match self.below(8) {
                0 => 1,
                1 => 2,
                _ => 0,
            },
            comes: self.below(spread),
            patience: match self.below(6) {
                0 => 0,
                1 | 2 => self.below(20_000),
                _ => self.below(600_000),
            },
            oversleeps: if self.one_in(8) { self.below(2_000) } else { 0 },
            gives_up_after: self.one_in(10).then(|| self.below(90_000)),
            connects: if self.one_in(6) { self.below(12_000) } else { 0 },
            transit: self.delay(transit_max),
            answers: self.delay(30_000),
            fate: match self.below(16) {
                0 => Fate::Lost,
                1 => Fate::Broken,
                2 => Fate::Unsent,
                _ => Fate::Answered,
            },
            asks_again: self.one_in(8),
        }
    }
}

#[test]
fn on_a_hundred_thousand_schedules_no_window_at_finch_holds_too_many() {
    const SCHEDULES: u64 = 100_000;
    const THREADS: u64 = 4;
    let granted: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|worker| {
                scope.spawn(move || {
                    let seeds = (worker..SCHEDULES).step_by(THREADS as usize);
                    let granted = seeds.map(|seed| {
                        let schedule = Dice::new(seed).schedule();
                        play(&schedule, Rule::Cooling)
                            .unwrap_or_else(|why| panic!("seed {seed}: {why}\n{schedule:#?}"))
                    });
                    granted.sum::<usize>()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no schedule fails")).sum()
    });
    // A ledger that grants nothing is safe too.
    assert!(granted > 700_000, "{granted} grants");
}

#[test]
fn the_oracle_catches_every_wrong_rule_on_the_same_schedules() {
    for rule in [Rule::SendStamped, Rule::InFlightOnly, Rule::ShortWindow] {
        let mut caught = 0;
        for seed in 0..2_000 {
            let schedule = Dice::new(seed).schedule();
            let world = World::new(&schedule, rule).run().expect("the ledger itself does no wrong");
            caught += usize::from(judge(&schedule, &world.arrivals).is_err());
        }
        assert!(caught > 100, "{rule:?}: caught in {caught} of 2000 schedules");
    }
}

#[test]
fn the_oracle_counts_both_ends_of_a_window() {
    let schedule = Schedule {
        limits: [2, 1],
        ip: 4,
        ip_window: 1_000,
        is_bounded: true,
        queue_max: 1,
        plans: Vec::new(),
    };
    assert_eq!(judge(&schedule, &[vec![60_001, 0, 0], vec![], vec![]]), Ok(()));
    assert!(judge(&schedule, &[vec![60_000, 0, 0], vec![], vec![]]).is_err());
    assert!(judge(&schedule, &[vec![0, 500], vec![500], vec![500, 1_000]]).is_err());
    assert_eq!(judge(&schedule, &[vec![0, 500], vec![500], vec![500, 1_001]]), Ok(()));
}

prop_compose! {
    fn any_plan(is_bounded: bool)(
        product in 0..3_usize,
        comes in 0..200_000_u64,
        patience in 0..600_000_u64,
        oversleeps in prop_oneof![4 => Just(0), 1 => 0..2_000_u64],
        gives_up_after in prop::option::weighted(0.1, 0..90_000_u64),
        connects in prop_oneof![4 => Just(0), 1 => 0..12_000_u64],
        transit in 0..=(if is_bounded { BOUND } else { ANSWER_MAX }),
        answers in 0..30_000_u64,
        fate in prop_oneof![Just(Fate::Answered), Just(Fate::Lost), Just(Fate::Broken), Just(Fate::Unsent)],
        asks_again in any::<bool>(),
    ) -> Plan {
        Plan { product, comes, patience, oversleeps, gives_up_after, connects, transit, answers, fate, asks_again }
    }
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    any::<bool>().prop_flat_map(|is_bounded| {
        let plans = prop::collection::vec(any_plan(is_bounded), 1..40);
        ([1..6_u32, 1..6_u32], 1..60_u32, 10_000..300_000_u64, 1..50_usize, plans).prop_map(
            move |(limits, ip, ip_window, queue_max, plans)| Schedule {
                limits,
                ip,
                ip_window,
                is_bounded,
                queue_max,
                plans,
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same promise on schedules that shrink to the shortest one that breaks it.
    #[test]
    fn on_any_schedule_no_window_at_finch_holds_too_many(schedule in any_schedule()) {
        let outcome = play(&schedule, Rule::Cooling);
        prop_assert!(outcome.is_ok(), "{outcome:?}");
    }
}

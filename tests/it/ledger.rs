//! The ledger against random schedules. What is safe is judged by an oracle that shares nothing
//! with the ledger: it knows when each request arrived at Finch, and counts windows.

mod schedule;

use perch::limit::beat::{Incarnation, Sent};
use perch::limit::{Admission, Ask, IpRule, Ledger, PerProduct, Reason, Rules, Scope, Tag, Ticket};
use perch::types::{CustomerId, Moment, Priority, Product};
use proptest::prelude::*;
use schedule::{Dice, Fate, Schedule, any_schedule};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

/// Milliseconds since the schedule began.
type Millis = u64;

const WINDOW: Millis = 60_000;
const BOUND: Millis = 5_000;
const GRACE: Millis = 1_000;
const ANSWER_MAX: Millis = 370_000;
const PRODUCTS: [Product; 3] = [Product::Directory, Product::Payment, Product::Introspect];

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
    /// Wrong: a permit is used however late, and nobody is told.
    Unextended,
    /// Wrong: what was sent before a restart is not told to the next ledger.
    ForgetsAtRestart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Restart,
    Hold,
    Ask,
    GiveUp,
    AskAgain,
    Refund,
    Connected,
    Send,
    Count,
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Unborn,
    Waiting { turn: usize },
    Granted { counts_from: Option<Millis> },
    Gone,
}

fn ticket_of(i: usize) -> Ticket {
    Ticket::new(Incarnation(1), i as u64)
}

fn moment(at: Millis) -> Moment {
    Moment::at(span(at))
}

fn span(millis: Millis) -> Duration {
    Duration::from_millis(millis)
}

fn millis(span: Duration) -> Millis {
    u64::try_from(span.as_millis()).expect("a short schedule")
}

fn rules_of(schedule: &Schedule, rule: Rule) -> Rules {
    let [directory, payment] = schedule.limits;
    let limits = PerProduct::from_fn(|product| match product {
        Product::Directory => NonZeroU32::new(directory),
        Product::Payment => NonZeroU32::new(payment),
        _ => None,
    });
    let mut rules = Rules::with_limits(limits);
    rules.window = span(WINDOW);
    rules.grace = span(GRACE);
    rules.answer_max = span(ANSWER_MAX);
    rules.arrival_bound = schedule.is_bounded.then_some(span(BOUND));
    let requests = NonZeroU32::new(schedule.ip).expect("an IP limit");
    rules.ip = IpRule { requests, window: span(schedule.ip_window) };
    rules.queue_max = schedule.queue_max;
    rules.pacing = schedule.paces;
    if rule == Rule::SendStamped {
        rules.pad = Duration::ZERO;
    }
    if rule == Rule::ShortWindow {
        rules.window -= Duration::from_secs(1);
    }
    rules
}

/// Runs one schedule in virtual time.
struct World<'a> {
    schedule: &'a Schedule,
    rule: Rule,
    ledger: Ledger,
    events: BinaryHeap<Reverse<(Millis, usize, Event)>>,
    phases: Vec<Phase>,
    tags: Vec<Option<Tag>>,
    /// When each waiting call asks next; an [`Event::Ask`] at another time is out of date.
    due: Vec<Millis>,
    /// Calls whose grant was lost on the way.
    lost_grants: Vec<bool>,
    turns: usize,
    /// By product, customer and priority.
    last_turn_granted: HashMap<(usize, usize, bool), usize>,
    arrivals: [Vec<Millis>; 3],
    granted: usize,
    /// The product, or the egress IP, and until when it is held.
    held: Option<(Option<usize>, Millis)>,
}

impl<'a> World<'a> {
    fn new(schedule: &'a Schedule, rule: Rule) -> Self {
        let calls = schedule.plans.len();
        let asks = schedule.plans.iter().enumerate().map(|(i, plan)| Reverse((plan.comes, i, Event::Ask)));
        let hold = schedule.hold.map(|(at, ..)| Reverse((at, 0, Event::Hold)));
        let restart = schedule.restart.map(|at| Reverse((at, 0, Event::Restart)));
        World {
            schedule,
            rule,
            ledger: Ledger::new(rules_of(schedule, rule)),
            events: asks.chain(hold).chain(restart).collect(),
            phases: vec![Phase::Unborn; calls],
            tags: vec![None; calls],
            due: schedule.plans.iter().map(|plan| plan.comes).collect(),
            lost_grants: vec![false; calls],
            turns: 0,
            last_turn_granted: HashMap::new(),
            arrivals: [Vec::new(), Vec::new(), Vec::new()],
            granted: 0,
            held: None,
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

    fn ask_of(&self, i: usize, now: Millis) -> Ask {
        let plan = &self.schedule.plans[i];
        let name = ["", "one", "two", "three"][plan.customer];
        Ask {
            ticket: ticket_of(i),
            product: PRODUCTS[plan.product],
            customer: (plan.customer > 0).then(|| CustomerId::new(name).expect("an id")),
            priority: if plan.is_batch { Priority::Batch } else { Priority::Interactive },
            weight: NonZeroU32::MIN.saturating_add(plan.customer as u32),
            patience: span((plan.comes + plan.patience).saturating_sub(now)),
            tag: self.tags[i],
        }
    }

    fn happen(&mut self, now: Millis, i: usize, event: Event) -> Result<(), String> {
        let schedule = self.schedule;
        let Some(plan) = schedule.plans.get(i) else { return Ok(()) };
        let ticket = ticket_of(i);
        match event {
            Event::Restart => self.restart(now),
            Event::Hold => {
                let Some((_, product, lasts)) = schedule.hold else { return Ok(()) };
                let scope = product.map_or(Scope::EgressIp, |product| Scope::Product(PRODUCTS[product]));
                self.ledger.hold(scope, span(lasts), moment(now));
                self.held = Some((product, now + lasts));
            }
            Event::Ask if self.due[i] != now => {}
            Event::Ask => match self.phases[i] {
                Phase::Unborn | Phase::Waiting { .. } => self.ask(now, i)?,
                Phase::Granted { .. } | Phase::Gone => {}
            },
            Event::GiveUp => {
                if matches!(self.phases[i], Phase::Waiting { .. }) {
                    // Whether it waits or has been granted, it does not know if it was not told.
                    let is_known = self.ledger.cancel(ticket, moment(now));
                    let is_given_back = self.ledger.refund(ticket, moment(now));
                    let is_calm = schedule.is_calm();
                    ensure(is_known || is_given_back || !is_calm, "a waiting call could not be cancelled")?;
                    self.phases[i] = Phase::Gone;
                    self.wake(now, &PRODUCTS);
                }
            }
            Event::AskAgain if self.phases[i] != (Phase::Granted { counts_from: None }) => {}
            Event::AskAgain => {
                let used = self.used(plan.product, now);
                let admission = self.ledger.ask(&self.ask_of(i, now), moment(now));
                let is_granted = matches!(admission, Admission::Granted { .. });
                ensure(is_granted || self.has_restarted(now), "a granted ticket was not granted again")?;
                ensure(used == self.used(plan.product, now), "asking again changed what is spent")?;
            }
            Event::Refund => {
                let is_unsent = self.ledger.refund(ticket, moment(now));
                ensure(is_unsent || self.has_restarted(now), "an unsent permit could not be refunded")?;
                self.phases[i] = Phase::Gone;
                self.wake(now, &PRODUCTS);
            }
            Event::Connected => {
                let is_good = self.rule == Rule::Unextended || self.ledger.extend(ticket, moment(now));
                ensure(is_good || self.has_restarted(now), "the permit ran out before its sending")?;
                match is_good {
                    true => self.events.push(Reverse((now + plan.dawdles, i, Event::Send))),
                    false => self.phases[i] = Phase::Gone,
                }
            }
            Event::Send => self.send(now, i),
            Event::Count => self.arrivals[plan.product].push(now),
            Event::Answer => self.answer(now, i),
        }
        Ok(())
    }

    fn answer(&mut self, now: Millis, i: usize) {
        let plan = &self.schedule.plans[i];
        if self.rule == Rule::InFlightOnly {
            self.ledger.refund(ticket_of(i), moment(now));
            self.wake(now, &PRODUCTS);
        } else {
            self.ledger.arrived(ticket_of(i), plan.fate == Fate::Refused, moment(now));
        }
        self.phases[i] = Phase::Granted { counts_from: Some(now) };
        if plan.fate == Fate::Refused {
            let retry_after = plan.asks_again.then_some(span(plan.answers));
            self.ledger.limited(PRODUCTS[plan.product], retry_after, moment(now));
        }
    }

    /// Everything is lost but what was sent and how long ago it arrived.
    fn restart(&mut self, now: Millis) {
        self.ledger = Ledger::new(rules_of(self.schedule, self.rule));
        self.held = None;
        let sent = self.phases.iter().enumerate().filter_map(|(i, phase)| {
            let Phase::Granted { counts_from } = phase else { return None };
            let Ask { ticket, product, priority, .. } = self.ask_of(i, now);
            Some(Sent { ticket, product, priority, age: counts_from.map(|from| span(now - from)) })
        });
        let sent: Vec<Sent> = sent.collect();
        if self.rule != Rule::ForgetsAtRestart {
            self.ledger.restore(&sent, moment(now));
        }
    }

    fn has_restarted(&self, now: Millis) -> bool {
        self.schedule.restart.is_some_and(|at| at <= now)
    }

    fn used(&self, product: usize, now: Millis) -> (Option<u32>, u32) {
        let of_product = self.ledger.standing(PRODUCTS[product], moment(now)).map(|standing| standing.used);
        (of_product, self.ledger.ip_standing(moment(now)).used)
    }

    /// Lets whoever is next in line ask, as [`Ledger::head`] wants it.
    fn wake(&mut self, now: Millis, products: &[Product]) {
        for head in products.iter().filter_map(|&product| self.ledger.head(product)) {
            let i = usize::try_from(head.number).expect("an index");
            self.due[i] = now;
            self.events.push(Reverse((now, i, Event::Ask)));
        }
    }

    fn ask(&mut self, now: Millis, i: usize) -> Result<(), String> {
        let schedule = self.schedule;
        let plan = &schedule.plans[i];
        let is_new = self.phases[i] == Phase::Unborn;
        let turn = match self.phases[i] {
            Phase::Waiting { turn } => turn,
            Phase::Unborn | Phase::Granted { .. } | Phase::Gone => {
                self.turns += 1;
                self.turns
            }
        };
        let used = self.used(plan.product, now);
        let ask = self.ask_of(i, now);
        let admission = self.ledger.ask(&ask, moment(now));
        if is_new && let Some(after) = plan.gives_up_after {
            self.events.push(Reverse((now + after, i, Event::GiveUp)));
        }
        if is_new && let Some(later) = plan.loses_reply {
            self.phases[i] = Phase::Waiting { turn };
            self.lost_grants[i] = matches!(admission, Admission::Granted { .. });
            self.due[i] = now + later;
            self.events.push(Reverse((now + later, i, Event::Ask)));
            return Ok(());
        }
        if self.lost_grants[i] && !self.has_restarted(now) {
            let is_granted = matches!(admission, Admission::Granted { .. });
            ensure(is_granted, "a lost grant was not granted again")?;
            ensure(used == self.used(plan.product, now), "a lost reply cost a second permit")?;
        }
        match admission {
            Admission::Granted { tag } => {
                self.tags[i] = Some(tag);
                self.granted(now, i, turn)?;
                if !is_new {
                    self.wake(now, &[PRODUCTS[plan.product]]);
                }
            }
            Admission::Wait { after, tag } => {
                ensure(!after.is_zero(), "told to ask again at once")?;
                ensure(after <= ask.patience, "told to wait beyond its deadline")?;
                self.tags[i] = Some(tag);
                // To the next whole millisecond: never early.
                let wakes = now + millis(after + Duration::from_nanos(999_999)) + plan.oversleeps;
                self.due[i] = wakes;
                self.events.push(Reverse((wakes, i, Event::Ask)));
                self.phases[i] = Phase::Waiting { turn };
            }
            Admission::Refused { after, reason, .. } => {
                let is_late = after > ask.patience || after.is_zero();
                let is_full = matches!(reason, Reason::QueueFull | Reason::CustomerQueueFull);
                let is_forced = is_late || is_full || self.lost_grants[i];
                ensure(is_forced, "refused although it could be served in time")?;
                self.phases[i] = Phase::Gone;
                if !is_new {
                    self.wake(now, &PRODUCTS);
                }
            }
        }
        Ok(())
    }

    /// What follows from a grant.
    fn granted(&mut self, now: Millis, i: usize, turn: usize) -> Result<(), String> {
        let schedule = self.schedule;
        let plan = &schedule.plans[i];
        let is_held = self.held.is_some_and(|(product, until)| {
            now < until && product.is_none_or(|product| product == plan.product)
        });
        ensure(!is_held || self.lost_grants[i], "granted while it was held")?;
        let flow = (plan.product, plan.customer, plan.is_batch);
        let last = self.last_turn_granted.insert(flow, turn);
        let is_in_order = last.is_none_or(|last| last < turn) || !schedule.is_calm();
        ensure(is_in_order, "granted before one of the same customer that came earlier")?;
        self.phases[i] = Phase::Granted { counts_from: None };
        self.granted += 1;
        if plan.asks_again && plan.fate != Fate::Unsent {
            self.events.push(Reverse((now + 1, i, Event::AskAgain)));
        }
        let next = match plan.fate {
            Fate::Unsent => (now + plan.connects, Event::Refund),
            _ if plan.connects + plan.dawdles > GRACE => (now + plan.connects, Event::Connected),
            _ => (now + plan.connects + plan.dawdles, Event::Send),
        };
        self.events.push(Reverse((next.0, i, next.1)));
        Ok(())
    }

    /// The first byte is written.
    fn send(&mut self, now: Millis, i: usize) {
        let plan = &self.schedule.plans[i];
        if matches!(plan.fate, Fate::Answered | Fate::Refused | Fate::Lost) {
            self.events.push(Reverse((now + plan.transit, i, Event::Count)));
        }
        match self.rule {
            Rule::SendStamped => self.answer(now, i),
            _ if plan.fate == Fate::Lost => {}
            _ => self.events.push(Reverse((now + plan.transit + plan.answers, i, Event::Answer))),
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

#[test]
fn i1_on_a_hundred_thousand_schedules_no_window_at_finch_holds_too_many() {
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
fn i1_the_oracle_catches_every_wrong_rule_on_the_same_schedules() {
    for rule in
        [Rule::SendStamped, Rule::InFlightOnly, Rule::ShortWindow, Rule::Unextended, Rule::ForgetsAtRestart]
    {
        let mut caught = 0;
        for seed in 0..2_000 {
            let schedule = Dice::new(seed).schedule();
            let world = World::new(&schedule, rule).run().expect("the ledger itself does no wrong");
            caught += usize::from(judge(&schedule, &world.arrivals).is_err());
        }
        assert!(caught > 20, "{rule:?}: caught in {caught} of 2000 schedules");
    }
}

#[test]
fn i1_the_oracle_counts_both_ends_of_a_window() {
    let schedule = Schedule {
        limits: [2, 1],
        ip: 4,
        ip_window: 1_000,
        is_bounded: true,
        paces: false,
        hold: None,
        restart: None,
        queue_max: 1,
        plans: Vec::new(),
    };
    assert_eq!(judge(&schedule, &[vec![60_001, 0, 0], vec![], vec![]]), Ok(()));
    assert!(judge(&schedule, &[vec![60_000, 0, 0], vec![], vec![]]).is_err());
    assert!(judge(&schedule, &[vec![0, 500], vec![500], vec![500, 1_000]]).is_err());
    assert_eq!(judge(&schedule, &[vec![0, 500], vec![500], vec![500, 1_001]]), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same promise on schedules that shrink to the shortest one that breaks it.
    #[test]
    fn i1_on_any_schedule_no_window_at_finch_holds_too_many(schedule in any_schedule()) {
        let outcome = play(&schedule, Rule::Cooling);
        prop_assert!(outcome.is_ok(), "{outcome:?}");
    }
}

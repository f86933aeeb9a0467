//! One play: rules and replicas by chance, and what they do to the ledger in memory. Each step says what the script is
//! asked and what it has to answer.

use super::chance::Chance;
use perch::limit::beat::{Beat, Incarnation, Pools, Pulse, Sent, Stance};
use perch::limit::{Admission, Ask, IpRule, Ledger, PerProduct, Rules, Scope, Ticket};
use perch::store::redis::codec::{self, Call, Heard, Standings, Told};
use perch::store::redis::{LinkError, Reply};
use perch::types::{CustomerId, Moment, Priority, Product};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Three with a limit, one without.
const PRODUCTS: [Product; 4] = [Product::Directory, Product::Payment, Product::Company, Product::Providers];

/// Names whose order is that of their bytes, in no locale's.
const NAMES: [&str; 6] = ["pod-10", "pod-2", "Pod-2", "ä", "10", "z_é"];

const MICROS: u64 = 1_000_000;

/// A clock that goes further back than this was set, and nothing is believed any more.
const BACK_MAX: u64 = 5 * MICROS;

/// As far from 1970 as a server's clock is.
const BEGIN: u64 = 1_790_000_000 * MICROS;

/// How an answer is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Ask(Product),
    Arrived(Product),
    Flag,
    Done,
    Beat,
}

impl Kind {
    /// The answer in words that can be compared.
    pub(super) fn read(self, reply: &Reply, rules: &Rules) -> String {
        match self {
            Kind::Ask(product) => said(&codec::read_ask(reply, product, rules)),
            Kind::Arrived(product) => said(&codec::read_arrived(reply, product, rules)),
            Kind::Flag => said(&codec::read_flag(reply)),
            Kind::Done => said(&codec::read_done(reply)),
            Kind::Beat => said(&codec::read_beat(reply, rules)),
        }
    }
}

fn said<T: fmt::Debug>(heard: &Result<Heard<T>, LinkError>) -> String {
    format!("{heard:?}")
}

/// One operation.
pub(super) struct Step {
    pub(super) now: u64,
    pub(super) run: String,
    pub(super) call: Call,
    pub(super) kind: Kind,
    pub(super) expected: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.call.iter().map(|word| String::from_utf8_lossy(word)).collect();
        write!(
            f,
            "{:>12} {} {} -> {}",
            self.now.cast_signed() - BEGIN.cast_signed(),
            self.run,
            words.join(","),
            self.expected
        )
    }
}

/// How often the play came by what it is there for.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Met {
    counts: [u32; 9],
}

impl Met {
    const WHAT: [&str; 9] = [
        "an unknown beat",
        "a lease",
        "a smaller lease",
        "something cut off",
        "a wish for a replay",
        "learning",
        "the end of learning",
        "a wake",
        "a grant",
    ];

    fn meet(&mut self, at: usize, is_met: bool) {
        self.counts[at] += u32::from(is_met);
    }

    pub(super) fn add(&mut self, other: &Met) {
        for (sum, more) in self.counts.iter_mut().zip(other.counts) {
            *sum += more;
        }
    }

    /// What was met too seldom for a test.
    pub(super) fn missed(&self) -> Vec<&'static str> {
        Self::WHAT
            .into_iter()
            .zip(self.counts)
            .filter(|(_, count)| *count < 20)
            .map(|(what, _)| what)
            .collect()
    }
}

/// One replica, as it sees itself.
struct Replica {
    name: &'static str,
    incarnation: Incarnation,
    number: u64,
    acked: u64,
    stance: Stance,
    lease: Pools,
    came: u64,
    told: Pulse,
}

impl Replica {
    fn new(name: &'static str, incarnation: u64, now: u64) -> Self {
        Self {
            name,
            incarnation: Incarnation(incarnation),
            number: 0,
            acked: 0,
            stance: Stance::Joined,
            lease: Pools::none(),
            came: now,
            told: Pulse::unknown(),
        }
    }
}

pub(super) struct Play {
    pub(super) seed: u64,
    pub(super) rules: Rules,
    pub(super) met: Met,
    chance: Chance,
    ledger: Ledger,
    run: u64,
    now: u64,
    /// The ledger's own time, which does not run backwards.
    clock: u64,
    replicas: Vec<Replica>,
    /// How seldom they misbehave, in percent.
    faults: u64,
    next: u64,
    /// The latest tickets asked with.
    tickets: Vec<Ticket>,
}

impl Play {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let rules = rules(&mut chance);
        let count = chance.place(NAMES.len()) + 1;
        let faults = chance.of(&[0, 1, 5, 20]);
        Self {
            seed,
            ledger: Ledger::new(rules.clone()),
            rules,
            met: Met::default(),
            run: 1,
            now: BEGIN,
            clock: 0,
            replicas: NAMES[..count]
                .iter()
                .map(|name| Replica::new(name, number(&mut chance), BEGIN))
                .collect(),
            faults,
            next: 1,
            tickets: Vec::new(),
            chance,
        }
    }

    /// What happens next.
    pub(super) fn step(&mut self) -> Step {
        let faults = self.faults;
        match self.chance.from(0, 999) {
            0..600 => self.now += self.chance.from(0, 700_000),
            600..620 => self.now += self.chance.from(0, 3 * MICROS),
            620..630 => self.now += self.chance.from(0, 20 * MICROS),
            n if n < 630 + faults => self.now += self.chance.from(0, 400 * MICROS),
            n if n < 630 + 2 * faults => self.now -= self.chance.of(&[1, MICROS, BACK_MAX, BACK_MAX + 1]),
            _ => {}
        }
        if self.chance.from(0, 2999) < faults {
            self.run += 1;
        }
        if self.chance.from(0, 4999) < faults {
            return self.forget();
        }
        match self.chance.from(0, 99) {
            0..45 => self.beat(),
            45..80 => self.ask(),
            80..90 => self.arrived(),
            90..93 => self.flag(),
            93..95 => self.limited(),
            _ => self.hold_or_ask(),
        }
    }

    fn moment(&mut self) -> Moment {
        if self.now + BACK_MAX < self.clock {
            self.ledger = Ledger::new(self.rules.clone());
            self.clock = self.now;
        }
        self.clock = self.clock.max(self.now);
        let now = Moment::at(Duration::from_micros(self.now));
        self.ledger.enter(&self.run.to_string(), now);
        now
    }

    fn step_of<T: fmt::Debug>(&self, call: Call, kind: Kind, what: T) -> Step {
        let expected = said(&Ok(Heard::Told(Told { now: self.clock, what })));
        Step { now: self.now, run: self.run.to_string(), call, kind, expected }
    }

    /// The server's clock was set.
    fn forget(&mut self) -> Step {
        self.ledger = Ledger::new(self.rules.clone());
        self.clock = self.now;
        self.moment();
        self.step_of(codec::skew(), Kind::Done, ())
    }

    fn beat(&mut self) -> Step {
        let at = self.chance.place(self.replicas.len());
        self.change(at);
        let beat = self.beat_of(at);
        let now = self.moment();
        let pulse = self.ledger.beat(&beat, now);
        let standings = Standings {
            products: PerProduct::from_fn(|product| self.ledger.standing(product, now)),
            ip: self.ledger.ip_standing(now),
            holds: self.ledger.holds(now).collect(),
        };
        self.note(&beat, &pulse);
        let step = self.step_of(codec::beat(&beat), Kind::Beat, (pulse.clone(), standings));
        let is_heard = !self.chance.in_hundred(self.faults);
        let replica = &mut self.replicas[at];
        if is_heard && pulse.is_known {
            (replica.acked, replica.lease) = (beat.number, pulse.lease);
            replica.told = pulse;
        } else if is_heard {
            self.restart(at);
        }
        step
    }

    fn note(&mut self, beat: &Beat, pulse: &Pulse) {
        let met = &mut self.met;
        met.meet(0, !pulse.is_known);
        met.meet(1, pulse.lease.products[Product::Directory] > 0);
        met.meet(2, pulse.is_known && pulse.lease.ip < beat.lease.ip);
        met.meet(3, !pulse.away.0.is_none());
        met.meet(4, pulse.wants_replay);
        met.meet(5, !pulse.learns_for.is_zero());
        met.meet(6, pulse.is_known && pulse.learns_for.is_zero());
        met.meet(7, !pulse.wakes.is_empty());
    }

    /// A replica joins, leaves, is cut off, comes back or begins anew.
    fn change(&mut self, at: usize) {
        let die = self.chance.from(0, 99);
        let replica = &mut self.replicas[at];
        replica.stance = match (replica.stance, die) {
            (Stance::Apart, 0..40) => Stance::Joined,
            (Stance::Leaving, _) => return self.restart(at),
            (Stance::Joined, n) if n < 1 + self.faults / 4 => Stance::Apart,
            (Stance::Joined, 98) => Stance::Leaving,
            (_, 99) => return self.restart(at),
            (stance, _) => stance,
        };
    }

    fn restart(&mut self, at: usize) {
        let replica = &self.replicas[at];
        let (name, old) = (replica.name, replica.incarnation.0);
        let is_older = self.chance.in_hundred(10);
        let incarnation = if is_older { number(&mut self.chance) } else { old.saturating_add(1 + self.run) };
        self.replicas[at] = Replica::new(name, incarnation, self.now);
    }

    fn beat_of(&mut self, at: usize) -> Beat {
        let demand = self.pools(30);
        let lie = self.pools(9);
        let (chance, replica) = (&mut self.chance, &mut self.replicas[at]);
        let is_wrong = chance.in_hundred(self.faults);
        if !is_wrong || chance.in_hundred(50) {
            replica.number += 1;
        }
        let age = self.now.saturating_sub(replica.came);
        let mut beat = Beat {
            member: replica.name.to_owned(),
            incarnation: replica.incarnation,
            number: replica.number,
            acked: replica.acked,
            stance: replica.stance,
            lease: replica.lease,
            demand: if chance.in_hundred(20) { Pools::none() } else { demand },
            uptime: Duration::from_micros(age),
            peers: replica.told.peers,
            away: replica.told.away,
            replay: None,
        };
        if is_wrong && chance.in_hundred(30) {
            beat.lease = lie;
        }
        if is_wrong && chance.in_hundred(30) {
            beat.peers = u32::try_from(chance.from(0, 7)).expect("small");
            beat.uptime = Duration::from_micros(chance.from(0, 2 * BEGIN));
        }
        let wants = match beat.stance {
            Stance::Joined => replica.told.wants_replay,
            Stance::Apart | Stance::Leaving => true,
        };
        if chance.in_hundred(if wants { 80 } else { self.faults }) {
            beat.replay = Some(self.replay(beat.incarnation));
        }
        beat
    }

    fn replay(&mut self, of: Incarnation) -> Vec<Sent> {
        let count = self.chance.from(0, 5);
        let span = 2 * u64::try_from(self.rules.window.as_micros()).expect("64 bits");
        let sent = |chance: &mut Chance| {
            let ticket = Ticket::new(of, chance.from(1, self.next));
            let age = (!chance.in_hundred(30)).then(|| Duration::from_micros(chance.from(0, span)));
            Sent { ticket, product: product_of(ticket), priority: class_of(ticket), age }
        };
        (0..count).map(|_| sent(&mut self.chance)).collect()
    }

    fn ask(&mut self) -> Step {
        let is_new = self.tickets.is_empty() || self.chance.in_hundred(40);
        let ticket = if is_new { self.new_ticket() } else { self.chance.of(&self.tickets) };
        // Whoever asks again is the same customer.
        let customer = ticket.number % 4;
        let ask = Ask {
            ticket,
            product: product_of(ticket),
            customer: (customer > 0).then(|| CustomerId::new(format!("c{customer}")).expect("an id")),
            priority: class_of(ticket),
            weight: NonZeroU32::MIN,
            patience: Duration::from_micros(self.chance.of(&[0, 5 * MICROS, 60 * MICROS, 600 * MICROS])),
            tag: None,
        };
        let now = self.moment();
        let admission = self.ledger.ask(&ask, now);
        self.met.meet(8, matches!(admission, Admission::Granted { .. }));
        let standing = self.ledger.standing(ask.product, now);
        let is_ip_open = self.ledger.is_ip_open(now);
        self.step_of(codec::ask(&ask), Kind::Ask(ask.product), (admission, standing, is_ip_open))
    }

    fn new_ticket(&mut self) -> Ticket {
        let at = self.chance.place(self.replicas.len());
        let ticket = Ticket::new(self.replicas[at].incarnation, self.next);
        self.next += 1;
        self.tickets.push(ticket);
        if self.tickets.len() > 24 {
            self.tickets.remove(0);
        }
        ticket
    }

    fn somebody(&mut self) -> Ticket {
        if self.tickets.is_empty() { self.new_ticket() } else { self.chance.of(&self.tickets) }
    }

    fn arrived(&mut self) -> Step {
        let (ticket, is_429) = (self.somebody(), self.chance.in_hundred(20));
        let (now, product) = (self.moment(), product_of(ticket));
        self.ledger.arrived(ticket, is_429, now);
        let standing = self.ledger.standing(product, now);
        self.step_of(codec::arrived(ticket, product, is_429), Kind::Arrived(product), standing)
    }

    fn flag(&mut self) -> Step {
        let (ticket, now) = (self.somebody(), self.moment());
        let product = product_of(ticket);
        let (call, flag) = match self.chance.from(0, 2) {
            0 => (codec::extend(ticket, product), self.ledger.extend(ticket, now)),
            1 => (codec::refund(ticket, product), self.ledger.refund(ticket, now)),
            _ => (codec::cancel(ticket), self.ledger.cancel(ticket, now)),
        };
        self.step_of(call, Kind::Flag, flag)
    }

    fn limited(&mut self) -> Step {
        let (product, now) = (self.chance.of(&PRODUCTS), self.moment());
        self.ledger.limited(product, None, now);
        self.step_of(codec::limited(product, None), Kind::Done, ())
    }

    fn hold_or_ask(&mut self) -> Step {
        if !self.chance.in_hundred(20) {
            return self.ask();
        }
        let scope = match self.chance.in_hundred(30) {
            true => Scope::EgressIp,
            false => Scope::Product(self.chance.of(&PRODUCTS)),
        };
        let (span, now) = (Duration::from_micros(self.chance.from(0, 5 * MICROS)), self.moment());
        self.ledger.hold(scope, span, now);
        self.step_of(codec::hold(scope, span), Kind::Done, ())
    }

    fn pools(&mut self, most: u64) -> Pools {
        let mut number = || u32::try_from(self.chance.from(0, most)).expect("small");
        let mut pools = Pools { ip: number(), ..Pools::none() };
        for product in &PRODUCTS[..3] {
            pools.products[*product] = number();
        }
        pools
    }
}

/// Any number of 64 bits.
fn number(chance: &mut Chance) -> u64 {
    chance.from(0, u64::MAX - 1)
}

/// A ticket is never asked with for something else.
fn product_of(ticket: Ticket) -> Product {
    PRODUCTS[usize::try_from(ticket.number / 4 % 4).expect("small")]
}

fn class_of(ticket: Ticket) -> Priority {
    if ticket.number.is_multiple_of(3) { Priority::Batch } else { Priority::Interactive }
}

/// Small limits and short lives, so that every rule is met soon.
fn rules(chance: &mut Chance) -> Rules {
    let mut limits = PerProduct::from_fn(|_| None);
    for product in &PRODUCTS[..3] {
        limits[*product] = NonZeroU32::new(u32::try_from(chance.of(&[1, 4, 7, 20])).expect("small"));
    }
    let seconds = Duration::from_secs;
    Rules {
        window: seconds(chance.of(&[2, 5, 20])),
        arrival_bound: Some(seconds(chance.of(&[1, 2]))),
        answer_max: seconds(30),
        grace: Duration::from_millis(300),
        ip: IpRule {
            requests: NonZeroU32::new(u32::try_from(chance.of(&[9, 50, 800])).expect("small"))
                .expect("not zero"),
            window: seconds(chance.of(&[5, 20])),
        },
        pacing: chance.in_hundred(50),
        silence: seconds(chance.of(&[3, 6])),
        share_percent: u32::try_from(chance.of(&[10, 50, 100])).expect("small"),
        lease_life: seconds(chance.of(&[5, 40])),
        ..Rules::with_limits(limits)
    }
}

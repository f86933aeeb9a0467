//! One play: rules, replicas and customers by chance, and what they do to the ledger in memory. Each step says what the
//! script is told and what it has to answer.

use super::chance::Chance;
use perch::limit::beat::Incarnation;
use perch::limit::{Admission, Ask, IpRule, Ledger, PerProduct, Rules, Scope, Standing, Tag, Ticket};
use perch::store::redis::codec::{self, Call, Heard};
use perch::store::redis::{LinkError, Reply};
use perch::types::{CustomerId, Moment, Priority, Product};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Three with a limit, one without.
const PRODUCTS: [Product; 4] = [Product::Directory, Product::Payment, Product::Company, Product::Providers];

const MICROS: u64 = 1_000_000;

/// The one run of the server that there is.
pub(super) const RUN: &str = "run-1";

/// As far from 1970 as a server's clock is.
const BEGIN: u64 = 1_790_000_000 * MICROS;

/// What the ledger answers, or the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Asked(Admission, Option<Standing>, bool),
    Arrived(Option<Standing>),
    Flag(bool),
    Done,
}

/// One operation.
pub(super) struct Step {
    /// The time that it is told.
    pub(super) now: u64,
    /// The ledger's own time, which never runs backwards.
    pub(super) clock: u64,
    pub(super) call: Call,
    pub(super) product: Product,
    pub(super) expected: Answer,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.call.iter().map(|word| String::from_utf8_lossy(word)).collect();
        write!(f, "{:>12} {} -> {:?}", self.now - BEGIN, words.join(" "), self.expected)
    }
}

impl Step {
    /// Reads the script's answer in the place of the ledger's: its time and what it says.
    pub(super) fn read(&self, reply: &Reply, rules: &Rules) -> Result<(u64, Answer), LinkError> {
        let heard = match self.expected {
            Answer::Asked(..) => {
                map(codec::read_ask(reply, self.product, rules)?, |(what, standing, is_open)| {
                    Answer::Asked(what, standing, is_open)
                })
            }
            Answer::Arrived(_) => map(codec::read_arrived(reply, self.product, rules)?, Answer::Arrived),
            Answer::Flag(_) => map(codec::read_flag(reply)?, Answer::Flag),
            Answer::Done => map(codec::read_done(reply)?, |()| Answer::Done),
        };
        heard.ok_or_else(|| LinkError::BadReply("skewed".to_owned()))
    }
}

fn map<T>(heard: Heard<T>, what: impl FnOnce(T) -> Answer) -> Option<(u64, Answer)> {
    match heard {
        Heard::Told(told) => Some((told.now, what(told.what))),
        Heard::Skewed { .. } => None,
    }
}

/// A ticket that somebody has asked with.
#[derive(Clone)]
struct Wish {
    ask: Ask,
    /// When the ledger wants it asked again.
    due: Option<u64>,
}

pub(super) struct Play {
    pub(super) seed: u64,
    pub(super) rules: Rules,
    /// Whether many wait for one product.
    is_crowded: bool,
    chance: Chance,
    ledger: Ledger,
    now: u64,
    /// The ledger's own clock.
    clock: u64,
    steps: u64,
    customers: u64,
    replicas: u64,
    next: u64,
    waiting: Vec<Wish>,
    flying: Vec<Wish>,
    done: Vec<Wish>,
}

impl Play {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let mut rules = rules(&mut chance);
        let is_crowded = seed.is_multiple_of(4);
        if is_crowded {
            (rules.queue_max, rules.queue_per_customer_max) = (10_000, 200);
            rules.ip.requests = NonZeroU32::new(800).expect("not zero");
        }
        Self {
            seed,
            is_crowded,
            ledger: Ledger::new(rules.clone()),
            rules,
            now: BEGIN,
            clock: BEGIN,
            steps: 0,
            customers: chance.from(1, 8),
            replicas: chance.from(1, 4),
            next: 1,
            waiting: Vec::new(),
            flying: Vec::new(),
            done: Vec::new(),
            chance,
        }
    }

    /// What happens next.
    pub(super) fn step(&mut self) -> Step {
        self.pass();
        self.ledger.enter(RUN, self.moment());
        match self.chance.from(0, 99) {
            // In a crowd more ask than can be served, and those who are due come in time.
            0..28 if self.is_crowded => self.ask_anew(),
            28..80 if self.is_crowded => self.ask_again(),
            80..97 if self.is_crowded => self.arrived(),
            0..30 => self.ask_anew(),
            30..58 => self.ask_again(),
            58..76 => self.arrived(),
            76..82 => self.extend(),
            82..88 => self.refund(),
            88..94 => self.cancel(),
            94..97 => self.limited(),
            _ => self.hold(),
        }
    }

    /// Time goes on: not at all, a little, to when somebody is due, or a long way; now and then a little back.
    fn pass(&mut self) {
        let by = |chance: &mut Chance, most: u64| chance.from(0, most);
        self.steps += 1;
        // A store that has just begun learns, then counts most of the IP's permits as spent: both pass first.
        if self.steps <= 3 {
            self.now += 600 * MICROS;
            self.clock = self.now;
            return;
        }
        match self.chance.from(0, 99) {
            0..45 if self.is_crowded => {}
            45..97 if self.is_crowded => {
                let dues = self.waiting.iter().filter_map(|wish| wish.due);
                self.now = dues.min().unwrap_or(self.now).max(self.now);
            }
            0..25 => {}
            25..60 => self.now += by(&mut self.chance, 200_000),
            60..80 => self.now += by(&mut self.chance, 3 * MICROS),
            80..92 => {
                let dues = self.waiting.iter().filter_map(|wish| wish.due).filter(|due| *due > self.now);
                if let Some(due) = dues.min() {
                    self.now = due + self.chance.of(&[0, 0, 1, 1000, 600_000]);
                }
            }
            // Further back the script believes no clock, and forgets everything.
            92..95 => {
                self.now =
                    (self.now - by(&mut self.chance, 2 * MICROS)).max(self.clock - 5 * MICROS).max(BEGIN)
            }
            95..99 => self.now += by(&mut self.chance, 90 * MICROS),
            _ => self.now += by(&mut self.chance, 1200 * MICROS),
        }
        self.clock = self.clock.max(self.now);
    }

    fn moment(&self) -> Moment {
        Moment::at(Duration::from_micros(self.now))
    }

    fn told(&self, call: Call, product: Product, expected: Answer) -> Step {
        Step { now: self.now, clock: self.clock, call, product, expected }
    }

    fn ask_anew(&mut self) -> Step {
        let of = Incarnation(self.chance.from(1, self.replicas));
        let customer = self.chance.from(0, self.customers);
        let patience = match self.is_crowded {
            true => self.chance.of(&[60 * MICROS, 600 * MICROS]),
            false => self.chance.of(&[0, 1, 300_000, 15 * MICROS, 60 * MICROS, 600 * MICROS]),
        };
        let shown = self.chance.from(0, 30) * 360_360;
        let ask = Ask {
            ticket: Ticket::new(of, self.next),
            product: self.product(),
            customer: (customer > 0).then(|| CustomerId::new(format!("c{customer}")).expect("an id")),
            priority: self.chance.of(&Priority::ALL),
            weight: NonZeroU32::new(u32::try_from(self.chance.of(&[1, 1, 1, 2, 3, 100])).expect("small"))
                .expect("not zero"),
            patience: Duration::from_micros(patience),
            tag: self.chance.in_hundred(15).then_some(Tag(shown)),
        };
        self.next += 1;
        self.ask(Wish { ask, due: None })
    }

    /// One that waits asks when it should, or whoever comes to mind; now and then one that was served already.
    fn ask_again(&mut self) -> Step {
        let due = self.waiting.iter().position(|wish| wish.due.is_some_and(|due| due <= self.now));
        let wish = match (due, self.chance.from(0, 9)) {
            (Some(at), 0..=7) => self.waiting.swap_remove(at),
            (_, 9) if !self.flying.is_empty() => {
                let at = self.chance.place(self.flying.len());
                self.flying.swap_remove(at)
            }
            (_, 8) if !self.done.is_empty() => {
                let at = self.chance.place(self.done.len());
                self.done.swap_remove(at)
            }
            _ if !self.waiting.is_empty() => {
                let at = self.chance.place(self.waiting.len());
                self.waiting.swap_remove(at)
            }
            _ => return self.ask_anew(),
        };
        self.ask(wish)
    }

    fn ask(&mut self, mut wish: Wish) -> Step {
        let now = self.moment();
        let product = wish.ask.product;
        let call = codec::ask(&wish.ask);
        let admission = self.ledger.ask(&wish.ask, now);
        let expected =
            Answer::Asked(admission, self.ledger.standing(product, now), self.ledger.is_ip_open(now));
        let step = self.told(call, product, expected);
        wish.due = None;
        match admission {
            Admission::Granted { tag } => {
                wish.ask.tag = Some(tag);
                self.flying.push(wish);
            }
            Admission::Wait { after, tag } => {
                (wish.ask.tag, wish.due) = (Some(tag), Some(self.clock + micros(after)));
                self.waiting.push(wish);
            }
            Admission::Refused { .. } => self.retire(wish),
        }
        step
    }

    fn retire(&mut self, wish: Wish) {
        self.done.push(wish);
        if self.done.len() > 40 {
            self.done.remove(0);
        }
    }

    /// One of those in flight, or now and then any other ticket.
    fn somebody(&mut self) -> Option<Wish> {
        let list = match self.chance.from(0, 19) {
            0 => &mut self.done,
            1 => &mut self.waiting,
            _ => &mut self.flying,
        };
        if list.is_empty() { None } else { Some(list[self.chance.place(list.len())].clone()) }
    }

    fn forget_flying(&mut self, ticket: Ticket) {
        if let Some(at) = self.flying.iter().position(|wish| wish.ask.ticket == ticket) {
            let wish = self.flying.swap_remove(at);
            self.retire(wish);
        }
    }

    fn arrived(&mut self) -> Step {
        let Some(wish) = self.somebody() else { return self.ask_anew() };
        let (ticket, product) = (wish.ask.ticket, wish.ask.product);
        let is_429 = self.chance.in_hundred(20);
        self.ledger.arrived(ticket, is_429, self.moment());
        self.forget_flying(ticket);
        let standing = self.ledger.standing(product, self.moment());
        self.told(codec::arrived(ticket, product, is_429), product, Answer::Arrived(standing))
    }

    fn extend(&mut self) -> Step {
        let Some(wish) = self.somebody() else { return self.ask_anew() };
        let (ticket, product) = (wish.ask.ticket, wish.ask.product);
        let is_whole = self.ledger.extend(ticket, self.moment());
        self.told(codec::extend(ticket, product), product, Answer::Flag(is_whole))
    }

    fn refund(&mut self) -> Step {
        let Some(wish) = self.somebody() else { return self.ask_anew() };
        let (ticket, product) = (wish.ask.ticket, wish.ask.product);
        let was_held = self.ledger.refund(ticket, self.moment());
        self.forget_flying(ticket);
        self.told(codec::refund(ticket, product), product, Answer::Flag(was_held))
    }

    fn cancel(&mut self) -> Step {
        if self.waiting.is_empty() {
            return self.ask_anew();
        }
        let at = self.chance.place(self.waiting.len());
        let wish = self.waiting.swap_remove(at);
        let (ticket, product) = (wish.ask.ticket, wish.ask.product);
        let did_wait = self.ledger.cancel(ticket, self.moment());
        self.retire(wish);
        self.told(codec::cancel(ticket), product, Answer::Flag(did_wait))
    }

    fn limited(&mut self) -> Step {
        let product = self.product();
        let retry_after = self.chance.of(&[0, 0, MICROS, 30 * MICROS]);
        let told = (retry_after > 0).then(|| Duration::from_micros(retry_after));
        self.ledger.limited(product, told, self.moment());
        self.told(codec::limited(product, told), product, Answer::Done)
    }

    fn hold(&mut self) -> Step {
        let product = self.product();
        let is_ip = self.chance.in_hundred(40);
        let span = self.chance.from(0, 20 * MICROS);
        let scope = if is_ip { Scope::EgressIp } else { Scope::Product(product) };
        self.ledger.hold(scope, Duration::from_micros(span), self.moment());
        self.told(codec::hold(scope, Duration::from_micros(span)), product, Answer::Done)
    }

    fn product(&mut self) -> Product {
        if self.is_crowded { PRODUCTS[0] } else { self.chance.of(&PRODUCTS) }
    }
}

/// Small limits and small queues, so that every rule is met soon.
fn rules(chance: &mut Chance) -> Rules {
    let mut limits = PerProduct::from_fn(|_| None);
    for product in &PRODUCTS[..3] {
        limits[*product] = NonZeroU32::new(u32::try_from(chance.of(&[1, 2, 3, 5, 12, 20])).expect("small"));
    }
    let window = chance.of(&[2, 10, 60, 60]);
    let seconds = |n: u64| Duration::from_secs(n);
    Rules {
        window: seconds(window),
        pad: Duration::from_millis(chance.of(&[0, 100])),
        arrival_bound: chance.of(&[None, Some(seconds(5)), Some(seconds(5)), Some(Duration::from_millis(1))]),
        answer_max: seconds(chance.of(&[20, 400])),
        ip: IpRule {
            requests: NonZeroU32::new(u32::try_from(chance.of(&[4, 25, 60, 800])).expect("small"))
                .expect("not zero"),
            window: seconds(chance.of(&[5, 300])),
        },
        pacing: chance.in_hundred(60),
        queue_max: usize::try_from(chance.of(&[3, 20, 10_000])).expect("small"),
        queue_per_customer_max: usize::try_from(chance.of(&[2, 8, 200])).expect("small"),
        stale: Duration::from_millis(chance.of(&[0, 500])),
        share_percent: u32::try_from(chance.of(&[10, 50, 90])).expect("small"),
        ..Rules::with_limits(limits)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("within a double")
}

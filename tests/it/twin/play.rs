//! One play: rules, replicas and customers by chance, and what they do to the ledger in memory. Each step says what the
//! script is told and what it has to answer.

use super::chance::Chance;
use perch::limit::beat::Incarnation;
use perch::limit::{Admission, Ask, IpRule, Ledger, PerProduct, Reason, Rules, Scope, Standing, Tag, Ticket};
use perch::types::{CustomerId, Moment, Priority, Product};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Three with a limit, one without.
const PRODUCTS: [Product; 4] = [Product::Directory, Product::Payment, Product::Company, Product::Providers];

const MICROS: u64 = 1_000_000;

/// As far from 1970 as a server's clock is.
const BEGIN: u64 = 1_790_000_000 * MICROS;

/// One operation.
pub(super) struct Step {
    /// The time that it is told; the ledger's own never runs backwards.
    pub(super) now: u64,
    pub(super) run: String,
    pub(super) name: &'static str,
    pub(super) args: Vec<String>,
    pub(super) expected: Vec<String>,
    /// Where in the answer a standing of four numbers begins, and whether its product has a limit.
    standing: Option<(usize, bool)>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args = self.args.join(" ");
        write!(f, "{:>12} {} {} {args} -> {}", self.now - BEGIN, self.run, self.name, self.expected.join(" "))
    }
}

impl Step {
    /// An answer of the script, in the words in which the ledger's is expected.
    pub(super) fn heard(&self, answer: &[String]) -> Vec<String> {
        let Some((at, has_limit)) = self.standing else { return answer.to_vec() };
        let (rest, Some(standing)) = (&answer[..at.min(answer.len())], answer.get(at..at + 4)) else {
            return answer.to_vec();
        };
        let mut heard = rest.to_vec();
        if has_limit {
            let number = |n: usize| standing[n].parse::<u64>().expect("a number");
            let (limit, used, held_for, next) = (number(0), number(1), number(2), number(3));
            let remaining = if held_for == 0 { limit - used } else { 0 };
            let next = if held_for == 0 { next } else { held_for };
            heard.extend([limit, used, remaining, next].map(|n| n.to_string()));
        }
        heard
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
    pub(super) rules_text: String,
    chance: Chance,
    ledger: Ledger,
    now: u64,
    /// The ledger's own clock.
    clock: u64,
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
        let rules = rules(&mut chance);
        Self {
            seed,
            rules_text: text_of(&rules),
            ledger: Ledger::new(rules),
            now: BEGIN,
            clock: BEGIN,
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
        match self.chance.from(0, 99) {
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
        match self.chance.from(0, 99) {
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

    /// A step whose answer begins with the ledger's time.
    fn told(&self, name: &'static str, args: Vec<String>, answer: Vec<String>) -> Step {
        let expected = [self.clock.to_string()].into_iter().chain(answer).collect();
        Step { now: self.now, run: "run-1".to_owned(), name, args, expected, standing: None }
    }

    /// The same with the product's standing at the end.
    fn told_standing(
        &self,
        name: &'static str,
        args: Vec<String>,
        answer: Vec<String>,
        product: Product,
    ) -> Step {
        let standing = self.ledger.standing(product, self.moment());
        let mut step = self.told(name, args, answer);
        step.standing = Some((step.expected.len(), standing.is_some()));
        if let Some(Standing { limit, used, remaining, next_free_in, .. }) = standing {
            let numbers = [u64::from(limit), u64::from(used), u64::from(remaining), micros(next_free_in)];
            step.expected.extend(numbers.map(|n| n.to_string()));
        }
        step
    }

    fn ask_anew(&mut self) -> Step {
        let of = Incarnation(self.chance.from(1, self.replicas));
        let customer = self.chance.from(0, self.customers);
        let patience = self.chance.of(&[0, 1, 300_000, 15 * MICROS, 60 * MICROS, 600 * MICROS]);
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
        let args = ask_words(&wish.ask);
        let product = wish.ask.product;
        let (answer, tag) = match self.ledger.ask(&wish.ask, now) {
            Admission::Granted { tag } => {
                (["G".to_owned(), "0".to_owned(), tag.0.to_string(), "0".to_owned()], Some(tag))
            }
            Admission::Wait { after, tag } => {
                wish.due = Some(self.clock + micros(after));
                let words = ["W".to_owned(), micros(after).to_string(), tag.0.to_string(), "0".to_owned()];
                (words, Some(tag))
            }
            Admission::Refused { after, scope, reason } => {
                wish.due = None;
                let words = [micros(after), u64::from(scope == Scope::EgressIp), number_of(reason)];
                (
                    ["R".to_owned(), words[0].to_string(), words[1].to_string(), words[2].to_string()],
                    wish.ask.tag,
                )
            }
        };
        wish.ask.tag = tag;
        let is_granted = answer[0] == "G";
        let step = self.told_standing("ask", args, answer.to_vec(), product);
        match (is_granted, wish.due) {
            (true, _) => self.flying.push(Wish { due: None, ..wish }),
            (false, Some(_)) => self.waiting.push(wish),
            (false, None) => self.retire(wish),
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
        let args = vec![ticket.to_string(), place(product), u64::from(is_429).to_string()];
        self.told_standing("arrived", args, vec!["ok".to_owned()], product)
    }

    fn extend(&mut self) -> Step {
        let Some(wish) = self.somebody() else { return self.ask_anew() };
        let (ticket, product) = (wish.ask.ticket, wish.ask.product);
        let is_whole = self.ledger.extend(ticket, self.moment());
        self.told("extend", vec![ticket.to_string(), place(product)], vec![u64::from(is_whole).to_string()])
    }

    fn refund(&mut self) -> Step {
        let Some(wish) = self.somebody() else { return self.ask_anew() };
        let (ticket, product) = (wish.ask.ticket, wish.ask.product);
        let was_held = self.ledger.refund(ticket, self.moment());
        self.forget_flying(ticket);
        self.told("refund", vec![ticket.to_string(), place(product)], vec![u64::from(was_held).to_string()])
    }

    fn cancel(&mut self) -> Step {
        if self.waiting.is_empty() {
            return self.ask_anew();
        }
        let at = self.chance.place(self.waiting.len());
        let wish = self.waiting.swap_remove(at);
        let ticket = wish.ask.ticket;
        let did_wait = self.ledger.cancel(ticket, self.moment());
        self.retire(wish);
        self.told("cancel", vec![ticket.to_string()], vec![u64::from(did_wait).to_string()])
    }

    fn limited(&mut self) -> Step {
        let product = self.product();
        let retry_after = self.chance.of(&[0, 0, MICROS, 30 * MICROS]);
        let told = (retry_after > 0).then(|| Duration::from_micros(retry_after));
        self.ledger.limited(product, told, self.moment());
        self.told("limited", vec![place(product), retry_after.to_string()], vec!["ok".to_owned()])
    }

    fn hold(&mut self) -> Step {
        let product = self.product();
        let is_ip = self.chance.in_hundred(40);
        let span = self.chance.from(0, 20 * MICROS);
        let scope = if is_ip { Scope::EgressIp } else { Scope::Product(product) };
        self.ledger.hold(scope, Duration::from_micros(span), self.moment());
        let whose = if is_ip { "-1".to_owned() } else { place(product) };
        self.told("hold", vec![whose, span.to_string()], vec!["ok".to_owned()])
    }

    fn product(&mut self) -> Product {
        self.chance.of(&PRODUCTS)
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

/// The rules as the script is told them.
fn text_of(rules: &Rules) -> String {
    let spans = |spans: &[Duration]| spans.iter().map(|span| micros(*span)).collect::<Vec<_>>();
    let mut numbers = spans(&[rules.window, rules.pad, rules.flight(), rules.answer_max]);
    let counts = [rules.queue_max, rules.queue_per_customer_max].map(|n| u64::try_from(n).expect("64 bits"));
    numbers.push(u64::from(rules.pacing));
    numbers.extend(counts);
    numbers.extend(spans(&[rules.stale, rules.silence, rules.lease_life, rules.call_timeout]));
    numbers.extend([
        u64::from(rules.share_percent),
        u64::from(rules.ip.requests.get()),
        micros(rules.ip.window),
    ]);
    numbers.extend(Product::ALL.map(|p| rules.limits[p].map_or(0, |limit| u64::from(limit.get()))));
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// `ticket product class flow weight patience tag|-1`.
fn ask_words(ask: &Ask) -> Vec<String> {
    let flow = ask.customer.as_ref().map_or("-", |customer| customer.as_str());
    vec![
        ask.ticket.to_string(),
        place(ask.product),
        (ask.priority as usize).to_string(),
        flow.to_owned(),
        ask.weight.to_string(),
        micros(ask.patience).to_string(),
        ask.tag.map_or("-1".to_owned(), |tag| tag.0.to_string()),
    ]
}

fn place(product: Product) -> String {
    (product as usize).to_string()
}

fn number_of(reason: Reason) -> u64 {
    match reason {
        Reason::Quota => 0,
        Reason::Hold => 1,
        Reason::Learning => 2,
        Reason::QueueFull => 3,
        Reason::CustomerQueueFull => 4,
        Reason::NoLedger => panic!("a ledger does not say that there is none"),
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("within a double")
}

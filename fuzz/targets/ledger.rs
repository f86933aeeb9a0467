//! The permit ledger under any sequence of operations: never more than its limit can have reached Finch within a window,
//! whatever the network did; nothing is granted in a hold; the lines are bounded; and customers who wait get the same.

use super::input::Input;
use perch::limit::beat::{Incarnation, Sent};
use perch::limit::{Admission, Ask, IpRule, Ledger, PerProduct, Rules, Scope, Tag, Ticket};
use perch::types::{CustomerId, Moment, Priority, Product};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

const PRODUCTS: [Product; 3] = [Product::Directory, Product::Payment, Product::Introspect];
const WAITING_MAX: usize = 40;
const WAITING_PER_CUSTOMER_MAX: usize = 15;
/// The most operations of one input.
const STEPS_MAX: usize = 400;

/// Decisions.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let rules = rules(&mut input);
    match input.byte() % 4 {
        0 => shares(rules, &mut input),
        _ => safety(rules, &mut input),
    }
}

fn rules(input: &mut Input<'_>) -> Rules {
    let (directory, payment) = (1 + input.below(20) as u32, 1 + input.below(12) as u32);
    let mut rules = Rules::with_limits(limits(directory, payment));
    let requests = NonZeroU32::MIN.saturating_add(input.below(60) as u32);
    rules.ip = IpRule { requests, window: Duration::from_secs(input.pick(&[60, 300])) };
    rules.arrival_bound = input.flag().then_some(Duration::from_secs(5));
    rules.pacing = input.flag();
    (rules.queue_max, rules.queue_per_customer_max) = (WAITING_MAX, WAITING_PER_CUSTOMER_MAX);
    rules
}

fn limits(directory: u32, payment: u32) -> PerProduct<Option<NonZeroU32>> {
    PerProduct::from_fn(|product| match product {
        Product::Directory => NonZeroU32::new(directory),
        Product::Payment => NonZeroU32::new(payment),
        _ => None,
    })
}

/// A request that was granted, as the network sees it.
#[derive(Clone, Copy)]
struct Granted {
    product: Product,
    at: Moment,
    answered: Option<Moment>,
}

/// What is known of the world without asking the ledger.
struct Model {
    rules: Rules,
    granted: HashMap<u64, Granted>,
    waiting: HashMap<u64, Ask>,
    held: Vec<(Scope, Moment)>,
    now: Moment,
}

impl Model {
    /// The latest moment at which it can have reached Finch; after that it has, or never will.
    fn arrival_max(&self, granted: &Granted) -> Moment {
        let bound = granted.at + self.rules.flight();
        granted.answered.map_or(bound, |at| at.min(bound))
    }

    /// How many of the granted can reach Finch within one window with a request that is sent now.
    fn together(&self, window: Duration, counts: impl Fn(&Granted) -> bool) -> usize {
        let may_be = |granted: &&Granted| counts(granted) && self.arrival_max(granted) + window > self.now;
        self.granted.values().filter(may_be).count()
    }

    fn grant(&mut self, ask: &Ask, is_new: bool) {
        let number = ask.ticket.number;
        self.waiting.remove(&number);
        if !is_new && self.granted.contains_key(&number) {
            return;
        }
        let is_held = |(scope, until): &(Scope, Moment)| {
            *until > self.now && (*scope == Scope::EgressIp || *scope == Scope::Product(ask.product))
        };
        assert!(!self.held.iter().any(is_held), "granted in a hold");
        self.granted.insert(number, Granted { product: ask.product, at: self.now, answered: None });
        if let Some(limit) = self.rules.limits[ask.product] {
            let sent = self.together(self.rules.window, |granted| granted.product == ask.product);
            assert!(sent <= limit.get() as usize, "{sent} of {limit} {:?}", ask.product);
        }
        let sent = self.together(self.rules.ip.window, |_| true);
        assert!(
            sent <= self.rules.ip.requests.get() as usize,
            "{sent} of {} of the IP",
            self.rules.ip.requests
        );
    }
}

fn ticket(number: u64) -> Ticket {
    Ticket::new(Incarnation(1), number)
}

fn wish(input: &mut Input<'_>, number: u64) -> Ask {
    Ask {
        ticket: ticket(number),
        product: input.pick(&PRODUCTS),
        customer: customer(input.pick(&["", "a", "b", "c"])),
        priority: input.pick(&Priority::ALL),
        weight: NonZeroU32::MIN.saturating_add(input.pick(&[0, 0, 1, 4, u32::MAX])),
        patience: input.pick(&[
            Duration::MAX,
            Duration::from_secs(20),
            Duration::ZERO,
            Duration::from_secs(600),
        ]),
        tag: None,
    }
}

fn customer(name: &str) -> Option<CustomerId> {
    CustomerId::new(name).ok()
}

fn safety(rules: Rules, input: &mut Input<'_>) {
    let mut ledger = Ledger::new(rules.clone());
    let now = Moment::at(Duration::from_secs(1_000));
    let mut model = Model { rules, granted: HashMap::new(), waiting: HashMap::new(), held: Vec::new(), now };
    let (mut next, mut time) = (0, now);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let (operation, span) = (input.byte(), input.byte());
        let step =
            Duration::from_millis([0, 1, 20, 250, 1_000, 5_000, 15_000, 60_100][usize::from(span & 7)]);
        time = time + step * u32::from(span >> 3 & 3);
        // A clock that was read before another's may be told after it; for the ledger it is the later one then.
        let told = if span & 0x80 != 0 { time - Duration::from_millis(300) } else { time };
        ledger.cancel(ticket(u64::MAX), told);
        model.now = model.now.max(told);
        match operation % 16 {
            0..=5 => {
                let ask = wish(input, next);
                next += 1;
                answered(&mut model, ledger.ask(&ask, told), ask);
            }
            6 | 7 => {
                let Some(ask) = one_of(&model.waiting, input) else { continue };
                answered(&mut model, ledger.ask(&ask, told), ask);
            }
            8 | 9 => {
                let Some(number) = number_of(&model.granted, input) else { continue };
                ledger.arrived(ticket(number), input.flag(), told);
                let now = model.now;
                let granted = model.granted.get_mut(&number).expect("it was picked from there");
                granted.answered.get_or_insert(now);
            }
            10 => {
                let Some(number) = number_of(&model.granted, input) else { continue };
                if model.granted[&number].answered.is_none() && ledger.refund(ticket(number), told) {
                    model.granted.remove(&number);
                }
            }
            11 => {
                let Some(number) = number_of(&model.granted, input) else { continue };
                if model.granted[&number].answered.is_none() && ledger.extend(ticket(number), told) {
                    let now = model.now;
                    model.granted.get_mut(&number).expect("it was picked from there").at = now;
                }
            }
            12 => {
                let Some(number) = number_of(&model.waiting, input) else { continue };
                ledger.cancel(ticket(number), told);
                model.waiting.remove(&number);
            }
            13 => {
                let product = input.pick(&PRODUCTS);
                let span = Duration::from_millis(input.number() >> input.below(64));
                match input.byte() % 3 {
                    0 => ledger.limited(product, input.flag().then_some(span), told),
                    which => {
                        let scope = if which == 1 { Scope::EgressIp } else { Scope::Product(product) };
                        ledger.hold(scope, span, told);
                        model.held.push((scope, model.now + span));
                    }
                }
            }
            14 => changed(&mut ledger, &mut model, input, told),
            _ => looked_at(&ledger, &model, told),
        }
        let waiting =
            |product| Priority::ALL.map(|priority| ledger.waiting(product, priority)).iter().sum::<usize>();
        assert!(Product::ALL.into_iter().map(waiting).sum::<usize>() <= WAITING_MAX);
        // Past this nothing of it can matter, so the model stays small.
        let (now, keep) = (model.now, Duration::from_secs(1_000));
        model.granted.retain(|_, granted| granted.at + keep > now);
    }
    looked_at(&ledger, &model, model.now);
}

fn answered(model: &mut Model, admission: Admission, ask: Ask) {
    match admission {
        Admission::Granted { .. } => model.grant(&ask, false),
        Admission::Wait { after, tag } => {
            assert!(!after.is_zero() && after <= ask.patience, "{after:?} of {:?}", ask.patience);
            model.waiting.insert(ask.ticket.number, Ask { tag: Some(tag), ..ask });
        }
        Admission::Refused { .. } => drop(model.waiting.remove(&ask.ticket.number)),
    }
}

/// Other rules, another history, and what a caller may not say.
fn changed(ledger: &mut Ledger, model: &mut Model, input: &mut Input<'_>, told: Moment) {
    match input.byte() % 4 {
        0 => {
            let (directory, payment) = (1 + input.below(20) as u32, 1 + input.below(12) as u32);
            let mut rules = model.rules.clone();
            rules.limits = limits(directory, payment);
            rules.ip.requests = NonZeroU32::MIN.saturating_add(input.below(60) as u32);
            ledger.set_rules(&rules, told);
            model.rules = rules;
        }
        1 => {
            ledger.learn(told);
            let until = model.now + ledger.learns_for(model.now);
            model.held.push((Scope::EgressIp, until));
        }
        2 => {
            let sent: Vec<Sent> = (0..input.below(8))
                .map(|_| Sent {
                    ticket: Ticket::new(Incarnation(input.number()), input.number()),
                    product: input.pick(&Product::ALL),
                    priority: input.pick(&Priority::ALL),
                    age: input.flag().then(|| Duration::from_micros(input.number())),
                })
                .collect();
            ledger.restore(&sent, told);
        }
        _ => {
            let stranger = Ticket::new(Incarnation(input.number()), input.number());
            ledger.arrived(stranger, input.flag(), told);
            assert!(
                !ledger.extend(stranger, told)
                    && !ledger.cancel(stranger, told)
                    && !ledger.refund(stranger, told)
            );
        }
    }
}

fn looked_at(ledger: &Ledger, model: &Model, now: Moment) {
    for product in Product::ALL {
        if let Some(standing) = ledger.standing(product, now) {
            assert!(standing.remaining <= standing.limit);
            assert!(ledger.head(product).is_none_or(|head| model.waiting.contains_key(&head.number)));
        }
    }
    assert!(ledger.ip_standing(now).remaining <= model.rules.ip.requests.get());
    assert!(ledger.holds(now).all(|(_, left)| !left.is_zero()));
}

fn number_of<T>(all: &HashMap<u64, T>, input: &mut Input<'_>) -> Option<u64> {
    let mut numbers: Vec<u64> = all.keys().copied().collect();
    numbers.sort_unstable();
    (!numbers.is_empty()).then(|| numbers[input.below(numbers.len())])
}

fn one_of(all: &HashMap<u64, Ask>, input: &mut Input<'_>) -> Option<Ask> {
    number_of(all, input).map(|number| all[&number].clone())
}

/// Two customers of equal weight, however many calls each of them makes: while both wait they get the same.
fn shares(mut rules: Rules, input: &mut Input<'_>) {
    (rules.queue_max, rules.queue_per_customer_max) = (1_000, 500);
    rules.ip.requests = NonZeroU32::MIN.saturating_add(9_999);
    let mut ledger = Ledger::new(rules);
    let priority = input.pick(&Priority::ALL);
    let backlog = [2 + input.below(6), 2 + input.below(60)];
    let mut now = Moment::at(Duration::from_secs(1_000));
    // Who waits: customer, its place once it has one, when it asks next.
    let mut waiting: HashMap<u64, (usize, Option<Tag>, Moment)> = HashMap::new();
    for (number, who) in (0..).zip([0].repeat(backlog[0]).into_iter().chain([1].repeat(backlog[1]))) {
        waiting.insert(number, (who, None, now));
    }
    let (mut next, mut served) = (waiting.len() as u64, 0);
    // How much further the first is than the second since both wait, and how far it was either way.
    let (mut lead, mut low, mut high) = (0_i64, 0, 0);
    for _ in 0..150 {
        // Everybody whose time has come asks, and whoever is next when one was served.
        let mut due: Vec<u64> =
            waiting.iter().filter(|(_, (.., due))| *due <= now).map(|(number, _)| *number).collect();
        due.sort_unstable_by_key(|number| (waiting[number].2, *number));
        let mut due: VecDeque<u64> = due.into();
        while let Some(number) = due.pop_front() {
            let Some(&(who, tag, _)) = waiting.get(&number) else { continue };
            let (weight, patience) = (NonZeroU32::MIN, Duration::MAX);
            let (ticket, customer) = (ticket(number), customer(["a", "b"][who]));
            let ask = Ask { ticket, product: Product::Directory, customer, priority, weight, patience, tag };
            match ledger.ask(&ask, now) {
                Admission::Granted { .. } => {
                    let both =
                        [0, 1].map(|who| waiting.values().any(|(of, tag, _)| *of == who && tag.is_some()));
                    (lead, low, high) = if both == [true; 2] { (lead, low, high) } else { (0, 0, 0) };
                    lead += if who == 0 { 1 } else { -1 };
                    (low, high) = (low.min(lead), high.max(lead));
                    assert!(high - low <= 4, "{lead} is beyond {low} to {high}; {backlog:?} wait");
                    served += 1;
                    ledger.arrived(ticket, false, now);
                    // Another one comes for it.
                    waiting.remove(&number);
                    waiting.insert(next, (who, None, now));
                    due.push_front(next);
                    next += 1;
                    due.extend(ledger.head(Product::Directory).map(|head| head.number));
                }
                Admission::Wait { after, tag } => drop(waiting.insert(number, (who, Some(tag), now + after))),
                Admission::Refused { .. } => panic!("nobody is refused whose patience never ends"),
            }
        }
        now = waiting.values().map(|(.., due)| *due).min().unwrap_or(now);
    }
    assert!(served > 0);
}

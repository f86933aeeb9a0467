//! One shared ledger, its replicas, and what goes wrong between them, from ask to arrival. The oracle
//! knows only when each request arrived at Finch: no window may hold more than the limit.

use super::*;
use crate::limit::Tag;
use std::collections::BTreeMap;

const STEP: Duration = Duration::from_millis(200);
const PRODUCTS: [(Product, u32); 2] = [(Product::Directory, 20), (Product::Payment, 12)];

fn at(secs: u64) -> Moment {
    Moment::at(Duration::from_secs(secs))
}

fn rules(ip: u32) -> Rules {
    let mut rules = Rules::with_limits(PerProduct::from_fn(|product| {
        PRODUCTS
            .iter()
            .find(|(limited, _)| *limited == product)
            .and_then(|&(_, limit)| NonZeroU32::new(limit))
    }));
    rules.ip.requests = NonZeroU32::new(ip).expect("not zero");
    rules
}

/// xorshift64*: the same world for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// What happens to a replica's way to the store, from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    Closed,
    /// What it says is heard, and no answer comes back.
    Deaf,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    /// Of everybody, or of one.
    Way(Option<usize>, Way),
    /// The store forgets everything.
    Lose,
    /// One replica dies, its requests under way with it, and begins anew.
    Restart(usize),
}

struct Pending {
    ask: Ask,
    due: Moment,
}

struct Site {
    replica: Replica,
    way: Way,
    next_ticket: u64,
    pending: Vec<Pending>,
    was_asking: bool,
    /// When headers come, for those that get any.
    answers: BTreeMap<(Moment, Ticket), ()>,
}

struct World {
    rules: Rules,
    dice: Dice,
    ledger: Ledger,
    run: u32,
    sites: Vec<Site>,
    now: Moment,
    arrivals: Vec<(Moment, Product)>,
    /// When something was sent by lease.
    alone: Vec<Moment>,
}

impl World {
    fn new(rules: Rules, sites: usize, seed: u64) -> Self {
        let site = |n| Site {
            replica: Replica::new(
                rules.clone(),
                format!("site-{n}"),
                Incarnation(n as u64 * 1000),
                OnOutage::Share,
                at(0),
            ),
            way: Way::Open,
            next_ticket: 0,
            pending: Vec::new(),
            was_asking: false,
            answers: BTreeMap::new(),
        };
        Self {
            dice: Dice(seed),
            ledger: Ledger::new(rules.clone()),
            run: 1,
            sites: (0..sites).map(site).collect(),
            now: at(0),
            arrivals: Vec::new(),
            alone: Vec::new(),
            rules,
        }
    }

    fn run(&mut self, events: &[(u64, Event)], secs: u64) {
        let mut events = events.iter().peekable();
        while self.now < at(secs) {
            while let Some(&(_, event)) = events.next_if(|&&(when, _)| at(when) <= self.now) {
                self.happen(event);
            }
            for n in 0..self.sites.len() {
                self.beat(n);
                self.hear(n);
                self.want(n);
                self.ask(n);
            }
            self.now = self.now + STEP;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Way(Some(n), way) => self.sites[n].way = way,
            Event::Way(None, way) => self.sites.iter_mut().for_each(|site| site.way = way),
            Event::Lose => {
                self.run += 1;
                self.ledger = Ledger::new(self.rules.clone());
            }
            Event::Restart(n) => {
                let next = Incarnation(self.sites[n].replica.incarnation().0 + 1);
                let (name, rules) = (format!("site-{n}"), self.rules.clone());
                let site = &mut self.sites[n];
                site.replica = Replica::new(rules, name, next, OnOutage::Share, self.now);
                site.pending.clear();
                site.answers.clear();
            }
        }
    }

    /// The first run begins with its history known, or every test would begin with minutes of thrift.
    fn enter(&mut self) {
        if self.run > 1 {
            self.ledger.enter(&self.run.to_string(), self.now);
        }
    }

    fn beat(&mut self, n: usize) {
        let (now, site) = (self.now, &mut self.sites[n]);
        if site.replica.beat_due() > now {
            return;
        }
        let beat = site.replica.beat(now);
        if site.way == Way::Closed {
            return;
        }
        self.enter();
        let pulse = self.ledger.beat(&beat, now);
        let site = &mut self.sites[n];
        if site.way == Way::Open {
            site.replica.pulse(beat.number, &pulse, now);
        }
    }

    fn hear(&mut self, n: usize) {
        let now = self.now;
        while let Some((&(when, ticket), ())) = self.sites[n].answers.first_key_value()
            && when <= now
        {
            self.sites[n].answers.pop_first();
            self.sites[n].replica.arrived(ticket, false, now);
            if self.sites[n].way == Way::Open {
                self.enter();
                self.ledger.arrived(ticket, false, now);
            }
        }
    }

    /// There is always more to ask than may be sent, at the first site most of all.
    fn want(&mut self, n: usize) {
        let now = self.now;
        for (product, _) in PRODUCTS {
            let is_of = |pending: &&Pending| pending.ask.product == product;
            for _ in self.sites[n].pending.iter().filter(is_of).count()..6 / (n + 1) {
                let priority = Priority::ALL[self.dice.below(2) as usize];
                let site = &mut self.sites[n];
                site.next_ticket += 1;
                let ticket = Ticket::new(site.replica.incarnation(), site.next_ticket);
                let patience = Duration::from_secs(120);
                let weight = NonZeroU32::MIN;
                let ask = Ask { ticket, product, customer: None, priority, weight, patience, tag: None };
                site.replica.wanted(product, now);
                site.pending.push(Pending { ask, due: now });
            }
        }
    }

    fn ask(&mut self, n: usize) {
        let now = self.now;
        let (pending, must_ask_store) = {
            let site = &mut self.sites[n];
            let must_ask_store = site.replica.must_ask_store(now);
            let has_turned = std::mem::replace(&mut site.was_asking, must_ask_store) != must_ask_store;
            let is_due = |pending: &Pending| has_turned || pending.due <= now;
            let (due, later) = std::mem::take(&mut site.pending).into_iter().partition(is_due);
            site.pending = later;
            let due: Vec<Pending> = due;
            (due, must_ask_store)
        };
        for mut pending in pending {
            let Ask { ticket, product, priority, .. } = pending.ask;
            let site = &mut self.sites[n];
            let admission = if !must_ask_store {
                site.replica.ask_alone(&pending.ask, now)
            } else if site.way == Way::Closed {
                Admission::Wait { after: Duration::from_millis(500), tag: Tag::default() }
            } else {
                self.enter();
                let admission = self.ledger.ask(&pending.ask, now);
                let site = &mut self.sites[n];
                match (site.way, admission) {
                    // The answer is lost; the same question is asked again.
                    (Way::Deaf, _) => {
                        Admission::Wait { after: Duration::from_millis(500), tag: Tag::default() }
                    }
                    (_, admission) => {
                        if let Admission::Granted { .. } = admission {
                            site.replica.granted(ticket, product, priority, now);
                        }
                        admission
                    }
                }
            };
            match admission {
                Admission::Granted { .. } => {
                    if !must_ask_store {
                        self.alone.push(now);
                    }
                    self.send(n, ticket, product);
                }
                Admission::Wait { after, .. } => {
                    pending.due = now + after.min(Duration::from_millis(400));
                    self.sites[n].pending.push(pending);
                }
                Admission::Refused { .. } => {}
            }
        }
    }

    /// Mostly quick; sometimes as slow as can be, unanswered, or both.
    fn send(&mut self, n: usize, ticket: Ticket, product: Product) {
        let slow = self.rules.flight() - Duration::from_millis(1);
        let delay = match self.dice.below(10) {
            0 => slow,
            1 => slow / 2,
            other => Duration::from_millis(other * 20),
        };
        let arrives = self.now + delay;
        self.arrivals.push((arrives, product));
        if self.dice.below(10) > 0 {
            self.sites[n].answers.insert((arrives + Duration::from_millis(300), ticket), ());
        }
    }

    /// The most arrivals in any window.
    fn most(&self, window: Duration, counts: impl Fn(Product) -> bool) -> usize {
        let mut times: Vec<Moment> =
            self.arrivals.iter().filter(|&&(_, p)| counts(p)).map(|&(at, _)| at).collect();
        times.sort();
        let within = |from: usize| times[from..].iter().take_while(|&&at| at < times[from] + window).count();
        (0..times.len()).map(within).max().unwrap_or(0)
    }

    fn arrived(&self, product: Product, from: u64, until: u64) -> usize {
        let is_in = |&&(when, of): &&(Moment, Product)| of == product && at(from) <= when && when < at(until);
        self.arrivals.iter().filter(is_in).count()
    }

    fn assert_within_limits(&self, what: &str) {
        for (product, limit) in PRODUCTS {
            let most = self.most(self.rules.window, |other| other == product);
            assert!(most <= limit as usize, "{what}: {most} of {product} in one window");
        }
        let most = self.most(self.rules.ip.window, |_| true);
        assert!(most <= self.rules.ip.requests.get() as usize, "{what}: {most} from the IP in one window");
    }
}

fn tried(ip: u32, sites: usize, seed: u64, events: &[(u64, Event)], secs: u64) -> World {
    let mut world = World::new(rules(ip), sites, seed);
    world.run(events, secs);
    world.assert_within_limits(&format!("seed {seed}, {events:?}"));
    world
}

#[test]
fn a_lost_store_of_five_minutes_stops_nobody_and_breaks_no_limit() {
    let events = [(400, Event::Way(None, Way::Closed)), (700, Event::Way(None, Way::Open))];
    for seed in 1..3 {
        let world = tried(800, 3, seed, &events, 900);
        let first = world.alone.first().expect("something is sent by lease");
        assert!(at(460) < *first && *first <= at(475), "{first:?}");
        for (product, limit) in PRODUCTS {
            let (before, during) = (world.arrived(product, 100, 400), world.arrived(product, 400, 700));
            let whole = limit as usize * 5;
            assert!(before * 100 >= whole * 80, "{before} of {whole} of {product} before");
            assert!(during * 100 >= whole * 35, "{during} of {whole} of {product} during");
        }
    }
}

#[test]
fn a_store_that_comes_back_empty_breaks_no_limit() {
    for seed in 1..3 {
        let events =
            [(400, Event::Way(None, Way::Closed)), (700, Event::Lose), (700, Event::Way(None, Way::Open))];
        tried(800, 3, seed, &events, 900);
        let world = tried(800, 3, seed, &[(400, Event::Lose)], 600);
        assert!(world.arrived(Product::Directory, 400, 420) > 0, "everybody has replayed within seconds");
    }
}

#[test]
fn no_mishap_of_single_replicas_breaks_a_limit() {
    let cut =
        |n, from, until| [(from, Event::Way(Some(n), Way::Closed)), (until, Event::Way(Some(n), Way::Open))];
    let deaf =
        |n, from, until| [(from, Event::Way(Some(n), Way::Deaf)), (until, Event::Way(Some(n), Way::Open))];
    let story = |parts: &[&[(u64, Event)]]| {
        let mut events = parts.concat();
        events.sort_by_key(|&(when, _)| when);
        events
    };
    for (seed, events) in [
        story(&[&cut(0, 200, 420)]),
        story(&[&deaf(0, 200, 420), &cut(1, 230, 400)]),
        story(&[&cut(0, 200, 420), &[(350, Event::Restart(0))]]),
        story(&[&cut(0, 200, 420), &[(300, Event::Lose)]]),
        story(&[&cut(0, 200, 600), &deaf(1, 240, 420), &[(300, Event::Lose), (500, Event::Restart(2))]]),
        story(&[&[(300, Event::Lose), (302, Event::Lose), (304, Event::Restart(1)), (305, Event::Lose)]]),
        story(&[&cut(0, 200, 274), &cut(0, 278, 282), &cut(0, 286, 360), &cut(0, 364, 440)]),
        story(&[&cut(2, 100, 890), &[(150, Event::Lose)]]),
    ]
    .iter()
    .enumerate()
    {
        tried(800, 3, seed as u64 + 1, events, 900);
    }
}

#[test]
fn the_limit_of_the_ip_holds_through_an_outage() {
    let events = [(700, Event::Way(None, Way::Closed)), (1000, Event::Way(None, Way::Open))];
    for seed in 1..3 {
        let world = tried(100, 3, seed, &events, 1600);
        assert!(!world.alone.is_empty(), "something is sent by lease");
        assert!(world.most(Duration::from_secs(300), |_| true) > 85, "the IP is what limits it");
    }
}

#[test]
fn what_a_replica_spent_of_the_ip_before_it_died_is_not_spent_again() {
    for seed in 1..3 {
        let events = [
            (400, Event::Way(Some(0), Way::Closed)),
            (560, Event::Restart(0)),
            (560, Event::Way(Some(0), Way::Open)),
        ];
        let world = tried(40, 2, seed, &events, 900);
        assert!(!world.alone.is_empty(), "something is sent by lease");
    }
}

#[test]
fn the_limits_hold_in_random_weather() {
    for seed in 1..5 {
        let mut dice = Dice(seed);
        let mut events = Vec::new();
        let mut secs = 100;
        while secs < 1300 {
            let n = dice.below(4) as usize;
            let site = (n < 3).then_some(n);
            events.push((
                secs,
                match dice.below(10) {
                    0 => Event::Lose,
                    1 => Event::Restart(n.min(2)),
                    2..=4 => Event::Way(site, Way::Closed),
                    5 => Event::Way(site, Way::Deaf),
                    _ => Event::Way(site, Way::Open),
                },
            ));
            secs += dice.below(90);
        }
        tried(300, 3, seed, &events, 1500);
    }
}

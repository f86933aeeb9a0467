//! I2, I4, I5 and I8 on ledgers that have been through something.

use super::dice::Dice;
use super::*;

/// What was done to a ledger, at random.
struct Past {
    ledger: Ledger,
    dice: Dice,
    now: Moment,
    /// Tickets that hold a permit nobody has used.
    unused: Vec<Ask>,
    waiting: Vec<Ask>,
}

impl Past {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut rules = rules_of([1, 2, 3, 5, 12, 20][dice.below(6) as usize]);
        rules.pacing = dice.one_in(2);
        if dice.one_in(3) {
            rules.arrival_bound = None;
        }
        if dice.one_in(3) {
            rules.ip.requests = NonZeroU32::MIN.saturating_add(dice.below(30) as u32);
        }
        let ledger = Ledger::new(rules);
        Past { ledger, dice, now: at(1_000_000), unused: Vec::new(), waiting: Vec::new() }
    }

    fn ask(&mut self, number: u64) -> Ask {
        let dice = &mut self.dice;
        let ask = of(["a", "b", "c"][dice.below(3) as usize], directory(number));
        let product = [Product::Directory, Product::Payment, Product::Jobs][dice.below(6) as usize % 3];
        let priority = Priority::ALL[dice.below(2) as usize];
        let patience = [Duration::ZERO, ms(20_000), EVER][dice.below(3) as usize];
        Ask { product, priority, patience, ..ask }
    }

    /// Something happens.
    fn step(&mut self, number: u64) {
        let span = [1, 50, 3_000, 40_000][self.dice.below(4) as usize];
        self.now = self.now + ms(self.dice.below(span));
        let now = self.now;
        match self.dice.below(20) {
            0..10 => {
                let ask = self.ask(number);
                match self.ledger.ask(&ask, now) {
                    Admission::Granted { .. } => self.unused.push(ask),
                    Admission::Wait { .. } => self.waiting.push(ask),
                    Admission::Refused { .. } => {}
                }
            }
            10..14 if !self.unused.is_empty() => {
                let ask = self.unused.swap_remove(self.dice.below(self.unused.len() as u64) as usize);
                self.ledger.arrived(ask.ticket, false, now);
            }
            14 if !self.unused.is_empty() => {
                let ask = self.unused.swap_remove(0);
                self.ledger.refund(ask.ticket, now);
            }
            15 if !self.waiting.is_empty() => {
                let ask = self.waiting.swap_remove(0);
                self.ledger.cancel(ask.ticket, now);
            }
            16 if self.dice.one_in(3) => self.ledger.limited(Product::Directory, None, now),
            17 if self.dice.one_in(3) => {
                let span = ms(self.dice.below(60_000));
                let scope =
                    [Scope::EgressIp, Scope::Product(Product::Directory)][self.dice.below(2) as usize];
                self.ledger.hold(scope, span, now);
            }
            _ if !self.waiting.is_empty() => {
                let ask = self.waiting.swap_remove(self.dice.below(self.waiting.len() as u64) as usize);
                match self.ledger.ask(&ask, now) {
                    Admission::Granted { .. } => self.unused.push(ask),
                    Admission::Wait { .. } => self.waiting.push(ask),
                    Admission::Refused { .. } => {}
                }
            }
            _ => {}
        }
    }

    fn busy(&self) -> (usize, usize) {
        let Past { ledger, now, .. } = self;
        let span = ledger.span(Product::Directory, *now);
        (ledger.desks[Product::Directory].permits.busy(span, *now), ledger.ip.busy(ledger.ip_span(), *now))
    }
}

#[test]
fn i2_a_grant_never_finds_the_limit_spent() {
    let mut grants = 0;
    for seed in 0..400 {
        let mut past = Past::new(seed);
        for number in 0..120 {
            let held = past.ledger.held.len();
            past.step(number);
            if past.ledger.held.len() <= held {
                continue;
            }
            grants += 1;
            let (busy, ip) = past.busy();
            let limit = past.ledger.standing(Product::Directory, past.now).expect("metered").limit;
            // What was granted before the limit shrank may still be busy; a grant then was another product's.
            let is_directory = past.unused.last().is_some_and(|ask| ask.product == Product::Directory);
            assert!(!is_directory || busy <= limit as usize, "seed {seed}: {busy} busy of {limit}");
            assert!(ip <= past.ledger.rules.ip.requests.get() as usize, "seed {seed}: {ip} of the IP");
        }
    }
    assert!(grants > 5_000, "{grants}");
}

#[test]
fn i4_a_question_asked_twice_has_the_same_answer_and_costs_nothing() {
    for seed in 0..400 {
        let mut past = Past::new(seed);
        (0..80).for_each(|number| past.step(number));
        let ask = past.ask(1_000);
        let first = past.ledger.ask(&ask, past.now);
        let (busy, held, waiting) = (past.busy(), past.ledger.held.len(), past.ledger.tickets.len());
        let shown = match first {
            Admission::Granted { tag } | Admission::Wait { tag, .. } => Some(tag),
            Admission::Refused { .. } => None,
        };
        for ask in [ask.clone(), Ask { tag: shown, ..ask }] {
            let again = past.ledger.ask(&ask, past.now);
            if ask.tag.is_some() || !is_granted(first) {
                assert_eq!(again, first, "seed {seed}");
            }
            assert_eq!(
                (busy, held, waiting),
                (past.busy(), past.ledger.held.len(), past.ledger.tickets.len())
            );
        }
    }
}

#[test]
fn i5_a_grant_that_is_given_back_leaves_the_permits_as_they_were() {
    let mut refunds = 0;
    for seed in 0..600 {
        let mut past = Past::new(seed);
        (0..60).for_each(|number| past.step(number));
        let ask = past.ask(1_000);
        past.ledger.cool(ask.product, past.now);
        let (busy, held) = (past.busy(), past.ledger.held.len());
        let admission = past.ledger.ask(&ask, past.now);
        if is_granted(admission) {
            refunds += 1;
            assert!(past.ledger.refund(ask.ticket, past.now));
            assert_eq!((busy, held), (past.busy(), past.ledger.held.len()), "seed {seed}");
            // A batch call keeps its distance from the one that was given back, too.
            let next = Ask { priority: Priority::Interactive, ..ask };
            assert!(is_granted(past.ledger.ask(&next, past.now)), "seed {seed}: it is free again");
        } else if matches!(admission, Admission::Wait { .. }) {
            assert!(past.ledger.cancel(ask.ticket, past.now));
            assert!(!past.ledger.tickets.contains_key(&ask.ticket));
        }
    }
    assert!(refunds > 50, "{refunds}");
}

#[test]
fn i8_a_refusal_is_immediate_and_tells_when_it_would_be_served() {
    let (mut refusals, mut exact) = (0, 0);
    for seed in 0..800 {
        let mut past = Past::new(seed);
        for number in 0..40 + seed % 60 {
            past.step(number);
        }
        // Nobody is ahead: those who waited have left.
        past.waiting.drain(..).for_each(|ask| {
            past.ledger.cancel(ask.ticket, past.now);
        });
        let ask = Ask { patience: Duration::ZERO, ..past.ask(1_000) };
        let Admission::Refused { after, .. } = past.ledger.ask(&ask, past.now) else { continue };
        assert!(past.ledger.tickets.is_empty(), "seed {seed}: nothing is kept of it");
        refusals += 1;
        let told = past.now + after;
        let mut now = past.now;
        // A lone caller that asks every 50 ms; that it is refused changes nothing.
        let mut alone = past.ledger.clone();
        while now + Duration::from_secs(1) < told {
            let answer = alone.ask(&ask, now);
            assert!(
                !is_granted(answer),
                "seed {seed}: {:?} after {:?}, told {after:?}",
                ask.priority,
                now.since(past.now)
            );
            now = now + ms(50);
        }
        past.unused.drain(..).for_each(|ask| past.ledger.arrived(ask.ticket, false, past.now));
        exact += usize::from(is_granted(past.ledger.ask(&ask, told)));
    }
    assert!(refusals > 100, "{refusals}");
    assert!(exact * 2 > refusals, "{exact} of {refusals} were served at that very moment");
}

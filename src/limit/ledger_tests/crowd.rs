//! Many callers and one ledger, in virtual time.

use super::dice::Dice;
use super::*;
use crate::limit::beat::{Pools, Stance};

/// How the callers of one group behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    /// Asks again when it was told to.
    Prompt,
    /// Asks again so late that its place is lost, and shows its tag.
    Late,
    /// Gives up every other wait, and comes back as somebody new.
    Fickle,
    /// Gives up a call that was granted before a byte is written, every other time.
    Refunds,
    /// Waits for no longer than this.
    Hasty(Duration),
    /// Never asks twice.
    Dead,
}

/// Callers of one customer who each have one call at a time, and the next as soon as it is done.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) customer: Option<&'static str>,
    pub(super) product: Product,
    pub(super) class: Priority,
    pub(super) weight: u32,
    pub(super) callers: usize,
    /// From the grant to the answer.
    pub(super) answer: Duration,
    /// From the answer to the next call.
    pub(super) rest: Duration,
    pub(super) habit: Habit,
    pub(super) comes: Duration,
}

impl Group {
    pub(super) fn new(customer: &'static str, callers: usize) -> Self {
        Group {
            customer: Some(customer),
            product: Product::Directory,
            class: Priority::Interactive,
            weight: 1,
            callers,
            answer: ms(400),
            rest: Duration::ZERO,
            habit: Habit::Prompt,
            comes: Duration::ZERO,
        }
    }

    pub(super) fn batch(customer: &'static str, callers: usize) -> Self {
        Group { class: Priority::Batch, ..Self::new(customer, callers) }
    }
}

/// One grant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) at: Moment,
    pub(super) group: usize,
    /// Which groups had a call that stood in line or was just granted.
    pub(super) backlogged: u32,
    /// When its ticket asked first.
    pub(super) came: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask,
    Answered,
    Leave,
    /// Of the replica that all callers of a group use.
    Beat,
}

#[derive(Debug, Clone)]
struct Caller {
    group: usize,
    ticket: Ticket,
    came: Moment,
    calls: u64,
    tag: Option<Tag>,
    due: Option<Moment>,
}

pub(super) struct Crowd {
    pub(super) ledger: Ledger,
    pub(super) groups: Vec<Group>,
    pub(super) grants: Vec<Grant>,
    pub(super) asks: u64,
    /// Whether whoever becomes next is woken at once, as in memory; if not, at the next heartbeat of
    /// its replica, as where a ledger is shared.
    rings: bool,
    callers: Vec<Caller>,
    events: BTreeSet<(Moment, u64, usize, Event)>,
    next: u64,
    dice: Dice,
}

impl Crowd {
    pub(super) fn new(rules: Rules, groups: Vec<Group>, rings: bool) -> Self {
        let mut crowd = Crowd {
            ledger: Ledger::new(rules),
            grants: Vec::new(),
            asks: 0,
            rings,
            callers: Vec::new(),
            events: BTreeSet::new(),
            next: 0,
            dice: Dice::new(groups.len() as u64),
            groups,
        };
        for group in 0..crowd.groups.len() {
            for _ in 0..crowd.groups[group].callers {
                let comes = Moment::ZERO + crowd.groups[group].comes;
                let of = Incarnation(group as u64 + 1);
                let ticket = Ticket::new(of, 0);
                crowd.callers.push(Caller { group, ticket, came: comes, calls: 0, tag: None, due: None });
                crowd.begin(crowd.callers.len() - 1, comes);
            }
            if !rings && crowd.groups[group].habit != Habit::Dead {
                crowd.at(at(group as u64 * 97), group, Event::Beat);
            }
        }
        crowd
    }

    /// Lets time pass until `end`.
    pub(super) fn run(&mut self, end: Moment) -> &[Grant] {
        while let Some(&(now, order, i, event)) = self.events.first() {
            if now > end {
                break;
            }
            self.events.remove(&(now, order, i, event));
            match event {
                Event::Ask => self.ask(i, now),
                Event::Answered => {
                    self.ledger.arrived(self.callers[i].ticket, false, now);
                    let rest = self.groups[self.callers[i].group].rest;
                    self.begin(i, now + rest);
                }
                Event::Leave => self.leave(i, now),
                Event::Beat => self.beat(i, now),
            }
        }
        &self.grants
    }

    /// How many grants each group had from `from` on.
    pub(super) fn counts(&self, from: Moment) -> Vec<usize> {
        let mut counts = vec![0; self.groups.len()];
        self.grants.iter().filter(|grant| grant.at >= from).for_each(|grant| counts[grant.group] += 1);
        counts
    }

    fn at(&mut self, at: Moment, i: usize, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next, i, event));
    }

    /// The caller's next call begins then.
    fn begin(&mut self, i: usize, at: Moment) {
        let caller = &mut self.callers[i];
        caller.calls += 1;
        caller.ticket = Ticket::new(caller.ticket.of, caller.calls * 100_000 + i as u64);
        (caller.tag, caller.came, caller.due) = (None, at, Some(at));
        self.at(at, i, Event::Ask);
    }

    fn ask(&mut self, i: usize, now: Moment) {
        let Caller { group, ticket, calls, tag, due, came } = self.callers[i].clone();
        if due != Some(now) {
            return; // it was woken before
        }
        let of = self.groups[group].clone();
        let patience = match of.habit {
            Habit::Hasty(patience) => patience.saturating_sub(now.since(came)),
            _ => EVER,
        };
        let ask = Ask {
            ticket,
            product: of.product,
            customer: of.customer.map(|name| CustomerId::new(name).expect("an id")),
            priority: of.class,
            weight: NonZeroU32::new(of.weight).expect("a weight"),
            patience,
            tag,
        };
        self.asks += 1;
        match self.ledger.ask(&ask, now) {
            Admission::Granted { .. } => {
                self.callers[i].due = None;
                let mut backlogged = 1 << group;
                for caller in &self.callers {
                    if caller.due.is_some_and(|_| {
                        caller.came <= now && self.ledger.tickets.contains_key(&caller.ticket)
                    }) {
                        backlogged |= 1 << caller.group;
                    }
                }
                if of.habit == Habit::Refunds && calls.is_multiple_of(2) {
                    self.ledger.refund(ticket, now);
                    self.begin(i, now + ms(100));
                } else {
                    self.grants.push(Grant { at: now, group, backlogged, came });
                    self.at(now + of.answer, i, Event::Answered);
                }
                self.ring(of.product, now);
            }
            Admission::Wait { after, tag } => {
                assert!(!after.is_zero() && after <= patience, "waits for {after:?}");
                self.callers[i].tag = Some(tag);
                let is_new = calls > 0 && now == came;
                if of.habit == Habit::Fickle && is_new && calls.is_multiple_of(2) {
                    let after = self.dice.below(20_000);
                    self.at(now + ms(after), i, Event::Leave);
                }
                let due = match of.habit {
                    Habit::Late => now + after + self.ledger.rules.stale + ms(1 + self.dice.below(500)),
                    _ => now + after,
                };
                self.callers[i].due = Some(due);
                if of.habit != Habit::Dead {
                    self.at(due, i, Event::Ask);
                }
            }
            Admission::Refused { .. } => self.begin(i, now + Duration::from_secs(3)),
        }
    }

    fn leave(&mut self, i: usize, now: Moment) {
        let ticket = self.callers[i].ticket;
        if self.callers[i].due.is_some() && self.ledger.cancel(ticket, now) {
            let product = self.groups[self.callers[i].group].product;
            self.begin(i, now);
            self.ring(product, now);
        }
    }

    fn beat(&mut self, group: usize, now: Moment) {
        let beat = Beat {
            member: String::new(),
            incarnation: Incarnation(group as u64 + 1),
            number: 1,
            acked: 0,
            stance: Stance::Joined,
            lease: Pools::none(),
            demand: Pools::none(),
            uptime: Duration::ZERO,
            peers: 0,
            away: (Pools::none(), Duration::ZERO),
            replay: None,
        };
        for ticket in self.ledger.claimable(&beat, now) {
            self.wake(ticket, now);
        }
        self.at(now + self.ledger.rules.heartbeat, group, Event::Beat);
    }

    fn ring(&mut self, product: Product, now: Moment) {
        if let Some(head) = self.ledger.head(product).filter(|_| self.rings) {
            self.wake(head, now);
        }
    }

    fn wake(&mut self, ticket: Ticket, now: Moment) {
        let Some(i) = self.callers.iter().position(|caller| caller.ticket == ticket) else { return };
        let habit = self.groups[self.callers[i].group].habit;
        let late = match habit {
            Habit::Dead => return,
            Habit::Late => self.ledger.rules.stale + ms(1 + self.dice.below(500)),
            _ => Duration::ZERO,
        };
        if self.callers[i].due.is_some_and(|due| due > now + late) {
            self.callers[i].due = Some(now + late);
            self.at(now + late, i, Event::Ask);
        }
    }
}

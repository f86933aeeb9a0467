//! A replica's side of a shared ledger: when it asks the store, when it waits, when it spends its
//! lease, and how it comes back. Whoever drives it carries the messages and the time.
//!
//! 1. One beat is under way at most: the next one supersedes it. An answer is taken when it is that of
//!    the beat under way and comes within `call_timeout`. *Contact* is the sending of the last beat
//!    whose answer was taken.
//! 2. Inside, the store is asked for `silence` from contact on. Then nobody is asked; one answer is
//!    enough to ask the store again.
//! 3. At the end of the quarantine, counted from contact, the lease may be spent, for `lease_life`
//!    (both from a later contact, if there is one), in a ledger of its own that knows what was spent
//!    by lease before. The beat under way is dropped then, and all later ones say apart and bring
//!    a replay. The lease is what it was: none that is answered meanwhile is taken.
//! 4. After three answers in a row nothing more is spent by lease, and beats with a replay say
//!    joined. The store is asked after the answer to one; without that, rule 3 applies again.
//! 5. A replica that is not known (another run has its name) has no lease and begins anew.

use super::beat::{Beat, Incarnation, Pools, Pulse, Stance};
use super::recall::{Demand, Ring};
use super::{Admission, Ask, IpRule, Ledger, PerProduct, Reason, Rules, Scope, Ticket};
use crate::types::{Moment, Priority, Product};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many answers in a row end an outage.
const GOOD_BEATS: u32 = 3;

/// What a replica does while the store is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// It spends its lease.
    Share,
    /// It sends nothing.
    Refuse,
}

/// How a replica stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No beat has been answered yet: it may send nothing.
    Joining,
    /// It asks the store for every permit.
    Joined,
    /// The store does not answer, or is about to be asked again: nothing is sent.
    Silent {
        /// When the lease may be spent, if there is one and the store is still out.
        until: Moment,
    },
    /// It spends its lease.
    Sharing,
    /// The store is out, and there is nothing to spend.
    Spent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Outside,
    Inside,
    /// It may have spent of its lease since it was last inside.
    Apart {
        good: u32,
    },
    Returning,
    Leaving,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    number: u64,
    sent: Moment,
}

/// One run of one replica.
#[derive(Debug, Clone)]
pub struct Replica {
    rules: Rules,
    member: String,
    incarnation: Incarnation,
    on_outage: OnOutage,
    born: Moment,
    phase: Phase,
    number: u64,
    acked: u64,
    under_way: Option<UnderWay>,
    due: Moment,
    contact: Moment,
    lease: Pools,
    local: Option<Ledger>,
    ring: Ring,
    demand: Demand,
    /// What was told of peers, falling; and until when each number counts.
    peers: VecDeque<(Moment, u32)>,
    away: (Pools, Moment),
    wants_replay: bool,
    has_just_replayed: bool,
    product_holds: PerProduct<Moment>,
    ip_hold: Moment,
}

impl Replica {
    /// A replica that begins now. `member` is its own, and that of its runs to come; an incarnation is
    /// larger than all before it and no other replica's.
    pub fn new(
        rules: Rules,
        member: String,
        incarnation: Incarnation,
        on_outage: OnOutage,
        now: Moment,
    ) -> Self {
        Self {
            rules,
            member,
            incarnation,
            on_outage,
            born: now,
            phase: Phase::Outside,
            number: 0,
            acked: 0,
            under_way: None,
            due: now,
            contact: now,
            lease: Pools::none(),
            local: None,
            ring: Ring::default(),
            demand: Demand::default(),
            peers: VecDeque::new(),
            away: (Pools::none(), Moment::ZERO),
            wants_replay: false,
            has_just_replayed: false,
            product_holds: PerProduct::from_fn(|_| Moment::ZERO),
            ip_hold: Moment::ZERO,
        }
    }

    /// Which run it is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How it stands.
    pub fn mode(&self, now: Moment) -> Mode {
        let until = self.shares_from();
        let is_over = now >= self.lease_ends();
        match self.phase {
            Phase::Outside => Mode::Joining,
            Phase::Inside if now < self.contact + self.rules.silence => Mode::Joined,
            Phase::Inside | Phase::Returning if now < until => Mode::Silent { until },
            Phase::Inside | Phase::Returning | Phase::Apart { .. } if self.lease.ip == 0 || is_over => {
                Mode::Spent
            }
            Phase::Inside | Phase::Returning | Phase::Apart { .. } => Mode::Sharing,
            Phase::Leaving => Mode::Spent,
        }
    }

    /// Whether the store is to be asked for permits.
    pub fn must_ask_store(&self, now: Moment) -> bool {
        self.mode(now) == Mode::Joined
    }

    /// When the next beat is to be sent.
    pub fn beat_due(&self) -> Moment {
        self.due
    }

    /// The next beat, to be sent now. That before is not waited for any longer.
    pub fn beat(&mut self, now: Moment) -> Beat {
        self.pass(now);
        if let (Phase::Apart { good }, Some(_)) = (&mut self.phase, self.under_way) {
            *good = 0;
        }
        self.number += 1;
        self.under_way = Some(UnderWay { number: self.number, sent: now });
        self.due = now + self.rules.heartbeat;
        self.ring.forget_cooled(&self.rules, now);
        let brings_replay = self.wants_replay
            || match self.phase {
                Phase::Inside => false,
                Phase::Outside => !self.ring.is_empty(),
                Phase::Apart { .. } | Phase::Returning | Phase::Leaving => true,
            };
        self.has_just_replayed = brings_replay;
        let (away, until) = self.away;
        let away = if now < until { (away, until.since(now)) } else { (Pools::none(), Duration::ZERO) };
        Beat {
            member: self.member.clone(),
            incarnation: self.incarnation,
            number: self.number,
            acked: self.acked,
            stance: match self.phase {
                Phase::Outside | Phase::Inside | Phase::Returning => Stance::Joined,
                Phase::Apart { .. } => Stance::Apart,
                Phase::Leaving => Stance::Leaving,
            },
            lease: self.lease,
            demand: self.demand.total(now),
            uptime: now.since(self.born),
            peers: self.peers.front().map_or(0, |&(_, peers)| peers),
            away,
            replay: brings_replay.then(|| self.ring.replay(false, &self.rules, now)),
        }
    }

    /// The last beat: nothing is sent any more, and every permit that was not used is free.
    pub fn leave(&mut self, now: Moment) -> Beat {
        self.pass(now);
        self.phase = Phase::Leaving;
        self.local = None;
        self.beat(now)
    }

    /// The answer to a beat. `false`: it came too late, or says that this replica is not known.
    pub fn pulse(&mut self, number: u64, pulse: &Pulse, now: Moment) -> bool {
        self.pass(now);
        let Some(beat) = self.under_way.take_if(|beat| beat.number == number) else { return false };
        if now.since(beat.sent) > self.rules.call_timeout || self.phase == Phase::Leaving {
            if let Phase::Apart { good } = &mut self.phase {
                *good = 0;
            }
            return false;
        }
        if !pulse.is_known {
            self.phase = Phase::Outside;
            self.lease = Pools::none();
            self.local = None;
            return false;
        }
        self.acked = number;
        self.contact = beat.sent;
        self.remember_peers(pulse.peers, now);
        self.away = (pulse.away.0, now + pulse.away.1);
        self.wants_replay = pulse.wants_replay;
        if pulse.wants_replay && !self.has_just_replayed {
            self.due = now;
        }
        match self.phase {
            Phase::Apart { good } if good + 1 < GOOD_BEATS => self.phase = Phase::Apart { good: good + 1 },
            Phase::Apart { .. } => {
                self.phase = Phase::Returning;
                self.local = None;
                self.due = now;
            }
            Phase::Outside | Phase::Inside | Phase::Returning | Phase::Leaving => {
                self.phase = Phase::Inside;
                self.lease = match self.on_outage {
                    OnOutage::Share => pulse.lease,
                    OnOutage::Refuse => Pools::none(),
                };
            }
        }
        true
    }

    /// Somebody wants a permit for this.
    pub fn wanted(&mut self, product: Product, now: Moment) {
        self.demand.wanted(product, now);
    }

    /// The store has granted it, asked at `now`. Not to be told while the answer is under way: a replay
    /// would claim a permit that nobody granted, and the store would take its word for it. To be told
    /// again when the permit is extended.
    pub fn granted(&mut self, ticket: Ticket, product: Product, priority: Priority, now: Moment) {
        self.ring.granted(ticket, product, priority, false, &self.rules, now);
    }

    /// The request counts as arrived, whoever granted it.
    pub fn arrived(&mut self, ticket: Ticket, is_429: bool, now: Moment) {
        self.pass(now);
        self.ring.arrived(ticket, now);
        if let Some(local) = &mut self.local {
            local.arrived(ticket, is_429, now);
        }
    }

    /// Not one byte was written, whoever granted it.
    pub fn refunded(&mut self, ticket: Ticket, now: Moment) {
        self.pass(now);
        self.ring.refunded(ticket);
        if let Some(local) = &mut self.local {
            local.refund(ticket, now);
        }
    }

    /// Finch refused a call for the product's limit; the store is told as well, if it can be.
    pub fn limited(&mut self, product: Product, retry_after: Option<Duration>, now: Moment) {
        self.pass(now);
        if let Some(local) = &mut self.local {
            local.limited(product, retry_after, now);
        }
    }

    /// Nothing may be sent in this scope for as long: so Finch said, or the store.
    pub fn held(&mut self, scope: Scope, span: Duration, now: Moment) {
        self.pass(now);
        let hold = match scope {
            Scope::Product(product) => &mut self.product_holds[product],
            Scope::EgressIp => &mut self.ip_hold,
        };
        *hold = (*hold).max(now + span);
        if let Some(local) = &mut self.local {
            local.hold(scope, span, now);
        }
    }

    /// Whether the egress IP is neither held, nor waits for the call that goes first after a hold, as far as that is
    /// known without the store.
    pub fn is_ip_open(&self, now: Moment) -> bool {
        self.ip_hold <= now && self.local.as_ref().is_none_or(|local| local.is_ip_open(now))
    }

    /// Asks for a permit while the store is not to be asked. What is granted counts as
    /// [`Self::granted`] at once. Places here have nothing to do with those in the store: the tag in
    /// the answer is the one that was shown, and one that was not shown means nothing.
    pub fn ask_alone(&mut self, ask: &Ask, now: Moment) -> Admission {
        self.pass(now);
        let scope = Scope::Product(ask.product);
        let look = self.rules.heartbeat;
        match self.mode(now) {
            Mode::Joined => wait(ask, look, scope),
            // The first beat is answered at once, or the store is out.
            Mode::Joining if now < self.born + self.rules.silence => wait(ask, look, scope),
            Mode::Joining | Mode::Spent => refuse(look, scope),
            // The store may be back at any time, so nobody is sent away who has patience left.
            Mode::Silent { until } => match until.since(now).min(look).min(ask.patience) {
                Duration::ZERO => refuse(until.since(now), scope),
                after => wait(ask, after, scope),
            },
            Mode::Sharing => {
                let is_metered = self.rules.limits[ask.product].is_some();
                let has_lease = !is_metered || self.lease.products[ask.product] > 0;
                let Some(local) = self.local.as_mut().filter(|_| has_lease) else {
                    return refuse(look, scope);
                };
                let tag = ask.tag.unwrap_or_default();
                match local.ask(&Ask { tag: None, ..ask.clone() }, now) {
                    Admission::Granted { .. } => {
                        self.ring.granted(ask.ticket, ask.product, ask.priority, true, &self.rules, now);
                        Admission::Granted { tag }
                    }
                    Admission::Wait { after, .. } => Admission::Wait { after, tag },
                    refused @ Admission::Refused { .. } => refused,
                }
            }
        }
    }

    /// A waiting ticket is given up.
    pub fn cancel_alone(&mut self, ticket: Ticket, now: Moment) -> bool {
        self.pass(now);
        self.local.as_mut().is_some_and(|local| local.cancel(ticket, now))
    }

    /// As [`Ledger::extend`], for a permit of the lease.
    #[must_use = "a permit that has run out must not be used"]
    pub fn extend_alone(&mut self, ticket: Ticket, now: Moment) -> bool {
        self.pass(now);
        let is_extended = self.local.as_mut().is_some_and(|local| local.extend(ticket, now));
        if is_extended {
            self.ring.extended(ticket, now);
        }
        is_extended
    }

    /// The ledger of the lease, while that is being spent.
    pub fn local(&self) -> Option<&Ledger> {
        self.local.as_ref()
    }

    /// The permits it may spend by itself, if the store is lost.
    pub fn lease(&self) -> &Pools {
        &self.lease
    }

    /// When the lease may be spent, if nothing is heard of the store until then.
    pub fn shares_from(&self) -> Moment {
        self.contact + self.rules.quarantine()
    }

    /// When the lease ends, if nothing is heard of the store until then.
    pub fn lease_ends(&self) -> Moment {
        self.shares_from() + self.rules.lease_life
    }

    /// What time alone changes.
    fn pass(&mut self, now: Moment) {
        if self.phase == Phase::Outside || self.phase == Phase::Leaving {
            return;
        }
        if now >= self.lease_ends() {
            self.lease = Pools::none();
            self.local = None;
        }
        let is_inside = matches!(self.phase, Phase::Inside | Phase::Returning);
        if is_inside && now >= self.shares_from() && self.lease.ip > 0 {
            self.phase = Phase::Apart { good: 0 };
            self.under_way = None;
            self.local = self.ledger_of_lease(now);
        }
    }

    fn ledger_of_lease(&self, now: Moment) -> Option<Ledger> {
        let requests = NonZeroU32::new(self.lease.ip)?;
        let limits = PerProduct::from_fn(|product| {
            // A product that has a limit but no lease is refused before the ledger is asked.
            self.rules.limits[product].and_then(|_| NonZeroU32::new(self.lease.products[product]))
        });
        let rules = Rules { limits, ip: IpRule { requests, ..self.rules.ip }, ..self.rules.clone() };
        let mut ledger = Ledger::new(rules);
        ledger.restore(&self.ring.replay(true, &self.rules, now), now);
        for product in Product::ALL {
            let span = self.product_holds[product].since(now);
            if !span.is_zero() {
                ledger.hold(Scope::Product(product), span, now);
            }
        }
        if self.ip_hold > now {
            ledger.hold(Scope::EgressIp, self.ip_hold.since(now), now);
        }
        Some(ledger)
    }

    /// Keeps the largest number of the time that a permit may be busy, up to the last answer.
    fn remember_peers(&mut self, peers: u32, now: Moment) {
        while self.peers.front().is_some_and(|&(until, _)| until <= now) {
            self.peers.pop_front();
        }
        while self.peers.back().is_some_and(|&(_, before)| before <= peers) {
            self.peers.pop_back();
        }
        self.peers.push_back((now + self.rules.settled(), peers));
    }
}

/// A wait without a ledger: the place is kept by who waits.
fn wait(ask: &Ask, after: Duration, scope: Scope) -> Admission {
    match after <= ask.patience {
        true => Admission::Wait { after, tag: ask.tag.unwrap_or_default() },
        false => refuse(after, scope),
    }
}

fn refuse(after: Duration, scope: Scope) -> Admission {
    Admission::Refused { after, scope, reason: Reason::NoLedger }
}

#[cfg(test)]
#[path = "outage_tests.rs"]
mod outage;
#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;

//! The ledger: every permit, every waiting ticket, every hold of one application.
//!
//! Safe because a permit is granted only when fewer than `limit` are busy, and each stays busy
//! until a window after an instant not earlier than its request's arrival at Finch: were there
//! `limit + 1` arrivals within one window, all but the last granted of them would have been busy
//! when that one was granted. Not covered: an arrival later than [`Rules::arrival_bound`], and
//! anybody else who uses the same application.
//!
//! `store/redis/ledger.lua` is the same arithmetic where replicas share a store; a differential test
//! holds the two together. Therefore: whole microseconds, bounded loops, no order but sorted order.

mod change;
mod observe;
mod permits;
mod slot;
mod standing;
mod waiting;

use super::beat::{Beat, Pulse, Sent};
use super::bucket::Bucket;
use super::foreign::Foreign;
use super::line::{Flow, Line, STEP, Turn};
use super::members::Members;
use super::{Admission, Ask, PerProduct, Reason, Rules, Scope, Tag, Ticket};
use crate::types::{Moment, Priority, Product};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

/// How soon a ticket asks again when a permit is free for it but the one ahead has not yet taken
/// its own. Whoever drives the ledger wakes it sooner, see [`Ledger::head`].
const CLAIM_TIME: Duration = Duration::from_millis(250);

/// The part of the egress IP's permits that is kept from batch: a twentieth.
const IP_RESERVE: usize = 20;

/// How soon those who wait for a probe look again.
const PROBE_LOOK: Duration = Duration::from_secs(1);

/// How long a product rests after a refusal of Finch's: this many times the mean distance of its calls.
const FREEZE_DISTANCES: (u64, u64) = (3, 2);

/// A permit that is spent.
#[derive(Debug, Clone)]
struct Held {
    product: Product,
    /// Its stamp in every bucket that counts it.
    stamp: Moment,
    /// Its request was sent and has arrived: the ticket is used up.
    is_used: bool,
}

/// A ticket in line.
#[derive(Debug, Clone)]
struct Waiting {
    product: Product,
    priority: Priority,
    tag: Tag,
    turn: Turn,
    flow: Flow,
    step: u64,
    /// When it asks next.
    due: Moment,
    deadline: Moment,
}

/// What is known of one product.
#[derive(Debug, Clone, Default)]
struct Desk {
    permits: Bucket,
    /// Those of them that batch calls hold.
    batch: Bucket,
    line: Line,
    hold: Moment,
    foreign: Foreign,
    last_batch: Option<Moment>,
    /// The last time an interactive call asked.
    interactive_at: Option<Moment>,
}

/// Whether the egress IP is trusted after a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Egress {
    Open,
    /// One call may try; `until` then nobody else does.
    OnProbation {
        probe: Option<(Ticket, Moment)>,
    },
}

/// All that perch knows about its use of Finch's limits. Its memory is bounded by the limits and
/// by [`Rules::queue_max`].
#[derive(Debug, Clone)]
pub struct Ledger {
    rules: Rules,
    desks: PerProduct<Desk>,
    ip: Bucket,
    ip_hold: Moment,
    egress: Egress,
    held: HashMap<Ticket, Held>,
    tickets: HashMap<Ticket, Waiting>,
    /// Every customer's tickets, in the order of their coming within a product and priority.
    flows: HashMap<Flow, BTreeMap<(Product, Priority, Turn), Ticket>>,
    deadlines: BTreeSet<(Moment, Ticket)>,
    next_turn: Turn,
    /// Names the permits that nobody holds: those that a refusal of Finch's spends.
    next_phantom: u64,
    members: Members,
    learning_until: Moment,
    /// The latest `now` ever given: time does not run backwards here.
    clock: Moment,
}

impl Ledger {
    /// A ledger with nothing spent. Right only when nothing was sent during the last window.
    pub fn new(rules: Rules) -> Self {
        Self {
            desks: PerProduct::from_fn(|_| Desk::default()),
            ip: Bucket::default(),
            ip_hold: Moment::ZERO,
            egress: Egress::Open,
            held: HashMap::new(),
            tickets: HashMap::new(),
            flows: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_turn: 0,
            next_phantom: 0,
            members: Members::new(),
            learning_until: Moment::ZERO,
            clock: Moment::ZERO,
            rules,
        }
    }

    /// Stands in line and claims a permit, in one call that may be repeated: a ticket that was
    /// granted is granted again at no cost, a waiting one keeps its place.
    pub fn ask(&mut self, ask: &Ask, now: Moment) -> Admission {
        let now = self.advance(now);
        let (product, class) = (ask.product, ask.priority);
        self.cool(product, now);
        match self.held.get(&ask.ticket).map(|held| held.is_used) {
            Some(true) => {
                let (after, scope) = (self.span(product, now), Scope::Product(product));
                return Admission::Refused { after, scope, reason: Reason::Quota };
            }
            // The answer to an earlier question was lost.
            Some(false) if self.is_whole(ask.ticket) => return self.grant_again(ask, now),
            // So late that the permit has run out unused: as if it had never asked.
            Some(false) => self.take_out(ask.ticket),
            None => {}
        }
        self.sweep(product, ask.ticket, now);
        if class == Priority::Interactive {
            self.desks[product].interactive_at = Some(now);
        }

        let flow = &ask.customer;
        let step = (STEP / u64::from(ask.weight.get())).max(1);
        let known = self.tickets.get(&ask.ticket).map(|w| (w.tag, w.turn));
        let (tag, turn) = known.unwrap_or_else(|| {
            (ask.tag.unwrap_or_else(|| self.desks[product].line.next_tag(class, flow)), self.next_turn)
        });
        let (ahead, slot) = self.slot(product, class, tag, turn, now);
        if ahead == 0 && slot.at <= now {
            let has_waited = self.leave(ask.ticket, true);
            self.grant(ask, tag, (!has_waited).then_some(step), now);
            return Admission::Granted { tag };
        }

        let until = if slot.at <= now { now + CLAIM_TIME.min(ask.patience) } else { slot.at };
        let after = until.since(now);
        let mut refusal = (after > ask.patience || after.is_zero()).then_some(slot.reason);
        if known.is_none() && refusal.is_none() {
            refusal = self.lack_of_room(flow);
        }
        if let Some(reason) = refusal {
            self.leave(ask.ticket, false);
            return Admission::Refused { after, scope: slot.scope, reason };
        }
        self.wait(ask, (tag, turn), step, until, now);
        Admission::Wait { after, tag }
    }

    /// More than [`Rules::grace`] has passed since the question, in connecting for instance: takes
    /// the permit anew from now on. `false`: it has run out meanwhile, do not send; ask with another
    /// ticket.
    #[must_use = "a permit that has run out must not be used"]
    pub fn extend(&mut self, ticket: Ticket, now: Moment) -> bool {
        let now = self.advance(now);
        let Some(product) = self.held.get(&ticket).map(|held| held.product) else { return false };
        self.cool(product, now);
        let is_good = self.held.get(&ticket).is_some_and(|held| !held.is_used) && self.is_whole(ticket);
        if is_good {
            self.restamp(ticket, now + self.rules.flight());
        }
        is_good
    }

    /// The response headers are here, or an error came after the first byte was written: the
    /// permit cools from now on. `is_429`: Finch refused it for a limit. Says nothing about a ticket
    /// that holds none.
    pub fn arrived(&mut self, ticket: Ticket, is_429: bool, now: Moment) {
        let now = self.advance(now);
        if let Egress::OnProbation { probe: Some((probe, _)) } = self.egress
            && probe == ticket
        {
            // After a refusal whoever sent it says next for how long; nobody tries in between.
            self.egress = match is_429 {
                true => Egress::OnProbation { probe: Some((probe, now + PROBE_LOOK)) },
                false => Egress::Open,
            };
        }
        let Some(held) = self.held.get_mut(&ticket) else { return };
        held.is_used = true;
        // Never later than it was: a request counts as arrived after the bound at the latest.
        let stamp = now.min(held.stamp);
        self.restamp(ticket, stamp);
    }

    /// The call is given up while it waits; its place goes to the next. `false`: it did not wait.
    pub fn cancel(&mut self, ticket: Ticket, now: Moment) -> bool {
        self.advance(now);
        self.leave(ticket, false)
    }

    /// Not one byte was written: the permit is as if never granted. `false`: the ticket holds none, or
    /// it has arrived.
    pub fn refund(&mut self, ticket: Ticket, now: Moment) -> bool {
        self.advance(now);
        if let Egress::OnProbation { probe: Some((probe, _)) } = self.egress
            && probe == ticket
        {
            self.egress = Egress::OnProbation { probe: None };
        }
        let is_unused = self.held.get(&ticket).is_some_and(|held| !held.is_used);
        if is_unused {
            self.take_out(ticket);
        }
        is_unused
    }

    /// Finch refused a call for the product's limit, although the ledger had granted it: somebody
    /// else uses the application, or Finch counts otherwise. The product rests for as long as Finch
    /// says, or for one and a half times the mean distance of its calls; one permit more counts as
    /// spent; and it is careful for a while. Whoever asks again shows its tag.
    pub fn limited(&mut self, product: Product, retry_after: Option<Duration>, now: Moment) {
        let now = self.advance(now);
        let limit = self.rules.limits[product].map_or(1, NonZeroU32::get);
        let (times, parts) = FREEZE_DISTANCES;
        let rest = micros(self.rules.window).saturating_mul(times) / parts.saturating_mul(u64::from(limit));
        let rest = Duration::from_micros(rest);
        let phantom = Ticket { number: self.next_phantom, ..Ticket::default() };
        self.next_phantom += 1;
        let desk = &mut self.desks[product];
        desk.hold = desk.hold.max(now + retry_after.unwrap_or_default().max(rest));
        if self.rules.limits[product].is_some() {
            desk.permits.add(now, phantom);
        }
        desk.foreign.refused(limit, now);
    }

    /// Grants nothing in `scope` for this long. A hold is only ever made longer. After a hold of the
    /// egress IP one call goes first, and the others when it was not refused.
    pub fn hold(&mut self, scope: Scope, span: Duration, now: Moment) {
        let now = self.advance(now);
        match scope {
            Scope::Product(product) => {
                let hold = &mut self.desks[product].hold;
                *hold = (now + span).max(*hold);
            }
            Scope::EgressIp => {
                self.ip_hold = (now + span).max(self.ip_hold);
                self.egress = Egress::OnProbation { probe: None };
            }
        }
    }

    /// The store of a shared ledger says which run it is. In another run than before some of what
    /// was written may be missing: nothing is granted until it is known again or a window has passed.
    pub fn enter(&mut self, run: &str, now: Moment) {
        let now = self.advance(now);
        self.members.enter(run, &self.rules, now);
        self.learn_from_members(now);
    }

    /// One heartbeat of a replica.
    pub fn beat(&mut self, beat: &Beat, now: Moment) -> Pulse {
        let now = self.advance(now);
        if let Some(replay) = beat.replay.as_deref().filter(|_| self.members.knows(beat, now)) {
            self.restore(replay, now);
        }
        let ip_busy = u32::try_from(self.ip.busy(self.ip_span(), now)).unwrap_or(u32::MAX);
        let told = self.members.beat(beat, ip_busy, &self.rules, now);
        self.learn_from_members(now);
        let wakes = match &told {
            Some(_) => self.claimable(beat, now),
            None => Vec::new(),
        };
        let Some(told) = told else { return Pulse::unknown() };
        told.pulse(wakes)
    }

    /// Takes over what was sent before this ledger began, or what it has lost.
    pub fn restore(&mut self, sent: &[Sent], now: Moment) {
        let now = self.advance(now);
        for sent in sent {
            let stamp = sent.age.map_or(now + self.rules.flight(), |age| now - age);
            let stamp = match self.held.get(&sent.ticket) {
                Some(held) => held.stamp.max(stamp),
                None => stamp,
            };
            self.take_out(sent.ticket);
            self.put_in(sent.ticket, sent.product, sent.priority, stamp, true);
            self.cool(sent.product, now);
        }
    }

    /// What was sent before is not known: nothing is granted for a window, and most of the egress
    /// IP's permits count as spent.
    pub fn learn(&mut self, now: Moment) {
        let now = self.advance(now);
        self.learning_until = now + self.rules.span();
        self.spend_ip_blindly(now, now);
    }

    /// How long nothing is granted because history is unknown; zero when it is known.
    pub fn learns_for(&self, now: Moment) -> Duration {
        self.learning_until.since(now.max(self.clock))
    }

    /// Who is next for the product. Whoever drives the ledger lets this one ask at once when
    /// the one before it was granted or left, and lets every product's ask when a place or a
    /// permit was given back: only then can a ticket be served before the time it was told.
    pub fn head(&self, product: Product) -> Option<Ticket> {
        let line = &self.desks[product].line;
        let interactive = line.head(Priority::Interactive).filter(|_| !line.is_batch_due());
        interactive.or_else(|| line.head(Priority::Batch)).map(|(_, _, ticket)| ticket)
    }

    fn advance(&mut self, now: Moment) -> Moment {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn span(&self, product: Product, now: Moment) -> Duration {
        self.rules.span() + self.desks[product].foreign.pad(now)
    }

    fn ip_span(&self) -> Duration {
        self.rules.ip.window + self.rules.pad
    }

    fn learn_from_members(&mut self, now: Moment) {
        if self.members.has_given_up_learning() {
            self.spend_ip_blindly(now - self.rules.span(), now);
        }
        self.learning_until = self.members.learning_until();
    }
}

fn count(permits: u32) -> usize {
    usize::try_from(permits).unwrap_or(usize::MAX)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

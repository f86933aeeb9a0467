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

use super::beat::{Beat, Pulse, Sent};
use super::bucket::Bucket;
use super::foreign::Foreign;
use super::line::{Flow, Line, RUN_MAX, STEP, Turn};
use super::members::Members;
use super::{Admission, Ask, PerProduct, Reason, Rules, Scope, Standing, Tag, Ticket};
use crate::types::{Moment, Priority, Product};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

/// How soon a ticket asks again when a permit is free for it but the one ahead has not yet taken
/// its own. Whoever drives the ledger wakes it sooner, see [`Ledger::head`].
const CLAIM_TIME: Duration = Duration::from_millis(250);

/// How long after an interactive call one permit is kept from batch.
const RESERVE_FOR: Duration = Duration::from_secs(10 * 60);

/// The part of the egress IP's permits that is kept from batch: a twentieth.
const IP_RESERVE: usize = 20;

/// The most tickets that one question clears away for each cause, so that none takes long.
const SWEEP_MAX: usize = 8;

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

impl Desk {
    /// Until when a permit is kept from batch; `None` when none is.
    fn reserved_until(&self, now: Moment) -> Option<Moment> {
        self.interactive_at.map(|at| at + RESERVE_FOR).filter(|until| *until > now)
    }
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

/// When an ask could be served, and what decides it.
struct Slot {
    at: Moment,
    scope: Scope,
    reason: Reason,
}

impl Slot {
    fn not_before(&mut self, at: Moment, scope: Scope, reason: Reason) {
        if at > self.at {
            *self = Slot { at, scope, reason };
        }
    }
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
        self.spend_ip_blindly(now);
    }

    /// How long nothing is granted because history is unknown; zero when it is known.
    pub fn learns_for(&self, now: Moment) -> Duration {
        self.learning_until.since(now.max(self.clock))
    }

    /// Every hold that still lasts, and for how long.
    pub fn holds(&self, now: Moment) -> impl Iterator<Item = (Scope, Duration)> {
        let now = now.max(self.clock);
        let products = Product::ALL.into_iter().map(|p| (Scope::Product(p), self.desks[p].hold));
        let all = products.chain([(Scope::EgressIp, self.ip_hold)]);
        all.map(move |(scope, until)| (scope, until.since(now))).filter(|(_, left)| !left.is_zero())
    }

    /// How the product's limit stands; `None` when it has none.
    pub fn standing(&self, product: Product, now: Moment) -> Option<Standing> {
        let now = now.max(self.clock);
        let desk = &self.desks[product];
        let limit = self.rules.limits[product]?.get();
        let lost = desk.foreign.deficit(now).saturating_add(self.members.withdrawn().products[product]);
        let limit = limit.saturating_sub(lost);
        Some(self.standing_of(
            &desk.permits,
            limit,
            self.rules.window,
            self.span(product, now),
            desk.hold,
            now,
        ))
    }

    /// How the egress IP's limit stands.
    pub fn ip_standing(&self, now: Moment) -> Standing {
        let now = now.max(self.clock);
        let limit = self.rules.ip.requests.get().saturating_sub(self.members.withdrawn().ip);
        let span = self.rules.ip.window + self.rules.pad;
        self.standing_of(&self.ip, limit, self.rules.ip.window, span, self.ip_hold, now)
    }

    /// How many calls wait. One whose deadline has passed counts until somebody asks.
    pub fn waiting(&self, product: Product, priority: Priority) -> usize {
        self.desks[product].line.len(priority)
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

    /// Drops the stamps that have cooled. Each is dropped once, so this is cheap on average.
    fn cool(&mut self, product: Product, now: Moment) {
        let (span, ip_span) = (self.span(product, now), self.ip_span());
        let desk = &mut self.desks[product];
        let mut gone = Vec::new();
        while let Some(ticket) = desk.permits.pop_cooled(span, now) {
            gone.push(ticket);
        }
        while desk.batch.pop_cooled(span, now).is_some() {}
        while let Some(ticket) = self.ip.pop_cooled(ip_span, now) {
            gone.push(ticket);
        }
        for ticket in gone {
            if let Some(held) = self.held.get(&ticket)
                && !self.ip.has(held.stamp, ticket)
                && !self.desks[held.product].permits.has(held.stamp, ticket)
            {
                self.held.remove(&ticket);
            }
        }
    }

    /// Clears away tickets that nobody will claim: past their deadline, not asked for in time, or of
    /// a replica that is dead. Never the one that asks.
    fn sweep(&mut self, product: Product, asking: Ticket, now: Moment) {
        for _ in 0..SWEEP_MAX {
            match self.deadlines.first() {
                Some(&(deadline, ticket)) if deadline < now && ticket != asking => self.leave(ticket, false),
                _ => break,
            };
        }
        for _ in 0..SWEEP_MAX {
            match self.desks[product].line.due.first() {
                Some(&(due, ticket)) if due + self.rules.stale < now && ticket != asking => {
                    self.leave(ticket, false)
                }
                _ => break,
            };
        }
        for class in Priority::ALL {
            for _ in 0..SWEEP_MAX {
                match self.desks[product].line.head(class) {
                    Some((_, _, head)) if head.of != asking.of && self.members.is_dead(head.of, now) => {
                        self.leave(head, false)
                    }
                    _ => break,
                };
            }
        }
    }

    /// How many permits of the product may be busy now.
    fn cap(&mut self, product: Product, now: Moment) -> usize {
        let limit = self.rules.limits[product].map_or(0, NonZeroU32::get);
        let away = self.members.away(&self.rules, now).products[product];
        count(limit.saturating_sub(self.desks[product].foreign.deficit(now)).saturating_sub(away))
    }

    /// How many grants come before this place, and when it could be served. Nothing cooled may be
    /// left in the product's bucket.
    fn slot(
        &mut self,
        product: Product,
        class: Priority,
        tag: Tag,
        turn: Turn,
        now: Moment,
    ) -> (usize, Slot) {
        let ahead = self.ahead(product, class, tag, turn, now);
        let slot =
            self.slot_behind(product, class, ahead, self.desks[product].line.rank(class, tag, turn), now);
        (ahead, slot)
    }

    fn ahead(&mut self, product: Product, class: Priority, tag: Tag, turn: Turn, now: Moment) -> usize {
        let line = &self.desks[product].line;
        let rank = line.rank(class, tag, turn);
        match class {
            // One batch call goes first when it is due and there to take it, or will be in a moment.
            Priority::Interactive if line.is_batch_due() => {
                let is_there = line.head(Priority::Batch).is_some_and(|(_, _, head)| {
                    self.tickets.get(&head).is_some_and(|waiting| waiting.due <= now + CLAIM_TIME)
                });
                let first = is_there && self.slot_behind(product, Priority::Batch, 0, 0, now).at <= now;
                rank + usize::from(first)
            }
            Priority::Interactive => rank,
            Priority::Batch => {
                let until_due = RUN_MAX.saturating_sub(line.run);
                rank + line.len(Priority::Interactive).min(until_due + RUN_MAX * rank)
            }
        }
    }

    fn slot_behind(
        &mut self,
        product: Product,
        class: Priority,
        ahead: usize,
        rank: usize,
        now: Moment,
    ) -> Slot {
        let of_product = Scope::Product(product);
        let mut slot = Slot { at: now, scope: of_product, reason: Reason::Quota };
        let is_owed = class == Priority::Batch && self.desks[product].line.is_owed(rank);
        if self.rules.limits[product].is_some() {
            let (cap, span) = (self.cap(product, now), self.span(product, now));
            let desk = &self.desks[product];
            slot.at = desk.permits.nth_free(ahead, cap, span, now);
            let grows_at = desk.foreign.grows_at(now).filter(|_| ahead == 0);
            if let Some(grows_at) = grows_at {
                slot.at = slot.at.min(grows_at.max(desk.permits.nth_free(0, cap + 1, span, now)));
            }
            if class == Priority::Batch {
                let reserved_until = desk.reserved_until(now).filter(|_| cap > 1);
                let batch_cap = cap - usize::from(reserved_until.is_some());
                let mut free = desk.batch.nth_free(rank, batch_cap, span, now);
                if self.rules.pacing && !is_owed {
                    free = free.max(paced(desk, rank, cap, batch_cap, span, now));
                }
                let ends = [grows_at, reserved_until.filter(|_| ahead == 0)];
                let free = ends.into_iter().flatten().fold(free, Moment::min);
                slot.not_before(free, of_product, Reason::Quota);
            }
        }
        let ip_cap =
            count(self.rules.ip.requests.get().saturating_sub(self.members.away(&self.rules, now).ip));
        let ip_cap = match class {
            Priority::Batch if !is_owed => ip_cap - ip_cap / IP_RESERVE,
            _ => ip_cap,
        };
        let ip_free = self.ip.nth_free(0, ip_cap, self.ip_span(), now);
        slot.not_before(ip_free, Scope::EgressIp, Reason::Quota);
        slot.not_before(self.desks[product].hold, of_product, Reason::Hold);
        slot.not_before(self.ip_hold, Scope::EgressIp, Reason::Hold);
        if let Egress::OnProbation { probe: Some((_, until)) } = self.egress
            && until > now
        {
            slot.not_before(until.min(now + PROBE_LOOK), Scope::EgressIp, Reason::Hold);
        }
        slot.not_before(self.learning_until, of_product, Reason::Learning);
        slot
    }

    fn lack_of_room(&self, flow: &Flow) -> Option<Reason> {
        if self.tickets.len() >= self.rules.queue_max {
            return Some(Reason::QueueFull);
        }
        let waiting = self.flows.get(flow).map_or(0, BTreeMap::len);
        (waiting >= self.rules.queue_per_customer_max).then_some(Reason::CustomerQueueFull)
    }

    /// The ticket stands in line and asks again at `due`.
    fn wait(&mut self, ask: &Ask, (tag, turn): (Tag, Turn), step: u64, due: Moment, now: Moment) {
        let deadline = now + ask.patience;
        let line = &mut self.desks[ask.product].line;
        if let Some(waiting) = self.tickets.get_mut(&ask.ticket) {
            line.due.remove(&(waiting.due, ask.ticket));
            self.deadlines.remove(&(waiting.deadline, ask.ticket));
            (waiting.due, waiting.deadline) = (due, deadline);
        } else {
            let flow = &ask.customer;
            line.insert(ask.priority, tag, turn, ask.ticket);
            line.advance(ask.priority, flow, tag, step);
            self.flows.entry(flow.clone()).or_default().insert((ask.product, ask.priority, turn), ask.ticket);
            self.next_turn += 1;
            let (product, priority, flow) = (ask.product, ask.priority, flow.clone());
            let waiting = Waiting { product, priority, tag, turn, flow, step, due, deadline };
            self.tickets.insert(ask.ticket, waiting);
        }
        line.due.insert((due, ask.ticket));
        self.deadlines.insert((deadline, ask.ticket));
    }

    /// Takes a ticket out; those behind it move up, and when it was not served those of its customer
    /// get back the step it took, but never pass the place it had. `false` when it did not wait.
    fn leave(&mut self, ticket: Ticket, is_served: bool) -> bool {
        let Some(w) = self.tickets.remove(&ticket) else { return false };
        let line = &mut self.desks[w.product].line;
        line.remove(w.priority, w.tag, w.turn);
        line.due.remove(&(w.due, ticket));
        self.deadlines.remove(&(w.deadline, ticket));
        let Some(of_flow) = self.flows.get_mut(&w.flow) else { return true };
        of_flow.remove(&(w.product, w.priority, w.turn));
        if !is_served {
            let others = of_flow.range((w.product, w.priority, 0)..=(w.product, w.priority, Turn::MAX));
            for (&(_, _, turn), &other) in others {
                let Some(behind) = self.tickets.get_mut(&other).filter(|other| other.tag > w.tag) else {
                    continue;
                };
                line.remove(w.priority, behind.tag, turn);
                behind.tag = w.tag.max(Tag(behind.tag.0.saturating_sub(w.step)));
                line.insert(w.priority, behind.tag, turn, other);
            }
            line.retreat(w.priority, &w.flow, w.step);
        }
        if of_flow.is_empty() {
            self.flows.remove(&w.flow);
        }
        true
    }

    /// Spends one permit of the product and one of the IP. Both were found free. `step`: what the
    /// customer moves by, unless it did when the ticket came to stand in line.
    fn grant(&mut self, ask: &Ask, tag: Tag, step: Option<u64>, now: Moment) {
        let stamp = now + self.rules.flight();
        self.put_in(ask.ticket, ask.product, ask.priority, stamp, false);
        if let Egress::OnProbation { .. } = self.egress {
            self.egress = Egress::OnProbation { probe: Some((ask.ticket, now + self.rules.answer_max)) };
        }
        let desk = &mut self.desks[ask.product];
        desk.line.granted(ask.priority, tag);
        if let Some(step) = step {
            desk.line.advance(ask.priority, &ask.customer, tag, step);
        }
        match ask.priority {
            Priority::Batch => {
                desk.last_batch = Some(now);
                desk.line.run = 0;
            }
            Priority::Interactive if desk.line.len(Priority::Batch) > 0 => {
                desk.line.run = RUN_MAX.min(desk.line.run + 1);
            }
            Priority::Interactive => desk.line.run = 0,
        }
    }

    fn grant_again(&mut self, ask: &Ask, now: Moment) -> Admission {
        self.restamp(ask.ticket, now + self.rules.flight());
        let tag = ask.tag.unwrap_or_else(|| self.desks[ask.product].line.virtual_time(ask.priority));
        Admission::Granted { tag }
    }

    /// Whether everything that counts the ticket's permit still does. Nothing cooled may be left.
    fn is_whole(&self, ticket: Ticket) -> bool {
        self.held.get(&ticket).is_some_and(|held| {
            let is_metered = self.rules.limits[held.product].is_some();
            self.ip.has(held.stamp, ticket)
                && (!is_metered || self.desks[held.product].permits.has(held.stamp, ticket))
        })
    }

    fn put_in(&mut self, ticket: Ticket, product: Product, priority: Priority, stamp: Moment, is_used: bool) {
        let desk = &mut self.desks[product];
        if self.rules.limits[product].is_some() {
            desk.permits.add(stamp, ticket);
            if priority == Priority::Batch {
                desk.batch.add(stamp, ticket);
            }
        }
        self.ip.add(stamp, ticket);
        self.held.insert(ticket, Held { product, stamp, is_used });
    }

    fn take_out(&mut self, ticket: Ticket) {
        if let Some(held) = self.held.remove(&ticket) {
            for bucket in buckets(&mut self.desks[held.product], &mut self.ip) {
                bucket.remove(held.stamp, ticket);
            }
        }
    }

    /// Moves the permit's stamp in every bucket that still counts it.
    fn restamp(&mut self, ticket: Ticket, to: Moment) {
        let Some(held) = self.held.get_mut(&ticket) else { return };
        for bucket in buckets(&mut self.desks[held.product], &mut self.ip) {
            if bucket.remove(held.stamp, ticket) {
                bucket.add(to, ticket);
            }
        }
        held.stamp = to;
    }

    fn spend_ip_blindly(&mut self, now: Moment) {
        for _ in 0..self.rules.ip.requests.get() / 4 * 3 {
            let phantom = Ticket { number: self.next_phantom, ..Ticket::default() };
            self.next_phantom += 1;
            self.ip.add(now, phantom);
        }
    }

    fn learn_from_members(&mut self, now: Moment) {
        if self.members.has_given_up_learning() {
            self.spend_ip_blindly(now);
        }
        self.learning_until = self.members.learning_until();
    }

    /// Sleeping tickets of a replica that would be granted if they asked now.
    fn claimable(&mut self, beat: &Beat, now: Moment) -> Vec<Ticket> {
        let mut wakes = Vec::new();
        for product in Product::ALL {
            for class in Priority::ALL {
                if self.desks[product].line.len(class) == 0 {
                    continue;
                }
                self.cool(product, now);
                self.sweep(product, Ticket::new(beat.incarnation, 0), now);
                let Some((tag, turn, head)) = self.desks[product].line.head(class) else { continue };
                let is_asleep = self.tickets.get(&head).is_some_and(|waiting| waiting.due > now);
                if head.of == beat.incarnation && is_asleep {
                    let (ahead, slot) = self.slot(product, class, tag, turn, now);
                    if ahead == 0 && slot.at <= now {
                        wakes.push(head);
                    }
                }
            }
        }
        wakes
    }

    fn standing_of(
        &self,
        bucket: &Bucket,
        limit: u32,
        window: Duration,
        span: Duration,
        hold: Moment,
        now: Moment,
    ) -> Standing {
        let used = u32::try_from(bucket.busy(span, now)).unwrap_or(limit).min(limit);
        let held_for = hold.max(self.learning_until).since(now);
        let next_return = bucket.next_return(span, now).map_or(Duration::ZERO, |at| at.since(now));
        Standing {
            limit,
            used,
            remaining: if held_for.is_zero() { limit - used } else { 0 },
            window,
            next_free_in: if held_for.is_zero() { next_return } else { held_for },
        }
    }
}

/// The earliest moment for a batch call of this rank. Once half of the permits are busy, batch calls
/// keep a distance: nine tenths of an even spread over the window at least, and while permits are
/// left, so much that they last until the next one comes back, but at most two even distances. Then
/// permits come back one by one, and an interactive call meets one soon.
fn paced(desk: &Desk, rank: usize, cap: usize, batch_cap: usize, span: Duration, now: Moment) -> Moment {
    let busy = desk.permits.len();
    let (Some(last), true) = (desk.last_batch, busy * 2 >= cap) else { return now };
    let Some(next_return) = desk.permits.next_return(span, now) else { return now };
    let even = micros(span) / batch_cap.max(1) as u64;
    let least = even / 10 * 9;
    let free = cap.saturating_sub(busy) as u64;
    let spread = micros(next_return.since(last)) / (free + 1);
    let gap = least.max(spread.min(even.saturating_mul(2)));
    // Fewer than half are busy from then on.
    let ends = desk.permits.nth_free(0, cap.div_ceil(2), span, now);
    ends.min(last + Duration::from_micros(gap.saturating_add(least.saturating_mul(rank as u64))))
}

fn buckets<'a>(desk: &'a mut Desk, ip: &'a mut Bucket) -> [&'a mut Bucket; 3] {
    [&mut desk.permits, &mut desk.batch, ip]
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

//! The ledger: every permit, every waiting ticket, every hold of one application.
//!
//! Safe because a permit is granted only when fewer than `limit` are busy, and each stays busy
//! until a window after an instant not earlier than its request's arrival at Finch: were there
//! `limit + 1` arrivals within one window, all but the last granted of them would have been busy
//! when that one was granted. Not covered: an arrival later than [`Rules::arrival_bound`], and
//! anybody else who uses the same application.

use super::bucket::Bucket;
use super::line::{Line, Turn};
use super::{Admission, Ask, PerProduct, Reason, Rules, Scope, Standing, Ticket};
use crate::types::{Moment, Priority, Product};
use std::collections::HashMap;
use std::time::Duration;

/// How soon a ticket asks again when a permit is free for it but the one ahead has not yet taken
/// its own. Whoever drives the ledger wakes it sooner, see [`Ledger::head`].
const CLAIM_TIME: Duration = Duration::from_millis(250);

/// A permit that is spent.
#[derive(Debug)]
struct Held {
    product: Product,
    /// Its stamp in every bucket that counts it.
    stamp: Moment,
    /// Whether its answer is still to come.
    is_in_flight: bool,
    /// In how many buckets the stamp still stands.
    buckets: u8,
}

/// When an ask could be served, and what decides it.
struct Slot {
    at: Moment,
    scope: Scope,
    reason: Reason,
}

/// All that perch knows about its use of Finch's limits. Its memory is bounded by the limits and
/// by [`Rules::queue_max`].
#[derive(Debug)]
pub struct Ledger {
    rules: Rules,
    products: PerProduct<Option<Bucket>>,
    ip: Bucket,
    held: HashMap<Ticket, Held>,
    line: Line,
    product_holds: PerProduct<Moment>,
    ip_hold: Moment,
    /// The latest `now` ever given: time does not run backwards here.
    clock: Moment,
}

impl Ledger {
    /// A ledger with nothing spent. Right only when nothing was sent during the last window.
    pub fn new(rules: Rules) -> Self {
        Self {
            products: PerProduct::from_fn(|p| {
                rules.limits[p].map(|limit| Bucket::new(limit, rules.window + rules.pad))
            }),
            ip: Bucket::new(rules.ip.requests, rules.ip.window + rules.pad),
            held: HashMap::new(),
            line: Line::new(),
            product_holds: PerProduct::from_fn(|_| Moment::ZERO),
            ip_hold: Moment::ZERO,
            clock: Moment::ZERO,
            rules,
        }
    }

    /// Stands in line and claims a permit, in one call that may be repeated: a ticket that was
    /// granted is granted again at no cost, a waiting one keeps its place.
    ///
    /// Inside a product the order is that of the first asks. Of the egress IP's permits, those
    /// that earlier tickets of other products can use now are left to them.
    pub fn ask(&mut self, ask: &Ask, now: Moment) -> Admission {
        let now = self.advance(now);
        if self.held.contains_key(&ask.ticket) {
            return Admission::Granted;
        }
        self.line.expire(now);
        self.forget_cooled(ask.product, now);

        let place = self.line.find(ask.ticket);
        let (turn, deadline) = place.unwrap_or((self.line.next_turn(), ask.deadline));
        let ahead = self.line.ahead_of(turn, ask.product);
        let slot = self.slot(ask.product, turn, ahead, now);
        if ahead == 0 && slot.at <= now && now <= deadline {
            self.line.leave(ask.ticket);
            self.grant(ask, now);
            return Admission::Granted;
        }

        let until = if ahead > 0 && slot.at <= now { now + CLAIM_TIME } else { slot.at };
        let mut refusal = (until > deadline || now > deadline).then_some(slot.reason);
        if place.is_none() && refusal.is_none() {
            refusal = self.line.room_for(ask.customer.as_ref(), &self.rules).err();
        }
        if let Some(reason) = refusal {
            self.line.leave(ask.ticket);
            return Admission::Refused { retry_at: until, scope: slot.scope, reason };
        }
        if place.is_none() {
            self.line.join(ask);
        }
        Admission::Wait { until }
    }

    /// The first byte is about to be written: [`Rules::arrival_bound`] counts from here, not from
    /// the grant. `false`: the permit has run out meanwhile, do not send; refund and ask anew.
    #[must_use = "a permit that has run out must not be used"]
    pub fn sent(&mut self, ticket: Ticket, now: Moment) -> bool {
        let now = self.advance(now);
        let Some(held) = self.held.get(&ticket).filter(|held| held.is_in_flight) else { return false };
        let spans =
            [self.products[held.product].is_some().then_some(self.rules.window), Some(self.rules.ip.window)];
        if spans.into_iter().flatten().any(|window| held.stamp + window + self.rules.pad <= now) {
            return false;
        }
        self.restamp(ticket, now + self.rules.unanswered());
        true
    }

    /// The response headers are here, or an error came after the first byte was written: the
    /// permit cools from now on. Says nothing about a ticket that holds none.
    pub fn arrived(&mut self, ticket: Ticket, now: Moment) {
        let now = self.advance(now);
        let Some(held) = self.held.get_mut(&ticket) else { return };
        held.is_in_flight = false;
        // Never later than it was: a request counts as arrived after the bound at the latest.
        let stamp = now.min(held.stamp);
        self.restamp(ticket, stamp);
    }

    /// The call is given up while it waits; its place goes to the next. `false`: it did not wait.
    pub fn cancel(&mut self, ticket: Ticket) -> bool {
        self.line.leave(ticket)
    }

    /// Not one byte was written: the permit is as if never granted. `false`: the ticket holds none
    /// that could be given back, or has been answered.
    pub fn refund(&mut self, ticket: Ticket) -> bool {
        if !self.held.get(&ticket).is_some_and(|held| held.is_in_flight) {
            return false;
        }
        if let Some(held) = self.held.remove(&ticket) {
            if let Some(bucket) = &mut self.products[held.product] {
                bucket.remove(held.stamp, ticket);
            }
            self.ip.remove(held.stamp, ticket);
        }
        true
    }

    /// Grants nothing in `scope` before `until`. A hold is only ever made longer.
    pub fn hold(&mut self, scope: Scope, until: Moment, now: Moment) {
        self.advance(now);
        let hold = match scope {
            Scope::Product(product) => &mut self.product_holds[product],
            Scope::EgressIp => &mut self.ip_hold,
        };
        *hold = until.max(*hold);
    }

    /// Every hold that still lasts, and for how long.
    pub fn holds(&self, now: Moment) -> impl Iterator<Item = (Scope, Duration)> {
        let now = now.max(self.clock);
        let products = Product::ALL.into_iter().map(|p| (Scope::Product(p), self.product_holds[p]));
        products
            .chain([(Scope::EgressIp, self.ip_hold)])
            .filter(move |&(_, until)| until > now)
            .map(move |(scope, until)| (scope, until.since(now)))
    }

    /// How the product's limit stands; `None` when it has none.
    pub fn standing(&self, product: Product, now: Moment) -> Option<Standing> {
        let bucket = self.products[product].as_ref()?;
        Some(standing(bucket, self.rules.window, self.product_holds[product], now.max(self.clock)))
    }

    /// How the egress IP's limit stands.
    pub fn ip_standing(&self, now: Moment) -> Standing {
        standing(&self.ip, self.rules.ip.window, self.ip_hold, now.max(self.clock))
    }

    /// How many calls wait. One whose deadline has passed counts until somebody asks.
    pub fn waiting(&self, product: Product, priority: Priority) -> usize {
        self.line.waiting(product, priority)
    }

    /// Who is next in the product's line. Whoever drives the ledger lets this one ask at once when
    /// the one before it was granted or left, and lets every product's ask when a place or a
    /// permit was given back: only then can a ticket be served before the time it was told.
    pub fn head(&self, product: Product) -> Option<Ticket> {
        self.line.head(product)
    }

    fn advance(&mut self, now: Moment) -> Moment {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// Drops the stamps that have cooled. Each is dropped once, so this is cheap on average.
    fn forget_cooled(&mut self, product: Product, now: Moment) {
        for bucket in [self.products[product].as_mut(), Some(&mut self.ip)].into_iter().flatten() {
            while let Some(ticket) = bucket.pop_cooled(now) {
                if let Some(held) = self.held.get_mut(&ticket) {
                    held.buckets -= 1;
                    if held.buckets == 0 {
                        self.held.remove(&ticket);
                    }
                }
            }
        }
    }

    fn slot(&self, product: Product, turn: Turn, ahead: usize, now: Moment) -> Slot {
        let of_product = Scope::Product(product);
        let rivals = self.rivals(product, turn, ahead, now);
        let product_free = self.products[product].as_ref().map_or(now, |b| b.nth_free(ahead, now));
        let ip_free = self.ip.nth_free(ahead.saturating_add(rivals), now);
        let mut slot = Slot { at: product_free, scope: of_product, reason: Reason::Quota };
        for (at, scope, reason) in [
            (ip_free, Scope::EgressIp, Reason::Quota),
            (self.product_holds[product], of_product, Reason::Hold),
            (self.ip_hold, Scope::EgressIp, Reason::Hold),
        ] {
            if at > slot.at {
                slot = Slot { at, scope, reason };
            }
        }
        slot
    }

    /// How many tickets of other products came before `turn` and lack nothing but the IP's permit.
    fn rivals(&self, product: Product, turn: Turn, ahead: usize, now: Moment) -> usize {
        if self.ip.free(now) > ahead.saturating_add(self.line.len()) {
            return 0; // enough for everybody
        }
        let others = Product::ALL.into_iter().filter(|&p| p != product && self.product_holds[p] <= now);
        others
            .map(|p| {
                let free = self.products[p].as_ref().map_or(usize::MAX, |b| b.free(now));
                self.line.ahead_of(turn, p).min(free)
            })
            .sum()
    }

    /// Spends one permit of the product and one of the IP. Both were found free.
    fn grant(&mut self, ask: &Ask, now: Moment) {
        let stamp = now + self.rules.unanswered();
        let mut buckets = 0;
        for bucket in [self.products[ask.product].as_mut(), Some(&mut self.ip)].into_iter().flatten() {
            bucket.add(stamp, ask.ticket);
            buckets += 1;
        }
        let held = Held { product: ask.product, stamp, is_in_flight: true, buckets };
        self.held.insert(ask.ticket, held);
    }

    /// Moves the permit's stamp in every bucket that still counts it.
    fn restamp(&mut self, ticket: Ticket, to: Moment) {
        let Some(held) = self.held.get_mut(&ticket) else { return };
        for bucket in [self.products[held.product].as_mut(), Some(&mut self.ip)].into_iter().flatten() {
            if bucket.remove(held.stamp, ticket) {
                bucket.add(to, ticket);
            }
        }
        held.stamp = to;
    }
}

fn standing(bucket: &Bucket, window: Duration, hold: Moment, now: Moment) -> Standing {
    let limit = bucket.cap().get();
    let used = u32::try_from(bucket.busy(now)).unwrap_or(limit).min(limit);
    let held_for = hold.since(now);
    let next_return = bucket.next_return(now).map_or(Duration::ZERO, |at| at.since(now));
    Standing {
        limit,
        used,
        remaining: if held_for.is_zero() { limit - used } else { 0 },
        window,
        next_free_in: if held_for.is_zero() { next_return } else { held_for },
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;

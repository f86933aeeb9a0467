//! What a replica remembers of itself, so that it can tell a store that has forgotten: what it sent,
//! and how much it wanted to.

use super::beat::{Pools, Sent};
use super::{Rules, Ticket};
use crate::types::{Moment, Priority, Product};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// One request that was sent, or is about to be.
#[derive(Debug, Clone, Copy)]
struct Request {
    product: Product,
    priority: Priority,
    granted: Moment,
    arrived: Option<Moment>,
    is_of_lease: bool,
}

/// All that was sent during the longest window.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring(BTreeMap<Ticket, Request>);

impl Ring {
    /// A permit is to be used, from now on.
    pub(super) fn granted(
        &mut self,
        ticket: Ticket,
        product: Product,
        priority: Priority,
        is_of_lease: bool,
        rules: &Rules,
        now: Moment,
    ) {
        let bound = usize::try_from(rules.ip.requests.get()).unwrap_or(usize::MAX).saturating_mul(2);
        if self.0.len() >= bound {
            self.forget_cooled(rules, now);
        }
        // More cannot be busy at once; if they are, the oldest wish is likely to cool first.
        while self.0.len() >= bound {
            self.0.pop_first();
        }
        self.0.insert(ticket, Request { product, priority, granted: now, arrived: None, is_of_lease });
    }

    /// The permit is taken anew.
    pub(super) fn extended(&mut self, ticket: Ticket, now: Moment) {
        if let Some(request) = self.0.get_mut(&ticket) {
            request.granted = now;
        }
    }

    pub(super) fn arrived(&mut self, ticket: Ticket, now: Moment) {
        if let Some(request) = self.0.get_mut(&ticket) {
            request.arrived = Some(request.arrived.map_or(now, |before| before.min(now)));
        }
    }

    pub(super) fn refunded(&mut self, ticket: Ticket) {
        self.0.remove(&ticket);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn forget_cooled(&mut self, rules: &Rules, now: Moment) {
        let span = rules.window.max(rules.ip.window) + rules.pad;
        self.0.retain(|_, request| stamp(request, rules) + span > now);
    }

    /// Everything, or what was sent by lease, as a ledger takes it.
    pub(super) fn replay(&self, is_of_lease_only: bool, rules: &Rules, now: Moment) -> Vec<Sent> {
        let wanted = self.0.iter().filter(|(_, request)| request.is_of_lease || !is_of_lease_only);
        wanted
            .map(|(&ticket, request)| {
                let at = stamp(request, rules);
                let age = (at <= now).then(|| now.since(at));
                Sent { ticket, product: request.product, priority: request.priority, age }
            })
            .collect()
    }
}

/// The latest moment at which the request counts as arrived.
fn stamp(request: &Request, rules: &Rules) -> Moment {
    let latest = request.granted + rules.flight();
    request.arrived.map_or(latest, |at| at.min(latest))
}

/// The length of a bucket of demand, and how many count.
const BUCKET: Duration = Duration::from_secs(60);
const BUCKETS: usize = 10;

/// How many permits were wanted during the last ten minutes.
#[derive(Debug, Clone, Default)]
pub(super) struct Demand(VecDeque<(u128, Pools)>);

impl Demand {
    pub(super) fn wanted(&mut self, product: Product, now: Moment) {
        let minute = minute(now);
        if self.0.back().is_none_or(|&(last, _)| last < minute) {
            self.0.push_back((minute, Pools::none()));
        }
        self.forget(minute);
        if let Some((_, wanted)) = self.0.back_mut() {
            wanted.products[product] = wanted.products[product].saturating_add(1);
            wanted.ip = wanted.ip.saturating_add(1);
        }
    }

    pub(super) fn total(&mut self, now: Moment) -> Pools {
        self.forget(minute(now));
        self.0.iter().fold(Pools::none(), |sum, (_, wanted)| sum.plus(wanted))
    }

    fn forget(&mut self, minute: u128) {
        while self.0.front().is_some_and(|&(first, _)| first + BUCKETS as u128 <= minute) {
            self.0.pop_front();
        }
    }
}

fn minute(now: Moment) -> u128 {
    now.since_origin().as_micros() / BUCKET.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::PerProduct;
    use crate::limit::beat::Incarnation;
    use std::num::NonZeroU32;

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn ticket(number: u64) -> Ticket {
        Ticket::new(Incarnation(1), number)
    }

    #[test]
    fn demand_is_that_of_the_last_ten_minutes() {
        let mut demand = Demand::default();
        for secs in [0, 30, 61, 599] {
            demand.wanted(Product::Directory, at(secs));
        }
        demand.wanted(Product::Payment, at(10));
        let totals: Vec<_> = [599, 600, 660, 1139, 1140]
            .map(|secs| demand.total(at(secs)).products[Product::Directory])
            .into_iter()
            .collect();
        assert_eq!(totals, [4, 2, 1, 1, 0]);
        assert_eq!(Demand::default().total(at(5)), Pools::none());
    }

    #[test]
    fn a_replay_tells_what_arrived_what_must_have_and_what_is_on_its_way() {
        let rules = Rules::with_limits(PerProduct::from_fn(|_| NonZeroU32::new(20)));
        let mut ring = Ring::default();
        for (number, secs) in [(1, 0), (2, 1), (3, 9), (4, 9)] {
            ring.granted(ticket(number), Product::Directory, Priority::Batch, number == 4, &rules, at(secs));
        }
        ring.arrived(ticket(1), at(2));
        ring.arrived(ticket(1), at(5));
        ring.refunded(ticket(3));
        let ages = |is_of_lease_only| -> Vec<_> {
            ring.replay(is_of_lease_only, &rules, at(12))
                .iter()
                .map(|sent| (sent.ticket.number, sent.age.map(|age| age.as_secs())))
                .collect()
        };
        assert_eq!(ages(false), [(1, Some(10)), (2, Some(5)), (4, None)]);
        assert_eq!(ages(true), [(4, None)]);
    }

    #[test]
    fn what_has_cooled_everywhere_is_forgotten_and_the_rest_is_bounded() {
        let rules = Rules::with_limits(PerProduct::from_fn(|_| NonZeroU32::new(20)));
        let mut ring = Ring::default();
        ring.granted(ticket(1), Product::Directory, Priority::Batch, false, &rules, at(0));
        ring.arrived(ticket(1), at(1));
        ring.forget_cooled(&rules, at(301));
        assert!(!ring.is_empty(), "the pad");
        ring.forget_cooled(&rules, at(302));
        assert!(ring.is_empty());
        for number in 0..5000 {
            ring.granted(ticket(number), Product::Directory, Priority::Batch, false, &rules, at(400));
        }
        assert_eq!(ring.0.len(), 1600);
    }
}

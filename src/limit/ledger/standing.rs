//! How the limits stand, for headers and metrics.

use super::Ledger;
use crate::limit::bucket::Bucket;
use crate::limit::{Scope, Standing};
use crate::types::{Moment, Priority, Product};
use std::time::Duration;

impl Ledger {
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

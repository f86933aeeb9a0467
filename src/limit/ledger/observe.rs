//! A ledger that only looks on: it decides and counts as ever, tells what it would have done, and the call is sent all
//! the same.

use super::{CLAIM_TIME, Egress, Ledger};
use crate::limit::bucket::Bucket;
use crate::limit::line::STEP;
use crate::limit::{Ask, Would};
use crate::types::{Moment, Priority, Product};
use std::num::NonZeroU32;

/// How many times a limit's calls are remembered while nobody is held back: beyond that the oldest go. When calls are
/// held back again, nothing is granted until all but the newest `limit - 1` have cooled, so the older ones decide nothing.
const KEPT_TIMES: usize = 10;

impl Ledger {
    /// Spends a permit whatever the limits say, and tells what they would have said. `None`: the egress IP is held,
    /// where one more call makes the silence longer; ask as ever.
    pub fn observe(&mut self, ask: &Ask, now: Moment) -> Option<Would> {
        let now = self.advance(now);
        let (product, class) = (ask.product, ask.priority);
        if !self.is_ip_open(now) {
            return None;
        }
        // It may have stood in line until a moment ago.
        self.leave(ask.ticket, false);
        self.cool(product, now);
        self.sweep(product, ask.ticket, now);
        if class == Priority::Interactive {
            self.desks[product].interactive_at = Some(now);
        }
        let tag = self.desks[product].line.next_tag(class, &ask.customer);
        let (ahead, slot) = self.slot(product, class, tag, self.next_turn, now);
        let would = if ahead == 0 && slot.at <= now {
            Would::Send
        } else {
            let after = slot.at.since(now).max(CLAIM_TIME.min(ask.patience));
            if after > ask.patience || after.is_zero() { Would::Refuse(after) } else { Would::Wait(after) }
        };
        self.make_room(product);
        let step = (STEP / u64::from(ask.weight.get())).max(1);
        self.grant(ask, tag, Some(step), now);
        Some(would)
    }

    /// Whether the egress IP is neither held, nor waits for the call that goes first after a hold.
    pub fn is_ip_open(&self, now: Moment) -> bool {
        self.ip_hold <= now.max(self.clock) && self.egress == Egress::Open
    }

    /// Keeps the buckets bounded although nobody is held back.
    fn make_room(&mut self, product: Product) {
        let times = |limit: NonZeroU32| super::count(limit.get()).saturating_mul(KEPT_TIMES);
        let (of_ip, of_product) = (times(self.rules.ip.requests), self.rules.limits[product].map(times));
        let desk = &mut self.desks[product];
        let mut gone = Vec::new();
        let mut cut = |bucket: &mut Bucket, most: usize| {
            while bucket.len() >= most.max(1)
                && let Some(ticket) = bucket.pop_oldest()
            {
                gone.push(ticket);
            }
        };
        if let Some(most) = of_product {
            cut(&mut desk.permits, most);
            cut(&mut desk.batch, most);
        }
        cut(&mut self.ip, of_ip);
        for ticket in gone {
            if let Some(held) = self.held.get(&ticket)
                && !self.ip.has(held.stamp, ticket)
                && !self.desks[held.product].permits.has(held.stamp, ticket)
            {
                self.held.remove(&ticket);
            }
        }
    }
}

//! New limits for a ledger that runs. Nothing that is spent is forgotten and nobody loses a place; from the next
//! question on the new limits decide.

use super::{Held, Ledger};
use crate::limit::{Rules, Ticket};
use crate::types::{Moment, Product};

impl Ledger {
    /// Takes over the limits, the pacing, the weights and the bounds of the lines. Windows and the assumptions about the
    /// network stay what they were: what is spent was stamped by them. A permit that is granted stays good. Where more is
    /// busy than a new limit has, nothing is granted until all of it but the last has cooled.
    pub fn set_rules(&mut self, rules: &Rules, now: Moment) {
        let now = self.advance(now);
        for product in Product::ALL {
            if self.rules.limits[product].is_none() && rules.limits[product].is_some() {
                self.begin_to_count(product, now);
            }
        }
        self.rules = Rules {
            limits: rules.limits,
            pacing: rules.pacing,
            weights: rules.weights.clone(),
            queue_max: rules.queue_max,
            queue_per_customer_max: rules.queue_per_customer_max,
            ..self.rules.clone()
        };
        self.rules.ip.requests = rules.ip.requests;
    }

    /// A product that counted against the egress IP alone gets a limit of its own: what it sent counts from now on.
    fn begin_to_count(&mut self, product: Product, now: Moment) {
        let sent: Vec<(Ticket, Moment)> = self
            .held
            .iter()
            .filter(|(_, held)| held.product == product)
            .map(|(ticket, Held { stamp, .. })| (*ticket, *stamp))
            .collect();
        let desk = &mut self.desks[product];
        for (ticket, stamp) in sent {
            if !desk.permits.has(stamp, ticket) {
                desk.permits.add(stamp, ticket);
            }
        }
        // What the IP's window has forgotten may still be inside the product's.
        if self.rules.ip.window < self.rules.window {
            let span = self.rules.span();
            let desk = &mut self.desks[product];
            desk.hold = desk.hold.max(now + span);
        }
    }
}

//! Permits: spending, moving and forgetting them in every bucket that counts them.

use super::{Desk, Egress, Held, Ledger};
use crate::limit::bucket::Bucket;
use crate::limit::line::RUN_MAX;
use crate::limit::{Admission, Ask, Tag, Ticket};
use crate::types::{Moment, Priority, Product};

impl Ledger {
    /// Drops the stamps that have cooled. Each is dropped once, so this is cheap on average.
    pub(super) fn cool(&mut self, product: Product, now: Moment) {
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

    /// Spends one permit of the product and one of the IP. Both were found free. `step`: what the
    /// customer moves by, unless it did when the ticket came to stand in line.
    pub(super) fn grant(&mut self, ask: &Ask, tag: Tag, step: Option<u64>, now: Moment) {
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

    pub(super) fn grant_again(&mut self, ask: &Ask, now: Moment) -> Admission {
        self.restamp(ask.ticket, now + self.rules.flight());
        let tag = ask.tag.unwrap_or_else(|| self.desks[ask.product].line.virtual_time(ask.priority));
        Admission::Granted { tag }
    }

    /// Whether everything that counts the ticket's permit still does. Nothing cooled may be left.
    pub(super) fn is_whole(&self, ticket: Ticket) -> bool {
        self.held.get(&ticket).is_some_and(|held| {
            let is_metered = self.rules.limits[held.product].is_some();
            self.ip.has(held.stamp, ticket)
                && (!is_metered || self.desks[held.product].permits.has(held.stamp, ticket))
        })
    }

    pub(super) fn put_in(
        &mut self,
        ticket: Ticket,
        product: Product,
        priority: Priority,
        stamp: Moment,
        is_used: bool,
    ) {
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

    pub(super) fn take_out(&mut self, ticket: Ticket) {
        if let Some(held) = self.held.remove(&ticket) {
            for bucket in buckets(&mut self.desks[held.product], &mut self.ip) {
                bucket.remove(held.stamp, ticket);
            }
        }
    }

    /// Moves the permit's stamp in every bucket that still counts it.
    pub(super) fn restamp(&mut self, ticket: Ticket, to: Moment) {
        let Some(held) = self.held.get_mut(&ticket) else { return };
        for bucket in buckets(&mut self.desks[held.product], &mut self.ip) {
            if bucket.remove(held.stamp, ticket) {
                bucket.add(to, ticket);
            }
        }
        held.stamp = to;
    }

    pub(super) fn spend_ip_blindly(&mut self, now: Moment) {
        for _ in 0..self.rules.ip.requests.get() / 4 * 3 {
            let phantom = Ticket { number: self.next_phantom, ..Ticket::default() };
            self.next_phantom += 1;
            self.ip.add(now, phantom);
        }
    }
}

fn buckets<'a>(desk: &'a mut Desk, ip: &'a mut Bucket) -> [&'a mut Bucket; 3] {
    [&mut desk.permits, &mut desk.batch, ip]
}

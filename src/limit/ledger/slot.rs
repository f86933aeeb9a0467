//! When a place can be served: behind whom, and which limit or hold decides it.

use super::{CLAIM_TIME, Desk, Egress, IP_RESERVE, Ledger, PROBE_LOOK, count, micros};
use crate::limit::beat::Beat;
use crate::limit::line::RUN_MAX;
use crate::limit::line::Turn;
use crate::limit::{Reason, Scope, Tag, Ticket};
use crate::types::{Moment, Priority, Product};
use std::num::NonZeroU32;
use std::time::Duration;

/// How long after an interactive call one permit is kept from batch.
const RESERVE_FOR: Duration = Duration::from_secs(10 * 60);

/// When an ask could be served, and what decides it.
pub(super) struct Slot {
    pub(super) at: Moment,
    pub(super) scope: Scope,
    pub(super) reason: Reason,
}

impl Slot {
    fn not_before(&mut self, at: Moment, scope: Scope, reason: Reason) {
        if at > self.at {
            *self = Slot { at, scope, reason };
        }
    }
}

impl Desk {
    /// Until when a permit is kept from batch; `None` when none is.
    fn reserved_until(&self, now: Moment) -> Option<Moment> {
        self.interactive_at.map(|at| at + RESERVE_FOR).filter(|until| *until > now)
    }
}

impl Ledger {
    /// How many permits of the product may be busy now.
    pub(super) fn cap(&mut self, product: Product, now: Moment) -> usize {
        let limit = self.rules.limits[product].map_or(0, NonZeroU32::get);
        let away = self.members.away(&self.rules, now).products[product];
        count(limit.saturating_sub(self.desks[product].foreign.deficit(now)).saturating_sub(away))
    }

    /// How many grants come before this place, and when it could be served. Nothing cooled may be
    /// left in the product's bucket.
    pub(super) fn slot(
        &mut self,
        product: Product,
        class: Priority,
        tag: Tag,
        turn: Turn,
        now: Moment,
    ) -> (usize, Slot) {
        let rank = self.desks[product].line.rank(class, tag, turn);
        let ahead = self.ahead(product, class, rank, now);
        (ahead, self.slot_behind(product, class, ahead, rank, now))
    }

    fn ahead(&mut self, product: Product, class: Priority, rank: usize, now: Moment) -> usize {
        let line = &self.desks[product].line;
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

    pub(super) fn slot_behind(
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
                    free =
                        free.max(paced(desk, rank, (cap, batch_cap), span, self.is_first_window(now), now));
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
        // Those who wait look again while everything may be known at any moment.
        let learnt = match self.members.may_know_soon() {
            true => self.learning_until.min(now + PROBE_LOOK),
            false => self.learning_until,
        };
        slot.not_before(learnt, of_product, Reason::Learning);
        slot
    }

    /// Whether history was not known a window ago: all permits came free at once, and everybody waits.
    fn is_first_window(&self, now: Moment) -> bool {
        self.learning_until > Moment::ZERO && now < self.learning_until + self.rules.span()
    }

    /// Sleeping tickets of a replica that would be granted if they asked now.
    pub(super) fn claimable(&mut self, beat: &Beat, now: Moment) -> Vec<Ticket> {
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
}

/// The earliest moment for a batch call of this rank. Once half of the permits are busy, batch calls
/// keep a distance: nine tenths of an even spread over the window at least, and while permits are
/// left, so much that they last until the next one comes back, but at most two even distances. Then
/// permits come back one by one, and an interactive call meets one soon. In the first window after
/// history was not known they do so from the first call on.
fn paced(
    desk: &Desk,
    rank: usize,
    (cap, batch_cap): (usize, usize),
    span: Duration,
    is_first_window: bool,
    now: Moment,
) -> Moment {
    let busy = desk.permits.len();
    let (Some(last), true) = (desk.last_batch, is_first_window || busy * 2 >= cap) else { return now };
    let Some(next_return) = desk.permits.next_return(span, now) else { return now };
    let even = micros(span) / batch_cap.max(1) as u64;
    let least = even / 10 * 9;
    let free = cap.saturating_sub(busy) as u64;
    let spread = micros(next_return.since(last)) / (free + 1);
    let gap = least.max(spread.min(even.saturating_mul(2)));
    let at = last + Duration::from_micros(gap.saturating_add(least.saturating_mul(rank as u64)));
    if is_first_window {
        return at;
    }
    // Fewer than half are busy from then on.
    at.min(desk.permits.nth_free(0, cap.div_ceil(2), span, now))
}

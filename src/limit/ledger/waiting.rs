//! Standing in line, leaving it, and clearing away those who will not come.

use super::{Ledger, Waiting};
use crate::limit::line::{Flow, Turn};
use crate::limit::{Ask, Reason, Tag, Ticket};
use crate::types::{Moment, Priority, Product};
use std::collections::BTreeMap;

/// The most tickets that one question clears away for each cause, so that none takes long.
const SWEEP_MAX: usize = 8;

impl Ledger {
    /// Clears away tickets that nobody will claim: past their deadline, not asked for in time, or of
    /// a replica that is dead. Never the one that asks.
    pub(super) fn sweep(&mut self, product: Product, asking: Ticket, now: Moment) {
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

    pub(super) fn lack_of_room(&self, flow: &Flow) -> Option<Reason> {
        if self.tickets.len() >= self.rules.queue_max {
            return Some(Reason::QueueFull);
        }
        let waiting = self.flows.get(flow).map_or(0, BTreeMap::len);
        (waiting >= self.rules.queue_per_customer_max).then_some(Reason::CustomerQueueFull)
    }

    /// The ticket stands in line and asks again at `due`.
    pub(super) fn wait(&mut self, ask: &Ask, (tag, turn): (Tag, Turn), step: u64, due: Moment, now: Moment) {
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
    pub(super) fn leave(&mut self, ticket: Ticket, is_served: bool) -> bool {
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
}

//! Those who wait: one line per product, first come, first served.

use super::{Ask, PerProduct, Reason, Rules, Ticket};
use crate::types::{CustomerId, Moment, Priority, Product};
use std::collections::{BTreeSet, HashMap, VecDeque};

/// What is remembered of a waiting ticket.
#[derive(Debug)]
struct Waiting {
    turn: Turn,
    product: Product,
    customer: Option<CustomerId>,
    priority: Priority,
    deadline: Moment,
}

/// The order of coming, across all products.
pub(super) type Turn = u64;

/// Every waiting ticket. Its size is bounded by [`Rules::queue_max`].
#[derive(Debug)]
pub(super) struct Line {
    tickets: HashMap<Ticket, Waiting>,
    turns: PerProduct<VecDeque<(Turn, Ticket)>>,
    deadlines: BTreeSet<(Moment, Ticket)>,
    customers: HashMap<Option<CustomerId>, usize>,
    counts: PerProduct<[usize; Priority::ALL.len()]>,
    next_turn: Turn,
}

impl Line {
    pub(super) fn new() -> Self {
        Self {
            tickets: HashMap::new(),
            turns: PerProduct::from_fn(|_| VecDeque::new()),
            deadlines: BTreeSet::new(),
            customers: HashMap::new(),
            counts: PerProduct::from_fn(|_| [0; Priority::ALL.len()]),
            next_turn: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    pub(super) fn waiting(&self, product: Product, priority: Priority) -> usize {
        self.counts[product][priority as usize]
    }

    /// Whose turn is next.
    pub(super) fn head(&self, product: Product) -> Option<Ticket> {
        self.turns[product].front().map(|&(_, ticket)| ticket)
    }

    /// The ticket's turn and deadline, when it waits.
    pub(super) fn find(&self, ticket: Ticket) -> Option<(Turn, Moment)> {
        self.tickets.get(&ticket).map(|w| (w.turn, w.deadline))
    }

    /// The turn that the next to come would get.
    pub(super) fn next_turn(&self) -> Turn {
        self.next_turn
    }

    /// How many wait for `product` and came before `turn`.
    pub(super) fn ahead_of(&self, turn: Turn, product: Product) -> usize {
        self.turns[product].partition_point(|&(other, _)| other < turn)
    }

    /// Whether there is room for one more; else which bound is met.
    pub(super) fn room_for(&self, customer: Option<&CustomerId>, rules: &Rules) -> Result<(), Reason> {
        if self.tickets.len() >= rules.queue_max {
            return Err(Reason::QueueFull);
        }
        let of_customer = self.customers.get(&customer.cloned()).copied().unwrap_or(0);
        if of_customer >= rules.queue_per_customer_max {
            return Err(Reason::CustomerQueueFull);
        }
        Ok(())
    }

    /// Puts a new ticket at the end.
    pub(super) fn join(&mut self, ask: &Ask) {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns[ask.product].push_back((turn, ask.ticket));
        self.deadlines.insert((ask.deadline, ask.ticket));
        *self.customers.entry(ask.customer.clone()).or_default() += 1;
        self.counts[ask.product][ask.priority as usize] += 1;
        let waiting = Waiting {
            turn,
            product: ask.product,
            customer: ask.customer.clone(),
            priority: ask.priority,
            deadline: ask.deadline,
        };
        self.tickets.insert(ask.ticket, waiting);
    }

    /// Takes a ticket out; those behind it move up. `false` when it did not wait.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        let Some(w) = self.tickets.remove(&ticket) else { return false };
        let line = &mut self.turns[w.product];
        if let Ok(place) = line.binary_search(&(w.turn, ticket)) {
            line.remove(place);
        }
        self.deadlines.remove(&(w.deadline, ticket));
        self.counts[w.product][w.priority as usize] -= 1;
        if let Some(count) = self.customers.get_mut(&w.customer) {
            *count -= 1;
            if *count == 0 {
                self.customers.remove(&w.customer);
            }
        }
        true
    }

    /// Takes out every ticket whose deadline has passed: it must not keep others waiting.
    pub(super) fn expire(&mut self, now: Moment) {
        while let Some(&(deadline, ticket)) = self.deadlines.first() {
            if deadline >= now {
                return;
            }
            self.leave(ticket);
        }
    }

    /// Whether nothing is left behind by those who left.
    #[cfg(test)]
    pub(super) fn is_spotless(&self) -> bool {
        self.tickets.is_empty()
            && self.deadlines.is_empty()
            && self.customers.is_empty()
            && Product::ALL.iter().all(|&p| self.turns[p].is_empty() && self.counts[p] == [0, 0])
    }
}

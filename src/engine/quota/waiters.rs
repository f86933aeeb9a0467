//! Those who wait in this process, and what wakes them.

use super::Quota;
use crate::limit::{PerProduct, Ticket};
use crate::types::{Priority, Product};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// Every call that has asked and was not yet served.
#[derive(Debug)]
pub(super) struct Waiters(Mutex<State>);

#[derive(Debug)]
struct State {
    bells: HashMap<Ticket, Arc<Notify>>,
    counts: PerProduct<[usize; Priority::ALL.len()]>,
}

impl Default for Waiters {
    fn default() -> Self {
        let counts = PerProduct::from_fn(|_| [0; Priority::ALL.len()]);
        Self(Mutex::new(State { bells: HashMap::new(), counts }))
    }
}

impl Waiters {
    /// Wakes one, if it waits here. A ring before it sleeps is not lost.
    pub(super) fn ring(&self, ticket: Ticket) {
        if let Some(bell) = self.0.lock().bells.get(&ticket) {
            bell.notify_one();
        }
    }

    pub(super) fn ring_all(&self) {
        self.0.lock().bells.values().for_each(|bell| bell.notify_one());
    }

    /// Whether nothing is left of those who waited.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().bells.is_empty()
    }

    pub(super) fn waiting(&self, product: Product, priority: Priority) -> usize {
        self.0.lock().counts[product][priority as usize]
    }
}

/// What becomes of a place when it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing is known: it is given up, whatever the ledger holds for it.
    GivenUp,
    /// It was refused: the ledger has forgotten it, and those behind it move up.
    Refused,
    /// It has its permit.
    Served,
}

/// A place in line, given up when dropped. Unless it was served, those behind it move up.
pub(super) struct Place<'a> {
    quota: &'a Quota,
    ticket: Ticket,
    product: Product,
    priority: Priority,
    bell: Arc<Notify>,
    is_counted: bool,
    end: End,
}

impl<'a> Place<'a> {
    pub(super) fn take(quota: &'a Quota, ticket: Ticket, product: Product, priority: Priority) -> Self {
        let bell = Arc::new(Notify::new());
        quota.waiters.0.lock().bells.insert(ticket, bell.clone());
        Self { quota, ticket, product, priority, bell, is_counted: false, end: End::GivenUp }
    }

    /// It stands in line from now on.
    pub(super) fn waits(&mut self) {
        if !self.is_counted {
            self.is_counted = true;
            self.quota.waiters.0.lock().counts[self.product][self.priority as usize] += 1;
        }
    }

    /// Somebody rings, or has rung since it last listened.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    pub(super) fn is_served(&mut self) {
        self.end = End::Served;
    }

    pub(super) fn is_refused(&mut self) {
        self.end = End::Refused;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.quota.waiters.0.lock();
            state.bells.remove(&self.ticket);
            if self.is_counted {
                state.counts[self.product][self.priority as usize] -= 1;
            }
        }
        match self.end {
            End::Served => {}
            End::Refused if !self.is_counted => {}
            End::Refused => self.quota.ring_heads(Product::ALL),
            End::GivenUp => self.quota.give_up(self.ticket, self.product),
        }
    }
}

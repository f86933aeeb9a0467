//! A permit: the right to send one attempt.

use super::Quota;
use crate::limit::{Tag, Ticket};
use crate::types::{Moment, Priority, Product};
use std::sync::Arc;
use std::time::Duration;

/// The right to send one attempt, now. One that is dropped without a word counts as sent and
/// never answered, because nobody can say that it was not.
#[derive(Debug)]
#[must_use = "a permit that is dropped is spent"]
pub struct Permit {
    pub(super) quota: Arc<Quota>,
    pub(super) ticket: Ticket,
    pub(super) product: Product,
    pub(super) priority: Priority,
    pub(super) tag: Option<Tag>,
    /// When it was asked for: it may be used for [`crate::limit::Rules::grace`] from then on.
    pub(super) asked: Moment,
    pub(super) waited: Duration,
    /// Whether the ledger knows of it: without, nothing is to be told.
    pub(super) is_counted: bool,
}

impl Permit {
    /// How long the attempt waited for it.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// What it counts against.
    pub fn product(&self) -> Product {
        self.product
    }

    /// The place it had in line, where that is known: a further attempt of the same call shows it.
    pub fn tag(&self) -> Option<Tag> {
        self.tag
    }

    /// The first byte is about to be written: the fence. When time has passed since the question, in
    /// connecting for instance, the permit is taken anew. `false`: it has run out; refund it and ask
    /// for another.
    #[must_use = "a permit that has run out must not be used"]
    pub async fn is_good(&mut self) -> bool {
        let now = self.quota.now();
        let grace = self.quota.rules.read().grace;
        if !self.is_counted || now.since(self.asked) <= grace {
            return true;
        }
        let is_good = self.quota.book.extend(self.ticket, self.product, self.priority, now).await;
        if is_good {
            self.asked = now;
        }
        // Whoever looks on only would send it anyway.
        self.quota.is_observing() || is_good && self.quota.now().since(now) <= grace
    }

    /// The response headers are here, or an error came after the first byte was written. `is_429`:
    /// Finch refused it for a limit.
    pub fn arrived(self, is_429: bool) {
        if self.is_counted {
            self.quota.book.arrived(self.ticket, self.product, is_429, self.quota.now());
        }
    }

    /// Not one byte was written: somebody else may have it.
    pub fn refund(self) {
        if self.is_counted {
            self.quota.give_up(self.ticket, self.product);
        }
    }
}

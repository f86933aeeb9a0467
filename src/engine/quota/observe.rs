//! Looking on: limits that decide and count and hold nobody back; and limits that change while perch runs.

use super::waiters::Place;
use super::{Book, Permit, Quota};
use crate::limit::{Admission, Ask, PerProduct, Rules, Scope, Tag, Would};
use crate::types::{Moment, Product};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the limits would have done, by product: waits, refusals.
#[derive(Debug)]
pub(super) struct Observed(PerProduct<[u64; 2]>);

impl Default for Observed {
    fn default() -> Self {
        Self(PerProduct::from_fn(|_| [0; 2]))
    }
}

impl Quota {
    /// Whether calls are sent whatever the limits say.
    pub fn is_observing(&self) -> bool {
        self.observes.load(Ordering::Acquire)
    }

    /// Begins or ends to look on only. Whoever waits is sent when it begins.
    pub fn observe(&self, observes: bool) {
        self.observes.store(observes, Ordering::Release);
        self.waiters.ring_all();
    }

    /// Takes new limits over; what is spent stays spent, and who waits stays in line. Limits of a ledger that several
    /// replicas share are not touched: they must agree about them.
    pub fn set_rules(&self, rules: &Rules) {
        let now = self.now();
        match &self.book {
            Book::Own(own) => {
                own.set_rules(rules, now);
                // Larger limits serve those who wait sooner than they were told.
                self.ring_heads(Product::ALL);
            }
            Book::Shared(_) => {}
        }
        self.rules.write().weights.clone_from(&rules.weights);
    }

    /// Whether quota is counted in this process alone.
    pub fn counts_alone(&self) -> bool {
        matches!(self.book, Book::Own(_))
    }

    /// How often each product's calls would have waited, and been refused, while nobody was held back.
    pub fn observed_so_far(&self) -> Vec<(Product, [u64; 2])> {
        let observed = self.observed.lock();
        Product::ALL.into_iter().map(|product| (product, observed.0[product])).collect()
    }

    /// A permit for a call that is sent whatever the limits say; `None` when they are kept, or the egress IP is held.
    pub(super) async fn observed(
        self: &Arc<Self>,
        ask: &Ask,
        place: &mut Place<'_>,
        (asked, waited): (Moment, Duration),
    ) -> Option<Permit> {
        if !self.is_observing() {
            return None;
        }
        let (would, tag, is_counted) = match &self.book {
            Book::Own(own) => {
                let would = own.observe(ask, asked).await?;
                place.is_served();
                (would, None, true)
            }
            Book::Shared(_) if self.book.holds(asked).iter().any(|(scope, _)| *scope == Scope::EgressIp) => {
                return None;
            }
            Book::Shared(shared) => match shared.ask_openly(ask, asked).await {
                (Admission::Granted { tag }, _) => {
                    place.is_served();
                    (Would::Send, Some(tag).filter(|tag| *tag != Tag::UNKNOWN), true)
                }
                // After a hold one call goes first, and whatever else keeps this one is no reason to join it.
                (_, false) => return None,
                // Its place is given up when this returns. The store learns nothing of what is sent.
                (Admission::Wait { after, .. }, true) => (Would::Wait(after), None, false),
                (Admission::Refused { after, .. }, true) => (Would::Refuse(after), None, false),
            },
        };
        let at = match would {
            Would::Send => None,
            Would::Wait(_) => Some(0),
            Would::Refuse(_) => Some(1),
        };
        if let Some(at) = at {
            self.observed.lock().0[ask.product][at] += 1;
        }
        let Ask { ticket, product, priority, .. } = *ask;
        Some(Permit { quota: Arc::clone(self), ticket, product, priority, tag, asked, waited, is_counted })
    }
}

//! Who was served and who was not, for the tally of how fairly that went.

use super::Quota;
use crate::limit::Ask;
use crate::limit::fairness::Outcome;
use std::time::Duration;

impl Quota {
    /// An ask has ended. Those that name no customer compete with nobody.
    pub(super) fn note_outcome(&self, ask: &Ask, is_served: bool, waited: Duration) {
        let Some(customer) = &ask.customer else { return };
        let outcome = Outcome { is_served, has_waited: !waited.is_zero() };
        self.fairness.lock().note(ask.product, (customer, ask.weight), outcome, self.now());
    }
}

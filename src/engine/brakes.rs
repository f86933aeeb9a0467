//! Roll-out and brakes at work: whom an operator does not let through, now.

use super::Engine;
use super::call::{By, Call};
use crate::finch::endpoints::Endpoint;
use crate::policy::Refusal;
use crate::policy::brake::{Bound, PauseScope};
use crate::policy::rollout::Rollout;
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::Product;
use crate::vault::pauses::{Pause, PauseError, Paused, Resumed};
use crate::vault::{Actor, Connection};
use std::collections::BTreeMap;

impl Engine {
    /// Whether a call may be sent for whom it is, as the line tells. An operator's own errands always may.
    pub(super) fn let_through(&self, by: By, endpoint: &Endpoint, line: &AccessLine) -> Result<(), Refusal> {
        if by == By::Operator || !endpoint.can_be_kept_back() {
            return Ok(());
        }
        if let Some(refusal) = self.brake(endpoint.product, line) {
            return Err(refusal);
        }
        let outside = self.settings.now().rollout.outside(line.customer.as_ref(), line.provider.as_ref());
        match outside {
            None => Ok(()),
            Some(outside) => {
                self.telemetry.metrics.steering.not_rolled_out.inc();
                Err(Refusal::NotRolledOut(outside))
            }
        }
    }

    /// The brake that stops a call of the product, for whom the line names.
    pub(super) fn brake(&self, product: Product, line: &AccessLine) -> Option<Refusal> {
        let bound = Bound { customer: line.customer.as_ref(), product, provider: line.provider.as_ref() };
        let found = self.settings.now().brakes.stops(bound).or_else(|| self.vault.brakes().stops(bound))?;
        Some(Refusal::Paused { scope: found.0, name: found.1 })
    }

    /// Whether perch itself leaves a connection alone, for this product.
    pub(super) fn is_left_alone(&self, facts: &Connection, product: Product) -> bool {
        let (customer, provider) = (facts.customer_id.as_ref(), facts.provider_id.as_ref());
        let (bound, settings) = (Bound { customer, product, provider }, self.settings.now());
        settings.brakes.stops(bound).is_some()
            || self.vault.brakes().stops(bound).is_some()
            || settings.rollout.outside(customer, provider).is_some()
    }

    /// Ends when a call that waits is paused, with what it is told; never for one that cannot be, or is an operator's.
    pub(super) async fn stopped(&self, by: By, endpoint: &Endpoint, line: &AccessLine) -> Refusal {
        if by == By::Operator || !endpoint.can_be_kept_back() {
            return std::future::pending().await;
        }
        loop {
            // Listening begins before the question, or what is set between is missed.
            let mut changed = std::pin::pin!(self.braked.notified());
            changed.as_mut().enable();
            if let Some(refusal) = self.brake(endpoint.product, line) {
                return refusal;
            }
            changed.await;
        }
    }

    /// Something may have been paused: whoever waits looks again.
    pub fn brakes_changed(&self) {
        self.braked.notify_waiters();
    }

    /// Stops the calls of a customer, product or provider, here at once and at every gateway on the same store within
    /// two seconds, until somebody resumes them.
    ///
    /// # Errors
    /// [`PauseError`]; nothing is changed then.
    pub async fn pause(&self, pause: Pause, actor: Actor) -> Result<(), PauseError> {
        let what = format!("{} {}", pause.scope, pause.name);
        let why = pause.reason.clone();
        self.vault.pause(pause, actor.clone(), unix_now()).await?;
        self.brakes_changed();
        tracing::warn!(by = %actor, why, "{what} is paused: its calls are refused until it is resumed");
        Ok(())
    }

    /// Lets them go on, unless the configuration pauses them too.
    ///
    /// # Errors
    /// [`PauseError`]: nothing of the kind is paused, or the configuration alone can end it.
    pub async fn resume(&self, scope: PauseScope, name: String, actor: Actor) -> Result<Resumed, PauseError> {
        let what = format!("{scope} {name}");
        let is_configured = self.settings.now().brakes.has(scope, &name);
        match self.vault.resume(scope, name.clone(), actor.clone(), unix_now()).await {
            Err(PauseError::NotPaused(..)) if is_configured => {
                return Err(PauseError::Configured(scope, name));
            }
            done => done?,
        }
        tracing::warn!(by = %actor, "{what} is resumed");
        Ok(if is_configured { Resumed::StillConfigured } else { Resumed::GoesOn })
    }

    /// Everything that is paused: what operators set, then what the configuration says.
    pub fn pauses(&self) -> Vec<Paused> {
        let mut all = self.vault.paused();
        let settings = self.settings.now();
        all.extend(settings.brakes.all().into_iter().map(|(scope, name)| Paused::configured(scope, name)));
        all
    }

    /// How many are paused, by scope.
    pub fn paused_by_scope(&self) -> BTreeMap<&'static str, u64> {
        let mut counts: BTreeMap<_, u64> = PauseScope::ALL.map(|scope| (scope.as_str(), 0)).into();
        for paused in self.pauses() {
            *counts.entry(paused.scope.as_str()).or_default() += 1;
        }
        counts
    }

    /// Whether a call that brought a token of its own for this customer goes out with that, as before perch: it is
    /// allowed, and the customer is not rolled out. `outside` is what keeps it outside.
    pub(super) fn goes_the_old_way(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        outside: impl FnOnce(&Rollout) -> bool,
    ) -> bool {
        let settings = self.settings.now();
        settings.pass_through
            && call.by == By::App
            && endpoint.can_be_kept_back()
            && outside(&settings.rollout)
    }
}

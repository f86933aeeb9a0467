//! The ledger in this process, and the journal that outlives it.

use crate::limit::beat::{Incarnation, Sent};
use crate::limit::{Admission, Ask, Ledger, Reason, Rules, Scope, Ticket, Would};
use crate::store::journal::{Grant, History, Journal, Verdict};
use crate::types::{Moment, Priority, Product};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// When to come back after the journal could not be written.
const JOURNAL_RETRY: Duration = Duration::from_secs(5);

/// A ledger behind a lock.
#[derive(Debug)]
pub(super) struct Own {
    ledger: Mutex<Ledger>,
    journal: Option<Journal>,
    /// Whether the journal is told of answers: only where nothing else bounds a request's way to Finch.
    tells_arrivals: bool,
}

impl Own {
    pub(super) fn new(rules: Rules) -> Self {
        Self { ledger: Mutex::new(Ledger::new(rules)), journal: None, tells_arrivals: false }
    }

    /// Goes on where earlier runs ended.
    pub(super) fn remembering(rules: Rules, journal: Journal, history: &History, now: Moment) -> Self {
        let (flight, tells_arrivals) = (rules.flight(), rules.arrival_bound.is_none());
        let mut ledger = Ledger::new(rules);
        let sent: Vec<Sent> = history
            .permits
            .iter()
            .map(|spent| Sent {
                ticket: Ticket::new(Incarnation(spent.run), spent.ticket),
                product: spent.product,
                priority: spent.priority,
                age: spent.age(flight),
            })
            .collect();
        ledger.restore(&sent, now);
        for &(scope, span) in &history.holds {
            ledger.hold(scope, span, now);
        }
        if let Verdict::Unknown(_) = history.verdict {
            ledger.learn(now);
        }
        Self { ledger: Mutex::new(ledger), journal: Some(journal), tells_arrivals }
    }

    /// A permit that is granted is in the journal.
    pub(super) async fn ask(&self, ask: &Ask, now: Moment) -> Admission {
        let answer = self.with(|ledger| ledger.ask(ask, now));
        if matches!(answer, Admission::Granted { .. })
            && !self.write(ask.ticket, ask.product, ask.priority).await
        {
            self.with(|ledger| ledger.refund(ask.ticket, now));
            let scope = Scope::Product(ask.product);
            return Admission::Refused { after: JOURNAL_RETRY, scope, reason: Reason::NoLedger };
        }
        answer
    }

    /// The same for a call that is sent whatever the limits say. `None`: ask as ever.
    pub(super) async fn observe(&self, ask: &Ask, now: Moment) -> Option<Would> {
        let would = self.with(|ledger| ledger.observe(ask, now))?;
        // Nothing is held back, not even by a journal that fails; it says so in the log.
        let _ = self.write(ask.ticket, ask.product, ask.priority).await;
        Some(would)
    }

    pub(super) fn set_rules(&self, rules: &Rules, now: Moment) {
        self.with(|ledger| ledger.set_rules(rules, now));
    }

    pub(super) async fn extend(
        &self,
        ticket: Ticket,
        product: Product,
        priority: Priority,
        now: Moment,
    ) -> bool {
        self.with(|ledger| ledger.extend(ticket, now)) && self.write(ticket, product, priority).await
    }

    pub(super) fn arrived(&self, ticket: Ticket, is_429: bool, now: Moment) {
        self.with(|ledger| ledger.arrived(ticket, is_429, now));
        if let Some(journal) = self.journal.as_ref().filter(|_| self.tells_arrivals) {
            journal.arrived(ticket.number);
        }
    }

    pub(super) fn give_up(&self, ticket: Ticket, now: Moment) {
        let was_granted = self.with(|ledger| {
            ledger.cancel(ticket, now);
            ledger.refund(ticket, now)
        });
        if let Some(journal) = self.journal.as_ref().filter(|_| was_granted) {
            journal.refunded(ticket.number);
        }
    }

    pub(super) fn hold(&self, scope: Scope, span: Duration, now: Moment) {
        self.with(|ledger| ledger.hold(scope, span, now));
        if let Some(journal) = &self.journal {
            journal.held(scope, span);
        }
    }

    /// Of what a refusal of Finch's teaches, the journal keeps the rest it orders.
    pub(super) fn limited(&self, product: Product, retry_after: Option<Duration>, now: Moment) {
        let rest = self.with(|ledger| {
            ledger.limited(product, retry_after, now);
            ledger.holds(now).find(|(scope, _)| *scope == Scope::Product(product))
        });
        if let (Some(journal), Some((scope, span))) = (&self.journal, rest) {
            journal.held(scope, span);
        }
    }

    async fn write(&self, ticket: Ticket, product: Product, priority: Priority) -> bool {
        let Some(journal) = &self.journal else { return true };
        let grant = Grant { ticket: ticket.number, product, priority, at: journal.now() };
        // The journal says in the log when it fails, and when it is well again.
        journal.granted(grant).await.is_ok()
    }

    /// Waits until the journal has all that it was told.
    pub(super) async fn settle(&self) {
        if let Some(journal) = &self.journal {
            journal.settle().await;
        }
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        // The ledger has no state between two of its calls that a panic could leave half done
        // and that would not mend itself: a lost permit runs out, a lost ticket expires.
        act(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! Webhooks: what came, what became of it, what still waits.

use super::{MetricsError, counters, gauges, whole};
use crate::finch::webhook::label_of;
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is kept and will be acted on.
    Accepted,
    /// It had come before.
    Duplicate,
    /// Its signature, or what it is made of, is not Finch's.
    BadSignature,
    /// It is more than five minutes old, or from a clock that is wrong.
    Stale,
    /// It is Finch's, and no JSON object.
    Unreadable,
    /// It could not be kept: Finch was asked to send it again.
    Refused,
    /// The app has it.
    Delivered,
    /// The app did not take it and will be offered it again.
    Retried,
    /// The app did not take it; an operator decides.
    Dead,
    /// A dead letter that is gone for good, for its age or for want of room.
    Dropped,
}

impl Outcome {
    const ALL: [Outcome; 10] = [
        Outcome::Accepted,
        Outcome::Duplicate,
        Outcome::BadSignature,
        Outcome::Stale,
        Outcome::Unreadable,
        Outcome::Refused,
        Outcome::Delivered,
        Outcome::Retried,
        Outcome::Dead,
        Outcome::Dropped,
    ];

    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Outcome::Accepted => "accepted",
            Outcome::Duplicate => "duplicate",
            Outcome::BadSignature => "bad_signature",
            Outcome::Stale => "stale",
            Outcome::Unreadable => "unreadable",
            Outcome::Refused => "refused",
            Outcome::Delivered => "delivered",
            Outcome::Retried => "retried",
            Outcome::Dead => "dead",
            Outcome::Dropped => "dropped",
        }
    }
}

/// The event of a message that would have to be believed for it, and of what is counted without looking.
const NO_EVENT: &str = "other";

/// What Finch told.
#[derive(Debug)]
pub struct Webhooks {
    messages: IntCounterVec,
    queue: IntGaugeVec,
}

impl Webhooks {
    pub(super) fn register(r: &Registry) -> Result<Self, MetricsError> {
        let webhooks = Self {
            messages: counters(
                r,
                "perch_webhooks_total",
                "Webhooks by event and by what became of them",
                &["event", "outcome"],
            )?,
            queue: gauges(
                r,
                "perch_webhooks_queue",
                "Webhooks that are kept and still ask for something",
                &["state"],
            )?,
        };
        // What should stay 0 must be there to be looked at.
        for outcome in Outcome::ALL {
            webhooks.messages.with_label_values(&[NO_EVENT, outcome.as_str()]).inc_by(0);
        }
        Ok(webhooks)
    }

    /// One message of this event type.
    pub fn count(&self, event_type: &str, outcome: Outcome) {
        self.messages.with_label_values(&[label_of(event_type), outcome.as_str()]).inc();
    }

    /// So many of whose events nothing is to be said.
    pub fn count_unnamed(&self, outcome: Outcome, how_many: u64) {
        self.messages.with_label_values(&[NO_EVENT, outcome.as_str()]).inc_by(how_many);
    }

    /// How many are in each state.
    pub fn set_queue(&self, depth: &[(&'static str, u64)]) {
        for (state, count) in depth {
            self.queue.with_label_values(&[state]).set(whole(*count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finch::webhook::labels;

    #[test]
    fn an_event_that_finch_does_not_document_adds_no_label() {
        let registry = Registry::new();
        let webhooks = Webhooks::register(&registry).expect("a registry");
        webhooks.count("payment.created", Outcome::Accepted);
        webhooks.count("evil\"} 1\n", Outcome::Accepted);
        webhooks.count("another", Outcome::Accepted);
        let family = registry.gather();
        let total = family.iter().find(|f| f.name() == "perch_webhooks_total").expect("it is there");
        let events: std::collections::BTreeSet<&str> = total
            .get_metric()
            .iter()
            .flat_map(|metric| metric.get_label())
            .filter(|label| label.name() == "event")
            .map(|label| label.value())
            .collect();
        assert_eq!(events.into_iter().collect::<Vec<_>>(), [NO_EVENT, "payment.created"]);
        assert!(labels().any(|label| label == NO_EVENT));
    }
}

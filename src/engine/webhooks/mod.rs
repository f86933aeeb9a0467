//! What Finch tells by webhook: believed, kept, acted on, passed on to the app.
//!
//! A message is answered as soon as it is kept; everything else happens behind that, in [`run`], and survives a restart.
//! Acting twice is no harm, so nothing more is promised between the two.

mod act;
mod book;
mod courier;
mod worker;

pub use book::LIST_MAX;
pub use courier::Courier;
pub use worker::run;

use super::{Current, Engine};
use crate::finch::webhook::{self, Event, Message, Why};
use crate::store::webhooks::{Arrived, Put};
use crate::telemetry::clock::unix_now;
use crate::telemetry::metrics::Outcome;
use crate::types::{EventId, UnixMillis, WebhookSecret};
use act::Words;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::Notify;

/// How long the id of an event is known at the least, from when it came: a message older than the tolerance is refused
/// for its age, and ten minutes are for clocks.
const KNOWN_FOR: Duration = Duration::from_secs(10 * 60).saturating_add(webhook::TOLERANCE);

/// What the configuration says about webhooks.
#[derive(Debug)]
pub struct WebhookRules {
    /// The secrets that Finch may have signed with: the one in force, and the one before.
    pub secrets: Current<Vec<WebhookSecret>>,
    /// Whether Finch has a door here.
    pub has_door: bool,
    /// How many events are kept.
    pub queue: u32,
    /// How long what is settled is kept.
    pub keep: Duration,
    /// How often the app is offered an event.
    pub attempts: u32,
}

/// Everything about webhooks that lives as long as the gateway.
#[derive(Debug)]
pub struct Webhooks {
    rules: WebhookRules,
    courier: Option<Courier>,
    words: Mutex<Words>,
    /// There is something new to do.
    wake: Notify,
}

impl Webhooks {
    /// Nothing came yet. Without a courier the app is not told.
    pub fn new(rules: WebhookRules, courier: Option<Courier>) -> Self {
        Self { rules, courier, words: Mutex::default(), wake: Notify::new() }
    }

    /// Finch is believed with these from now on.
    pub fn believe(&self, secrets: Vec<WebhookSecret>) {
        self.rules.secrets.set(secrets);
    }

    /// Something may have come through another gateway.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether there is anything to do at all.
    pub fn is_used(&self) -> bool {
        self.rules.has_door || self.courier.is_some()
    }
}

/// The head of a message, as far as it decides whether the body is worth reading.
#[derive(Debug, Clone)]
pub struct Head {
    event_id: EventId,
    timestamp: String,
    signature: String,
}

/// What is answered to Finch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is kept, now or since it came before.
    Kept,
    /// It is not believed.
    Refused(Why),
    /// It is Finch's, and nothing can be made of it.
    Unreadable,
    /// It cannot be kept now; Finch shall send it again.
    Later,
}

impl Engine {
    /// Reads the three headers, and refuses what is too old to be believed, before the body costs anything.
    ///
    /// # Errors
    /// Why the message is refused.
    pub fn webhook_head(&self, [id, at, signature]: [Option<&str>; 3]) -> Result<Head, Receipt> {
        let read = || -> Result<Head, Why> {
            let event_id = id.and_then(|id| EventId::new(id).ok()).ok_or(Why::Header("Finch-Event-Id"))?;
            let timestamp = at.ok_or(Why::Header("Finch-Timestamp"))?;
            let signature = signature.ok_or(Why::Header("Finch-Signature"))?;
            webhook::check_age(timestamp, unix_now())?;
            Ok(Head { event_id, timestamp: timestamp.to_owned(), signature: signature.to_owned() })
        };
        read().map_err(|why| self.disbelieve(why))
    }

    fn disbelieve(&self, why: Why) -> Receipt {
        let outcome = match why {
            Why::Stale => Outcome::Stale,
            Why::Header(_) | Why::Signature => Outcome::BadSignature,
        };
        self.telemetry.metrics.webhooks.count_unnamed(outcome, 1);
        tracing::warn!(outcome = outcome.as_str(), "a webhook was refused: {why}");
        Receipt::Refused(why)
    }

    /// Checks a message and keeps it. It is durable when the answer is [`Receipt::Kept`].
    pub async fn take_webhook(&self, head: Head, body: Vec<u8>) -> Receipt {
        let now = unix_now();
        let message =
            Message { event_id: head.event_id.as_str(), timestamp: &head.timestamp, body: body.as_slice() };
        let believed = self.webhooks.rules.secrets.now();
        let secrets: Vec<&WebhookSecret> = believed.iter().collect();
        let sent_at = match webhook::verify(&secrets, message, &head.signature, now) {
            Ok(sent_at) => sent_at,
            Err(why) => return self.disbelieve(why),
        };
        let metrics = &self.telemetry.metrics.webhooks;
        let Some(event) = Event::parse(&body) else {
            metrics.count_unnamed(Outcome::Unreadable, 1);
            tracing::error!(event.id = %head.event_id, "webhook {} is signed by Finch and is no JSON object", head.event_id);
            return Receipt::Unreadable;
        };
        let arrived = Arrived {
            event_id: head.event_id,
            timestamp: head.timestamp,
            sent_at,
            signature: head.signature,
            event_type: event.event_type,
            connection_id: event.connection_id,
            company_id: event.company_id,
            entity_id: event.entity_id,
            body,
        };
        let bounds = (self.webhooks.rules.queue, earlier(now, KNOWN_FOR));
        let (id, event_type) = (arrived.event_id.clone(), arrived.event_type.clone());
        let (outcome, receipt) = match self.vault.keep_webhook(arrived, bounds, now).await {
            Ok(Put::Kept { dropped }) => {
                if dropped > 0 {
                    metrics.count_unnamed(Outcome::Dropped, dropped);
                    tracing::error!(
                        dropped,
                        "{dropped} dead letters were given up for new webhooks; replay them, or raise webhooks.queue"
                    );
                }
                self.webhooks.wake.notify_one();
                (Outcome::Accepted, Receipt::Kept)
            }
            Ok(Put::Duplicate) => (Outcome::Duplicate, Receipt::Kept),
            Ok(Put::Full) => {
                tracing::error!(
                    "webhook {id} cannot be kept: the queue is full of what the app did not take yet; see to \
                     webhooks.deliver_to, or raise webhooks.queue"
                );
                (Outcome::Refused, Receipt::Later)
            }
            Err(error) => {
                tracing::error!(error = %error, "webhook {id} cannot be kept: {error}");
                (Outcome::Refused, Receipt::Later)
            }
        };
        metrics.count(&event_type, outcome);
        tracing::info!(event.id = %id, event.kind = %event_type, outcome = outcome.as_str(), "webhook {id}");
        receipt
    }
}

/// The moment `span` before another.
fn earlier(at: UnixMillis, span: Duration) -> UnixMillis {
    UnixMillis(at.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}

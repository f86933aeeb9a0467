//! The way to the app: one offer of one event. What came from Finch goes on byte for byte.

use crate::config::Target;
use crate::finch::headers::{
    FINCH_EVENT_ID, FINCH_SIGNATURE, FINCH_TIMESTAMP, PERCH_CONNECTION, PERCH_CUSTOMER,
};
use crate::finch::webhook::{self, Message};
use crate::policy::redeliver::is_fresh;
use crate::store::webhooks::Arrived;
use crate::types::{ConnectionId, CustomerId, UnixMillis, WebhookSecret};
use crate::upstream::{self, Attempt, Finch, RootsError, SendError};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection to the app may take to open.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How much of the app's answer is read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Whose event it is, as far as the vault knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Whose {
    pub(super) connection: Option<ConnectionId>,
    pub(super) customer: Option<CustomerId>,
}

/// Carries events to the app.
#[derive(Debug)]
pub struct Courier {
    way: Finch,
    path: String,
    sign_with: Option<WebhookSecret>,
    timeout: Duration,
}

impl Courier {
    /// Prepares the way; connects to nothing yet.
    ///
    /// # Errors
    /// The extra trust anchor cannot be read.
    pub fn new(
        target: Target,
        sign_with: Option<WebhookSecret>,
        timeout: Duration,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, RootsError> {
        let settings = upstream::Settings {
            base: target.base,
            ca_file,
            connect_timeout: CONNECT_MAX.min(timeout),
            answer_timeout: timeout,
        };
        Ok(Self { way: Finch::new(settings)?, path: target.path, sign_with, timeout })
    }

    /// Offers an event to the app.
    ///
    /// # Errors
    /// Why it did not take it, in a sentence fit for an operator.
    pub(super) async fn offer(&self, event: &Arrived, whose: &Whose, now: UnixMillis) -> Result<(), String> {
        let attempt = Attempt {
            method: "POST",
            target: self.path.clone(),
            headers: self.headers(event, whose, now)?,
            body: event.body.clone().into(),
        };
        let offered = async {
            let answer = match self.send(&attempt).await {
                // The app had closed a kept connection, as servers do; a new one tells how it is.
                Err(SendError::Broken { stale: true, .. }) => self.send(&attempt).await,
                sent => sent,
            }
            .map_err(told)?;
            let status = answer.status;
            // The status is the answer, whatever comes behind it.
            let _ = answer.rest.read(ANSWER_BYTES_MAX).await;
            match status {
                200..=299 => Ok(()),
                _ => Err(format!("it answered {status}")),
            }
        };
        // The answer's own bound begins after the connection's.
        tokio::time::timeout(self.timeout + CONNECT_MAX, offered)
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    async fn send(&self, attempt: &Attempt) -> Result<upstream::Answer, SendError> {
        self.way.connect().await?.send(attempt).await
    }

    /// With a secret of the app's own the message is signed now. Without one Finch's signature stays, whatever its age:
    /// an app that checks it with an SDK refuses one that is five minutes old, and the log says so.
    fn headers(&self, event: &Arrived, whose: &Whose, now: UnixMillis) -> Result<HeaderMap, String> {
        let id = event.event_id.as_str();
        let (timestamp, signature) = match &self.sign_with {
            Some(secret) => {
                let timestamp = now.0.div_euclid(1000).to_string();
                let message = Message { event_id: id, timestamp: &timestamp, body: &event.body };
                let signature = webhook::sign(secret, message)
                    .map_err(|webhook::BadSecret| "webhooks.sign_with is not base64".to_owned())?;
                (timestamp, signature)
            }
            None => {
                if !is_fresh(event.sent_at, now) {
                    tracing::warn!(
                        event.id = %event.event_id,
                        "webhook {id} comes late with Finch's own signature, which the app's SDK may refuse; \
                         webhooks.sign_with would sign it anew"
                    );
                }
                (event.timestamp.clone(), event.signature.clone())
            }
        };
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            // Ids may have letters beyond ASCII, which a header carries as they are.
            let value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| format!("{name} cannot stand in a header"))?;
            headers.insert(HeaderName::from_static(name), value);
            Ok::<(), String>(())
        };
        put(FINCH_EVENT_ID, id)?;
        put(FINCH_TIMESTAMP, &timestamp)?;
        put(FINCH_SIGNATURE, &signature)?;
        if let Some(connection) = &whose.connection {
            put(PERCH_CONNECTION, connection.as_str())?;
        }
        if let Some(customer) = &whose.customer {
            put(PERCH_CUSTOMER, customer.as_str())?;
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("perch/", env!("CARGO_PKG_VERSION"))));
        Ok(headers)
    }
}

fn told(error: SendError) -> String {
    match error {
        SendError::Unreachable(why) | SendError::Broken { why, .. } | SendError::BadAnswer(why) => why,
        SendError::TimedOut => "no answer in time",
    }
    .to_owned()
}

//! Links through which a customer renews a login: made by Finch, kept, and renewed long before they end.

use super::Engine;
use super::attempt::{note_attempt, note_id};
use super::own_line::own_line;
use super::quota::AskFacts;
use crate::policy::{Class, headers};
use crate::telemetry::AccessLine;
use crate::types::json::RawObject;
use crate::types::{ConnectionId, Moment, Priority, Product};
use crate::upstream::SendError;
use crate::upstream::{Attempt, Body};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use moka::future::Cache;
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Where a link is had.
const TARGET: &str = "/connect/sessions/reauthenticate";
/// The life that perch asks for, Finch's own default (30 days), in minutes.
const MINUTES: u32 = 43_200;
/// A link is handed out for half its life, so that who gets it has the other half to follow it.
const FRESH: Duration = Duration::from_secs(MINUTES as u64 * 60 / 2);
/// When Finch gave none, it is not asked again for this long.
const AGAIN: Duration = Duration::from_secs(60);
/// How long making one may hold an answer up: its admission, and then Finch.
const PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_MAX: Duration = Duration::from_secs(6);
/// The most links kept.
const LINKS_MAX: u64 = 10_000;
/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The links that are known.
#[derive(Debug)]
pub(super) struct Links(Cache<ConnectionId, Link>);

impl Default for Links {
    fn default() -> Self {
        Self(Cache::new(LINKS_MAX))
    }
}

/// A link, or the knowledge that there is none now.
#[derive(Debug, Clone)]
struct Link {
    url: Option<String>,
    made: Moment,
}

impl Link {
    fn is_fresh(&self, now: Moment) -> bool {
        now.since(self.made) < if self.url.is_some() { FRESH } else { AGAIN }
    }
}

#[derive(Serialize)]
struct Wanted<'a> {
    connection_id: &'a ConnectionId,
    minutes_to_expire: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    redirect_uri: Option<&'a str>,
}

impl Engine {
    /// The link through which the customer of a connection renews the login; `None` when Finch gives none
    /// now. However many ask, one link is made.
    pub(super) async fn reauth_url(&self, connection: &ConnectionId) -> Option<String> {
        let Links(links) = &self.outlook.links;
        if let Some(link) = links.get(connection).await {
            if link.is_fresh(self.quota.now()) {
                return link.url;
            }
            links.invalidate(connection).await;
        }
        let making = async {
            let url = self.make_link(connection).await;
            self.telemetry.metrics.failures.link(url.is_some());
            Link { url, made: self.quota.now() }
        };
        // On the heap: it is handed on many times before it runs.
        links.get_with_by_ref(connection, Box::pin(making)).await.url
    }

    /// The login was renewed: its link has served.
    pub(super) async fn forget_link(&self, connection: &ConnectionId) {
        self.outlook.links.0.invalidate(connection).await;
    }

    /// Asks Finch for a link. The request has a line of its own in log and ledger.
    async fn make_link(&self, connection: &ConnectionId) -> Option<String> {
        let mut line = own_line(connection, Product::Connect, ("POST", TARGET));
        let began = Instant::now();
        let url = self.ask_for_link(connection, &mut line).await;
        if line.attempts > 0 {
            line.total = began.elapsed();
            self.telemetry.record(line);
        }
        url
    }

    async fn ask_for_link(&self, connection: &ConnectionId, line: &mut AccessLine) -> Option<String> {
        let began = Instant::now();
        let ask = AskFacts {
            product: Product::Connect,
            customer: None,
            priority: Priority::Interactive,
            patience: PATIENCE,
            tag: None,
        };
        let admitted = self.quota.admit(ask).await;
        line.wait = began.elapsed();
        let mut permit = admitted.ok()?;
        let attempt = self.link_attempt(connection)?;
        let began = Instant::now();
        let until = began + ANSWER_MAX;
        let sent = async {
            let connected = match self.finch.connect().await {
                Ok(connected) if permit.is_good().await => connected,
                Ok(_) | Err(_) => {
                    permit.refund();
                    return None;
                }
            };
            line.attempts += 1;
            let sent = match timeout_at(until, connected.send(&attempt)).await {
                Ok(sent) => sent,
                Err(_) => Err(SendError::TimedOut),
            };
            line.finch = began.elapsed();
            note_attempt(began, Product::Connect, sent.as_ref(), line);
            permit.arrived(sent.as_ref().is_ok_and(|answer| answer.status == 429));
            let status = sent.as_ref().ok().map(|answer| answer.status);
            self.telemetry.metrics.attempt(Product::Connect.as_str(), status);
            let answer = sent.ok()?;
            note_id(&answer, line);
            let id = line.finch_request_id.last().map_or_else(|| "none".to_owned(), ToString::to_string);
            let status = answer.status;
            line.status = status;
            line.class = if (200..300).contains(&status) { Class::Ok } else { Class::FinchError };
            let body = match answer.rest.read(ANSWER_BYTES_MAX).await {
                Ok(Body::Whole(body)) => body,
                Ok(Body::Larger(..)) | Err(_) => return None,
            };
            let url = url_in(status, &body);
            match &url {
                Some(_) => tracing::info!(
                    connection.id = %connection, finch_request_id = id, "made a link to renew connection {connection}"
                ),
                None => tracing::warn!(
                    connection.id = %connection, finch_request_id = id, status,
                    "Finch gave no link to renew connection {connection}"
                ),
            }
            url
        };
        timeout_at(until, sent).await.ok().flatten()
    }

    fn link_attempt(&self, connection: &ConnectionId) -> Option<Attempt> {
        let settings = self.settings.now();
        let wanted = Wanted {
            connection_id: connection,
            minutes_to_expire: MINUTES,
            redirect_uri: settings.redirect_uri.as_deref(),
        };
        let body = serde_json::to_vec(&wanted).ok()?;
        let mut headers = headers::to_finch(&HeaderMap::new());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.basic().ok()?);
        let target = TARGET.to_owned();
        Some(Attempt { method: "POST", target, headers, body: body.into() })
    }
}

/// The link in an answer of Finch's: an address of the web and nothing else, for people will follow it.
fn url_in(status: u16, body: &[u8]) -> Option<String> {
    if !(200..300).contains(&status) {
        return None;
    }
    let url = RawObject::parse(body)?.text("connect_url")?;
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let is_plain = url.len() <= 2_048 && url.bytes().all(|b| b.is_ascii_graphic());
    (is_web && is_plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_the_web_is_handed_on() {
        let link = |body: &str| url_in(201, body.as_bytes());
        let good = "https://connect.tryfinch.com/authorize?session=s1";
        assert_eq!(link(&format!(r#"{{"session_id":"s1","connect_url":"{good}"}}"#)).as_deref(), Some(good));
        assert_eq!(link(r#"{"connect_url":"javascript:alert(1)"}"#), None);
        assert_eq!(link(r#"{"connect_url":"https://a b"}"#), None);
        assert_eq!(link(r#"{"connect_url":7}"#), None);
        assert_eq!(link("<html>"), None);
        assert_eq!(url_in(404, format!(r#"{{"connect_url":"{good}"}}"#).as_bytes()), None);
    }

    #[test]
    fn a_link_is_renewed_long_before_it_ends() {
        let days = |n: u64| Moment::at(Duration::from_secs(n * 24 * 60 * 60));
        let link = Link { url: Some("https://x".to_owned()), made: days(1) };
        assert!(link.is_fresh(days(15)) && !link.is_fresh(days(16)));
        let none = Link { url: None, made: days(1) };
        assert!(none.is_fresh(days(1) + AGAIN / 2) && !none.is_fresh(days(1) + AGAIN));
    }
}

//! Warm-up: what the first screen of a new customer shows is fetched as soon as Finch has it, so that it is kept when the
//! app asks. These are calls of the batch kind, and people with a screen open go before them.
//!
//! Finch may need minutes for its first look at a new connection. Until then it answers 202, and perch comes back when a
//! webhook says that something has changed, or after a while.

use super::Engine;
use super::call::{Answer, AnswerBody, By, Call};
use crate::finch::endpoints::{Method, find};
use crate::finch::headers::PERCH_PRIORITY;
use crate::policy::Class;
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::{ConnectionId, EntityId, Product, RequestId};
use crate::vault::Status;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// When it is tried again while Finch has no data yet and no webhook says that it has.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(3 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
];

/// The most connections that are warmed up at once. One more is not: its first screen takes a call, as without this.
const AT_ONCE: usize = 100;

/// The most legal entities of one connection whose data is fetched: each costs as much as a connection with one.
const ENTITIES_MAX: usize = 5;

/// New connections whose first data is fetched.
#[derive(Debug, Default)]
pub(super) struct Warming(Mutex<HashMap<ConnectionId, Arc<Notify>>>);

impl Warming {
    /// Something was heard of a connection: it may have data by now.
    pub(super) fn heard(&self, connection: &ConnectionId) {
        if let Some(heard) = self.0.lock().get(connection) {
            heard.notify_one();
        }
    }

    /// `None`: it is warmed up already, or too many are.
    fn begin(&self, connection: &ConnectionId) -> Option<Arc<Notify>> {
        let mut running = self.0.lock();
        if running.len() >= AT_ONCE || running.contains_key(connection) {
            return None;
        }
        Some(Arc::clone(running.entry(connection.clone()).or_default()))
    }

    fn end(&self, connection: &ConnectionId) {
        self.0.lock().remove(connection);
    }
}

/// What one try came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// What can be had is kept, or will not be had.
    Done,
    /// Finch has no data yet.
    TooEarly,
}

impl Engine {
    /// Begins to warm a connection up, if this was the call that brought it.
    pub(super) fn warm_up_after(self: &Arc<Self>, line: &AccessLine) {
        let Some(warming) = &self.answers.warming else { return };
        let endpoint = Method::parse(line.method).and_then(|method| find(method, line.path));
        let is_new = line.class == Class::Ok
            && line.cache.is_none()
            && line.resend_of.is_none()
            && endpoint.is_some_and(|endpoint| super::attempt::brings_token(endpoint.operation));
        let Some(connection) = line.connection_id.clone().filter(|_| is_new) else { return };
        let Some(heard) = warming.begin(&connection) else { return };
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            tokio::select! {
                () = engine.warm_up(&connection, &heard) => {}
                () = engine.drain.closing() => {}
            }
            if let Some(warming) = &engine.answers.warming {
                warming.end(&connection);
            }
        });
    }

    async fn warm_up(self: &Arc<Self>, connection: &ConnectionId, heard: &Notify) {
        for pause in PAUSES {
            if self.try_warming(connection).await == Tried::Done {
                return;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = heard.notified() => {}
            }
        }
        tracing::info!(connection.id = %connection, "connection {connection} has no data yet; its first calls will fetch it");
    }

    async fn try_warming(self: &Arc<Self>, connection: &ConnectionId) -> Tried {
        let Ok(entry) = self.vault.connection(connection).await else { return Tried::Done };
        let facts = &entry.facts;
        if facts.status != Status::Active {
            return Tried::Done;
        }
        // It goes on when it may.
        if self.is_left_alone(facts, Product::Company) {
            return Tried::TooEarly;
        }
        let wants = |product: Product| {
            let is_granted =
                facts.products.is_empty() || facts.products.iter().any(|name| name == product.as_str());
            is_granted && self.answers.lifetimes().of(product).is_some()
        };
        // A connection with one entity needs none named, and apps name none.
        let entities: Vec<Option<&EntityId>> = match facts.entity_ids.len() {
            0 | 1 => vec![None],
            _ => facts.entity_ids.iter().take(ENTITIES_MAX).map(Some).collect(),
        };
        for entity in entities {
            let query = entity.map(|id| format!("entity_ids[]={id}"));
            let fetch = async |method, path, body| {
                let answer =
                    self.run_own(self.warming_call(connection, (method, path), query.clone(), body)).await;
                let class = answer.headers.get(crate::finch::headers::PERCH_CLASS).cloned();
                (class.is_some_and(|class| class == Class::NotReady.as_str()), answer)
            };
            if wants(Product::Company) && fetch("GET", "/employer/company", None).await.0 {
                return Tried::TooEarly;
            }
            let people =
                [Product::Individual, Product::Employment].map(|product| wants(product).then_some(product));
            if !wants(Product::Directory) && people.iter().all(Option::is_none) {
                continue;
            }
            let (is_early, directory) = fetch("GET", "/employer/directory", None).await;
            if is_early {
                return Tried::TooEarly;
            }
            let Some(body) = body_for(&directory) else { continue };
            for product in people.into_iter().flatten() {
                let path = if product == Product::Individual {
                    "/employer/individual"
                } else {
                    "/employer/employment"
                };
                fetch("POST", path, Some(body.clone())).await;
            }
        }
        tracing::info!(connection.id = %connection, "connection {connection} is warmed up");
        Tried::Done
    }

    fn warming_call(
        &self,
        connection: &ConnectionId,
        (method, path): (&str, &str),
        query: Option<String>,
        body: Option<String>,
    ) -> Call {
        let mut headers = HeaderMap::new();
        if let Ok(named) = HeaderValue::try_from(format!("Bearer connection:{connection}")) {
            headers.insert(AUTHORIZATION, named);
        }
        headers.insert(PERCH_PRIORITY, HeaderValue::from_static("batch"));
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let request_id = uuid::Uuid::now_v7().simple().to_string();
        Call {
            request_id: RequestId::new(request_id).expect("thirty-two hex digits are an id"),
            received_at: unix_now(),
            method: method.to_owned(),
            path: path.to_owned(),
            query,
            headers,
            body: body.unwrap_or_default().into(),
            app: None,
            by: By::Perch,
        }
    }
}

/// The body that asks for everybody in a directory, as the SDKs write it; `None` when there is nobody.
fn body_for(directory: &Answer) -> Option<String> {
    #[derive(Deserialize)]
    struct Directory {
        individuals: Vec<Person>,
    }
    #[derive(Deserialize)]
    struct Person {
        id: String,
    }
    let AnswerBody::Whole(body) = &directory.body else { return None };
    let Directory { individuals } = serde_json::from_slice(body).ok()?;
    let mut text = String::from("{\"requests\":[");
    for (at, Person { id }) in individuals.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let id = serde_json::to_string(id).ok()?;
        // Writing to a text cannot fail.
        let _ = write!(text, "{comma}{{\"individual_id\":{id}}}");
    }
    text.push_str("]}");
    (!individuals.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::super::reply::own;
    use super::*;

    #[test]
    fn everybody_in_a_directory_is_asked_for_as_the_sdks_ask() {
        let body = |text: &str| body_for(&own(200, text.as_bytes().to_vec()));
        let people = r#"{"paging":{"count":2},"individuals":[{"id":"a\"b","first_name":null},{"id":"c"}]}"#;
        let asked = r#"{"requests":[{"individual_id":"a\"b"},{"individual_id":"c"}]}"#;
        assert_eq!(body(people).as_deref(), Some(asked));
        assert_eq!(body(r#"{"individuals":[]}"#), None);
        assert_eq!(body("<html>"), None);
    }

    #[test]
    fn a_connection_is_warmed_up_once_at_a_time_and_so_many_are() {
        let warming = Warming::default();
        let id = |n: usize| ConnectionId::new(format!("c{n}")).expect("an id");
        assert!(warming.begin(&id(0)).is_some() && warming.begin(&id(0)).is_none());
        warming.end(&id(0));
        assert!((0..AT_ONCE).all(|n| warming.begin(&id(n)).is_some()));
        assert!(warming.begin(&id(AT_ONCE)).is_none());
    }
}

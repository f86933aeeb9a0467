//! Webhooks as Finch would send them: about a connection of this world, signed, and wrong in a way that was asked for.

use super::State;
use super::answer::Answer;
use super::company::Entity;
use super::pay;
use super::world::Connection;
use crate::finch::headers::{FINCH_EVENT_ID, FINCH_SIGNATURE, FINCH_TIMESTAMP};
use crate::finch::webhook::{self, Message};
use crate::types::{UnixMillis, WebhookSecret};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Where they are asked for.
pub(super) const PATH: &str = "/_sim/webhooks";

/// What signs webhooks where no other secret was given: base64, as Finch's dashboard shows one.
pub const WEBHOOK_SECRET: &str = "c2ltLXdlYmhvb2stc2VjcmV0";
/// What signs one that shall not be believed.
const WRONG_SECRET: &str = "bm90LXRoZS1yaWdodC1zZWNyZXQ=";
/// How far a timestamp is off that shall not be believed: twice what receivers let pass.
const OFF: Duration = webhook::TOLERANCE.saturating_mul(2);

/// The longest id of an event that is sent.
const EVENT_ID_BYTES_MAX: usize = 256;

/// A way in which a webhook is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Flaw {
    /// Signed with a secret that is not the application's.
    WrongSecret,
    /// Signed ten minutes ago, as one that is played again.
    Old,
    /// Signed ten minutes from now.
    Future,
    /// Another body than the one that was signed.
    Altered,
    /// No signature at all.
    MissingHeader,
    /// A signature that is no base64.
    NonBase64,
}

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Order {
    /// Whose event it is. The event names connection and company.
    connection_id: Option<String>,
    /// The same by company: an event as Finch once sent them, without a connection.
    company_id: Option<String>,
    /// The legal entity, where the connection has several.
    entity_id: Option<String>,
    /// One of Finch's types, or any other word. `test` when left out.
    event_type: Option<String>,
    /// Members that go before those that the world has.
    data: Map<String, Value>,
    /// Its id; the same one again is a redelivery.
    event_id: Option<String>,
    /// Where it is sent to. It is shown only when left out.
    to: Option<String>,
    /// What is wrong with it.
    fault: Option<Flaw>,
}

/// A webhook, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    /// `Finch-Event-Id`, `Finch-Timestamp` and `Finch-Signature`, unless it is missing.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The body, byte for byte.
    pub(super) body: String,
}

impl Letter {
    /// The letter as JSON, for one who sends it himself.
    pub(super) fn shown(&self) -> Value {
        let headers: Map<String, Value> =
            self.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        json!({ "headers": headers, "body": self.body })
    }
}

/// Reads what is asked for and writes the letter; with it, where it is to be sent.
pub(super) fn write(
    state: &mut State,
    body: &[u8],
    base_url: &str,
    wall: UnixMillis,
) -> Result<(Letter, Option<String>), Answer> {
    let refused = |status, why: String| Answer::json(status, json!({ "message": why }));
    let order: Order = serde_json::from_slice(body)
        .map_err(|error| refused(400, format!("the body is no order for a webhook: {error}")))?;
    let event_type = order.event_type.as_deref().unwrap_or("test");
    let new_id = state.world.new_id("event").replace('-', "");
    let job_id = state.world.new_id("job");
    let id = order.event_id.unwrap_or_else(|| format!("msg_{new_id}"));
    let is_writable = id.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_writable || id.is_empty() || id.len() > EVENT_ID_BYTES_MAX {
        return Err(refused(400, "event_id is a word that can stand in a header, such as msg_1".to_owned()));
    }
    let connection = match (&order.connection_id, &order.company_id) {
        (None, None) if event_type == "test" => None,
        (None, None) => {
            let why = "say whose event it is: connection_id, or company_id; GET /_sim/connections has both";
            return Err(refused(400, why.to_owned()));
        }
        (connection, company) => {
            let is_meant = |known: &&Connection| {
                connection.as_ref().is_none_or(|id| *id == known.id)
                    && company.as_ref().is_none_or(|id| *id == known.company_id)
            };
            let found = state.world.connections.iter().find(is_meant);
            let why = "there is no such connection or company; GET /_sim/connections has those there are";
            Some(found.ok_or_else(|| refused(404, why.to_owned()))?)
        }
    };
    let job_url = format!("{base_url}/jobs/automated/{job_id}");
    let mut data =
        connection.map(|known| usual(event_type, known, &job_url, &job_id, wall)).unwrap_or_default();
    data.extend(order.data);
    let mut event = json!({
        "company_id": connection.map(|known| &known.company_id),
        "account_id": connection.map(|known| &known.account_id),
        "connection_id": order.connection_id,
        "entity_id": order.entity_id,
        "event_type": event_type,
        "data": data,
    });
    let at = match order.fault {
        Some(Flaw::Old) => UnixMillis(wall.0.saturating_sub_unsigned(OFF.as_millis() as u64)),
        Some(Flaw::Future) => wall.plus(OFF),
        _ => wall,
    };
    let timestamp = at.0.div_euclid(1000).to_string();
    let body = event.to_string();
    let message = Message { event_id: &id, timestamp: &timestamp, body: body.as_bytes() };
    let wrong = WebhookSecret::new(WRONG_SECRET.to_owned());
    let secret = if order.fault == Some(Flaw::WrongSecret) { &wrong } else { &state.webhook_secret };
    let signature = webhook::sign(secret, message).map_err(|_| {
        refused(500, "the simulator's webhook secret is no base64: nothing can be signed".to_owned())
    })?;
    let signature = match order.fault {
        Some(Flaw::MissingHeader) => None,
        Some(Flaw::NonBase64) => Some("v1,%%%".to_owned()),
        _ => Some(signature),
    };
    let body = match order.fault {
        Some(Flaw::Altered) => {
            event["altered"] = true.into();
            event.to_string()
        }
        _ => body,
    };
    let mut headers = vec![(FINCH_EVENT_ID, id), (FINCH_TIMESTAMP, timestamp)];
    headers.extend(signature.map(|signature| (FINCH_SIGNATURE, signature)));
    Ok((Letter { headers, body }, order.to))
}

/// What an event of this type says of the connection as it is now (Finch webhook guide, "Payload").
fn usual(
    event_type: &str,
    connection: &Connection,
    job_url: &str,
    job_id: &str,
    wall: UnixMillis,
) -> Map<String, Value> {
    let entity = connection.entities.first();
    let person = || entity.and_then(|entity| entity.people.ids().first());
    let payment = |entity: &Entity| pay::newest(entity, wall);
    let data = match event_type.split_once('.').unwrap_or((event_type, "")) {
        ("account", _) => json!({
            "status": connection.status.as_str(), "authentication_method": connection.authentication.as_str(),
        }),
        ("job", _) => json!({ "job_id": job_id, "job_url": job_url }),
        ("directory" | "individual" | "employment", _) => json!({ "individual_id": person() }),
        ("payment", _) => {
            let newest = entity.and_then(payment);
            json!({ "payment_id": newest.as_ref().map(|(id, _)| id), "pay_date": newest.as_ref().map(|(_, date)| date) })
        }
        ("pay_statement", _) => {
            json!({ "payment_id": entity.and_then(payment).map(|(id, _)| id), "individual_id": person() })
        }
        _ => json!({}),
    };
    match data {
        Value::Object(data) => data,
        _ => Map::new(),
    }
}

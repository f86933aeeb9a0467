//! Finch as it sends webhooks, signed here with code of this file alone.

use super::{Answer, App, World};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use perch::config::Address;
use perch::telemetry::clock::unix_now;
use serde_json::{Value, json};
use sha2::Sha256;

/// What Finch signs with.
pub const SECRET: &str = "Q0FOQVJZLXdlYmhvb2stc2VjcmV0LTQwMjE=";
/// What Finch signed with before.
pub const PREVIOUS: &str = "Q0FOQVJZLXdlYmhvb2stc2VjcmV0LTEyMDQ=";
/// What the app checks, where perch signs for it.
pub const OWN: &str = "Q0FOQVJZLWFwcC1zZWNyZXQtMzMzMzM=";
/// The variables that name them.
pub const VARIABLES: [(&str, &str); 3] =
    [("FINCH_WEBHOOK", SECRET), ("FINCH_WEBHOOK_BEFORE", PREVIOUS), ("APP_WEBHOOK", OWN)];
/// Settings with a door.
pub const DOOR: &str = "listen.webhooks = \"127.0.0.1:0\"\nfinch.webhook_secret = \"env:FINCH_WEBHOOK\"\n\
                        finch.webhook_secret_previous = \"env:FINCH_WEBHOOK_BEFORE\"\n";

/// Settings with a door and an app that is told.
pub fn told(app: &str) -> String {
    format!("{DOOR}webhooks.deliver_to = \"{app}/finch\"\n")
}

/// The value of `Finch-Signature`.
pub fn sign(secret: &str, id: &str, at: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(secret).expect("base64");
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).expect("any length");
    mac.update(format!("{id}.{at}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Now, as Finch writes it.
pub fn seconds() -> i64 {
    unix_now().0 / 1000
}

/// A status of a connection, as `account.updated` tells it.
pub fn status(connection: &str, status: &str) -> Value {
    json!({
        "company_id": "co", "account_id": "a", "connection_id": connection, "entity_id": null,
        "event_type": "account.updated", "data": { "status": status, "authentication_method": "oauth" },
    })
}

/// An event about nobody in particular.
pub fn event(event_type: &str, connection: &str) -> Value {
    json!({ "company_id": "co", "connection_id": connection, "event_type": event_type, "data": {} })
}

/// Sends an event as Finch does, through this door.
pub async fn send(door: App, id: &str, at: i64, body: &[u8]) -> Answer {
    let at = at.to_string();
    let app = door.with("finch-event-id", id).with("finch-timestamp", &at);
    let app = app.with("finch-signature", &sign(SECRET, id, &at, body));
    app.call("POST", "/webhooks/finch", body.to_vec().into()).await
}

impl World {
    /// Finch's door.
    pub fn hooks(&self) -> App {
        match self.gateway.as_ref().and_then(|gateway| gateway.webhooks()) {
            Some(Address::Tcp(at)) => App::at(*at),
            other => panic!("there is no door: {other:?}"),
        }
    }

    /// Sends an event as Finch does, at this second.
    pub async fn tell_at(&self, id: &str, at: i64, body: &[u8]) -> Answer {
        send(self.hooks(), id, at, body).await
    }

    /// Sends an event as Finch does; it is taken.
    pub async fn tell(&self, id: &str, event: &Value) {
        let answer = self.tell_at(id, seconds(), event.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Waits until perch has nothing left to do for any event.
    pub async fn webhooks_are_settled(&self) {
        super::until("the webhooks are settled", async || {
            let all = self.operator().get("/api/webhooks").await.json();
            all.as_array().expect("a list").iter().all(|event| event["state"] == "done")
        })
        .await;
    }

    /// What an operator sees of one event.
    pub async fn webhook(&self, id: &str) -> Value {
        let all = self.operator().get("/api/webhooks").await.json();
        let found = all.as_array().expect("a list").iter().find(|event| event["event_id"] == id).cloned();
        found.unwrap_or(Value::Null)
    }
}

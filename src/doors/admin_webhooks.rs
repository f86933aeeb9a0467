//! The admin API of webhooks: `GET /api/webhooks`, `GET /api/webhooks?dead=1`, `POST /api/webhooks/replay?id=…` and
//! `POST /api/webhooks/replay?all_dead=1`. Bodies of events are never shown.

use super::admin::AdminDoor;
use crate::engine::webhooks::{LIST_MAX, Webhooks};
use crate::telemetry::clock::unix_now;
use crate::types::EventId;
use crate::vault::Actor;
use crate::vault::webhooks::Revived;
use http::header::ORIGIN;
use http::{HeaderMap, Method};
use serde_json::json;

const LIST: &str = "/api/webhooks";
/// Where dead letters are offered again.
pub(super) const REPLAY: &str = "/api/webhooks/replay";

impl AdminDoor {
    /// The answer to a request about webhooks, status and JSON; `None` when it is about something else.
    pub(super) async fn webhooks(
        &self,
        method: &Method,
        (path, query): (&str, Option<&str>),
        headers: &HeaderMap,
    ) -> Option<(u16, Vec<u8>)> {
        if path != LIST && path != REPLAY {
            return None;
        }
        let refuse =
            |status: u16, why: &str| Some((status, json!({ "error": why }).to_string().into_bytes()));
        if !self.is_known(headers) {
            return refuse(401, "show the admin token: Authorization: Bearer <token>");
        }
        // A browser that a page of a stranger's leads here says where that page is from.
        if path == REPLAY && self.token.is_none() && headers.contains_key(ORIGIN) {
            return refuse(403, "a page of a browser may not change anything here without an admin token");
        }
        let (status, body) = match (path, method.as_str()) {
            (LIST, "GET" | "HEAD") => self.list_webhooks(query).await,
            (REPLAY, "POST") => self.replay_webhooks(query).await,
            (LIST, _) => return refuse(405, "only GET, HEAD"),
            _ => return refuse(405, "only POST"),
        };
        Some((status, body.to_string().into_bytes()))
    }

    async fn list_webhooks(&self, query: Option<&str>) -> (u16, serde_json::Value) {
        let only_dead = match query {
            None | Some("" | "dead=0") => false,
            Some("dead=1") => true,
            Some(_) => return (400, json!({ "error": "the query can be dead=1" })),
        };
        match self.engine.vault.list_webhooks(only_dead, LIST_MAX).await {
            Ok(all) => (200, json!(all)),
            Err(error) => (503, json!({ "error": error.to_string() })),
        }
    }

    async fn replay_webhooks(&self, query: Option<&str>) -> (u16, serde_json::Value) {
        let one = match query.and_then(|query| query.split_once('=')) {
            Some(("all_dead", "1")) => None,
            Some(("id", id)) => match EventId::new(id) {
                Ok(id) => Some(id),
                Err(why) => return (400, json!({ "error": format!("the id {why}") })),
            },
            _ => return (400, json!({ "error": "say which: id=msg_… or all_dead=1" })),
        };
        if !self.engine.delivers_webhooks() {
            return (409, json!({ "error": Webhooks::NOWHERE }));
        }
        match self.engine.revive_webhooks(one, Actor::Operator, unix_now()).await {
            Ok(Revived::These(count)) => (200, json!({ "replayed": count })),
            Ok(Revived::Unknown) => (404, json!({ "error": "no webhook of this id is kept" })),
            Ok(Revived::NotDead(state)) => (
                409,
                json!({ "error": format!("it is {}, not dead: there is nothing to replay", state.as_str()) }),
            ),
            Err(error) => (503, json!({ "error": error.to_string() })),
        }
    }
}

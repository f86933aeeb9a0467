//! The simulator's own door, `/_sim/`: what it saw, what shall go wrong, and who is connected.

use super::State;
use super::answer::Answer;
use super::fault::Fault;
use super::faults::FAULTS_MAX;
use super::report::{Report, fingerprint};
use super::world::TokenState;
use crate::types::Moment;
use bytes::Bytes;
use serde_json::{Value, json};

/// What every path of this door starts with.
pub(super) const PREFIX: &str = "/_sim/";

/// Answers a request of the one who runs the simulation.
pub(super) fn answer(state: &mut State, method: &str, path: &str, body: &Bytes, now: Moment) -> Answer {
    match (method, path) {
        ("GET", "/_sim/healthz") => Answer::ok(json!({ "status": "ok" })),
        ("GET", "/_sim/report") => Answer::ok(state.report.shown(state.limits.settings())),
        ("GET", "/_sim/arrivals") => Answer::ok(state.report.arrivals(state.limits.settings(), now)),
        ("GET", "/_sim/connections") => Answer::ok(connections(state)),
        ("POST", "/_sim/faults") => add_faults(state, body),
        ("DELETE", "/_sim/faults") => {
            state.faults.clear();
            Answer::ok(json!({ "faults": 0 }))
        }
        // Limits are forgotten with the counts: a test may begin anew without a wait.
        ("POST", "/_sim/reset") => {
            state.report = Report::default();
            state.limits.forget();
            Answer::ok(json!({ "status": "ok" }))
        }
        _ => Answer::json(
            404,
            json!({ "message": format!(
                "there is no {method} {path}; there are GET /_sim/healthz, /_sim/report, /_sim/arrivals, \
                 /_sim/connections, POST and DELETE /_sim/faults, POST /_sim/webhooks, POST /_sim/reset"
            ) }),
        ),
    }
}

fn add_faults(state: &mut State, body: &Bytes) -> Answer {
    let refused = |why: String| Answer::json(400, json!({ "message": why }));
    let list = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Array(list)) => list,
        Ok(one) => vec![one],
        Err(error) => return refused(format!("the body is not JSON: {error}")),
    };
    if list.len() > FAULTS_MAX {
        return refused(format!("{FAULTS_MAX} faults is the most"));
    }
    let faults: Result<Vec<Fault>, String> = list
        .into_iter()
        .enumerate()
        .map(|(at, fault)| serde_json::from_value(fault).map_err(|e| format!("fault {at}: {e}")))
        .collect();
    match faults {
        Ok(faults) => Answer::ok(json!({ "faults": state.faults.add(faults) })),
        Err(why) => refused(why),
    }
}

/// Everything about every connection, access tokens included: this is a simulation.
fn connections(state: &State) -> Value {
    let row = |(place, connection): (usize, &super::world::Connection)| {
        let tokens: Vec<Value> = state
            .world
            .tokens_of(place)
            .into_iter()
            .map(|(value, token)| {
                let status = match token.state {
                    TokenState::Live => "live",
                    TokenState::Replaced => "replaced",
                    TokenState::Disconnected => "disconnected",
                };
                json!({
                    "access_token": value, "token_id": token.id, "status": status, "products": token.products,
                    "fingerprint": fingerprint(format!("Bearer {value}").as_bytes()),
                })
            })
            .collect();
        let live = tokens.iter().find(|t| t["status"] == "live").map(|t| t["access_token"].clone());
        json!({
            "connection_id": connection.id,
            "customer_id": connection.customer_id,
            "company_id": connection.company_id,
            "provider_id": connection.provider,
            "status": connection.status.as_str(),
            "entity_ids": connection.entities.iter().map(|e| &e.id).collect::<Vec<_>>(),
            "employees": connection.entities.iter().map(|e| e.people.ids().len()).sum::<usize>(),
            "access_token": live,
            "access_tokens": tokens,
        })
    };
    json!({ "connections": state.world.connections.iter().enumerate().map(row).collect::<Vec<_>>() })
}

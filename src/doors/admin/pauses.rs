//! `/api/pauses`: what is paused, and the two switches: pause and resume a customer, a product or a provider.

use super::connections::{Said, json, problem};
use crate::engine::Engine;
use crate::policy::brake::PauseScope;
use crate::vault::Actor;
use crate::vault::pauses::{Pause, PauseError};
use http::Method;
use serde::Deserialize;
use std::sync::Arc;

/// Where it is.
pub(super) const PATH: &str = "/api/pauses";
/// Where pauses end.
pub(super) const RESUME: &str = "/api/pauses/resume";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    scope: PauseScope,
    name: String,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    scope: PauseScope,
    name: String,
}

/// Who paused and resumed what lately.
const HISTORY: &str = "/api/pauses/history";

/// Whether a path is one of these.
pub(super) fn is_here(path: &str) -> bool {
    matches!(path, PATH | RESUME | HISTORY)
}

/// Answers; `path` is one for which [`is_here`] holds.
pub(super) async fn answer(engine: &Arc<Engine>, method: &Method, path: &str, body: &[u8]) -> Said {
    let done = match (method, path) {
        (_, HISTORY) => {
            return match engine.vault.brake_deeds().await {
                Ok(deeds) => json(200, &deeds),
                Err(error) => problem(503, &error.to_string()),
            };
        }
        (&Method::POST, PATH) => match serde_json::from_slice::<Wanted>(body) {
            Ok(Wanted { scope, name, reason }) => {
                let reason = reason.filter(|reason| !reason.trim().is_empty());
                engine.pause(Pause { scope, name, reason }, Actor::Operator).await
            }
            Err(_) => return unread("{\"scope\": \"customer\", \"name\": \"acme\", \"reason\": \"…\"}"),
        },
        (&Method::POST, _) => match serde_json::from_slice::<Ended>(body) {
            Ok(Ended { scope, name }) => engine.resume(scope, name, Actor::Operator).await.map(drop),
            Err(_) => return unread("{\"scope\": \"customer\", \"name\": \"acme\"}"),
        },
        _ => Ok(()),
    };
    match done {
        Ok(()) => json(200, &engine.pauses()),
        Err(error) => {
            let status = match error {
                PauseError::Name { .. } | PauseError::Reason => 400,
                PauseError::NotPaused(..) => 404,
                PauseError::Configured(..) | PauseError::TooMany => 409,
                PauseError::Vault(_) => 503,
            };
            problem(status, &error.to_string())
        }
    }
}

fn unread(example: &str) -> Said {
    problem(
        400,
        &format!("the body is one JSON object, such as {example}; scope is customer, product or provider"),
    )
}

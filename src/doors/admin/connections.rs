//! `/api/connections`: the vault's connections for operators, and the three things they can want of Finch for one.
//! There is no token in any answer.

use crate::engine::{Answer, AnswerBody, Engine, Errand};
use crate::store::audit::Deed;
use crate::store::connections::Sought;
use crate::types::json::RawObject;
use crate::types::{ConnectionId, CustomerId};
use crate::vault::{Connection, Status, VaultError};
use http::Method;
use serde::Serialize;
use std::sync::Arc;

/// Where it begins.
pub(super) const PATH: &str = "/api/connections";

/// The most connections in one answer. `after=` and the last id of one answer bring the next.
const PAGE_MAX: u32 = 1000;

/// What the door says: a status and a JSON body.
pub(super) type Said = (u16, Vec<u8>);

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    facts: &'a Connection,
    /// What was done to it lately, newest first.
    deeds: &'a [Deed],
}

#[derive(Serialize)]
struct Link<'a> {
    connection_id: &'a ConnectionId,
    reauth_url: String,
}

/// Whether a path is one of these.
pub(super) fn is_here(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path is something to be done to a connection, which takes a POST.
pub(super) fn is_errand(path: &str) -> bool {
    is_here(path) && parts(path).len() == 2
}

/// What follows [`PATH`].
fn parts(path: &str) -> Vec<&str> {
    let rest = path.strip_prefix(PATH).unwrap_or_default();
    rest.split('/').filter(|part| !part.is_empty()).collect()
}

/// Answers; `path` is one for which [`is_here`] holds.
pub(super) async fn answer(
    engine: &Arc<Engine>,
    method: &Method,
    (path, query): (&str, Option<&str>),
    body: &[u8],
) -> Said {
    match (method, parts(path).as_slice()) {
        (&Method::GET | &Method::HEAD, []) => list(engine, query).await,
        (&Method::GET | &Method::HEAD, [id]) => match connection_id(id) {
            Some(id) => show(engine, &id).await,
            None => unknown(),
        },
        (&Method::POST, [id, errand]) => match (connection_id(id), errand_of(errand, body)) {
            (_, Err(said)) => said,
            (None, Ok(_)) => unknown(),
            (Some(id), Ok(errand)) => operate(engine, errand, &id).await,
        },
        _ => problem(
            404,
            "there is GET /api/connections[?customer=…&status=…&after=…&limit=…], GET /api/connections/{id}, and POST \
             /api/connections/{id}/introspect, /reauth-link and /disconnect",
        ),
    }
}

async fn list(engine: &Arc<Engine>, query: Option<&str>) -> Said {
    let (mut sought, mut limit) = (Sought::default(), PAGE_MAX);
    for (name, text) in query.into_iter().flat_map(|q| q.split('&')).filter_map(|p| p.split_once('=')) {
        let text = decoded(text).unwrap_or_default();
        match name {
            "customer" => sought.customer = CustomerId::new(&text).ok(),
            "status" => sought.status = Status::parse(&text),
            "after" => sought.after = ConnectionId::new(&text).ok(),
            "limit" => limit = text.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n)).unwrap_or(0),
            _ => return problem(400, "the query can be customer, status, after and limit"),
        }
        let is_read = match name {
            "customer" => sought.customer.is_some(),
            "status" => sought.status.is_some(),
            "after" => sought.after.is_some(),
            _ => limit > 0,
        };
        if !is_read {
            return problem(400, &format!("{name} {}", unsound(name)));
        }
    }
    match engine.vault.page(sought, limit).await {
        Ok(page) => json(200, &page.connections),
        Err(error) => of_vault(&error),
    }
}

fn unsound(name: &str) -> &'static str {
    match name {
        "customer" => "is no id of a customer",
        "status" => "is none of active, needs_reauth, held, disconnecting and disconnected",
        "after" => "is no id of a connection",
        _ => "is no number from 1 to 1000",
    }
}

async fn show(engine: &Arc<Engine>, id: &ConnectionId) -> Said {
    let entry = match engine.vault.connection(id).await {
        Ok(entry) => entry,
        Err(error) => return of_vault(&error),
    };
    match engine.vault.deeds(id).await {
        Ok(deeds) => json(200, &Shown { facts: &entry.facts, deeds: &deeds }),
        Err(error) => of_vault(&error),
    }
}

async fn operate(engine: &Arc<Engine>, errand: Errand, id: &ConnectionId) -> Said {
    let is_link = matches!(errand, Errand::ReauthLink { .. });
    let Answer { status, body, .. } = match engine.operate(errand, id).await {
        Ok(answer) => answer,
        Err(error) => return of_vault(&error),
    };
    let AnswerBody::Whole(body) = body else { return problem(502, "Finch's answer is too large to be one") };
    if !status.is_success() {
        return (status.as_u16(), body.into());
    }
    if !is_link {
        return show(engine, id).await;
    }
    match RawObject::parse(&body).and_then(|object| object.text("connect_url")) {
        Some(reauth_url) => json(200, &Link { connection_id: id, reauth_url }),
        None => problem(502, "Finch's answer has no link in it"),
    }
}

fn errand_of(word: &str, body: &[u8]) -> Result<Errand, Said> {
    match word {
        "introspect" => Ok(Errand::Introspect),
        "disconnect" => Ok(Errand::Disconnect),
        "reauth-link" if body.trim_ascii().is_empty() => Ok(Errand::ReauthLink { redirect_uri: None }),
        "reauth-link" => match RawObject::parse(body) {
            Some(object) => Ok(Errand::ReauthLink { redirect_uri: object.text("redirect_uri") }),
            None => Err(problem(
                400,
                "the body is one JSON object, such as {\"redirect_uri\": \"https://…\"}, or nothing",
            )),
        },
        _ => Err(problem(404, "there is introspect, reauth-link and disconnect")),
    }
}

fn connection_id(part: &str) -> Option<ConnectionId> {
    ConnectionId::new(decoded(part)?).ok()
}

/// The text behind percent signs (a plus sign is a plus sign here); `None` when they are not followed by what they need.
pub(in crate::doors) fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn unknown() -> Said {
    of_vault(&VaultError::UnknownConnection)
}

pub(super) fn of_vault(error: &VaultError) -> Said {
    let status = match error {
        VaultError::UnknownConnection => 404,
        VaultError::Store(_) | VaultError::Damaged(_) => 503,
        VaultError::OtherEnvironment { .. }
        | VaultError::Unreadable { .. }
        | VaultError::TokenElsewhere { .. }
        | VaultError::BelongsToAnother { .. }
        | VaultError::Disconnected { .. }
        | VaultError::Invalid { .. } => 409,
    };
    problem(status, &error.to_string())
}

/// An error of this door's own.
pub(super) fn problem(status: u16, message: &str) -> Said {
    json(status, &serde_json::json!({ "code": status, "message": message }))
}

/// An answer of this door's own.
pub(super) fn json(status: u16, value: &impl Serialize) -> Said {
    match serde_json::to_vec(value) {
        Ok(body) => (status, body),
        Err(_) => (500, b"{\"code\":500,\"message\":\"the answer cannot be written\"}".to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_behind_percent_signs_and_never_guessed() {
        for (text, read) in [
            ("c-1", Some("c-1")),
            ("a%20b%2Fc", Some("a b/c")),
            ("%e2%82%ac", Some("€")),
            ("%", None),
            ("%2", None),
            ("%zz", None),
            ("%ff", None),
        ] {
            assert_eq!(decoded(text).as_deref(), read, "{text}");
        }
    }

    #[test]
    fn its_paths_are_its_own() {
        assert!(is_here("/api/connections") && is_here("/api/connections/c1"));
        assert!(!is_here("/api/connectionsx") && !is_here("/api"));
        assert!(is_errand("/api/connections/c1/disconnect") && !is_errand("/api/connections/c1"));
        assert!(!is_errand("/api/connections/c1/disconnect/now") && !is_errand("/api/webhooks/a/b"));
    }
}

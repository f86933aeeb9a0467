//! How a customer comes in: sessions, the employer's login, and the exchange of a code for a token.

use super::answer::{Answer, Body, Outcome};
use super::call::{Call, query};
use super::invitations::{Purpose, Session};
use super::refusal::{Reason, Refusal};
use super::scenario::Authentication;
use super::world::{Status, TokenState, World};
use crate::types::{Moment, UnixMillis};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The longest life of a session, in minutes (Finch Connect guide).
const MINUTES_MAX: u64 = 129_600;
/// The usual life of a session that repairs a connection (Finch Connect guide).
const REAUTH_MINUTES: u64 = 43_200;
/// The products a session may ask for (Finch API reference).
pub(super) const SCOPES: [&str; 14] = [
    "company",
    "directory",
    "individual",
    "ssn",
    "employment",
    "payment",
    "pay_statement",
    "benefits",
    "deduction",
    "documents",
    "plans",
    "plans_dependents",
    "plans_enrollments",
    "recordkeeping",
];

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::because(Reason::InvalidRequest, message)
}

/// A text member; null counts as left out.
fn text(body: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if (1..=255).contains(&text.chars().count()) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(format!("{name} must be a text of 1 to 255 characters"))),
    }
}

/// A text member that must be there.
pub(super) fn needed(body: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    text(body, name)?.ok_or_else(|| wrong(format!("{name} is required")))
}

/// The scopes asked for. `deduction` is the old name of `benefits`, and both at once is an error.
pub(super) fn scopes(body: &Map<String, Value>) -> Result<Option<Vec<String>>, Refusal> {
    let Some(asked) = body.get("products").filter(|p| !p.is_null()) else { return Ok(None) };
    let asked: Vec<String> =
        serde_json::from_value(asked.clone()).map_err(|_| wrong("products must be a list of texts"))?;
    if let Some(unknown) = asked.iter().find(|p| !SCOPES.contains(&p.as_str())) {
        return Err(wrong(format!("{unknown:?} is no product")));
    }
    if ["benefits", "deduction"].iter().all(|name| asked.iter().any(|p| p == name)) {
        return Err(wrong("benefits and deduction are the same product"));
    }
    Ok(Some(asked))
}

fn life(body: &Map<String, Value>, usual: u64) -> Result<Duration, Refusal> {
    let minutes = match body.get("minutes_to_expire").filter(|m| !m.is_null()) {
        None => usual,
        Some(minutes) => minutes
            .as_u64()
            .filter(|m| (1..=MINUTES_MAX).contains(m))
            .ok_or_else(|| wrong("minutes_to_expire must be 1 to 129600"))?,
    };
    Ok(Duration::from_secs(minutes * 60))
}

fn invited(world: &mut World, call: &Call<'_>, session: Session) -> Answer {
    let body = json!({
        "session_id": session.id,
        "connect_url": format!("{}/connect/authorize?session={}", call.base_url, session.id),
    });
    world.invitations.invite(session);
    Answer::json(201, body)
}

/// `POST /connect/sessions`
pub(super) fn create_session(world: &mut World, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let integration = body.get("integration").and_then(Value::as_object).cloned().unwrap_or_default();
    let authentication = text(&integration, "auth_method")?
        .map(|word| Authentication::parse(&word).ok_or_else(|| wrong(format!("{word:?} is no auth_method"))))
        .transpose()?;
    let session = Session {
        purpose: Purpose::Connect {
            customer_id: needed(&body, "customer_id")?,
            customer_name: needed(&body, "customer_name")?,
            customer_email: text(&body, "customer_email")?,
        },
        products: scopes(&body)?.filter(|p| !p.is_empty()).ok_or_else(|| wrong("products is required"))?,
        provider: text(&integration, "provider")?,
        authentication,
        redirect_uri: text(&body, "redirect_uri")?,
        expires: call.now + life(&body, MINUTES_MAX)?,
        id: world.new_id("session"),
    };
    Ok(invited(world, call, session))
}

/// `POST /connect/sessions/reauthenticate`
pub(super) fn reauthenticate_session(world: &mut World, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let wanted = needed(&body, "connection_id")?;
    let connection = world
        .connections
        .iter()
        .position(|c| c.id == wanted && c.status != Status::Disconnected)
        .ok_or_else(|| Refusal::because(Reason::NotFound, "No such connection"))?;
    let session = Session {
        purpose: Purpose::Reauthenticate { connection },
        products: scopes(&body)?.unwrap_or_default(),
        provider: None,
        authentication: None,
        redirect_uri: text(&body, "redirect_uri")?,
        expires: call.now + life(&body, REAUTH_MINUTES)?,
        id: world.new_id("session"),
    };
    Ok(invited(world, call, session))
}

/// `GET /connect/authorize`: the employer opens the link, picks a provider and logs in.
///
/// Not a part of Finch's API; it stands where Finch's page would be. `provider` and `state` may be given.
pub(super) fn authorize(world: &mut World, raw_query: &str, now: Moment) -> Answer {
    let params = query(raw_query);
    let param = |name: &str| params.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let Some(mut session) = param("session").and_then(|id| world.invitations.session(&id, now)) else {
        return Refusal::because(Reason::NotFound, "The link is unknown or too old; make a new session")
            .into();
    };
    session.provider = session.provider.or_else(|| param("provider"));
    let state = param("state");
    let redirect_uri = session.redirect_uri.clone();
    let code = world.new_id("code");
    let code = world.invitations.accept(session, code, now);
    let Some(redirect_uri) = redirect_uri else {
        return Answer::ok(json!({ "code": code, "state": state }));
    };
    let joint = if redirect_uri.contains('?') { '&' } else { '?' };
    let state = state.map(|s| format!("&state={}", escape(&s))).unwrap_or_default();
    Answer {
        status: 302,
        body: Body::Empty,
        freshness: None,
        headers: vec![("location".to_owned(), format!("{redirect_uri}{joint}code={code}{state}"))],
    }
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

/// `POST /auth/token`
pub(super) fn create_access_token(world: &mut World, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let own = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    if !world.knows_client(own("client_id"), own("client_secret")) {
        return Err(Reason::InvalidClient.into());
    }
    let code = needed(&body, "code")?;
    let redirect_uri = text(&body, "redirect_uri")?;
    let session = world.invitations.spend(&code, redirect_uri.as_deref(), call.now)?;
    let (connection, products) = redeem(world, session, call.wall)?;
    let access_token = world.issue(connection, products, None)?;
    Ok(Answer::ok(token_answer(world, &access_token)))
}

/// What a login leads to: a new connection, one more token of an old one, or a repaired one.
fn redeem(world: &mut World, session: Session, wall: UnixMillis) -> Result<(usize, Vec<String>), Refusal> {
    match session.purpose {
        Purpose::Connect { customer_id, customer_name, customer_email } => {
            let provider = match session.provider {
                Some(provider) => provider,
                None => world.usual_provider(&customer_id),
            };
            let who = (Some(customer_id), Some(customer_name), customer_email);
            let place = world.connect_again(who, &provider, session.authentication, wall)?;
            Ok((place, session.products))
        }
        Purpose::Reauthenticate { connection } => {
            if world.connections.get(connection).is_none_or(|c| c.status == Status::Disconnected) {
                return Err(Refusal::because(Reason::InvalidGrant, "The connection is disconnected"));
            }
            let before = world.tokens_of(connection).first().map(|(_, token)| token.products.clone());
            world.end_tokens(connection, TokenState::Replaced);
            let repaired = &mut world.connections[connection];
            repaired.status = Status::Connected;
            for entity in repaired.entities.iter_mut().filter(|e| e.status != Status::Disconnected) {
                entity.status = Status::Connected;
            }
            let asked = Some(session.products).filter(|p| !p.is_empty());
            Ok((connection, asked.or(before).unwrap_or_default()))
        }
    }
}

/// Every field of the Finch Connect guide.
pub(super) fn token_answer(world: &World, access_token: &str) -> Value {
    let Some(token) = world.token(access_token) else { return Value::Null };
    let connection = &world.connections[token.connection];
    json!({
        "access_token": access_token,
        "token_type": "bearer",
        "connection_id": connection.id,
        "client_type": world.environment.as_str(),
        "connection_type": connection_type(world),
        "products": token.products,
        "provider_id": connection.provider,
        "entity_ids": connection.entities.iter().map(|e| &e.id).collect::<Vec<_>>(),
        "customer_id": connection.customer_id,
        "customer_name": connection.customer_name,
        "company_id": connection.company_id,
        "account_id": connection.account_id,
    })
}

/// Finch's `connection_type`: its own sandbox, or a provider.
pub(super) fn connection_type(world: &World) -> &'static str {
    match world.environment {
        crate::types::Environment::Sandbox => "finch",
        crate::types::Environment::Production | crate::types::Environment::Development => "provider",
    }
}

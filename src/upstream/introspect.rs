//! `/introspect`: whose token this is, in Finch's own words.

use super::{Answer, Attempt, Body, Connected, SendError};
use crate::finch::endpoints::{Method, find};
use crate::finch::error::FinchError;
use crate::policy::redact::Secrets;
use crate::policy::{Class, class, headers};
use crate::types::AccessToken;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

/// What Finch tells of a token; everything may be missing (Finch API reference, Introspect).
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Introspection {
    /// The connection.
    pub connection_id: Option<String>,
    /// The customer given to the session that made it.
    pub customer_id: Option<String>,
    /// The company.
    pub company_id: Option<String>,
    /// The employment system.
    pub provider_id: Option<String>,
    /// `production`, `development` or `sandbox`.
    pub client_type: Option<String>,
    /// Granted scopes.
    pub products: Vec<String>,
    /// The legal entities.
    pub entities: Option<Vec<EntityRef>>,
    /// How the connection is.
    pub connection_status: Option<StatusRef>,
    /// Its ways in, each with a status of its own.
    pub authentication_methods: Option<Vec<MethodRef>>,
}

impl Introspection {
    /// The word for the connection as a whole.
    pub fn status(&self) -> Option<&str> {
        self.connection_status.as_ref().map(|s| s.status.as_str())
    }

    /// The words for its ways in.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        let each = self.authentication_methods.iter().flatten();
        each.filter_map(|method| method.connection_status.as_ref()).map(|s| s.status.as_str())
    }
}

/// One way in: a login, a token, an assistant.
#[derive(Debug, Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct MethodRef {
    /// How it is.
    pub connection_status: Option<StatusRef>,
}

/// One legal entity.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct EntityRef {
    /// Its id.
    pub id: String,
    /// How it is: the words of a connection, and `disconnected`.
    #[serde(default)]
    pub status: Option<String>,
}

impl EntityRef {
    /// Whether the connection no longer reaches it.
    pub fn is_gone(&self) -> bool {
        self.status.as_deref() == Some("disconnected")
    }
}

/// How a connection is.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct StatusRef {
    /// `connected`, `reauth`, `pending` and others; Finch may add more.
    pub status: String,
}

/// Why Finch did not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntrospectError {
    /// No answer.
    Unanswered(SendError),
    /// An answer with this status. A 401 says that Finch does not take the token.
    Refused(u16),
    /// A 401 that is about something else than the token.
    Unwell(Class),
    /// An answer that is not what it should be.
    Unreadable,
}

impl std::fmt::Display for IntrospectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IntrospectError::Unanswered(SendError::Unreachable(why)) => {
                write!(f, "Finch could not be reached: {why}")
            }
            IntrospectError::Unanswered(_) => f.write_str("Finch did not answer"),
            IntrospectError::Refused(401) => f.write_str("Finch does not accept the token (401)"),
            IntrospectError::Unwell(class) => write!(f, "Finch answered 401 ({})", class.as_str()),
            IntrospectError::Refused(status) => write!(f, "Finch answered {status}"),
            IntrospectError::Unreadable => f.write_str("Finch's answer cannot be read"),
        }
    }
}

/// The largest answer that is read: Finch's is a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Asks Finch whose token this is, over a connection for which the caller has spent an admission.
/// `arrived` is told how the sending ended: with the head of an answer, or without one.
///
/// # Errors
/// [`IntrospectError`].
pub async fn introspect(
    connected: Connected<'_>,
    token: &AccessToken,
    trace: Option<HeaderMap>,
    arrived: impl FnOnce(Option<&Answer>),
) -> Result<Introspection, IntrospectError> {
    let mut headers = headers::to_finch(&HeaderMap::new());
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| IntrospectError::Unreadable)?;
    bearer.set_sensitive(true);
    headers.insert(AUTHORIZATION, bearer);
    headers.extend(trace.unwrap_or_default());
    let attempt = Attempt { method: "GET", target: "/introspect".to_owned(), headers, body: Bytes::new() };
    let mut sent = connected.send(&attempt).await;
    // What is told here is stored and logged: the token must not come back as an id or a status.
    let secrets = Secrets::new([token.expose().as_bytes()]);
    if let Ok(answer) = &mut sent {
        secrets.take_out_of_headers(&mut answer.headers);
    }
    arrived(sent.as_ref().ok());
    let answer = sent.map_err(IntrospectError::Unanswered)?;
    match answer.status {
        200 => {}
        401 => return Err(refused(answer).await),
        status => return Err(IntrospectError::Refused(status)),
    }
    match answer.rest.read(ANSWER_BYTES_MAX).await {
        Ok(Body::Whole(mut body)) => {
            secrets.take_out_of_body(&mut body);
            serde_json::from_slice(&body).map_err(|_| IntrospectError::Unreadable)
        }
        Ok(Body::Larger(..)) | Err(_) => Err(IntrospectError::Unreadable),
    }
}

/// What a 401 is about. One whose body does not come says nothing of the token.
async fn refused(answer: Answer) -> IntrospectError {
    let Ok(Body::Whole(body)) = answer.rest.read(ANSWER_BYTES_MAX).await else {
        return IntrospectError::Unreadable;
    };
    let Some(endpoint) = find(Method::Get, "/introspect") else { return IntrospectError::Refused(401) };
    match class::of_answer(endpoint, 401, &FinchError::read(&body)) {
        Class::Disconnected => IntrospectError::Refused(401),
        other => IntrospectError::Unwell(other),
    }
}

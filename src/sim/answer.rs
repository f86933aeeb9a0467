//! What goes back: a status, a body, and Finch's headers.

use super::refusal::Refusal;
use crate::finch::headers as names;
use crate::types::UnixMillis;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::Value;

/// The result of carrying a request out.
pub(super) type Outcome = Result<Answer, Refusal>;

/// The body of an answer.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// JSON, and said to be.
    Json(Value),
    /// Text.
    Text(String),
    /// Nothing, and no content type either.
    Empty,
}

/// How fresh the data is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Freshness {
    pub(super) retrieved: UnixMillis,
    pub(super) attempted: UnixMillis,
    pub(super) result: &'static str,
}

/// An answer before it is written as HTTP.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Body,
    pub(super) freshness: Option<Freshness>,
    pub(super) headers: Vec<(String, String)>,
}

impl Answer {
    /// JSON with a status.
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, body: Body::Json(body), freshness: None, headers: Vec::new() }
    }

    /// JSON with 200.
    pub(super) fn ok(body: Value) -> Self {
        Self::json(200, body)
    }

    /// Writes it as HTTP under Finch's name for the request.
    pub(super) fn write(self, finch_request_id: &str) -> Response<Bytes> {
        let (body, kind) = match self.body {
            Body::Json(value) => (Bytes::from(value.to_string()), Some("application/json")),
            Body::Text(text) => (Bytes::from(text), Some("text/plain")),
            Body::Empty => (Bytes::new(), None),
        };
        let mut response = Response::new(body);
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let mut set = |name: &str, value: &str| {
            let name = http::HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        };
        set(names::FINCH_REQUEST_ID, finch_request_id);
        if let Some(fresh) = self.freshness {
            set(names::FINCH_DATA_RETRIEVED, &fresh.retrieved.to_string());
            set(names::FINCH_LAST_ATTEMPTED_UPDATE_DATE, &fresh.attempted.to_string());
            set(names::FINCH_LAST_ATTEMPTED_UPDATE_RESULT, fresh.result);
        }
        for (name, value) in &self.headers {
            set(name, value);
        }
        response
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        use super::refusal::Reason;
        let status = refusal.reason.status();
        let body = match refusal.reason {
            Reason::Accepted => Body::Empty,
            Reason::Disconnected => Body::Text("Unauthorized".to_owned()),
            reason => Body::Json(reason.body(refusal.message.as_deref())),
        };
        Self { status, body, freshness: None, headers: Vec::new() }
    }
}

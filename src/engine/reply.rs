//! classify and answer: from what Finch said to what the app reads.

use super::Engine;
use super::attempt::brings_token;
use super::call::{Answer, AnswerBody, Call, Caller, Identity};
use super::holding::Share;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::error::FinchError;
use crate::finch::headers::{
    PERCH_ATTEMPTS, PERCH_CLASS, PERCH_REQUEST_ID, PERCH_WAIT_MS, RATE_LIMIT, RATE_LIMIT_POLICY, SHOULD_RETRY,
};
use crate::limit::headers as limits;
use crate::policy::redact::Secrets;
use crate::policy::resend::Resend;
use crate::policy::{Class, Refusal, headers};
use crate::telemetry::AccessLine;
use crate::types::json::RawObject;
use crate::types::{Product, RequestId};
use crate::upstream::{self, Body, ReadError};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::value::RawValue;
use tokio::time::Instant;

/// The longest error body that is read: Finch's are a few hundred bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Finch's answer, its secrets taken out.
pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// What of the body was too much to hold, and what must not be in it.
    pub(super) rest: Option<(Box<upstream::Rest>, Secrets)>,
    /// What it may hold of memory.
    pub(super) share: Share,
}

impl Engine {
    /// Reads Finch's answer to its end, or as far as it is looked into.
    pub(super) async fn hear(
        &self,
        answer: upstream::Answer,
        secrets: Secrets,
        line: &mut AccessLine,
    ) -> Result<Heard, Refusal> {
        let status = answer.status;
        if (300..400).contains(&status) {
            return Err(Refusal::BadAnswer("it redirects, and perch sends a token nowhere else"));
        }
        let is_good = (200..300).contains(&status);
        let bytes_max = if is_good { self.settings.now().inspect_bytes_max } else { ERROR_BYTES_MAX };
        let began = Instant::now();
        let mut share = self.held.answered.share();
        let one_max = self.settings.now().inspect_bytes_max;
        let mut read = answer.rest.read_while(|bytes| bytes <= bytes_max && share.grow(bytes, one_max)).await;
        // What is streamed for want of room tells less and may cost a second request: a moment's wait is cheaper.
        while let Ok(Body::Larger(body, rest)) = read {
            if body.len() > bytes_max || !share.grow_in_time(body.len(), one_max).await {
                read = Ok(Body::Larger(body, rest));
                break;
            }
            read = rest.read_on(body, |bytes| bytes <= bytes_max && share.grow(bytes, one_max)).await;
        }
        line.finch += began.elapsed();
        line.timeline.extend_attempt();
        let (mut body, rest) = match read {
            Ok(Body::Whole(body)) => (body, None),
            Ok(Body::Larger(body, rest)) => (body, Some(rest)),
            Err(ReadError::Broken) => return Err(Refusal::Broken("the answer broke off")),
            Err(ReadError::TimedOut) => return Err(Refusal::TimedOut),
        };
        if secrets.take_out_of_body(&mut body) {
            self.telemetry.redacted();
        }
        if !is_good {
            self.telemetry.finch_error(&FinchError::read(&body));
        }
        let rest = rest.map(|rest| (rest, secrets));
        Ok(Heard { status, headers: answer.headers, body, rest, share })
    }

    /// Makes the app's answer out of Finch's.
    pub(super) async fn reply(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        caller: &Caller,
        identity: &Identity,
        heard: Heard,
        line: &mut AccessLine,
    ) -> Result<Answer, Refusal> {
        let Heard { status, headers, body, rest, share } = heard;
        let is_good = (200..300).contains(&status);
        if is_good && brings_token(endpoint.operation) {
            // Whatever the exchange brings stays here; an answer too large to be one is none.
            return self.keep_token((call, endpoint), caller, status, &headers, body, line).await;
        }
        let retry_after = limits::read_retry_after(&headers);
        let headers = headers::to_app(&headers, !body.is_empty());
        let mut out = match is_good {
            true => {
                // What an app asks about its connection, perch hears too.
                let told =
                    if endpoint.operation == Operation::Introspect { body.clone() } else { Vec::new() };
                let out = self.good(endpoint, caller, (status, headers, body, share), rest, line);
                self.served(identity);
                // One item with data shows as well as a whole answer that the login works.
                let class = match line.batch.filter(|_| line.class == Class::Partial) {
                    Some(batch) if batch.has_good() => Class::Ok,
                    _ => line.class,
                };
                self.note_connection((call, endpoint), identity, class, &told).await;
                out
            }
            false => self.bad((call, endpoint), identity, (status, headers, body), retry_after, line).await,
        };
        self.sign(&mut out, line);
        Ok(out)
    }

    /// What stands on every answer.
    pub(super) fn sign(&self, answer: &mut Answer, line: &mut AccessLine) {
        line.status = answer.status.as_u16();
        let headers = &mut answer.headers;
        put(headers, PERCH_REQUEST_ID, line.request_id.as_str());
        put(headers, PERCH_CLASS, line.class.as_str());
        put(headers, PERCH_ATTEMPTS, &line.attempts.to_string());
        put(headers, PERCH_WAIT_MS, &line.wait.as_millis().to_string());
        if let Some(product) = Product::parse(line.product)
            && let Some(standing) = self.quota.standing(product)
        {
            put(headers, RATE_LIMIT_POLICY, &limits::policy(product, &standing));
            put(headers, RATE_LIMIT, &limits::limit(product, &standing));
        }
    }
}

/// An answer of perch's own.
pub(super) fn own(status: u16, body: Vec<u8>) -> Answer {
    let mut headers = HeaderMap::new();
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Answer { status: code(status), headers, body: AnswerBody::Whole(Bytes::from(body)), closes: false }
}

/// What the client should do, in the words its SDK obeys.
pub(super) fn advise(headers: &mut HeaderMap, resend: Resend) {
    match resend {
        Resend::No | Resend::Later => put(headers, SHOULD_RETRY, "false"),
        Resend::Yes => put(headers, SHOULD_RETRY, "true"),
        Resend::After(seconds) => put(headers, RETRY_AFTER.as_str(), &seconds.to_string()),
        Resend::AsYouLike => {}
    }
}

/// Sets a header; a value that no header can hold is left out.
pub(super) fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
        headers.insert(name, value);
    }
}

pub(super) fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
}

/// An error's body with another request id: support asks for the call's own.
pub(super) fn with_request_id(body: &Bytes, request_id: &RequestId) -> Bytes {
    let change = || {
        let mut object = RawObject::parse(body)?;
        let mut perch = RawObject::parse(object.get("perch")?.get().as_bytes())?;
        perch.set("request_id", &request_id.as_str());
        let perch: Box<RawValue> = serde_json::from_slice(&perch.to_bytes()).ok()?;
        object.set("perch", &perch);
        Some(object.to_bytes().into())
    };
    change().unwrap_or_else(|| body.clone())
}

//! classify and answer: from what Finch said to what the app reads.

use super::Engine;
use super::attempt::brings_token;
use super::call::{self, Answer, AnswerBody, Caller, Identity, Verdict};
use super::relay::Relay;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::error::FinchError;
use crate::finch::headers::{
    PERCH_ATTEMPTS, PERCH_BATCH, PERCH_CLASS, PERCH_REQUEST_ID, PERCH_WAIT_MS, RATE_LIMIT, RATE_LIMIT_POLICY,
    SHOULD_RETRY,
};
use crate::limit::{Scope, headers as limits};
use crate::policy::class::LimitedBy;
use crate::policy::problem::Relayed;
use crate::policy::redact::Secrets;
use crate::policy::resend::{self, Resend};
use crate::policy::{Class, Refusal, batch, class, headers};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::Product;
use crate::upstream::{self, Body, ReadError};
use crate::vault::Status;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest error body that is read: Finch's are a few hundred bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// How long everything, or connecting alone, stops after Finch has blocked the egress IP ("Finch rate-limit guide").
const IP_PENALTY: Duration = Duration::from_secs(60 * 60);

/// Finch's answer, its secrets taken out.
pub(super) struct Heard {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    /// What of the body was too much to hold, and what must not be in it.
    rest: Option<(Box<upstream::Rest>, Secrets)>,
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
        let bytes_max = if is_good { self.settings.inspect_bytes_max } else { ERROR_BYTES_MAX };
        let began = Instant::now();
        let read = answer.rest.read(bytes_max).await;
        line.finch += began.elapsed();
        let (mut body, rest) = match read {
            Ok(Body::Whole(body)) => (body, None),
            Ok(Body::Larger(body, rest)) => (body, Some(rest)),
            Err(ReadError::Broken) => return Err(Refusal::Broken("the answer broke off")),
            Err(ReadError::TimedOut) => return Err(Refusal::TimedOut),
        };
        if secrets.take_out_of_body(&mut body) {
            self.telemetry.redacted();
        }
        let rest = rest.map(|rest| (rest, secrets));
        Ok(Heard { status, headers: answer.headers, body, rest })
    }

    /// Whether Finch refused for the product's limit. If so the ledger learns it.
    pub(super) fn is_product_limit(&self, endpoint: &Endpoint, heard: &Heard) -> bool {
        if heard.status != 429 || heard.headers.contains_key(CONTENT_ENCODING) {
            return false;
        }
        let error = FinchError::read(&heard.body);
        if LimitedBy::of(&error) != LimitedBy::Product {
            return false;
        }
        self.telemetry.metrics.refused_by_finch(error.finch_code.as_deref());
        warn_of_429(endpoint.product, LimitedBy::Product, error.finch_code.as_deref());
        self.quota.limited(endpoint.product, limits::read_retry_after(&heard.headers));
        true
    }

    /// Makes the app's answer out of Finch's.
    pub(super) async fn reply(
        &self,
        endpoint: &Endpoint,
        caller: &Caller,
        identity: &Identity,
        heard: Heard,
        line: &mut AccessLine,
    ) -> Result<Answer, Refusal> {
        let Heard { status, headers, body, rest } = heard;
        let is_good = (200..300).contains(&status);
        if is_good && brings_token(endpoint.operation) {
            // Whatever the exchange brings stays here; an answer too large to be one is none.
            return self.keep_token(endpoint, caller, status, &headers, body, line).await;
        }
        let retry_after = limits::read_retry_after(&headers);
        let headers = headers::to_app(&headers, !body.is_empty());
        let mut out = match is_good {
            true => self.good(endpoint, status, headers, body, rest, line),
            false => self.bad(endpoint, (status, headers, body), retry_after, line),
        };
        self.note_connection(endpoint, identity, line.class).await;
        self.sign(&mut out, line);
        Ok(out)
    }

    fn good(
        &self,
        endpoint: &Endpoint,
        status: u16,
        mut headers: HeaderMap,
        body: Vec<u8>,
        rest: Option<(Box<upstream::Rest>, Secrets)>,
        line: &mut AccessLine,
    ) -> Answer {
        line.class = class::of_answer(endpoint, status, &FinchError::default());
        // An encoded body was not asked for, and cannot be looked into.
        line.uninspected = rest.is_some() || headers.contains_key(CONTENT_ENCODING);
        if rest.is_none()
            && let Some(report) = endpoint.batch.and_then(|shape| batch::inspect(&shape, &body))
        {
            line.batch = Some(report);
            put(&mut headers, PERCH_BATCH, &report.to_string());
            if line.class == Class::Ok && !report.is_whole() {
                line.class = Class::Partial;
            }
        }
        let body = match rest {
            None => AnswerBody::Whole(body.into()),
            Some((rest, secrets)) => {
                let telemetry = Arc::clone(&self.telemetry);
                AnswerBody::Streamed(Box::new(Relay::new(body, rest, secrets, telemetry)))
            }
        };
        Answer { status: code(status), headers, body, closes: false }
    }

    fn bad(
        &self,
        endpoint: &Endpoint,
        (status, mut headers, body): (u16, HeaderMap, Vec<u8>),
        retry_after: Option<Duration>,
        line: &mut AccessLine,
    ) -> Answer {
        // An encoded error was not asked for; it is not inflated, whatever it says.
        let body = if headers.remove(CONTENT_ENCODING).is_some() { Vec::new() } else { body };
        let error = FinchError::read(&body);
        line.class = class::of_answer(endpoint, status, &error);
        line.finch_code = error.finch_code.clone().map(|c| c.chars().take(64).collect());
        let verdict = self.verdict(endpoint, &error, line.class, retry_after);
        let resend = resend::of_outcome(Some(endpoint), verdict.class, status, verdict.wait);
        let relayed =
            Relayed { class: verdict.class, status, resend, wait: verdict.wait, scope: verdict.scope };
        let body = relayed.to_body(&body, call::evidence(line, unix_now()));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        advise(&mut headers, resend);
        Answer { status: code(status), headers, body: AnswerBody::Whole(body.into()), closes: false }
    }

    /// What an error means for those who come after: a limit holds its whole scope.
    fn verdict(
        &self,
        endpoint: &Endpoint,
        error: &FinchError,
        class: Class,
        retry_after: Option<Duration>,
    ) -> Verdict {
        if class != Class::RateLimited {
            return Verdict { class, wait: None, scope: None };
        }
        let by = LimitedBy::of(error);
        let (holds, wait): (&[Scope], _) = match by {
            // The ledger was told when the answer was heard.
            LimitedBy::Product => {
                let rest = self.quota.standing(endpoint.product).map(|standing| standing.next_free_in);
                (&[], Some(rest.unwrap_or(Duration::from_secs(5))))
            }
            LimitedBy::Ip => (&[Scope::EgressIp], Some(retry_after.unwrap_or_default().max(IP_PENALTY))),
            LimitedBy::Auth => {
                (&[Scope::Product(Product::Connect), Scope::Product(Product::Auth)], Some(IP_PENALTY))
            }
            LimitedBy::Provider => (&[], Some(Duration::from_secs(60))),
            LimitedBy::RefreshQuota => (&[], None),
        };
        if !matches!(by, LimitedBy::RefreshQuota | LimitedBy::Product) {
            self.telemetry.metrics.refused_by_finch(error.finch_code.as_deref());
            warn_of_429(endpoint.product, by, error.finch_code.as_deref());
        }
        if let Some(wait) = wait {
            for scope in holds {
                self.quota.hold(*scope, wait);
            }
        }
        Verdict { class, wait, scope: Some(by.as_str()) }
    }

    /// What an answer tells about the connection itself.
    async fn note_connection(&self, endpoint: &Endpoint, identity: &Identity, class: Class) {
        let Identity::Connection(entry) = identity else { return };
        let id = &entry.facts.connection_id;
        let noted = match class {
            Class::ReauthenticationRequired if entry.facts.status != Status::NeedsReauth => {
                self.vault.note_reauthentication(id, entry.facts.version, unix_now()).await
            }
            Class::Ok if endpoint.operation == Operation::Disconnect => {
                self.vault.mark_disconnected(id, unix_now()).await
            }
            _ => return,
        };
        if let Err(error) = noted {
            tracing::warn!(error = %error, connection.id = %id, "could not note the status of connection {id}");
        }
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

/// Said at every 429 that perch should have prevented.
fn warn_of_429(product: Product, by: LimitedBy, finch_code: Option<&str>) {
    tracing::warn!(
        scope = by.as_str(),
        product = product.as_str(),
        finch_code = finch_code.unwrap_or("none").chars().take(64).collect::<String>(),
        "Finch refused a call for a limit that perch keeps; somebody else may use the same application or address"
    );
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
        Resend::No => put(headers, SHOULD_RETRY, "false"),
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

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY)
}

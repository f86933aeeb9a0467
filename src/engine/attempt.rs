//! inject and attempt: one admission, one sending, one outcome.

use super::Engine;
use super::call::{Call, Caller, Client, Ended, Identity};
use super::quota::{AskFacts, Permit, Refusal as QuotaRefusal};
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::headers::FINCH_REQUEST_ID;
use crate::limit::{Reason, Tag};
use crate::policy::redact::Secrets;
use crate::policy::{Refusal, headers};
use crate::telemetry::AccessLine;
use crate::types::FinchRequestId;
use crate::types::json::RawObject;
use crate::upstream::{Answer, Attempt, SendError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use std::time::Duration;
use tokio::time::Instant;

impl Engine {
    /// Waits for quota until the call's patience ends or its client leaves.
    pub(super) async fn admit(
        &self,
        endpoint: &Endpoint,
        caller: &Caller,
        (tag, patience): (Option<Tag>, Duration),
        client: &mut Client,
        line: &mut AccessLine,
    ) -> Result<Permit, Ended> {
        let began = Instant::now();
        let ask = ask_of(endpoint, caller, (tag, patience), line);
        let admitted = tokio::select! {
            biased;
            admitted = self.quota.admit(ask) => admitted.map_err(|refusal| Ended::Refused(self.refused(endpoint, &refusal))),
            () = client.gone() => Err(Ended::Abandoned),
        };
        line.wait += began.elapsed();
        admitted
    }

    /// What a refusal of the ledger is to the app.
    pub(super) fn refused(&self, endpoint: &Endpoint, refusal: &QuotaRefusal) -> Refusal {
        let product = endpoint.product;
        match refusal {
            QuotaRefusal::Draining => Refusal::Draining,
            QuotaRefusal::Limited { retry_in, scope, reason, .. } => match reason {
                Reason::Quota | Reason::Hold | Reason::Learning => {
                    Refusal::Limited { product, scope: scope.as_str(), wait: *retry_in }
                }
                Reason::NoLedger => {
                    self.telemetry.metrics.no_ledger.inc();
                    Refusal::NoLedger { wait: *retry_in }
                }
                Reason::QueueFull | Reason::CustomerQueueFull => Refusal::QueueFull { product },
            },
        }
    }

    /// The request as Finch gets it.
    pub(super) fn inject(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        identity: &Identity,
    ) -> Result<Attempt, Refusal> {
        let target = match &call.query {
            Some(query) => format!("{}?{query}", call.path),
            None => call.path.clone(),
        };
        let mut headers = headers::to_finch(&call.headers);
        let mut body = call.body.clone();
        let authorization = match identity {
            Identity::Connection(entry) => match &entry.token {
                Some(token) => Some(format!("Bearer {}", token.expose())),
                None => return Err(Refusal::Disconnected(entry.facts.connection_id.clone())),
            },
            Identity::Brought(token) => {
                self.telemetry.metrics.passed_through.inc();
                Some(format!("Bearer {}", token.expose()))
            }
            Identity::Application => {
                headers.insert(AUTHORIZATION, self.basic()?);
                None
            }
            Identity::InBody => {
                body = self.with_credentials(&call.body)?;
                None
            }
            Identity::Nobody => None,
        };
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, secret_value(authorization)?);
        }
        if !body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(Attempt { method: endpoint.method.as_str(), target, headers, body })
    }

    /// How the application shows who it is.
    pub(super) fn basic(&self) -> Result<HeaderValue, Refusal> {
        let (id, secret) = (&self.settings.client_id, self.settings.client_secret.expose());
        secret_value(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
    }

    /// The body of a code exchange with perch's credentials in place of whatever the app put there.
    fn with_credentials(&self, body: &[u8]) -> Result<Bytes, Refusal> {
        let mut object = RawObject::parse(body).ok_or(Refusal::BodyNotAnObject)?;
        object.set("client_id", &self.settings.client_id);
        object.set("client_secret", &self.settings.client_secret.expose());
        // One code, the one that the journal knows: of two, Finch might take the other.
        if let Some(code) = object.text("code") {
            object.set("code", &code);
        }
        Ok(object.to_bytes().into())
    }

    /// What must not come back: what the attempt authorizes itself with, and the application's secret.
    pub(super) fn secrets(&self, attempt: &Attempt) -> Secrets {
        let shown = attempt.headers.get(AUTHORIZATION).map(|value| {
            let value = value.as_bytes();
            value.iter().position(|b| *b == b' ').map_or(value, |at| &value[at + 1..])
        });
        Secrets::new(shown.into_iter().chain([self.settings.client_secret.expose().as_bytes()]))
    }

    /// Sends once. The permit is given back only when not a byte was written.
    pub(super) async fn attempt(
        &self,
        attempt: &Attempt,
        secrets: &Secrets,
        mut permit: Permit,
        line: &mut AccessLine,
    ) -> Result<Answer, SendError> {
        let began = Instant::now();
        let connected = match self.finch.connect().await {
            Ok(connected) if permit.is_good().await => connected,
            // The permit's time ran out while the connection was made.
            Ok(_) => {
                permit.refund();
                line.finch += began.elapsed();
                return Err(SendError::Unreachable("connecting took too long"));
            }
            Err(error) => {
                permit.refund();
                line.finch += began.elapsed();
                return Err(error);
            }
        };
        let mut sent = connected.send(attempt).await;
        permit.arrived(sent.as_ref().is_ok_and(|answer| answer.status == 429));
        line.finch += began.elapsed();
        line.attempts += 1;
        self.telemetry.metrics.attempt(line.product, sent.as_ref().ok().map(|answer| answer.status));
        // Before anything of the head goes to the log.
        if let Ok(answer) = &mut sent {
            if secrets.take_out_of_headers(&mut answer.headers) {
                self.telemetry.redacted();
            }
            note_id(answer, line);
        }
        sent
    }
}

/// What the ledger is asked for a call.
pub(super) fn ask_of(
    endpoint: &Endpoint,
    caller: &Caller,
    (tag, patience): (Option<Tag>, Duration),
    line: &AccessLine,
) -> AskFacts {
    let (product, customer, priority) = (endpoint.product, line.customer.clone(), caller.priority);
    AskFacts { product, customer, priority, patience, tag }
}

/// A token that is no header value could not have come from Finch.
fn secret_value(text: String) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::try_from(text).map_err(|_| Refusal::Fault)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Keeps Finch's id of an attempt: what its support asks for first.
pub(super) fn note_id(answer: &Answer, line: &mut AccessLine) {
    if let Some(id) = answer.headers.get(FINCH_REQUEST_ID).and_then(|v| v.to_str().ok())
        && let Ok(id) = FinchRequestId::new(id)
    {
        line.saw(id);
    }
}

/// What the app reads when no answer was had.
pub(super) fn unanswered(error: SendError) -> Refusal {
    match error {
        SendError::Unreachable(why) => Refusal::Unreachable(why),
        SendError::Broken { why, .. } => Refusal::Broken(why),
        SendError::TimedOut => Refusal::TimedOut,
        SendError::BadAnswer(why) => Refusal::BadAnswer(why),
    }
}

/// Whether the answer of this operation brings a token.
pub(super) const fn brings_token(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::CreateAccessToken | Operation::SandboxCreateConnection | Operation::SandboxCreateAccount
    )
}

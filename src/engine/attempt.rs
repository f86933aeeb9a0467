//! inject and attempt: one admission, one sending, one outcome.

use super::Engine;
use super::call::{Call, Caller, Client, Ended, Identity};
use super::quota::{AskFacts, Permit, Refusal as QuotaRefusal};
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::headers::FINCH_REQUEST_ID;
use crate::limit::{Reason, Standing, Tag};
use crate::policy::redact::Secrets;
use crate::policy::{Refusal, headers};
use crate::telemetry::AccessLine;
use crate::telemetry::timeline::{Awaited, Did, Limiter};
use crate::types::json::RawObject;
use crate::types::{FinchRequestId, Priority, Product};
use crate::upstream::{Answer, Attempt, SendError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use std::borrow::Cow;
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
            admitted = self.quota.admit(ask) => {
                self.note_wait(endpoint.product, caller.priority, &admitted);
                admitted.map_err(|refusal| Ended::Refused(self.refused(endpoint, &refusal)))
            }
            () = client.gone() => Err(Ended::Abandoned),
            refusal = self.stopped(caller.by, endpoint, &*line) => Err(Ended::Refused(refusal)),
        };
        line.wait += began.elapsed();
        self.waited(began, Awaited::Quota, endpoint.product, admitted.is_ok(), line);
        admitted
    }

    /// Tells how long an attempt has waited for quota, whatever came of it.
    pub(super) fn note_wait(
        &self,
        product: Product,
        priority: Priority,
        admitted: &Result<Permit, QuotaRefusal>,
    ) {
        let waited = match admitted {
            Ok(permit) => permit.waited(),
            Err(QuotaRefusal::Limited { waited, .. }) => *waited,
            Err(QuotaRefusal::Draining) => return,
        };
        self.telemetry.metrics.waited(product, priority, waited);
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

    /// What a call would have been told had it waited for quota itself.
    pub(super) fn out_of_patience(&self, endpoint: &Endpoint) -> Refusal {
        let standing = self.quota.standing(endpoint.product);
        let wait = standing.map_or(Duration::from_secs(1), |standing| standing.next_free_in);
        Refusal::Limited { product: endpoint.product, scope: "product", wait }
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
            Identity::Brought(token) => Some(format!("Bearer {}", token.expose())),
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
        let settings = self.settings.now();
        let (id, secret) = (&settings.client_id, settings.client_secret.expose());
        secret_value(format!("Basic {}", STANDARD.encode(format!("{id}:{secret}"))))
    }

    /// The body of a code exchange with perch's credentials in place of whatever the app put there.
    fn with_credentials(&self, body: &[u8]) -> Result<Bytes, Refusal> {
        let mut object = RawObject::parse(body).ok_or(Refusal::BodyNotAnObject)?;
        let settings = self.settings.now();
        object.set("client_id", &settings.client_id);
        object.set("client_secret", &settings.client_secret.expose());
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
        let settings = self.settings.now();
        // What it was sent with may have been replaced since.
        let own = [Some(&settings.client_secret), settings.client_secret_before.as_ref()];
        let own = own.into_iter().flatten().map(|secret| secret.expose().as_bytes());
        Secrets::new(shown.into_iter().chain(own))
    }

    /// Sends once. The permit is given back only when not a byte was written.
    pub(super) async fn attempt(
        &self,
        attempt: &Attempt,
        secrets: &Secrets,
        mut permit: Permit,
        line: &mut AccessLine,
    ) -> Result<Answer, SendError> {
        let (began, product) = (Instant::now(), permit.product());
        let connected = match self.finch.connect().await {
            Ok(connected) if permit.is_good().await => connected,
            // The permit's time ran out while the connection was made.
            Ok(_) => {
                permit.refund();
                let error = SendError::Unreachable("connecting took too long");
                line.finch += began.elapsed();
                note_attempt(began, product, Err(&error), line);
                return Err(error);
            }
            Err(error) => {
                permit.refund();
                line.finch += began.elapsed();
                note_attempt(began, product, Err(&error), line);
                return Err(error);
            }
        };
        let mut sent = connected.send(&self.traced(attempt, line)).await;
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
        note_attempt(began, product, sent.as_ref(), line);
        sent
    }

    /// The attempt with the trace that it is a part of, where Finch is told.
    fn traced<'a>(&self, attempt: &'a Attempt, line: &AccessLine) -> Cow<'a, Attempt> {
        match self.telemetry.traces.as_ref().and_then(|traces| traces.propagated(line)) {
            None => Cow::Borrowed(attempt),
            Some(headers) => {
                let mut attempt = attempt.clone();
                attempt.headers.extend(headers);
                Cow::Owned(attempt)
            }
        }
    }

    /// Notes a wait that began then and ends now.
    pub(super) fn waited(
        &self,
        began: Instant,
        what: Awaited,
        product: Product,
        is_over: bool,
        line: &mut AccessLine,
    ) {
        let limiter = || {
            let Standing { used, limit, .. } = self.quota.standing(product)?;
            Some(Limiter { limiter: self.quota.mode().as_str(), used, limit })
        };
        let limiter = (what == Awaited::Quota).then(limiter).flatten();
        line.timeline.note(began, Did::Wait { what, is_over, limiter });
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

/// Notes an attempt that began then, with what came of it so far.
pub(super) fn note_attempt(
    began: Instant,
    product: Product,
    sent: Result<&Answer, &SendError>,
    line: &mut AccessLine,
) {
    let (status, failed, finch_request_id) = match sent {
        Ok(answer) => (Some(answer.status), None, id_in(answer)),
        Err(error) => (None, Some(error.why()), None),
    };
    line.timeline.note(began, Did::Attempt { product, status, failed, finch_request_id });
}

/// Keeps Finch's id of an attempt: what its support asks for first.
pub(super) fn note_id(answer: &Answer, line: &mut AccessLine) {
    if let Some(id) = id_in(answer) {
        line.saw(id);
    }
}

fn id_in(answer: &Answer) -> Option<FinchRequestId> {
    let id = answer.headers.get(FINCH_REQUEST_ID)?.to_str().ok()?;
    FinchRequestId::new(id).ok()
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

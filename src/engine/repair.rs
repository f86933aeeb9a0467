//! The failed items of a batch, asked for once more while their call still has patience.
//!
//! Whatever goes wrong here, the first answer stands: it was good.

use super::Engine;
use super::call::{Call, Caller, Client, Identity};
use super::reply::Heard;
use crate::finch::endpoints::{Effect, Endpoint};
use crate::policy::batch::{self, Ask, Merged, Plan, Repair, Sent};
use crate::policy::{freshness, headers};
use crate::telemetry::AccessLine;
use crate::types::{CompanyId, ConnectionId, CustomerId, ProviderId};
use http::header::{CONTENT_ENCODING, ETAG};
use std::time::Duration;

/// What came of a second request; the label of `perch_batch_repairs_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Some items got better.
    Better,
    /// None did.
    Same,
    /// It had no answer that could be used.
    Failed,
    /// It was not sent: no quota in time, no budget, or the connection is another one by now.
    Unsent,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Outcome::Better => "better",
            Outcome::Same => "same",
            Outcome::Failed => "failed",
            Outcome::Unsent => "unsent",
        }
    }
}

impl Engine {
    /// The answer with its failed items asked for once more, where the call wants that and it can help.
    pub(super) async fn repair(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        caller: &Caller,
        mut heard: Heard,
        left: Duration,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Heard {
        let Some(plan) = planned(call, endpoint, caller, &heard) else { return heard };
        let outcome = match self.ask_again(call, endpoint, caller, (&plan, left), (client, &mut *line)).await
        {
            Ok(second) => match merged(&plan, &heard, &second) {
                Some(Merged { body, repaired }) => {
                    heard.body = body;
                    // It named the body that came.
                    heard.headers.remove(ETAG);
                    freshness::keep_older(&mut heard.headers, &second.headers);
                    line.repaired = Some(repaired);
                    Outcome::Better
                }
                None => Outcome::Same,
            },
            Err(outcome) => outcome,
        };
        self.telemetry.metrics.answers.repairs.with_label_values(&[line.product, outcome.as_str()]).inc();
        heard
    }

    /// One more admission, one more attempt.
    async fn ask_again(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        caller: &Caller,
        (plan, left): (&Plan, Duration),
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Heard, Outcome> {
        let before = Whose::of(line);
        let admitted = self.admit(endpoint, caller, (None, left), client, line).await;
        let Ok(permit) = admitted else { return Err(Outcome::Unsent) };
        if !self.may_retry() {
            permit.refund();
            return Err(Outcome::Unsent);
        }
        let narrowed = narrowed(call, &plan.ask);
        // The connection as it is now: items of two connections do not belong into one answer.
        let resolved = self.resolve(call, endpoint, caller, line).await;
        let is_same = Whose::of(line) == before;
        before.restore(line);
        let ready = match resolved {
            Ok(identity) if is_same => {
                self.inject(&narrowed, endpoint, &identity).map(|attempt| (identity, attempt))
            }
            _ => {
                permit.refund();
                return Err(Outcome::Unsent);
            }
        };
        let Ok((identity, attempt)) = ready else {
            permit.refund();
            return Err(Outcome::Unsent);
        };
        let secrets = self.secrets(&attempt);
        let answer = self.attempt(&attempt, &secrets, permit, line).await.map_err(|_| Outcome::Failed)?;
        let heard = self.hear(answer, secrets, line).await.map_err(|_| Outcome::Failed)?;
        match heard.status {
            200..300 => Ok(heard),
            _ => {
                self.learn((call, endpoint), &identity, heard, line).await;
                Err(Outcome::Failed)
            }
        }
    }

    /// An error that no app will read still tells of limits.
    async fn learn(
        &self,
        (call, endpoint): (&Call, &Endpoint),
        identity: &Identity,
        heard: Heard,
        line: &AccessLine,
    ) {
        if self.is_product_limit(endpoint, &heard) {
            return;
        }
        let retry_after = crate::limit::headers::read_retry_after(&heard.headers);
        let headers = headers::to_app(&heard.headers, !heard.body.is_empty());
        let mut aside = AccessLine::begin(line.request_id.clone(), line.ts);
        aside.product = line.product;
        let told = (heard.status, headers, heard.body);
        drop(self.bad((call, endpoint), identity, told, retry_after, &mut aside).await);
    }
}

/// Whom an attempt was for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Whose {
    customer: Option<CustomerId>,
    connection: Option<ConnectionId>,
    company: Option<CompanyId>,
    provider: Option<ProviderId>,
}

impl Whose {
    fn of(line: &AccessLine) -> Self {
        Self {
            customer: line.customer.clone(),
            connection: line.connection_id.clone(),
            company: line.company_id.clone(),
            provider: line.provider.clone(),
        }
    }

    /// The answer is the first one's, so the line is.
    fn restore(self, line: &mut AccessLine) {
        (line.customer, line.connection_id) = (self.customer, self.connection);
        (line.company_id, line.provider) = (self.company, self.provider);
    }
}

/// What would be asked again. Only of reads, and only of an answer that could be looked into.
fn planned(call: &Call, endpoint: &Endpoint, caller: &Caller, heard: &Heard) -> Option<Plan> {
    let is_wanted = caller.repair != Repair::Off && endpoint.effect == Effect::Reads;
    if !is_wanted || !matches!(heard.status, 200 | 207) || !is_plain(heard) {
        return None;
    }
    let sent = Sent { query: call.query.as_deref(), body: &call.body };
    batch::plan(endpoint, caller.repair, sent, &heard.body)
}

fn merged(plan: &Plan, first: &Heard, second: &Heard) -> Option<Merged> {
    if !is_plain(second) {
        return None;
    }
    batch::merge(plan, &first.body, &second.body)
}

/// Whether all of the body is here, as JSON.
fn is_plain(heard: &Heard) -> bool {
    heard.rest.is_none() && !heard.headers.contains_key(CONTENT_ENCODING)
}

/// The call with another body or another query.
fn narrowed(call: &Call, ask: &Ask) -> Call {
    match ask {
        Ask::Body(body) => call.asking(body.clone()),
        Ask::Query(query) => Call { query: Some(query.clone()), ..call.asking(call.body.clone()) },
    }
}

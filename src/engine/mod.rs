//! FLOOR 3: a call's life. [`Engine::run`] reads top to bottom as the call goes; the rooms beside it
//! hold one verb each.

mod attempt;
mod authorize;
mod bad;
mod brakes;
mod cache;
mod call;
mod carry;
mod drain;
mod evidence;
mod exchange;
mod gather;
mod good;
mod holding;
mod join;
pub mod life;
mod link;
mod outlook;
mod own_line;
pub mod quota;
mod readiness;
mod relay;
mod repair;
mod reply;
mod resolve;
mod settings;
mod shield;
mod split;
mod support;
mod usage;
mod warm;
mod watch;
pub mod webhooks;
mod written;

pub use cache::{Answers, Passing};
pub use call::{Answer, AnswerBody, By, Call, Client, ClientWatch, Finished};
pub use drain::{Drain, Running, Stage, Stages};
pub use gather::{Batching, Gathers};
pub use holding::{Held, Holding, Share};
pub use join::Joins;
pub use life::{Errand, Life};
pub use outlook::{Outlook, OutlookRules, Standstill};
pub use readiness::Readiness;
pub use relay::Relay;
pub use settings::{Current, Settings};
pub use support::{Sources, support};
pub use usage::usage;

use crate::finch::endpoints::{Effect, Endpoint, Method, Operation, find};
use crate::finch::headers::{FINCH_REQUEST_ID, PERCH_REQUEST_ID};
use crate::policy::route::route;
use crate::policy::{Class, Refusal, resend};
use crate::store::requests::Requests;
use crate::telemetry::clock::unix_now;
use crate::telemetry::{AccessLine, Telemetry};
use crate::types::RequestId;
use crate::upstream::Finch;
use crate::vault::Vault;
use call::{Ended, Identity};
use join::Joined;
use quota::Quota;
use std::sync::Arc;
use tokio::sync::Notify;
use webhooks::Webhooks;
pub use written::{Reading, Shown, Written};

/// Carries calls to Finch and back.
pub struct Engine {
    /// What the configuration says.
    pub settings: Current<Settings>,
    /// The configuration as it was written, for operators.
    pub written: Written,
    /// Rung when something may have been paused.
    pub braked: Notify,
    /// Who the customers are.
    pub vault: Arc<Vault>,
    /// What may be sent.
    pub quota: Arc<Quota>,
    /// What is known beyond quota of who can be called.
    pub outlook: Outlook,
    /// The way to Finch.
    pub finch: Finch,
    /// What is told of it.
    pub telemetry: Arc<Telemetry>,
    /// What runs and what is remembered, for calls that are sent again.
    pub joins: Joins,
    /// What was kept of calls; none when that is off.
    pub requests: Option<Arc<Requests>>,
    /// Who waits together.
    pub gathers: Gathers,
    /// What is kept of answers.
    pub answers: Answers,
    /// What happens to connections beside calls.
    pub life: Life,
    /// What Finch tells by webhook.
    pub webhooks: Webhooks,
    /// What large bodies hold of memory.
    pub held: Held,
    /// Who is still inside.
    pub drain: Drain,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("settings", &self.settings.now()).finish_non_exhaustive()
    }
}

impl Engine {
    /// A call's life. Run it in a task of its own: an exchange with Finch that has begun is finished
    /// even when its client has gone, because a write must not be cut in the middle and a read was
    /// paid for. A call that still waits gives its place back.
    pub async fn run(self: Arc<Self>, call: Call, mut client: Client) -> Finished {
        let mut line = AccessLine::begin(call.request_id.clone(), call.received_at);
        line.app = call.app.as_ref().map(|app| app.name.clone());
        line.by = match call.by {
            By::App => None,
            By::Operator => Some("operator"),
            By::Perch => Some("perch"),
        };
        line.bytes_in = call.body.len() as u64;
        line.trace = self.telemetry.traces.as_ref().and_then(|traces| traces.begin(&call.headers));
        let answer = match self.serve(&call, &mut client, &mut line).await {
            Ok(answer) => answer,
            Err(Ended::Refused(refusal)) => self.refuse(&refusal, &mut line),
            Err(Ended::Abandoned) => abandon(&mut line),
        };
        // An attempt is counted with the call that made it.
        line.attempts = line.attempts.saturating_sub(line.carried);
        self.warm_up_after(&line);
        Finished { answer, line }
    }

    async fn serve(&self, call: &Call, client: &mut Client, line: &mut AccessLine) -> Result<Answer, Ended> {
        let endpoint = route(&call.method, &call.path)?;
        line.product = endpoint.product.as_str();
        line.method = endpoint.method.as_str();
        line.path = endpoint.path;
        let caller = self.identify(call)?;
        // Named is not yet known; a refusal says for whom it was meant all the same.
        line.customer.clone_from(&caller.selector.customer);
        self.authorize(call, endpoint, &caller).await?;
        self.permit_effect(endpoint)?;
        // Who is refused anyway does not wait first. No token is held while a call waits.
        let identity = self.resolve(call, endpoint, &caller, line).await;
        if matches!(identity, Ok(Identity::Brought(_))) {
            self.telemetry.metrics.passed_through.inc();
        }
        self.check_body(call, endpoint, &caller, line)?;
        // A resend, and a read that is under way already, take the outcome of that exchange.
        let seat = match self.join(call, endpoint, &caller, identity, client, line).await? {
            Joined::Lead(seat) => seat,
            Joined::Told(answer) => return Ok(answer),
        };
        let ended = match endpoint.operation {
            // On the heap: a call's state is large, and a stack is not.
            Operation::CreateAccessToken => {
                Box::pin(self.exchange_once(call, endpoint, &caller, (client, line))).await
            }
            Operation::Disconnect => Box::pin(self.disconnect(call, endpoint, &caller, (client, line))).await,
            _ => Box::pin(self.cached(call, endpoint, &caller, (client, line))).await,
        };
        if let (Effect::Writes, Some(connection)) = (endpoint.effect, &line.connection_id) {
            // Also after a failure: it may have been carried out.
            self.forget_answers(connection).await;
        }
        seat.finish(self, ended, line)
    }

    /// Finch asks to be told before write access goes live, so an operator says so first.
    fn permit_effect(&self, endpoint: &Endpoint) -> Result<(), Refusal> {
        match endpoint.writes_to_provider() && !self.settings.now().writes {
            true => Err(Refusal::WritesDenied),
            false => Ok(()),
        }
    }

    /// The answer that a refusal becomes: the one door out for "no".
    fn refuse(&self, refusal: &Refusal, line: &mut AccessLine) -> Answer {
        let mut problem = refusal.problem();
        if refusal.is_after_sending() {
            let endpoint = Method::parse(line.method).and_then(|method| find(method, line.path));
            problem.resend = resend::of_outcome(endpoint, problem.class, None);
        }
        line.class = problem.class;
        line.refusal = Some(problem.finch_code);
        let mut evidence = call::evidence(line, unix_now());
        if refusal.is_silent() {
            (evidence.customer, evidence.connection_id) = (None, None);
        }
        let body = problem.to_body(evidence);
        let mut answer = reply::own(problem.status, body);
        if let Some(allow) = &problem.allow {
            reply::put(&mut answer.headers, "allow", allow);
        }
        if let Some(id) = line.finch_request_id.last() {
            reply::put(&mut answer.headers, FINCH_REQUEST_ID, id.as_str());
        }
        answer.closes = problem.closes;
        reply::advise(&mut answer.headers, problem.resend);
        self.sign(&mut answer, line);
        answer
    }

    /// The same for a request that never became a call: the door found its framing or target unsound.
    pub fn refuse_unread(&self, refusal: &Refusal, request_id: RequestId) -> Finished {
        let mut line = AccessLine::begin(request_id, unix_now());
        let answer = self.refuse(refusal, &mut line);
        Finished { answer, line }
    }

    /// Whether calls are worth sending here. Neither Finch nor Redis has a say: without them perch answers, and says
    /// what is wrong.
    pub async fn readiness(&self) -> Readiness {
        Readiness {
            is_stopping: self.drain.is_leaving(),
            vault_answers: resolve::in_time(self.vault.ping()).await.is_ok(),
            limiter: self.quota.mode(),
            is_observing: self.quota.is_observing(),
        }
    }

    /// Stops: whoever waits is told so at once.
    pub fn close(&self) {
        self.drain.advance(Stage::Closing);
        self.quota.close();
    }
}

/// The client left while the call waited; nobody reads this.
fn abandon(line: &mut AccessLine) -> Answer {
    line.class = Class::Abandoned;
    line.client_gone = true;
    line.status = 499;
    let mut answer = reply::own(499, Vec::new());
    reply::put(&mut answer.headers, PERCH_REQUEST_ID, line.request_id.as_str());
    answer
}

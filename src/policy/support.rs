//! A support bundle: what is known of some calls, in two parts. The first is for Finch's support and holds nothing but
//! Finch's own ids, times and words; the second is for the company's own people. Neither holds a token, a body or a query.

mod markdown;
#[cfg(test)]
mod tests;

use crate::types::UnixMillis;
use serde::Serialize;
use std::collections::BTreeSet;

/// The most calls of a bundle, newest first.
pub const CALLS_MAX: usize = 50;
/// The most connections.
pub const CONNECTIONS_MAX: usize = 20;
/// The most deeds of the audit trail, and the most webhooks.
pub const EVENTS_MAX: usize = 20;
/// The most holds.
pub const HOLDS_MAX: usize = 50;

/// What a bundle is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// A request that Finch answered, by its `Finch-Request-ID`.
    FinchRequest,
    /// A call, by perch's id of it.
    Request,
    /// A connection.
    Connection,
    /// A customer.
    Customer,
}

impl About {
    /// As a person says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            About::FinchRequest => "Finch request",
            About::Request => "call",
            About::Connection => "connection",
            About::Customer => "customer",
        }
    }
}

/// Everything that was found out.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The id that was asked for.
    pub id: String,
    /// What it is.
    pub about: About,
    /// When the bundle was made.
    pub made_at: UnixMillis,
    /// The Finch application's id; it is no secret.
    pub application: String,
    /// Its environment.
    pub environment: String,
    /// perch's version.
    pub perch: &'static str,
    /// The calls, newest first.
    pub calls: Vec<Call>,
    /// Whether there were more calls than these.
    pub has_more_calls: bool,
    /// Why there are no calls, where that has a reason of its own.
    pub without_calls: Option<String>,
    /// The connections it is about.
    pub connections: Vec<Connection>,
    /// Whether there were more of them, of which neither deeds nor webhooks are told.
    pub has_more_connections: bool,
    /// What was done to them, newest first.
    pub deeds: Vec<Deed>,
    /// What Finch told of them, newest first.
    pub webhooks: Vec<Webhook>,
    /// How limits stand; none when no gateway was asked.
    pub limiter: Option<Limiter>,
    /// What perch is told to do, as far as it matters here.
    pub settings: Vec<(String, String)>,
}

/// A call.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Call {
    /// When it came in.
    pub ts: UnixMillis,
    /// perch's id.
    pub request_id: String,
    /// Finch's ids.
    pub finch_request_id: Vec<String>,
    /// The app.
    pub app: Option<String>,
    /// Whom it was for.
    pub customer: Option<String>,
    /// Through which connection.
    pub connection_id: Option<String>,
    /// Finch's company.
    pub company_id: Option<String>,
    /// The employment system.
    pub provider: Option<String>,
    /// What it counts against.
    pub product: String,
    /// The method.
    pub method: String,
    /// The path's template.
    pub path: String,
    /// What the app got.
    pub status: u16,
    /// What became of it.
    pub class: String,
    /// perch's code, when perch refused it.
    pub refusal: Option<String>,
    /// Finch's code.
    pub finch_code: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
    /// Milliseconds waited for quota.
    pub wait_ms: u64,
    /// Milliseconds waited for Finch.
    pub finch_ms: u64,
    /// Milliseconds in all.
    pub total_ms: u64,
    /// How its answer was had, when not by an exchange of its own.
    pub cache: Option<String>,
    /// The call whose outcome it took.
    pub resend_of: Option<String>,
    /// The call whose request asked for its ids, too.
    pub carried_by: Option<String>,
    /// Whether its client had left.
    pub client_gone: bool,
    /// What happened.
    pub steps: Vec<Step>,
}

/// A step of a call.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Step {
    /// Milliseconds from the call's coming in.
    pub at_ms: u64,
    /// Milliseconds that it took.
    pub lasted_ms: u64,
    /// What it was, in a few words.
    pub what: String,
    /// What is known of it.
    pub details: String,
    /// When it was a sending to Finch.
    pub attempt: Option<Attempt>,
}

/// A sending to Finch.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Attempt {
    /// Method and path template, when they are not the call's: what perch asked on its behalf.
    pub endpoint: Option<String>,
    /// Finch's status.
    pub status: Option<u16>,
    /// Why there was none.
    pub failed: Option<String>,
    /// Finch's id.
    pub finch_request_id: Option<String>,
}

/// A connection.
#[derive(Debug, Clone, Serialize)]
pub struct Connection {
    /// Finch's id.
    pub connection_id: String,
    /// Whose it is.
    pub customer: Option<String>,
    /// Finch's company.
    pub company_id: Option<String>,
    /// The employment system.
    pub provider: Option<String>,
    /// Finch's scopes.
    pub products: Vec<String>,
    /// Where it is in its life at perch.
    pub status: String,
    /// Finch's last word on it.
    pub finch_says: Option<String>,
    /// When that was learnt.
    pub said_at: Option<UnixMillis>,
    /// When `/introspect` was last asked.
    pub asked_at: Option<UnixMillis>,
    /// Why it is held, and what an operator should know.
    pub notes: Vec<String>,
    /// When it was first stored.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub updated_at: UnixMillis,
    /// When a call last used it.
    pub last_used_at: Option<UnixMillis>,
}

/// Something done to a connection.
#[derive(Debug, Clone, Serialize)]
pub struct Deed {
    /// When.
    pub at: UnixMillis,
    /// To which.
    pub connection_id: String,
    /// What.
    pub action: String,
    /// Who did it.
    pub actor: String,
}

/// Something that Finch told.
#[derive(Debug, Clone, Serialize)]
pub struct Webhook {
    /// When it came.
    pub received_at: UnixMillis,
    /// Finch's id of it.
    pub event_id: String,
    /// Finch's word for it.
    pub event_type: String,
    /// Of which connection.
    pub connection_id: String,
    /// What became of it.
    pub state: String,
    /// Why the app did not take it.
    pub failure: Option<String>,
}

/// How limits stand.
#[derive(Debug, Clone, Serialize)]
pub struct Limiter {
    /// Where quota is counted.
    pub mode: String,
    /// Per product, and for the egress address.
    pub standings: Vec<Standing>,
    /// What cannot be called now.
    pub holds: Vec<Hold>,
}

/// One limit.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    /// The product, or `egress-ip`.
    pub of: String,
    /// Permits that are busy.
    pub used: u64,
    /// Of how many.
    pub limit: u64,
    /// Calls that wait.
    pub waiting: u64,
}

/// One hold.
#[derive(Debug, Clone, Serialize)]
pub struct Hold {
    /// Of what kind.
    pub scope: String,
    /// Of what.
    pub of: Option<String>,
    /// Whose, when it is one connection's or one customer's: it is of no interest to others.
    #[serde(skip)]
    pub whose: Option<String>,
    /// What calls are answered with.
    pub class: String,
    /// Until when.
    pub until: Option<UnixMillis>,
}

/// A bundle, ready to be read.
#[derive(Debug, Clone, Serialize)]
pub struct Bundle {
    /// What Finch's support needs, and nothing else.
    pub for_finch: ForFinch,
    /// All of it.
    pub for_us: Facts,
}

/// What Finch's support needs: its own ids and words.
#[derive(Debug, Clone, Serialize)]
pub struct ForFinch {
    /// The application's id at Finch.
    pub application: String,
    /// Its environment.
    pub environment: String,
    /// The connections.
    pub connections: Vec<FinchConnection>,
    /// The requests, newest first.
    pub requests: Vec<FinchRequest>,
}

/// A connection as Finch knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FinchConnection {
    /// Its id.
    pub connection_id: String,
    /// Its company.
    pub company_id: Option<String>,
    /// The employment system.
    pub provider: Option<String>,
    /// Finch's scopes.
    pub products: Vec<String>,
    /// Finch's last word on it.
    pub status: Option<String>,
    /// When that was learnt.
    pub status_at: Option<UnixMillis>,
}

/// A request as Finch saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FinchRequest {
    /// When it was sent, in UTC.
    pub at: UnixMillis,
    /// Method and path template.
    pub endpoint: String,
    /// Finch's status; none when no answer came.
    pub status: Option<u16>,
    /// Why no answer came.
    pub failed: Option<String>,
    /// Finch's code.
    pub finch_code: Option<String>,
    /// Finch's id.
    pub finch_request_id: Option<String>,
    /// How long it took.
    pub took_ms: u64,
    /// Through which connection.
    pub connection_id: Option<String>,
    /// Of which company.
    pub company_id: Option<String>,
}

/// Makes a bundle. Beyond the bounds, the newest stay; what holds others only is left out.
pub fn bundle(mut facts: Facts) -> Bundle {
    facts.has_more_calls |= facts.calls.len() > CALLS_MAX;
    facts.calls.truncate(CALLS_MAX);
    facts.deeds.sort_by_key(|deed| std::cmp::Reverse(deed.at));
    facts.deeds.truncate(EVENTS_MAX);
    facts.webhooks.sort_by_key(|webhook| std::cmp::Reverse(webhook.received_at));
    facts.webhooks.truncate(EVENTS_MAX);
    if let Some(limiter) = &mut facts.limiter {
        let is_concerned = |whose: &String| {
            facts
                .connections
                .iter()
                .any(|it| it.connection_id == *whose || it.customer.as_ref() == Some(whose))
                || facts
                    .calls
                    .iter()
                    .any(|it| [&it.customer, &it.connection_id].contains(&&Some(whose.clone())))
                || facts.id == *whose
        };
        limiter.holds.retain(|hold| hold.whose.as_ref().is_none_or(is_concerned));
        limiter.holds.truncate(HOLDS_MAX);
    }
    // Not before: what holds one that is not shown holds its customer's calls all the same.
    facts.has_more_connections |= facts.connections.len() > CONNECTIONS_MAX;
    facts.connections.truncate(CONNECTIONS_MAX);
    let mut requests: Vec<FinchRequest> = facts.calls.iter().flat_map(sent_of).collect();
    let sent: BTreeSet<String> = requests.iter().filter_map(|it| it.finch_request_id.clone()).collect();
    let is_sent = |it: &FinchRequest| it.finch_request_id.as_ref().is_some_and(|id| sent.contains(id));
    requests.extend(facts.calls.iter().flat_map(stand_ins_of).filter(|it| !is_sent(it)));
    requests.sort_by_key(|request| std::cmp::Reverse(request.at));
    let for_finch = ForFinch {
        application: facts.application.clone(),
        environment: facts.environment.clone(),
        connections: facts.connections.iter().map(at_finch).collect(),
        requests,
    };
    Bundle { for_finch, for_us: facts }
}

fn at_finch(connection: &Connection) -> FinchConnection {
    FinchConnection {
        connection_id: connection.connection_id.clone(),
        company_id: connection.company_id.clone(),
        provider: connection.provider.clone(),
        products: connection.products.clone(),
        status: connection.finch_says.clone(),
        status_at: connection.said_at,
    }
}

/// What Finch saw of a call, as its steps tell; nothing of one that perch answered by itself.
fn sent_of(call: &Call) -> Vec<FinchRequest> {
    let attempts = call.steps.iter().filter_map(|step| Some((step, step.attempt.as_ref()?)));
    let (questions, mut requests): (Vec<_>, Vec<_>) = attempts
        .map(|(step, attempt)| {
            (attempt.endpoint.is_some(), request(call, (step.at_ms, step.lasted_ms), attempt))
        })
        .partition(|(is_question, _)| *is_question);
    // Finch's code is that of the answer that became the call's, and not of what was asked about the connection.
    let became = requests.iter_mut().rev().find(|(_, request)| request.status == Some(call.status));
    if let Some((_, request)) = became {
        request.finch_code.clone_from(&call.finch_code);
    }
    requests.into_iter().chain(questions).map(|(_, request)| request).collect()
}

/// Requests of which the call has Finch's id and no step: too many steps, or an older perch. Where it took the outcome of
/// another's request, the id is of that one, and nothing was sent.
fn stand_ins_of(call: &Call) -> Vec<FinchRequest> {
    let is_anothers =
        matches!(call.cache.as_deref(), Some("hit" | "shared" | "coalesced" | "batched" | "journal"));
    if is_anothers || call.resend_of.is_some() || call.carried_by.is_some() {
        return Vec::new();
    }
    let has_step = |id: &String| {
        let mut attempts = call.steps.iter().filter_map(|step| step.attempt.as_ref());
        attempts.any(|attempt| attempt.finch_request_id.as_ref() == Some(id))
    };
    let missing = call.finch_request_id.iter().filter(|id| !has_step(id));
    let mut requests: Vec<FinchRequest> = missing
        .map(|id| {
            let status = call.refusal.is_none().then_some(call.status);
            let attempt = Attempt { status, finch_request_id: Some(id.clone()), ..Attempt::default() };
            request(call, (0, call.finch_ms), &attempt)
        })
        .collect();
    let has_steps = call.steps.iter().any(|step| step.attempt.is_some());
    if let Some(last) = requests.last_mut().filter(|last| !has_steps && last.status.is_some()) {
        last.finch_code.clone_from(&call.finch_code);
    }
    requests
}

fn request(call: &Call, (at_ms, took_ms): (u64, u64), attempt: &Attempt) -> FinchRequest {
    FinchRequest {
        at: call.ts.plus(std::time::Duration::from_millis(at_ms)),
        endpoint: attempt.endpoint.clone().unwrap_or_else(|| format!("{} {}", call.method, call.path)),
        status: attempt.status,
        failed: attempt.failed.clone(),
        finch_code: None,
        finch_request_id: attempt.finch_request_id.clone(),
        took_ms,
        connection_id: call.connection_id.clone(),
        company_id: call.company_id.clone(),
    }
}

impl Bundle {
    /// As Markdown, to be pasted into a ticket.
    pub fn to_markdown(&self) -> String {
        markdown::of(self)
    }
}

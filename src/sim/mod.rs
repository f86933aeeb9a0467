//! The Finch simulator: a model of Finch's world, and of the ways it goes wrong.
//!
//! Beside the floors: it imports floor 0 alone and speaks HTTP with another stack than perch. It believes nothing
//! that a caller says about itself; it counts what arrives. `/_sim/` is its own door, outside Finch's API.

mod account;
mod answer;
mod benefits;
mod call;
mod company;
mod connect;
mod control;
mod dispatch;
mod employer;
mod fault;
mod items;
mod jobs;
mod limits;
mod mangle;
mod pay;
mod people;
mod refusal;
mod report;
mod sandbox;
mod scenario;
mod seed;
mod server;
mod world;

pub use fault::Fault;
pub use scenario::{
    Authentication, Customer, IpSettings, JobSettings, LimitSettings, Scenario, ScenarioError,
};
pub use world::Status;

use crate::finch::endpoints::find;
use crate::finch::{Auth, Endpoint, Method};
use crate::types::{ClientSecret, Moment, UnixMillis};
use answer::{Answer, Body};
use bytes::Bytes;
use call::Call;
use fault::{Faults, How, Subject, What};
use http::{Request, Response};
use limits::Limiter;
use refusal::{Reason, Refusal, plain};
use report::{Arrival, Report};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use world::World;

/// The seed of a simulation that was given none.
const SEED: u64 = 1;

/// What a simulation needs beside its scenario.
#[derive(Debug)]
pub struct Options {
    /// The application's id at Finch.
    pub client_id: String,
    /// The application's secret.
    pub client_secret: ClientSecret,
    /// Goes before the scenario's seed.
    pub seed: Option<u64>,
    /// Goes before the scenario's marker: every access token contains it.
    pub token_marker: Option<String>,
    /// The world, its limits and its faults.
    pub scenario: Scenario,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            client_id: "sim-client".to_owned(),
            client_secret: ClientSecret::new("sim-secret".to_owned()),
            seed: None,
            token_marker: None,
            scenario: Scenario::default(),
        }
    }
}

/// What comes back. All but the first need a hand on the socket; [`Sim::serve`] has one.
#[derive(Debug)]
pub enum Reply {
    /// An HTTP answer.
    Answer(Response<Bytes>),
    /// Nothing, ever.
    Stall,
    /// The connection is reset at once.
    Reset,
    /// These bytes, which are not HTTP, and the end.
    Rubbish(Bytes),
    /// The head promises the whole body; half of it comes, and then the end.
    Truncated(Response<Bytes>),
}

/// The address a request comes from, as an extension of it. Without one it is 127.0.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// A running simulation.
#[derive(Debug)]
pub struct Sim {
    state: Mutex<State>,
    began: Instant,
    base_url: OnceLock<String>,
}

#[derive(Debug)]
struct State {
    world: World,
    limits: Limiter,
    faults: Faults,
    report: Report,
    last: Moment,
}

impl Sim {
    /// Begins a simulation: the scenario's customers are connected.
    pub fn new(options: Options) -> Arc<Self> {
        let Options { client_id, client_secret, seed, token_marker, scenario } = options;
        let seed = seed.or(scenario.seed).unwrap_or(SEED);
        let marker = token_marker.or(scenario.token_marker.clone()).unwrap_or_default();
        let state = State {
            world: World::new(&scenario, seed, marker, (client_id, client_secret), wall()),
            limits: Limiter::new(scenario.limits),
            faults: Faults::new(seed, scenario.faults),
            report: Report::default(),
            last: Moment::ZERO,
        };
        Arc::new(Self { state: Mutex::new(state), began: Instant::now(), base_url: OnceLock::new() })
    }

    /// Says where this simulator is reached, for `connect_url` and `job_url`. The first call counts;
    /// without one the request's `Host` does.
    pub fn set_base_url(&self, url: String) {
        self.base_url.get_or_init(|| url);
    }

    /// Answers one request, after the delay a fault asks for.
    pub async fn respond(&self, request: Request<Bytes>) -> Reply {
        let (delay, reply) = self.reply(&request);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        reply
    }

    /// Decides at once what to answer, and after which delay.
    pub fn reply(&self, request: &Request<Bytes>) -> (Duration, Reply) {
        let base_url = match (self.base_url.get(), request.headers().get(http::header::HOST)) {
            (Some(url), _) => url.clone(),
            (None, Some(host)) => format!("http://{}", String::from_utf8_lossy(host.as_bytes())),
            (None, None) => String::new(),
        };
        let now = Moment::at(self.began.elapsed());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.uri().path();
        if path.starts_with(control::PREFIX) {
            let answer = control::answer(&mut state, request.method().as_str(), path, request.body());
            return (Duration::ZERO, Reply::Answer(answer.write("-")));
        }
        // The lock may be taken in another order than the clock was read; windows need the order kept.
        let now = now.max(state.last);
        state.last = now;
        state.reply(request, (now, wall()), &base_url)
    }
}

fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(0).plus(since)
}

/// An answer that was decided on: the reply, and what the report says of it.
struct Decision {
    reply: Reply,
    outcome: String,
    finch_code: Option<&'static str>,
    carried_out: bool,
}

impl State {
    fn reply(
        &mut self,
        request: &Request<Bytes>,
        (now, wall): (Moment, UnixMillis),
        base_url: &str,
    ) -> (Duration, Reply) {
        let id = uuid::Uuid::now_v7().to_string();
        let (method, path) = (request.method().as_str(), request.uri().path());
        if (method, path) == ("GET", "/connect/authorize") {
            // Finch's page, not its API: it is neither counted nor limited.
            let answer = connect::authorize(&mut self.world, request.uri().query().unwrap_or_default(), now);
            return (Duration::ZERO, Reply::Answer(answer.write(&id)));
        }
        let endpoint = Method::parse(method).and_then(|m| find(m, path));
        let token = call::bearer(request.headers()).and_then(|t| self.world.token(t));
        let known = token.is_some();
        let place = token.map(|t| t.connection);
        let connection = place.and_then(|p| self.world.connections.get(p));
        let ids = connection.map(|c| (c.id.clone(), c.customer_id.clone(), c.provider.clone()));
        let connection_id = ids.as_ref().map(|(id, ..)| id.as_str());
        let address = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |p| p.0);
        let arrival = Arrival {
            endpoint,
            method,
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            body_bytes: request.body().len(),
            address,
            connection: connection_id,
            now,
            finch_request_id: &id,
        };
        self.report.arrive(&arrival, self.limits.settings());
        let subject = Subject {
            endpoint,
            method,
            path,
            customer: ids.as_ref().and_then(|(_, customer, _)| customer.as_deref()),
            connection: connection_id,
            provider: ids.as_ref().map(|(.., provider)| provider.as_str()),
        };
        let limited = self.limited(endpoint, known, address, now);
        let (how, limited) = match limited {
            // A refusal for quota comes first, so a fault keeps its turn.
            Some(reason) => (self.no_fault(), Some(reason)),
            None => (self.faults.meet(subject), None),
        };
        let decision = match (limited, endpoint) {
            (Some(reason), _) => {
                let answer = Answer::from(Refusal::from(reason));
                Decision::answer(answer, reason.finch_code(), false, &id)
            }
            (None, Some(endpoint)) => {
                let call = Call::new(
                    endpoint,
                    request.uri(),
                    request.headers(),
                    request.body(),
                    (now, wall),
                    base_url,
                );
                decide(&mut self.world, &call, &how, &id)
            }
            (None, None) => {
                let mut answer = dispatch::no_such_route(method, path);
                dress(&mut answer, &how, request.headers());
                Decision::answer(answer, None, false, &id)
            }
        };
        self.report.finish(&arrival, &decision.outcome, decision.finch_code, decision.carried_out);
        (how.delay, decision.reply)
    }

    /// Whether Finch has had enough. A token that nobody knows belongs to no application.
    fn limited(
        &mut self,
        endpoint: Option<&'static Endpoint>,
        known: bool,
        address: IpAddr,
        now: Moment,
    ) -> Option<Reason> {
        if !self.limits.admit_address(address, now) {
            return Some(Reason::IpLimit);
        }
        let endpoint = endpoint?;
        let counts = known || endpoint.auth != Auth::Bearer;
        (counts && !self.limits.admit_product(endpoint.product, now)).then_some(Reason::AppLimit)
    }

    fn no_fault(&self) -> How {
        How { what: None, carried_out: true, delay: Duration::ZERO, headers: Vec::new() }
    }
}

impl Decision {
    fn answer(answer: Answer, finch_code: Option<&'static str>, carried_out: bool, id: &str) -> Self {
        let outcome = answer.status.to_string();
        Self { reply: Reply::Answer(answer.write(id)), outcome, finch_code, carried_out }
    }

    fn broken(reply: Reply, name: &str, carried_out: bool) -> Self {
        Self { reply, outcome: name.to_owned(), finch_code: None, carried_out }
    }
}

/// Puts a fault's headers on an answer.
fn dress(answer: &mut Answer, how: &How, headers: &http::HeaderMap) {
    let reflected = how.headers.iter().map(|(name, value)| (name.clone(), mangle::reflect(value, headers)));
    answer.headers.extend(reflected);
}

/// Carries a request out, or lets it go wrong.
fn decide(world: &mut World, call: &Call<'_>, how: &How, id: &str) -> Decision {
    let outcome = how.carried_out.then(|| dispatch::act(world, call));
    let carried_out = outcome.as_ref().is_some_and(|o| o.is_ok());
    let mut finch_code = match &outcome {
        Some(Err(refusal)) => refusal.reason.finch_code(),
        Some(Ok(_)) | None => None,
    };
    let own = match outcome {
        Some(Ok(answer)) => Some(answer),
        Some(Err(refusal)) => Some(Answer::from(refusal)),
        None => None,
    };
    // A fault that needs the request's own answer has it: the scenario is refused otherwise.
    let own = || own.unwrap_or_else(|| Answer::from(Refusal::from(Reason::ServerError)));
    let mut answer = match &how.what {
        None => own(),
        Some(What::Stall) => return Decision::broken(Reply::Stall, "stall", carried_out),
        Some(What::Reset) => return Decision::broken(Reply::Reset, "reset", carried_out),
        Some(What::Rubbish(text)) => {
            return Decision::broken(Reply::Rubbish(Bytes::from(text.clone())), "rubbish", carried_out);
        }
        Some(What::Truncated) => {
            let mut answer = own();
            dress(&mut answer, how, call.headers);
            return Decision::broken(Reply::Truncated(answer.write(id)), "truncated", carried_out);
        }
        Some(What::Refuse(reason)) => {
            finch_code = reason.finch_code();
            Answer::from(Refusal::from(*reason))
        }
        Some(What::RefreshQuota) => {
            finch_code = None;
            jobs::quota_spent(1, call.wall.plus(Duration::from_secs(1800)))
        }
        Some(What::Status(status, body)) => {
            finch_code = None;
            let body = match body.clone() {
                Some(serde_json::Value::String(text)) if text.is_empty() => Body::Empty,
                Some(serde_json::Value::String(text)) => Body::Text(mangle::reflect(&text, call.headers)),
                Some(mut value) => {
                    mangle::reflect_json(&mut value, call.headers);
                    Body::Json(value)
                }
                None => Body::Json(plain(*status)),
            };
            Answer { status: *status, body, freshness: None, headers: Vec::new() }
        }
        Some(What::Stale) => {
            let mut answer = own();
            mangle::age(&mut answer);
            answer
        }
        Some(What::Items { items, reason }) => {
            let mut answer = own();
            mangle::fail_items(&mut answer, items, *reason);
            answer
        }
    };
    // Accepted with a body is the one refusal whose shape is not its reason's.
    if let Some(What::Refuse(Reason::AcceptedJson)) = how.what {
        answer.body = Body::Json(Reason::AcceptedJson.body(None));
    }
    dress(&mut answer, how, call.headers);
    Decision::answer(answer, finch_code, carried_out, id)
}

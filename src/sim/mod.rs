//! The Finch simulator: a model of Finch's world, and of the ways it goes wrong.
//!
//! Beside the floors: it imports floor 0 alone and speaks HTTP with another stack than perch. It believes nothing
//! that a caller says about itself; it counts what arrives. `/_sim/` is its own door, outside Finch's API.

mod account;
mod answer;
mod arrivals;
mod benefits;
mod call;
mod company;
mod connect;
mod control;
mod dispatch;
mod employer;
mod exchange;
mod fault;
mod faults;
mod invitations;
mod items;
mod jobs;
mod limits;
mod mangle;
mod pay;
mod people;
mod postman;
mod refusal;
mod report;
mod sandbox;
mod scenario;
mod seed;
mod server;
mod settings;
mod webhooks;
mod world;

pub use fault::Fault;
pub use scenario::{Authentication, Customer, Scenario, ScenarioError};
pub use settings::{IpSettings, JobSettings, LimitSettings};
pub use webhooks::WEBHOOK_SECRET;
pub use world::Status;

use crate::types::{ClientSecret, Moment, UnixMillis, WebhookSecret};
use answer::Answer;
use bytes::Bytes;
use faults::Faults;
use http::{Request, Response};
use limits::Limiter;
use postman::Target;
use report::Report;
use serde_json::json;
use std::net::IpAddr;
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
    /// What signs its webhooks: base64.
    pub webhook_secret: WebhookSecret,
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
            webhook_secret: WebhookSecret::new(WEBHOOK_SECRET.to_owned()),
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
    webhook_secret: WebhookSecret,
    last: Moment,
}

impl Sim {
    /// Begins a simulation: the scenario's customers are connected.
    pub fn new(options: Options) -> Arc<Self> {
        let Options { client_id, client_secret, webhook_secret, seed, token_marker, scenario } = options;
        let seed = seed.or(scenario.seed).unwrap_or(SEED);
        let marker = token_marker.or(scenario.token_marker.clone()).unwrap_or_default();
        let state = State {
            world: World::new(&scenario, seed, marker, (client_id, client_secret), wall()),
            limits: Limiter::new(scenario.limits),
            faults: Faults::new(seed, scenario.faults),
            report: Report::default(),
            webhook_secret,
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
        if (request.method().as_str(), request.uri().path()) == ("POST", webhooks::PATH) {
            return Reply::Answer(self.send_webhook(&request).await.write("-"));
        }
        let (delay, reply) = self.reply(&request);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        reply
    }

    /// Writes a webhook and sends it where it is asked to.
    async fn send_webhook(&self, request: &Request<Bytes>) -> Answer {
        let written = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            webhooks::write(&mut state, request.body(), &self.base_url_of(request), wall())
        };
        let (letter, to) = match written {
            Ok((letter, None)) => return Answer::ok(letter.shown()),
            Ok((letter, Some(to))) => (letter, to),
            Err(refused) => return refused,
        };
        let target = match Target::parse(&to) {
            Ok(target) => target,
            Err(why) => return Answer::json(400, json!({ "message": why })),
        };
        let mut shown = letter.shown();
        match target.deliver(&letter).await {
            Ok(answer) => {
                shown["delivered"] = answer;
                Answer::ok(shown)
            }
            Err(why) => {
                shown["message"] = format!("{to} did not take it: {why}").into();
                Answer::json(502, shown)
            }
        }
    }

    /// Where this simulator is reached, as far as the request tells.
    fn base_url_of(&self, request: &Request<Bytes>) -> String {
        match (self.base_url.get(), request.headers().get(http::header::HOST)) {
            (Some(url), _) => url.clone(),
            (None, Some(host)) => format!("http://{}", String::from_utf8_lossy(host.as_bytes())),
            // HTTP/2 has the host in the request target.
            (None, None) => match (request.uri().scheme_str(), request.uri().authority()) {
                (Some(scheme), Some(host)) => format!("{scheme}://{host}"),
                _ => String::new(),
            },
        }
    }

    /// Decides at once what to answer, and after which delay.
    pub fn reply(&self, request: &Request<Bytes>) -> (Duration, Reply) {
        let base_url = self.base_url_of(request);
        let now = Moment::at(self.began.elapsed());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.uri().path();
        if path.starts_with(control::PREFIX) {
            let answer = control::answer(&mut state, request.method().as_str(), path, request.body(), now);
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

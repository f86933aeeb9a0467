//! One exchange: what arrived is noted, limits and faults have their say, the request is carried out, the result noted.

use super::answer::{Answer, Body};
use super::call::{self, Call};
use super::fault::{How, What};
use super::faults::Subject;
use super::refusal::{Reason, Refusal, plain};
use super::report::Arrival;
use super::world::World;
use super::{Peer, Reply, State, connect, dispatch, jobs, mangle};
use crate::finch::endpoints::find;
use crate::finch::{Auth, Endpoint, Method};
use crate::types::{Moment, UnixMillis};
use bytes::Bytes;
use http::Request;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// An answer that was decided on: the reply, and what the report says of it.
struct Decision {
    reply: Reply,
    outcome: String,
    finch_code: Option<String>,
    carried_out: bool,
}

impl State {
    /// Answers a request of Finch's API, and the link an employer follows.
    pub(super) fn reply(
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
            body: request.body(),
        };
        let limited = self.limited(endpoint, known, address, now);
        let how = match limited {
            // A refusal for quota comes first, so a fault keeps its turn.
            Some(_) => How::nothing(),
            None => self.faults.meet(subject),
        };
        let decision = match (limited, endpoint) {
            (Some(reason), _) => {
                let answer = Answer::from(Refusal::from(reason));
                Decision::answer(answer, false, &id)
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
                Decision::answer(answer, false, &id)
            }
        };
        self.report.finish(&arrival, &decision.outcome, decision.finch_code.as_deref(), decision.carried_out);
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
}

impl Decision {
    fn answer(answer: Answer, carried_out: bool, id: &str) -> Self {
        let outcome = answer.status.to_string();
        let finch_code = match &answer.body {
            Body::Json(body) => body["finch_code"].as_str().map(str::to_owned),
            Body::Text(_) | Body::Empty => None,
        };
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
        Some(What::Refuse(reason)) => Answer::from(Refusal::from(*reason)),
        Some(What::RefreshQuota) => jobs::quota_spent(1, call.wall.plus(Duration::from_secs(1800))),
        Some(What::Status(status, body)) => {
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
    dress(&mut answer, how, call.headers);
    Decision::answer(answer, carried_out, id)
}

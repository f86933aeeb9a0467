//! A shared attempt: what it asks, and what each who shares it is told.
//!
//! A good answer is taken apart. An error is everyone's when it is about the token, the limits or the provider; when
//! something in the body may be at fault, the crowd is halved and each half asks again, until whoever is at fault is alone
//! with it.

use super::super::call::{Call, Caller, Identity};
use super::super::carry::Outcome;
use super::super::holding::Share;
use super::super::quota::Permit;
use super::super::reply::Heard;
use super::{Engine, Handle, News, Told};
use crate::finch::endpoints::Endpoint;
use crate::finch::error::FinchError;
use crate::policy::merge::{self, Answer, Asks, Concerns};
use crate::telemetry::AccessLine;
use crate::upstream::SendError;
use http::header::{CONTENT_ENCODING, ETAG};
use std::time::Duration;
use tokio::time::Instant;

type Member = merge::Member<Handle>;

/// What to do with a crowd after its attempt.
enum Then {
    /// Each is told this.
    Everyone(Outcome),
    /// Each is told its part of this answer.
    Apart(Identity, Box<Heard>),
    /// Nothing was sent: each looks for itself.
    Again,
    /// Finch said no to what somebody asked for.
    Somebody,
    /// The same, or Finch fails: this is the answer when there is no more to be tried.
    SomebodyOrFinch(Outcome),
    /// The answer is good, and cannot be taken apart.
    Unread,
}

impl Engine {
    /// Sends for everyone in the crowd, this call among them, and tells each.
    pub(super) async fn carry_crowd(
        &self,
        (call, endpoint): (&Call, &'static Endpoint),
        caller: &Caller,
        permit: Permit,
        mut crowd: Vec<Member>,
        line: &mut AccessLine,
    ) {
        let (began, before) = (Instant::now(), (line.attempts, line.finch_request_id.len()));
        let then = self.send_for((call, endpoint), caller, permit, &crowd, line).await;
        let news = News {
            carried_by: line.request_id.clone(),
            finch_request_id: line.finch_request_id.get(before.1).cloned(),
            was_sent: line.attempts > before.0,
        };
        for member in crowd.iter_mut().filter(|member| member.handle.request_id != news.carried_by) {
            member.handle.news.push(news.clone());
        }
        let took = began.elapsed();
        match then {
            Then::Everyone(outcome) => tell_all(crowd, || Some(copy(&outcome))),
            Then::Again => tell_all(crowd, || None),
            Then::Apart(identity, heard) => {
                if let Err(crowd) = tell_parts(endpoint, &identity, &heard, crowd) {
                    self.part(crowd, took, false);
                }
            }
            Then::Somebody => {
                let may_halve = self.may_retry();
                self.part(crowd, took, may_halve);
            }
            Then::Unread => self.part(crowd, took, false),
            Then::SomebodyOrFinch(outcome) if self.drain.is_closing() || !self.may_retry() => {
                tell_all(crowd, || Some(copy(&outcome)));
            }
            Then::SomebodyOrFinch(outcome) => {
                for member in &mut crowd {
                    member.handle.fallback = Some(copy(&outcome));
                }
                self.part(crowd, took, true);
            }
        }
    }

    /// Sends what all of them ask for.
    async fn send_for(
        &self,
        (call, endpoint): (&Call, &'static Endpoint),
        caller: &Caller,
        permit: Permit,
        crowd: &[Member],
        line: &mut AccessLine,
    ) -> Then {
        let whose = (line.customer.clone(), line.connection_id.clone());
        // The connection as it is now, as for a call that goes alone.
        let identity = match self.resolve(call, endpoint, caller, line).await {
            Ok(identity) if (&line.customer, &line.connection_id) == (&whose.0, &whose.1) => identity,
            Ok(_) | Err(_) => {
                permit.refund();
                return Then::Again;
            }
        };
        let Some((body, _)) = Asks::together(crowd.iter().map(|member| &member.asks)) else {
            permit.refund();
            return Then::Unread;
        };
        let attempt = match self.inject(&call.asking(body), endpoint, &identity) {
            Ok(attempt) => attempt,
            Err(refusal) => {
                permit.refund();
                return Then::Everyone(Outcome::Refused(refusal));
            }
        };
        if self.is_shielded_late(call, endpoint, &identity) {
            permit.refund();
            return Then::Again;
        }
        self.telemetry.metrics.merges.crowd(crowd.len());
        match self.exchange((&attempt, identity), endpoint, permit, line).await {
            Outcome::Heard { identity, heard, .. } if (200..300).contains(&heard.status) => {
                if heard.rest.is_some() || heard.headers.contains_key(CONTENT_ENCODING) {
                    return Then::Unread;
                }
                Then::Apart(identity, heard)
            }
            Outcome::Heard { identity, heard, is_limit } => {
                let concerns = match is_limit {
                    true => Concerns::Everyone,
                    false => merge::concerns(endpoint, heard.status, &FinchError::read(&heard.body)),
                };
                match concerns {
                    Concerns::Everyone => Then::Everyone(Outcome::Heard { identity, heard, is_limit }),
                    Concerns::Somebody => Then::Somebody,
                    Concerns::SomebodyOrFinch => {
                        Then::SomebodyOrFinch(Outcome::Heard { identity, heard, is_limit })
                    }
                }
            }
            Outcome::Unanswered(error @ (SendError::Broken { stale: false, .. } | SendError::TimedOut)) => {
                Then::SomebodyOrFinch(Outcome::Unanswered(error))
            }
            other => Then::Everyone(other),
        }
    }

    /// Asks again in two halves, or each alone. Who has lost time to somebody else's fault gets it back.
    fn part(&self, mut crowd: Vec<Member>, took: Duration, may_halve: bool) {
        for member in &mut crowd {
            member.near.deadline = member.near.deadline + took;
        }
        if may_halve {
            let rest = crowd.split_off(crowd.len() / 2);
            self.gathers.again(crowd);
            self.gathers.again(rest);
        } else {
            crowd.into_iter().for_each(|member| self.gathers.again(vec![member]));
        }
    }
}

/// Tells each its part of a good answer; gives them back when it cannot be taken apart.
fn tell_parts(
    endpoint: &Endpoint,
    identity: &Identity,
    heard: &Heard,
    crowd: Vec<Member>,
) -> Result<(), Vec<Member>> {
    let parts: Option<Vec<Vec<u8>>> = (|| {
        let (_, asked) = Asks::together(crowd.iter().map(|member| &member.asks))?;
        let ids = Answer::ids(endpoint.batch?.key, &heard.body)?;
        let answer = Answer::read(&asked, &ids, &heard.body)?;
        Some(crowd.iter().map(|member| answer.part(member.asks.ids())).collect())
    })();
    let parts = match parts {
        Some(parts) => parts,
        // No data yet is no data for everyone.
        None if heard.status == 202 => crowd.iter().map(|_| heard.body.clone()).collect(),
        None => return Err(crowd),
    };
    for (member, body) in crowd.into_iter().zip(parts) {
        let mut headers = heard.headers.clone();
        // It names the body that came.
        headers.remove(ETAG);
        let heard =
            Box::new(Heard { status: heard.status, headers, body, rest: None, share: Share::default() });
        tell(member, Some(Outcome::Heard { identity: identity.clone(), heard, is_limit: false }));
    }
    Ok(())
}

fn tell_all(crowd: Vec<Member>, outcome: impl Fn() -> Option<Outcome>) {
    crowd.into_iter().for_each(|member| tell(member, outcome()));
}

fn tell(member: Member, outcome: Option<Outcome>) {
    let Handle { tell, news, .. } = member.handle;
    // Whoever does not listen any more has ended otherwise.
    let _ = tell.send(Told { news, outcome });
}

/// An outcome once more. Errors are never larger than what is held of them.
fn copy(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Heard { identity, heard, is_limit } => {
            let Heard { status, headers, body, .. } = &**heard;
            let (headers, body) = (headers.clone(), body.clone());
            let heard = Heard { status: *status, headers, body, rest: None, share: Share::default() };
            Outcome::Heard { identity: identity.clone(), heard: Box::new(heard), is_limit: *is_limit }
        }
        Outcome::Unanswered(error) => Outcome::Unanswered(*error),
        Outcome::Refused(refusal) => Outcome::Refused(refusal.clone()),
    }
}

//! A call's attempts: one admission for each, until one settles it.

use super::Engine;
use super::attempt;
use super::call::{Answer, Call, Caller, Client, Ended, Identity};
use super::gather::{Gathered, Trip};
use super::outlook::subjects;
use super::quota::Permit;
use super::reply::Heard;
use super::shield::Shielded;
use crate::finch::endpoints::Endpoint;
use crate::limit::headers::read_retry_after;
use crate::policy::Refusal;
use crate::policy::retry::{Facts, Failure, Verdict, verdict};
use crate::telemetry::AccessLine;
use crate::upstream::{Attempt, SendError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The most attempts of one call that Finch refuses for a product's limit.
pub(super) const LIMITED_MAX: u32 = 5;

/// How an attempt ended.
pub(super) enum Outcome {
    /// With Finch's answer.
    Heard {
        /// With whose credentials it was sent.
        identity: Identity,
        /// What Finch said.
        heard: Box<Heard>,
        /// Whether it is a refusal for the product's limit, of which the ledger knows.
        is_limit: bool,
    },
    /// Without one.
    Unanswered(SendError),
    /// With one of perch's.
    Refused(Refusal),
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outcome")
    }
}

/// What the last attempt found, for the case that no further one is admitted.
enum Found {
    /// No answer.
    Nothing(SendError),
    /// An answer that is worth another attempt.
    Heard(Box<(Identity, Heard)>),
}

/// What became of a call that was admitted.
enum Sent {
    /// It was not sent: what was found out meanwhile is the answer.
    Settled(Answer),
    /// It was.
    Ended(Outcome),
}

/// How often a call was sent again, and why.
#[derive(Debug, Default)]
struct Again {
    /// After a failure: these count against the budget.
    retries: u32,
    /// After a 429 for the product's limit.
    limited: u32,
    /// Whether the vault was asked for a newer token.
    has_reread: bool,
}

impl Engine {
    /// Sends a call until an attempt settles it, or none is admitted any more.
    pub(super) async fn carry_out(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Answer, Ended> {
        let began = Instant::now();
        self.outlook.budget.lock().earn();
        let (mut found, mut again): (Option<Found>, Again) = (None, Again::default());
        let (mut tag, mut trip) = (None, Trip::default());
        loop {
            if found.is_some() {
                // Nobody would read what a further attempt brings.
                if client.has_left() {
                    return Err(Ended::Abandoned);
                }
                caller.sent.waits();
            }
            // What is known to fail costs no quota. No token is held while a call waits.
            let (is_probe, may_share, subjects) = {
                let identity = self.resolve(call, endpoint, caller, line).await?;
                let left = caller.patience.saturating_sub(began.elapsed());
                let is_probe = match self.shielded(call, endpoint, &identity, (left, &mut *line)).await {
                    Shielded::Clear => false,
                    Shielded::Probe => true,
                    Shielded::Answer(answer) => return Ok(answer),
                };
                let may_share = !is_probe && matches!(identity, Identity::Connection(_));
                (is_probe, may_share, subjects(call, endpoint, &identity))
            };
            // The first attempt may wait as long as the call may; a further one begins inside the same time.
            let left = match &found {
                None => caller.patience.saturating_sub(line.wait),
                Some(_) => caller.patience.saturating_sub(began.elapsed()),
            };
            let held = self.pass_holds(&subjects, left, (&mut *client, &mut *line)).await;
            let gathered = match held {
                Ok(probes) => {
                    let trip = may_share.then_some(&mut trip);
                    let gathered =
                        self.gather((call, endpoint), caller, trip, (tag, left), (&mut *client, &mut *line));
                    gathered.await.map(|gathered| (gathered, probes))
                }
                Err(ended) => Err(ended),
            };
            // Whoever waits for what this attempt finds out, waits until it has ended.
            let (gathered, _probes) = match (gathered, found.take()) {
                (Ok((Gathered::Again, _)), before) => {
                    found = before;
                    continue;
                }
                (Ok(ready), _) => ready,
                // Not admitted again: the answer is what the last attempt found.
                (Err(Ended::Refused(_)), Some(Found::Nothing(error))) => {
                    return Err(attempt::unanswered(error).into());
                }
                (Err(Ended::Refused(_)), Some(Found::Heard(told))) => {
                    let (identity, heard) = *told;
                    return Ok(self.reply(call, endpoint, caller, &identity, heard, line).await?);
                }
                (Err(ended), _) => return Err(ended),
            };
            let outcome = match gathered {
                Gathered::Shared(outcome) => outcome,
                Gathered::Again => continue,
                Gathered::Alone(permit) => {
                    line.cache = None;
                    tag = permit.tag();
                    caller.sent.admit();
                    match self.send_now((call, endpoint), caller, is_probe, permit, line).await? {
                        Sent::Settled(answer) => return Ok(answer),
                        Sent::Ended(outcome) => outcome,
                    }
                }
            };
            let (failure, now_found) = match outcome {
                Outcome::Heard { identity, heard, is_limit } => {
                    // perch keeps Finch's limits, so this is somebody else's doing: the app need not
                    // know while its patience lasts.
                    // Where nobody is held back, it would only be sent again at once.
                    if is_limit && again.limited + 1 < LIMITED_MAX && !self.quota.is_observing() {
                        again.limited += 1;
                        found = Some(Found::Heard(Box::new((identity, *heard))));
                        continue;
                    }
                    // The token is no good any more. Another perch may have stored a better one.
                    if heard.status == 401
                        && !std::mem::replace(&mut again.has_reread, true)
                        && self.has_newer_token(&identity).await
                    {
                        found = Some(Found::Heard(Box::new((identity, *heard))));
                        continue;
                    }
                    (Failure::Status(heard.status), Found::Heard(Box::new((identity, *heard))))
                }
                Outcome::Unanswered(error) => match failure_of(&error) {
                    Some(failure) => (failure, Found::Nothing(error)),
                    None => return Err(attempt::unanswered(error).into()),
                },
                Outcome::Refused(refusal) => return Err(refusal.into()),
            };
            let left = caller.patience.saturating_sub(began.elapsed());
            let goes_again = match self.may_go_again(endpoint, failure, &now_found, left, &mut again) {
                Some(pause) => {
                    // Who shares this call need not share its patience.
                    caller.sent.waits();
                    self.rest(pause, client).await?
                }
                None => false,
            };
            if goes_again {
                found = Some(now_found);
                continue;
            }
            return match now_found {
                Found::Nothing(error) => Err(attempt::unanswered(error).into()),
                Found::Heard(told) => {
                    let (identity, heard) = *told;
                    let heard = self.repair(call, endpoint, caller, heard, left, (client, &mut *line)).await;
                    Ok(self.reply(call, endpoint, caller, &identity, heard, line).await?)
                }
            };
        }
    }

    /// Sends a call that was admitted, now.
    async fn send_now(
        &self,
        (call, endpoint): (&Call, &'static Endpoint),
        caller: &Caller,
        is_probe: bool,
        permit: Permit,
        line: &mut AccessLine,
    ) -> Result<Sent, Refusal> {
        // The connection as it is now: while the call waited it may have been disconnected, given to
        // somebody else, repaired with another token, or found dead by others.
        let ready = match self.resolve(call, endpoint, caller, line).await {
            Ok(now) => self.inject(call, endpoint, &now).map(|attempt| (now, attempt)),
            Err(refusal) => Err(refusal),
        };
        let (identity, attempt) = match ready {
            Ok(ready) => ready,
            Err(refusal) => {
                permit.refund();
                return Err(refusal);
            }
        };
        if !is_probe && let Some(answer) = self.shielded_late(call, endpoint, &identity, line).await {
            permit.refund();
            return Ok(Sent::Settled(answer));
        }
        Ok(Sent::Ended(self.exchange((&attempt, identity), endpoint, permit, line).await))
    }

    /// One attempt, heard to its end.
    pub(super) async fn exchange(
        &self,
        (attempt, identity): (&Attempt, Identity),
        endpoint: &Endpoint,
        permit: Permit,
        line: &mut AccessLine,
    ) -> Outcome {
        let secrets = self.secrets(attempt);
        let answer = match self.attempt(attempt, &secrets, permit, line).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Unanswered(error),
        };
        match self.hear(answer, secrets, line).await {
            Ok(heard) => {
                let is_limit = self.is_product_limit(endpoint, &heard);
                Outcome::Heard { identity, heard: Box::new(heard), is_limit }
            }
            Err(refusal @ (Refusal::Broken(_) | Refusal::TimedOut)) => Outcome::Unanswered(as_sent(&refusal)),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// Waits before a call is sent again. `false`: perch is stopping, and what was found is the answer.
    async fn rest(&self, pause: Duration, client: &mut Client) -> Result<bool, Ended> {
        tokio::select! {
            biased;
            () = client.gone() => Err(Ended::Abandoned),
            () = self.drain.closing() => Ok(false),
            () = sleep(pause) => Ok(true),
        }
    }

    /// Whether a call is sent again after this failure, and after which pause.
    fn may_go_again(
        &self,
        endpoint: &Endpoint,
        failure: Failure,
        found: &Found,
        left: Duration,
        again: &mut Again,
    ) -> Option<Duration> {
        let retry_after = match found {
            Found::Heard(told) => read_retry_after(&told.1.headers),
            Found::Nothing(_) => None,
        };
        let facts = Facts {
            effect: endpoint.effect,
            failure,
            retries: again.retries,
            attempts_max: self.settings.now().outlook.attempts_max,
            left,
            retry_after,
            jitter: jitter(),
        };
        let Verdict::Again { after } = verdict(&facts) else { return None };
        if self.drain.is_closing() {
            return None;
        }
        if !self.may_retry() {
            self.telemetry.metrics.failures.over_budget();
            return None;
        }
        again.retries += 1;
        self.telemetry.metrics.failures.retried(failure);
        Some(after)
    }

    /// Takes one retry out of the budget; `false` when it is spent.
    pub(super) fn may_retry(&self) -> bool {
        self.outlook.budget.lock().spend()
    }
}

/// How an attempt without an answer failed; `None` when Finch did answer, though nothing that is of use.
const fn failure_of(error: &SendError) -> Option<Failure> {
    match error {
        SendError::Unreachable(_) => Some(Failure::NotSent),
        SendError::Broken { stale: true, .. } => Some(Failure::Stale),
        SendError::Broken { stale: false, .. } | SendError::TimedOut => Some(Failure::Cut),
        SendError::BadAnswer(_) => None,
    }
}

/// An answer that broke off, as a failure to be told when nothing better comes.
fn as_sent(refusal: &Refusal) -> SendError {
    match refusal {
        Refusal::Broken(why) => SendError::Broken { why, stale: false },
        _ => SendError::TimedOut,
    }
}

/// A number from 0 to below 1. Without the system's chance, the middle.
pub(super) fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |n| f64::from(n) / (f64::from(u32::MAX) + 1.0))
}

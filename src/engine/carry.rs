//! A call's attempts: one admission for each, until one settles it.

use super::Engine;
use super::attempt;
use super::call::{self, Answer, Call, Caller, Client, Ended};
use super::reply;
use crate::finch::endpoints::{Effect, Endpoint};
use crate::telemetry::AccessLine;
use crate::upstream::SendError;

/// The most attempts of one call that Finch refuses for a product's limit.
const ATTEMPTS_MAX: u32 = 5;

/// What the last attempt found, for the case that no further one is admitted.
enum Found {
    /// No answer.
    Nothing(SendError),
    /// A 429 for the product's limit.
    Limit(Box<(call::Identity, reply::Heard)>),
}

impl Engine {
    /// Sends a call until an attempt settles it, or none is admitted any more.
    pub(super) async fn carry_out(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        client: &mut Client,
        line: &mut AccessLine,
    ) -> Result<Answer, Ended> {
        let mut found: Option<Found> = None;
        let mut tag = None;
        loop {
            let permit = match (self.admit(endpoint, caller, tag, client, line).await, found.take()) {
                (Ok(permit), before) => {
                    found = before;
                    permit
                }
                // No quota for another attempt: the answer is what the last one found.
                (Err(Ended::Refused(_)), Some(Found::Nothing(error))) => {
                    return Err(attempt::unanswered(error).into());
                }
                (Err(Ended::Refused(_)), Some(Found::Limit(told))) => {
                    let (identity, heard) = *told;
                    return Ok(self.reply(endpoint, caller, &identity, heard, line).await?);
                }
                (Err(ended), _) => return Err(ended),
            };
            tag = permit.tag();
            caller.sent.admit();
            // The connection as it is now: while the call waited it may have been disconnected, given to
            // somebody else, or repaired with another token.
            let ready = match self.resolve(call, endpoint, caller, line).await {
                Ok(identity) => self.inject(call, endpoint, &identity).map(|attempt| (identity, attempt)),
                Err(refusal) => Err(refusal),
            };
            let (identity, attempt) = match ready {
                Ok(ready) => ready,
                Err(refusal) => {
                    permit.refund();
                    return Err(refusal.into());
                }
            };
            let secrets = self.secrets(&attempt);
            match self.attempt(&attempt, &secrets, permit, line).await {
                Ok(answer) => {
                    let heard = self.hear(answer, secrets, line).await?;
                    // perch keeps Finch's limits, so this is somebody else's doing: the app need not know
                    // while its patience lasts.
                    if self.is_product_limit(endpoint, &heard) && line.attempts < ATTEMPTS_MAX {
                        found = Some(Found::Limit(Box::new((identity, heard))));
                        continue;
                    }
                    return Ok(self.reply(endpoint, caller, &identity, heard, line).await?);
                }
                // A kept connection that Finch had closed: the one failure that says nothing about
                // Finch. A new attempt, a new admission, once.
                Err(error @ SendError::Broken { stale: true, .. })
                    if endpoint.effect == Effect::Reads && found.is_none() =>
                {
                    found = Some(Found::Nothing(error));
                }
                Err(error) => return Err(attempt::unanswered(error).into()),
            }
        }
    }
}

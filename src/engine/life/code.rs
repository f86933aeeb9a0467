//! A code is exchanged once, whoever sends it how often, and whatever happens to perch meanwhile. Before it is sent the
//! journal has it; that it is done stands in the transaction that seals its token.

use super::super::Engine;
use super::super::call::{Answer, AnswerBody, Call, Caller, Client, Ended};
use super::super::resolve::in_time;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::policy::caller::reference;
use crate::policy::{Class, Refusal};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::ConnectionId;
use crate::types::json::RawObject;
use crate::vault::{CodeHash, Journalled, Status, failpoint};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// How often it is asked whether another replica is done with a code.
const ASK_AGAIN: Duration = Duration::from_millis(250);

type Turn = Arc<tokio::sync::Mutex<()>>;

/// The codes that are being exchanged now. As many as there are calls.
#[derive(Debug, Default)]
pub(super) struct Codes(Mutex<HashMap<CodeHash, Turn>>);

/// The only exchange of a code in this process, or the wait to become it.
struct Alone<'a> {
    codes: &'a Codes,
    code: CodeHash,
    turn: Turn,
    held: Option<OwnedMutexGuard<()>>,
}

impl Codes {
    async fn alone(&self, code: CodeHash) -> Alone<'_> {
        let turn = Arc::clone(self.0.lock().entry(code).or_default());
        let mut alone = Alone { codes: self, code, turn, held: None };
        alone.held = Some(Arc::clone(&alone.turn).lock_owned().await);
        alone
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.held = None;
        let mut codes = self.codes.0.lock();
        // The table's own, and this one.
        if Arc::strong_count(&self.turn) <= 2 {
            codes.remove(&self.code);
        }
    }
}

/// The digest of the code that a call brings, when it brings one.
pub(in super::super) fn code_of(call: &Call, endpoint: &Endpoint) -> Option<CodeHash> {
    let is_exchange = endpoint.operation == Operation::CreateAccessToken;
    let code = is_exchange.then(|| RawObject::parse(&call.body)?.text("code")).flatten()?;
    Some(CodeHash::of(&code))
}

/// What becomes of a code's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It stays as it is.
    Stays,
    /// Nothing became of the code: it is as if it was never sent.
    Withdrawn,
    /// It may have been spent the first time, and nobody will know.
    Lost,
}

/// Decides. `sent` tells whether anything was sent this time, `class` what came of it.
const fn fate(is_again: bool, sent: bool, class: Class) -> Fate {
    match (is_again, sent) {
        (false, false) => Fate::Withdrawn,
        (true, false) => Fate::Stays,
        (_, true) => match (class, is_again) {
            // Finch does not know the code: never, or not any more.
            (Class::InvalidRequest, true) => Fate::Lost,
            (Class::InvalidRequest, false) => Fate::Withdrawn,
            // Refused before it was looked at.
            (Class::RateLimited | Class::ApplicationBlocked | Class::PermissionDenied, false) => {
                Fate::Withdrawn
            }
            _ => Fate::Stays,
        },
    }
}

impl Engine {
    /// Exchanges a code, unless that was done before.
    pub(in super::super) async fn exchange_once(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Answer, Ended> {
        let Some(code) = code_of(call, endpoint) else {
            // Finch says what is missing.
            return self.carry_out(call, endpoint, caller, (client, line)).await;
        };
        let _alone = tokio::select! {
            biased;
            alone = self.life.codes.alone(code) => alone,
            () = client.gone() => return Err(Ended::Abandoned),
        };
        let is_again = match self.begin_exchange(call, code, caller, client).await? {
            Journalled::Elsewhere => return Err(Refusal::ExchangeElsewhere.into()),
            Journalled::First => false,
            Journalled::Again => true,
            Journalled::Done(connection) => {
                return Ok(self.exchanged_before(caller, &connection, line).await?);
            }
            Journalled::Unknown => return Err(Refusal::ExchangeOutcomeUnknown.into()),
            Journalled::OfAnotherApp => return self.carry_out(call, endpoint, caller, (client, line)).await,
        };
        failpoint::hit("exchange:begun");
        let ended = self.carry_out(call, endpoint, caller, (client, &mut *line)).await;
        let ended = self.note_exchange(code, is_again, ended, line).await;
        self.vault.end_exchange(code).await;
        ended
    }

    /// Notes what became of a code, and says so when nobody will know.
    async fn note_exchange(
        &self,
        code: CodeHash,
        is_again: bool,
        ended: Result<Answer, Ended>,
        line: &AccessLine,
    ) -> Result<Answer, Ended> {
        let class = match &ended {
            Ok(_) => line.class,
            Err(Ended::Refused(refusal)) => refusal.problem().class,
            Err(Ended::Abandoned) => Class::Abandoned,
        };
        let noted = match fate(is_again, line.attempts > 0, class) {
            Fate::Stays => Ok(()),
            Fate::Withdrawn => self.vault.withdraw_exchange(code).await,
            Fate::Lost => match self.vault.lose_exchange(code, unix_now()).await {
                Ok(()) => return Err(Refusal::ExchangeOutcomeUnknown.into()),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = noted {
            tracing::warn!(error = %error, request.id = %line.request_id, "could not note what became of a code");
        }
        ended
    }

    /// Notes that a code is about to be sent. While another replica is at it, its end is waited for as long as the call
    /// may wait for anything.
    async fn begin_exchange(
        &self,
        call: &Call,
        code: CodeHash,
        caller: &Caller,
        client: &mut Client,
    ) -> Result<Journalled, Ended> {
        let until = tokio::time::Instant::now() + caller.patience;
        loop {
            let begun = in_time(self.vault.begin_exchange(code, call.app_name(), unix_now())).await;
            let journalled = begun.map_err(|error| self.vault_refusal("exchange", &error))?;
            if journalled != Journalled::Elsewhere || tokio::time::Instant::now() >= until {
                return Ok(journalled);
            }
            tokio::select! {
                () = tokio::time::sleep(ASK_AGAIN) => {}
                () = client.gone() => return Err(Ended::Abandoned),
            }
        }
    }

    /// The answer for a code whose token is sealed: what the exchange told, as far as the vault kept it.
    async fn exchanged_before(
        &self,
        caller: &Caller,
        connection: &ConnectionId,
        line: &mut AccessLine,
    ) -> Result<Answer, Refusal> {
        let entry = match in_time(self.vault.connection(connection)).await {
            Ok(entry) => entry,
            Err(error) => return Err(self.vault_refusal(connection.as_str(), &error)),
        };
        let facts = &entry.facts;
        // What was withheld from an app the first time is not told the second time either.
        if let Some(app) = &caller.app
            && !app.policy.admits(facts.customer_id.as_ref(), connection)
        {
            return Err(Refusal::ExchangedForForbidden { is_held: facts.status == Status::Held });
        }
        line.connection_id = Some(connection.clone());
        line.company_id.clone_from(&facts.company_id);
        line.provider.clone_from(&facts.provider_id);
        let is_held = match facts.status {
            Status::Active | Status::NeedsReauth => false,
            Status::Held => true,
            Status::Disconnecting | Status::Disconnected => {
                return Err(Refusal::Disconnected(connection.clone()));
            }
        };
        if facts.client_type != self.settings.now().environment {
            return Err(Refusal::ExchangedElsewhere {
                connection: connection.clone(),
                environment: facts.client_type.to_string(),
                configured: self.settings.now().environment,
            });
        }
        let named = caller.selector.customer.as_ref();
        if is_held || named.is_some_and(|named| facts.customer_id.as_ref() != Some(named)) {
            return Err(Refusal::ExchangedForAnother { connection: connection.clone(), is_held });
        }
        line.customer.clone_from(&facts.customer_id);
        line.class = Class::Ok;
        line.cache = Some("journal");
        let mut object = RawObject::default();
        object.set("access_token", &reference(connection));
        object.set("token_type", &"bearer");
        object.set("connection_id", connection);
        object.set("client_type", &facts.client_type.as_str());
        object.set("customer_id", &facts.customer_id);
        object.set("company_id", &facts.company_id);
        object.set("provider_id", &facts.provider_id);
        object.set("products", &facts.products);
        object.set("entity_ids", &facts.entity_ids);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = AnswerBody::Whole(object.to_bytes().into());
        let mut answer = Answer { status: StatusCode::OK, headers, body, closes: false };
        self.sign(&mut answer, line);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_given_up_only_when_finch_did_not_know_it_the_second_time() {
        use Class::{FinchError, FinchUnreachable, InvalidRequest, Ok, PerchUnavailable, RateLimited};
        for (is_again, sent, class, fate_of_it) in [
            (false, false, RateLimited, Fate::Withdrawn),
            (false, false, FinchUnreachable, Fate::Withdrawn),
            (true, false, FinchUnreachable, Fate::Stays),
            (false, true, Ok, Fate::Stays),
            (true, true, Ok, Fate::Stays),
            (false, true, InvalidRequest, Fate::Withdrawn),
            (true, true, InvalidRequest, Fate::Lost),
            (false, true, FinchError, Fate::Stays),
            (true, true, FinchError, Fate::Stays),
            (false, true, FinchUnreachable, Fate::Stays),
            (false, true, PerchUnavailable, Fate::Stays),
            (false, true, RateLimited, Fate::Withdrawn),
            (true, true, RateLimited, Fate::Stays),
        ] {
            assert_eq!(fate(is_again, sent, class), fate_of_it, "{is_again} {sent} {class:?}");
        }
    }

    #[tokio::test]
    async fn one_code_has_one_exchange_at_a_time_and_leaves_nothing_behind() {
        let codes = Codes::default();
        let code = CodeHash::of("c");
        let first = codes.alone(code).await;
        {
            let mut second = Box::pin(codes.alone(code));
            let waiting = std::future::poll_fn(|context| {
                std::task::Poll::Ready(second.as_mut().poll(context).is_pending())
            });
            assert!(waiting.await);
            let other = codes.alone(CodeHash::of("d")).await;
            drop(other);
        }
        drop(first);
        assert!(codes.0.lock().is_empty());
        let first = codes.alone(code).await;
        let second = codes.alone(code);
        let (_, second) = tokio::join!(async { drop(first) }, second);
        drop(second);
        assert!(codes.0.lock().is_empty());
    }
}

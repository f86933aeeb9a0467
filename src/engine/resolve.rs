//! identify and resolve: from the headers of a call to the connection it means.

use super::Engine;
use super::authorize::may_bring;
use super::call::{By, Call, Caller, Identity, Sent};
use crate::finch::endpoints::{Auth, Endpoint, Operation};
use crate::finch::headers::{PERCH_MAX_WAIT, STAINLESS_LANG, STAINLESS_READ_TIMEOUT, STAINLESS_TIMEOUT};
use crate::limit::patience::{Hints, patience};
use crate::policy::resolve::{self, Candidate};
use crate::policy::rollout::Rollout;
use crate::policy::{App, Refusal, Selector, caller, paging};
use crate::telemetry::AccessLine;
use crate::telemetry::metrics::VaultFault;
use crate::telemetry::timeline::Did;
use crate::types::{AccessToken, ConnectionId, ProviderId};
use crate::vault::{Entry, Status, VaultError};
use http::header::AUTHORIZATION;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Candidate for Arc<Entry> {
    fn connection_id(&self) -> &ConnectionId {
        &self.facts.connection_id
    }

    fn provider_id(&self) -> Option<&ProviderId> {
        self.facts.provider_id.as_ref()
    }

    fn is_usable(&self) -> bool {
        match self.facts.status {
            Status::Active | Status::NeedsReauth => true,
            Status::Held | Status::Disconnecting | Status::Disconnected => false,
        }
    }
}

/// A disk that hangs must not hold calls for ever.
const VAULT_PATIENCE: Duration = Duration::from_secs(5);

/// What the vault answers inside its time.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, VaultError>>) -> Result<T, VaultError> {
    let late = |_| Err(VaultError::Store("it did not answer within 5 s".to_owned()));
    tokio::time::timeout(VAULT_PATIENCE, answer).await.unwrap_or_else(late)
}

impl Engine {
    /// Who calls, how urgently, and how long it may wait.
    pub(super) fn identify(&self, call: &Call) -> Result<Caller, Refusal> {
        let selector = caller::selector(&call.headers)?;
        let asked = caller::priority(&call.headers)?;
        let priority = call.app.as_ref().map_or(asked, |app| app.policy.cap(asked));
        let hint = |name| call.headers.get(name).and_then(|v| v.to_str().ok());
        let hints = Hints {
            max_wait: caller::once(&call.headers, PERCH_MAX_WAIT, "Perch-Max-Wait")?,
            sdk_lang: hint(STAINLESS_LANG),
            sdk_read_timeout: hint(STAINLESS_READ_TIMEOUT),
            sdk_timeout: hint(STAINLESS_TIMEOUT),
        };
        let patience =
            patience(&hints, priority, &self.settings.now().wait).map_err(|_| Refusal::BadHeader {
                header: "Perch-Max-Wait",
                why: "is not a number of seconds such as 15 or 2.5".to_owned(),
            })?;
        let repair = caller::repair(&call.headers, self.settings.now().repair)?;
        let names_page = paging::names_page(call.query.as_deref());
        let app = call.app.clone();
        let by = call.by;
        Ok(Caller { app, by, selector, priority, patience, repair, names_page, sent: Sent::default() })
    }

    /// Whose credentials the call goes out with.
    pub(super) async fn resolve(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        caller: &Caller,
        line: &mut AccessLine,
    ) -> Result<Identity, Refusal> {
        let app = self.app_now(endpoint, caller)?;
        let (selector, app) = (&caller.selector, app.as_ref());
        match endpoint.auth {
            Auth::NoAuth => return Ok(Identity::Nobody),
            Auth::Basic => return Ok(Identity::Application),
            Auth::InBody => return Ok(Identity::InBody),
            Auth::Bearer => {}
        }
        if selector.has_raw_token {
            match (self.settings.now().pass_through, selector.names_somebody()) {
                (false, _) => return Err(Refusal::RawToken),
                // Whose it is cannot be told, and the app may not act for everyone.
                (true, false) if !may_bring(app) => return Err(Refusal::RawToken),
                (true, false) => return self.bring(call, endpoint, line),
                // Somebody is named: the vault's token goes out, the one that was brought stays here.
                (true, true) => {}
            }
        }
        // Until its customer is rolled out, a token that was brought along is what it was before perch.
        let may_go_the_old_way = selector.has_raw_token && may_bring(app);
        let began = Instant::now();
        let found = self.look_up(selector, app).await;
        let is_answered = !matches!(found, Err(Refusal::VaultUnavailable));
        line.timeline.note(began, Did::LookUp { is_answered });
        let entry = match found {
            // What the vault has to say, or fails to say, is nothing to a customer who is outside.
            Err(
                Refusal::UnknownCustomer(_)
                | Refusal::UnknownConnection(_)
                | Refusal::Ambiguous { .. }
                | Refusal::VaultUnavailable,
            ) if may_go_the_old_way
                && self
                    .goes_the_old_way(call, endpoint, |r| !r.customers.has(selector.customer.as_ref())) =>
            {
                return self.bring(call, endpoint, line);
            }
            found => found?,
        };
        let facts = &entry.facts;
        line.customer = facts.customer_id.clone();
        line.connection_id = Some(facts.connection_id.clone());
        line.company_id = facts.company_id.clone();
        line.provider = facts.provider_id.clone();
        let outside =
            |r: &Rollout| r.outside(facts.customer_id.as_ref(), facts.provider_id.as_ref()).is_some();
        if may_go_the_old_way && self.goes_the_old_way(call, endpoint, outside) {
            return self.bring(call, endpoint, line);
        }
        self.let_through(call.by, endpoint, line)?;
        if entry.is_unreadable {
            let unreadable = VaultError::Unreadable { connection: facts.connection_id.clone() };
            return Err(self.vault_refusal(facts.connection_id.as_str(), &unreadable));
        }
        match facts.status {
            Status::Active | Status::NeedsReauth => Ok(Identity::Connection(entry)),
            // Its end may be asked for again, until Finch agrees.
            Status::Disconnecting if endpoint.operation == Operation::Disconnect => {
                Ok(Identity::Connection(entry))
            }
            // Who decides about it may look at it and end it.
            Status::Held
                if call.by != By::App
                    && matches!(endpoint.operation, Operation::Introspect | Operation::Disconnect) =>
            {
                Ok(Identity::Connection(entry))
            }
            Status::Held => Err(Refusal::Held {
                connection: facts.connection_id.clone(),
                why: facts.held_reason.clone().unwrap_or_else(|| "no reason is recorded".to_owned()),
            }),
            Status::Disconnecting | Status::Disconnected => {
                Err(Refusal::Disconnected(facts.connection_id.clone()))
            }
        }
    }

    /// The connection that is named.
    async fn look_up(&self, selector: &Selector, app: Option<&Arc<App>>) -> Result<Arc<Entry>, Refusal> {
        match (&selector.connection, &selector.customer, &selector.pick) {
            (Some(connection), customer, pick) => {
                let entry = self.connection(connection, app).await?;
                let is_other = customer.as_ref().is_some_and(|c| entry.facts.customer_id.as_ref() != Some(c));
                if is_other || pick.as_ref().is_some_and(|p| !resolve::is(&entry, p)) {
                    return Err(Refusal::CustomersDisagree);
                }
                Ok(entry)
            }
            (None, Some(customer), pick) => {
                let entries = self.connections(customer, app).await?;
                resolve::pick(customer, &entries, pick.as_deref())
            }
            (None, None, Some(pick)) => match ConnectionId::new(pick) {
                Ok(id) => self.connection(&id, app).await,
                Err(_) => Err(Refusal::UnknownConnection(pick.clone())),
            },
            (None, None, None) => Err(Refusal::NoCustomer),
        }
    }

    /// The app's own token, where an operator lets old code run beside new.
    fn bring(&self, call: &Call, endpoint: &Endpoint, line: &AccessLine) -> Result<Identity, Refusal> {
        // Roll-out is about the vault's tokens; a brake is about whatever would be sent.
        if let Some(refusal) = self.brake(endpoint.product, line).filter(|_| endpoint.can_be_kept_back()) {
            return Err(refusal);
        }
        let value = call.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.split_once(' ')).ok_or(Refusal::RawToken)?.1.trim();
        Ok(Identity::Brought(Arc::new(AccessToken::new(token.to_owned()))))
    }

    /// What a caller reads when the vault does not give a connection.
    pub(super) fn vault_refusal(&self, name: &str, error: &VaultError) -> Refusal {
        match error {
            VaultError::UnknownConnection => Refusal::UnknownConnection(name.to_owned()),
            VaultError::OtherEnvironment { stored } => Refusal::OtherEnvironment {
                name: name.to_owned(),
                stored: *stored,
                configured: self.settings.now().environment,
            },
            VaultError::Unreadable { connection } => {
                self.telemetry.metrics.vault_fault(VaultFault::Unreadable);
                tracing::error!(connection.id = %connection, "the sealed token of connection {connection} cannot be opened");
                Refusal::TokenUnreadable(connection.clone())
            }
            other => {
                self.telemetry.metrics.vault_fault(VaultFault::Store);
                tracing::error!(error = %other, "the vault does not answer");
                Refusal::VaultUnavailable
            }
        }
    }
}

//! authorize: whether the app that calls may have this done, for whom it names. Whom it may not act for is answered
//! as if there were nobody of that name, and nothing is looked up for it whose outcome could show.

use super::Engine;
use super::call::{Call, Caller};
use super::resolve::in_time;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::policy::refusal::Forbidden;
use crate::policy::{App, Policy, Refusal};
use crate::types::json::RawObject;
use crate::types::{ConnectionId, CustomerId};
use crate::vault::{Entry, VaultError};
use std::sync::Arc;

impl Engine {
    /// Whether the app may call this endpoint, and, where no connection's token tells whom a call is for, act for whom
    /// its headers and its body name.
    pub(super) async fn authorize(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        let Some(app) = &caller.app else { return Ok(()) };
        app.policy.permit(endpoint)?;
        if !app.policy.looks_into(endpoint) {
            return Ok(());
        }
        let named = caller.selector.customer.as_ref();
        if named.is_some_and(|customer| !app.policy.admits_customer(customer)) {
            return Err(Refusal::AppForbidden(Forbidden::Customer));
        }
        let body = RawObject::parse(&call.body).ok_or(Refusal::BodyNotAnObject)?;
        let customer = text_once(&body, "customer_id")?.map(CustomerId::new);
        match (endpoint.operation, customer) {
            (_, Some(Ok(customer))) if app.policy.admits_customer(&customer) => {}
            (Operation::CreateSession, _) | (_, Some(_)) => {
                return Err(Refusal::AppForbidden(Forbidden::Customer));
            }
            (_, None) => {}
        }
        let connection = text_once(&body, "connection_id")?.map(ConnectionId::new);
        match (endpoint.operation, connection) {
            (_, Some(Ok(connection))) => self.connection(&connection, Some(app)).await.map(drop),
            (_, Some(Err(_)))
            | (Operation::ReauthenticateSession | Operation::SandboxCreateAccount, None) => {
                Err(Refusal::UnknownConnection("of this name".to_owned()))
            }
            (_, None) => Ok(()),
        }
    }

    /// The app as it is now: a call may have waited since it proved to be it. What a body names was judged when
    /// it came.
    pub(super) fn app_now(&self, endpoint: &Endpoint, caller: &Caller) -> Result<Option<Arc<App>>, Refusal> {
        let Some(app) = &caller.app else { return Ok(None) };
        let now = self.vault.app_now(app).ok_or(Refusal::AppRefused(self.settings.now().known_by))?;
        now.policy.permit(endpoint)?;
        Ok(Some(now))
    }

    /// A connection, if this app may know of it.
    pub(super) async fn connection(
        &self,
        id: &ConnectionId,
        app: Option<&Arc<App>>,
    ) -> Result<Arc<Entry>, Refusal> {
        let unknown = || Refusal::UnknownConnection(id.to_string());
        let policy = app.map(|app| &app.policy).filter(|policy| policy.is_restricted());
        if policy.is_some_and(|policy| !policy.admits_connection(id)) {
            return Err(unknown());
        }
        let found = in_time(self.vault.connection(id)).await;
        let found = found.map_err(|error| (self.vault_refusal(id.as_str(), &error), error));
        let Some(policy) = policy else { return found.map_err(|(refusal, _)| refusal) };
        match found {
            Ok(entry) if policy.admits(entry.facts.customer_id.as_ref(), id) => Ok(entry),
            // What is cached is found while the store is out, and what is not there is not: both are told the same.
            Ok(_) => match in_time(self.vault.ping()).await {
                Ok(()) => Err(unknown()),
                Err(error) => Err(self.vault_refusal(id.as_str(), &error)),
            },
            // Whose it is cannot be told, so it is nobody's; the operator's log has it.
            Err((_, VaultError::OtherEnvironment { .. } | VaultError::Unreadable { .. })) => Err(unknown()),
            Err((refusal, _)) => Err(refusal),
        }
    }

    /// The connections of a customer for whom the app may act, as far as it may use them.
    pub(super) async fn connections(
        &self,
        customer: &CustomerId,
        app: Option<&Arc<App>>,
    ) -> Result<Vec<Arc<Entry>>, Refusal> {
        let policy = app.map(|app| &app.policy);
        if policy.is_some_and(|policy| !policy.admits_customer(customer)) {
            // Not looked up at all: nothing can tell one that is there from one that is not.
            return Ok(Vec::new());
        }
        let found = self.vault.of_customer(customer).await;
        let mut entries = found.map_err(|error| self.vault_refusal(customer.as_str(), &error))?;
        entries.retain(|entry| policy.is_none_or(|p| p.admits_connection(&entry.facts.connection_id)));
        Ok(entries)
    }
}

/// Whether the app may act for everyone that a token which was brought in could belong to.
pub(super) fn may_bring(app: Option<&Arc<App>>) -> bool {
    app.is_none_or(|app| !app.policy.is_restricted())
}

/// Whether an app may be handed what an exchange brought: for all whom Finch and the vault name.
pub(super) fn may_have(
    policy: &Policy,
    id: &ConnectionId,
    (finch, stored, named): (Option<&CustomerId>, Option<&CustomerId>, Option<&CustomerId>),
) -> bool {
    match finch.is_none() && stored.is_none() {
        true => policy.admits(named, id),
        false => [finch, stored].into_iter().flatten().all(|customer| policy.admits(Some(customer), id)),
    }
}

/// A member that says whom a call is for. Two of the same name could be read in two ways.
fn text_once(body: &RawObject, name: &'static str) -> Result<Option<String>, Refusal> {
    match body.names().filter(|n| *n == name).count() {
        0 => Ok(None),
        1 => body.text(name).map(Some).ok_or(Refusal::AppForbidden(Forbidden::Customer)),
        _ => Err(Refusal::AppForbidden(Forbidden::Customer)),
    }
}

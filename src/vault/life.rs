//! A connection's life beyond its token: codes on their way, the intent to disconnect, what Finch tells of it.

use super::audit::{Action, Actor};
use super::entry::is_plain;
use super::write::Deeds;
use super::{LIST_ITEMS_MAX, NewConnection, Sealed, Status, Vault, VaultError};
use crate::store::Tx;
use crate::store::exchange::{self, CodeHash, State};
use crate::store::{connections, lease};
use crate::types::{
    AppName, CompanyId, ConnectionId, CustomerId, EntityId, Environment, ProviderId, UnixMillis,
};
use std::sync::Arc;
use std::time::Duration;

/// The longest that one gateway is busy with a code: Finch's answer may take six minutes.
const EXCHANGE_MAX: Duration = Duration::from_secs(400);

/// How often it is written down that nothing is new, in milliseconds.
const WRITE_EVERY_MS: i64 = 60_000;

/// What the journal knows of a code that is to be exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Journalled {
    /// Nothing until now: it may be sent.
    First,
    /// It was sent before, or about to be, and nobody knows what came of it: it may be sent once more.
    Again,
    /// Its token is sealed, for this connection.
    Done(ConnectionId),
    /// It was sent twice, and Finch did not know it any more.
    Unknown,
    /// Another app sent it first: Finch may say what it thinks of that.
    OfAnotherApp,
    /// Another gateway is at it: ask again.
    Elsewhere,
}

/// What `/introspect` told of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Learnt {
    /// The customer that Finch knows.
    pub customer: Option<CustomerId>,
    /// The company behind it.
    pub company: Option<CompanyId>,
    /// The employment system.
    pub provider: Option<ProviderId>,
    /// Granted scopes; empty when nothing was said.
    pub products: Vec<String>,
    /// The entities it reaches; empty when nothing was said.
    pub entities: Vec<EntityId>,
    /// The kind of credentials.
    pub client_type: Option<Environment>,
    /// `connection_status.status`.
    pub account_status: Option<String>,
}

/// Where what was learnt does not fit what is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misfit {
    /// Finch knows another customer. The vault's stays; the connection has a note.
    pub customer: bool,
    /// The token is of another environment. The connection is held.
    pub environment: bool,
}

impl Vault {
    /// Notes that a code is about to be sent; durable when this returns.
    ///
    /// # Errors
    /// [`VaultError::Store`]; the code must not be sent then.
    pub async fn begin_exchange(
        &self,
        code: CodeHash,
        app: Option<&AppName>,
        now: UnixMillis,
    ) -> Result<Journalled, VaultError> {
        let (shared, gateway) = (Arc::clone(&self.shared), self.sharing_gateway());
        let (asked_by, alive_since) =
            (app.map(ToString::to_string).unwrap_or_default(), self.store.alive_since(now));
        let begin = move |tx: &Tx<'_>| {
            let is_ours = || match &gateway {
                Some(holder) => lease::take(tx, &code.lease(), holder, (EXCHANGE_MAX, alive_since), now),
                None => Ok(true),
            };
            Ok::<_, VaultError>(match exchange::find(tx, &shared.scope, &code)? {
                // Somebody is about to give it back.
                None if !is_ours()? => Journalled::Elsewhere,
                None => {
                    exchange::start(tx, &shared.scope, &code, &asked_by, now)?;
                    Journalled::First
                }
                Some(row) if row.asked_by != asked_by => Journalled::OfAnotherApp,
                Some(row) => match row.state {
                    State::Started if !is_ours()? => Journalled::Elsewhere,
                    State::Started => Journalled::Again,
                    State::Done(connection) => Journalled::Done(connection),
                    State::Unknown => Journalled::Unknown,
                },
            })
        };
        self.store.write(begin, |_| ()).await
    }

    /// This gateway is done with a code, whatever came of it: where several share a store, another may go on.
    pub async fn end_exchange(&self, code: CodeHash) {
        let Some(holder) = self.sharing_gateway() else { return };
        let ended = self.store.write(move |tx| lease::give_back(tx, &code.lease(), &holder), |_| ()).await;
        if let Err(error) = ended {
            tracing::info!(error = %error, "the store was not told that an exchange is over");
        }
    }

    /// Forgets a code that was not sent, or that Finch refused.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn withdraw_exchange(&self, code: CodeHash) -> Result<(), VaultError> {
        let shared = Arc::clone(&self.shared);
        let forget = move |tx: &Tx<'_>| Ok::<_, VaultError>(exchange::withdraw(tx, &shared.scope, &code)?);
        self.store.write(forget, |_| ()).await
    }

    /// Notes that nobody will ever know what became of a code.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn lose_exchange(&self, code: CodeHash, now: UnixMillis) -> Result<(), VaultError> {
        let shared = Arc::clone(&self.shared);
        let lose =
            move |tx: &Tx<'_>| Ok::<_, VaultError>(exchange::finish(tx, &shared.scope, &code, None, now)?);
        self.store.write(lose, |_| ()).await
    }

    /// Stores the token that a code brought and, in the same transaction, that the code is done.
    ///
    /// # Errors
    /// As [`Vault::seal`].
    pub async fn seal_exchanged(
        &self,
        new: NewConnection,
        code: Option<CodeHash>,
        actor: Actor,
        now: UnixMillis,
    ) -> Result<Sealed, VaultError> {
        self.seal_by(new, actor, now, move |shared, tx, id| match &code {
            Some(code) => exchange::finish(tx, &shared.scope, code, Some(id), now),
            None => Ok(()),
        })
        .await
    }

    /// Begins to disconnect: from now on no call uses the connection. Its token stays, for Finch's
    /// `/disconnect` needs it. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Disconnected`], [`VaultError::Store`].
    pub async fn begin_disconnect(
        &self,
        id: &ConnectionId,
        actor: Actor,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        self.update(id, now, Deeds::By(actor, Action::Disconnect), |_, _, row| match row.facts.status {
            Status::Disconnected => {
                Err(VaultError::Disconnected { connection: row.facts.connection_id.clone() })
            }
            Status::Disconnecting => Ok(()),
            Status::Active | Status::NeedsReauth | Status::Held => {
                row.facts.status = Status::Disconnecting;
                row.facts.held_reason = None;
                Ok(())
            }
        })
        .await
    }

    /// The connections that are in this part of their life, each with when `/introspect` was last asked about it.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn in_status(
        &self,
        status: Status,
    ) -> Result<Vec<(ConnectionId, Option<UnixMillis>)>, VaultError> {
        let shared = Arc::clone(&self.shared);
        let look = move |tx: &Tx<'_>| Ok::<_, VaultError>(connections::in_status(tx, &shared.scope, status)?);
        self.store.read(look).await
    }

    /// Keeps Finch's last word on a connection, unless a newer one is known. Answers whether it is the newest.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Store`].
    pub async fn note_account_status(
        &self,
        id: &ConnectionId,
        word: &str,
        at: UnixMillis,
        now: UnixMillis,
    ) -> Result<bool, VaultError> {
        let word = word.to_owned();
        self.update(id, now, Deeds::None, move |_, _, row| {
            let facts = &mut row.facts;
            if facts.status_at.is_some_and(|known| known > at) || !is_plain(&word) {
                return Ok(false);
            }
            facts.account_status = Some(word.clone());
            facts.status_at = Some(at);
            Ok(true)
        })
        .await
    }

    /// Keeps what an answer to this version's token showed. A newer token is not concerned: a slow answer may come
    /// after the repair.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Store`].
    pub async fn note_token_word(
        &self,
        id: &ConnectionId,
        version: u64,
        word: &'static str,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        self.update(id, now, Deeds::None, move |_, _, row| {
            let facts = &mut row.facts;
            if facts.version == version && facts.status_at.is_none_or(|known| known <= now) {
                facts.account_status = Some(word.to_owned());
                facts.status_at = Some(now);
            }
            Ok(())
        })
        .await
    }

    /// Keeps what `/introspect` told with this version's token. An owner that is stored stays; a connection without
    /// one gets the one that Finch knows. Of a newer token nothing is changed.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Unreadable`], [`VaultError::Store`].
    pub async fn learn(
        &self,
        id: &ConnectionId,
        version: u64,
        told: Learnt,
        (asked_at, now): (UnixMillis, UnixMillis),
    ) -> Result<Misfit, VaultError> {
        self.update(id, now, Deeds::None, move |shared, ring, row| {
            let told = told.clone();
            let mut misfit = Misfit::default();
            if row.facts.version != version || row.facts.status == Status::Disconnected {
                return Ok(misfit);
            }
            let before = row.facts.clone();
            let facts = &mut row.facts;
            facts.introspected_at = Some(asked_at);
            facts.company_id = told.company.or(facts.company_id.take());
            facts.provider_id = told.provider.or(facts.provider_id.take());
            if !told.products.is_empty()
                && told.products.len() <= LIST_ITEMS_MAX
                && told.products.iter().all(|p| is_plain(p))
            {
                facts.products = told.products;
            }
            if !told.entities.is_empty() && told.entities.len() <= LIST_ITEMS_MAX {
                facts.entity_ids = told.entities;
            }
            if let Some(word) = told.account_status.filter(|word| is_plain(word))
                && facts.status_at.is_none_or(|known| known <= asked_at)
            {
                facts.account_status = Some(word);
                facts.status_at = Some(asked_at);
            }
            facts.note = None;
            if let Some(other) = told.client_type.filter(|kind| *kind != shared.scope.environment) {
                misfit.environment = true;
                facts.client_type = other;
                if facts.status != Status::Disconnecting {
                    facts.status = Status::Held;
                    facts.held_reason =
                        Some(format!("environment mismatch: Finch says its token is for {other}"));
                }
            }
            match (&facts.customer_id, told.customer) {
                (Some(owner), Some(customer)) if *owner != customer => {
                    misfit.customer = true;
                    facts.note = Some(format!("Finch knows the customer as {customer}; perch keeps {owner}"));
                }
                (None, Some(customer)) if !misfit.environment => shared.give(ring, row, customer)?,
                _ => {}
            }
            // Whoever asks all the time does not make the store write all the time.
            let is_old_news = crate::store::Connection {
                introspected_at: row.facts.introspected_at,
                status_at: row.facts.status_at,
                ..before.clone()
            } == row.facts;
            let is_recent =
                before.introspected_at.is_some_and(|last| asked_at.0.saturating_sub(last.0) < WRITE_EVERY_MS);
            if is_old_news && is_recent {
                row.facts = before;
            }
            Ok(misfit)
        })
        .await
    }

    /// Takes legal entities off a connection that no longer reaches them.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Store`].
    pub async fn drop_entities(
        &self,
        id: &ConnectionId,
        gone: Vec<EntityId>,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        self.update(id, now, Deeds::None, move |_, _, row| {
            row.facts.entity_ids.retain(|entity| !gone.contains(entity));
            Ok(())
        })
        .await
    }
}

//! What Finch tells of a connection, whoever asked and by whatever way it came: the newest word is kept, the shield
//! hears it, and facts that do not fit are told to an operator instead of being believed.

use super::super::Engine;
use crate::limit::Ailment;
use crate::policy::shield::{Health, Login};
use crate::telemetry::clock::unix_now;
use crate::types::{CompanyId, ConnectionId, CustomerId, EntityId, Environment, ProviderId, UnixMillis};
use crate::upstream::Introspection;
use crate::vault::{Entry, Learnt, Misfit, VaultError};
use std::sync::Arc;

/// One word of Finch's about a connection, as a webhook brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which connection.
    pub connection_id: ConnectionId,
    /// Which of its entities, when it is about one of several.
    pub entity_id: Option<EntityId>,
    /// `connected`, `reauth`, `disconnected` and others ("Finch Connect guide").
    pub account_status: String,
    /// When Finch said it. An older word than the one that is known changes nothing.
    pub at: UnixMillis,
}

/// The word of `connection_status.status` that says the same.
const fn word(ailment: Ailment) -> &'static str {
    match ailment {
        Ailment::Reauthentication => "reauth",
        Ailment::AccountSetup => "error_no_account_setup",
        Ailment::Disconnected => "disconnected",
    }
}

impl Engine {
    /// Finch said by itself how a connection is. Answers whether that was news. A token is never erased for it.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`] and the others of [`crate::vault::Vault::connection`].
    pub async fn told_by_finch(&self, told: Told) -> Result<bool, VaultError> {
        let entry = self.vault.connection(&told.connection_id).await?;
        // A connection with one entity is that entity.
        let entity = told.entity_id.filter(|_| entry.facts.entity_ids.len() > 1);
        if entity.is_none() {
            let id = &told.connection_id;
            let is_newest =
                self.vault.note_account_status(id, &told.account_status, told.at, unix_now()).await?;
            if !is_newest {
                return Ok(false);
            }
        }
        let login = Login { connection: told.connection_id, entity };
        match Health::of_word(&told.account_status) {
            Health::Ill(ailment) => self.fell_ill(&login, &entry, ailment).await,
            Health::Well => self.recovered(&login, &entry).await,
            Health::Unknown => {}
        }
        Ok(true)
    }

    /// An answer showed how a login is: the vault keeps it as Finch's word, when it is another than the last.
    pub(in super::super) async fn note_word(&self, login: &Login, entry: &Entry, ailment: Option<Ailment>) {
        if login.entity.is_some() {
            return;
        }
        let word = ailment.map_or("connected", word);
        if entry.facts.account_status.as_deref() == Some(word) {
            return;
        }
        let (id, now) = (&login.connection, unix_now());
        if let Err(error) = self.vault.note_account_status(id, word, now, now).await {
            tracing::warn!(error = %error, connection.id = %id, "could not note what Finch says of connection {id}");
        }
    }

    /// Keeps what `/introspect` told with a connection's token.
    pub(in super::super) async fn keep_told(&self, entry: &Arc<Entry>, told: &Introspection) {
        let facts = &entry.facts;
        let id = &facts.connection_id;
        if told.connection_id.as_deref().is_some_and(|other| other != id.as_str()) {
            tracing::error!(
                connection.id = %id,
                "Finch says that the token of connection {id} belongs to another connection; nothing was changed: check how \
                 it was imported"
            );
            return;
        }
        let now = unix_now();
        match self.vault.learn(id, facts.version, learnt(told), (now, now)).await {
            Ok(Misfit { customer, environment }) => {
                if customer {
                    tracing::warn!(
                        connection.id = %id,
                        "Finch knows another customer for connection {id} than the vault; the vault's stays: see `perch \
                         connections show {id}`"
                    );
                }
                if environment {
                    tracing::error!(connection.id = %id, "connection {id} is held: Finch says its token is of another environment");
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, connection.id = %id, "could not keep what Finch told of connection {id}");
            }
        }
    }

    /// Keeps that Finch does not take a connection's token any more, as the answer to a question about it.
    pub(in super::super) async fn learn_dead(&self, entry: &Arc<Entry>) {
        let told =
            Learnt { account_status: Some(word(Ailment::Disconnected).to_owned()), ..Learnt::default() };
        let (facts, now) = (&entry.facts, unix_now());
        let id = &facts.connection_id;
        if let Err(error) = self.vault.learn(id, facts.version, told, (now, now)).await {
            tracing::warn!(error = %error, connection.id = %id, "could not keep what Finch told of connection {id}");
        }
    }
}

fn learnt(told: &Introspection) -> Learnt {
    let reached = told.entities.iter().flatten().filter(|entity| !entity.is_gone());
    Learnt {
        customer: told.customer_id.as_deref().and_then(|id| CustomerId::new(id).ok()),
        company: told.company_id.as_deref().and_then(|id| CompanyId::new(id).ok()),
        provider: told.provider_id.as_deref().and_then(|id| ProviderId::new(id).ok()),
        products: told.products.clone(),
        entities: reached.filter_map(|entity| EntityId::new(&entity.id).ok()).collect(),
        client_type: told.client_type.as_deref().and_then(Environment::parse),
        account_status: told.status().map(str::to_owned),
    }
}

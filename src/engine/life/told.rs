//! What Finch tells of a connection, whoever asked and by whatever way it came: the newest word is kept, the shield
//! hears it, and facts that do not fit are told to an operator instead of being believed.

use super::super::Engine;
use crate::limit::Ailment;
use crate::policy::shield::Login;
use crate::telemetry::clock::unix_now;
use crate::types::{CompanyId, CustomerId, EntityId, Environment, ProviderId};
use crate::upstream::Introspection;
use crate::vault::{Entry, Learnt, Misfit};
use std::sync::Arc;

/// The word of `connection_status.status` that says the same.
const fn word(ailment: Ailment) -> &'static str {
    match ailment {
        Ailment::Reauthentication => "reauth",
        Ailment::AccountSetup => "error_no_account_setup",
        Ailment::Disconnected => "disconnected",
    }
}

impl Engine {
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
        if let Err(error) = self.vault.note_token_word(id, entry.facts.version, word, now).await {
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

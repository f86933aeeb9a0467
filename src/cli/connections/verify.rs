//! Asking Finch whose an imported token is, one after another and inside the egress limit.

use super::{ImportLine, Introspected};
use crate::app;
use crate::cli::exit::Failure;
use crate::config::Config;
use crate::engine::quota::{AskFacts, Quota};
use crate::limit::patience::WAIT_MAX;
use crate::types::{
    CompanyId, ConnectionId, CustomerId, EntityId, Environment, Priority, Product, ProviderId,
};
use crate::upstream::{Finch, introspect};
use std::sync::Arc;

/// Asks Finch. A gateway beside it has a quota of its own, so this one takes half of the egress limit.
pub(super) struct Verifier {
    finch: Finch,
    quota: Arc<Quota>,
}

impl Verifier {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let mut rules = app::rules(config);
        rules.ip.requests = rules.ip.requests.get().div_ceil(2).try_into().unwrap_or(rules.ip.requests);
        let finch = Finch::new(app::finch_settings(config)).map_err(app::StartError::from)?;
        Ok(Self { finch, quota: Quota::new(rules) })
    }

    /// What Finch says of the line's token.
    pub(super) async fn ask(&self, line: &ImportLine) -> Result<Introspected, String> {
        let ask = AskFacts {
            product: Product::Introspect,
            customer: None,
            priority: Priority::Batch,
            patience: WAIT_MAX,
            tag: None,
        };
        let mut permit =
            self.quota.admit(ask).await.map_err(|_| "the egress limit leaves no room".to_owned())?;
        let connected = match self.finch.connect().await {
            Ok(connected) if permit.is_good().await => connected,
            Ok(_) | Err(_) => {
                permit.refund();
                return Err("Finch could not be reached; nothing was verified".to_owned());
            }
        };
        let told = introspect(connected, &line.access_token, None, |answer| {
            permit.arrived(answer.is_some_and(|a| a.status == 429));
        })
        .await
        .map_err(|e| e.to_string())?;
        let missing = |what: &str| format!("Finch does not say its {what}");
        let id = |text: Option<String>| text.filter(|t| !t.is_empty());
        Ok(Introspected {
            connection_id: id(told.connection_id)
                .and_then(|t| ConnectionId::new(t).ok())
                .ok_or_else(|| missing("connection_id"))?,
            customer_id: id(told.customer_id).and_then(|t| CustomerId::new(t).ok()),
            company_id: id(told.company_id).and_then(|t| CompanyId::new(t).ok()),
            provider_id: id(told.provider_id).and_then(|t| ProviderId::new(t).ok()),
            client_type: told
                .client_type
                .as_deref()
                .and_then(Environment::parse)
                .ok_or_else(|| missing("client_type"))?,
            products: told.products,
            entity_ids: told
                .entities
                .into_iter()
                .flatten()
                .filter_map(|e| EntityId::new(e.id).ok())
                .collect(),
            status: told.connection_status.map(|s| s.status),
        })
    }
}

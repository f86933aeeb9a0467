//! A month's use and bill, out of the vault and the request ledger.

use super::Engine;
use crate::policy::usage::{Held, Known, Month, Usage, Used, reckon};
use crate::store::requests::Requests;
use crate::types::UnixMillis;
use crate::vault::{Connection, Status, Vault, VaultError};
use std::collections::{BTreeMap, BTreeSet};

/// Reckons up a month. Without a ledger nothing is said of calls; `has_unnamed` says that apps may bring tokens, whose calls
/// name no connection.
///
/// # Errors
/// [`VaultError`] when the vault's store or the ledger does not answer.
pub async fn usage(
    vault: &Vault,
    (requests, has_unnamed): (Option<&Requests>, bool),
    month: Month,
    bill: Option<&BTreeSet<String>>,
    now: UnixMillis,
) -> Result<Usage, VaultError> {
    let mut held = Vec::new();
    let mut ended = vault.disconnections().await?;
    for facts in vault.list().await? {
        held.push(held_of(&mut ended, facts));
    }
    let used: Option<(Vec<Used>, _)> = match requests {
        None => None,
        Some(requests) => {
            let rows = requests.usage(&month.to_string()).await.map_err(VaultError::from)?;
            let used = rows.into_iter().map(|row| Used {
                connection_id: row.connection_id,
                company_id: row.company_id,
                customer: row.customer,
                provider: row.provider,
                calls: row.calls,
                attempts: row.attempts,
                first: row.first,
                last: row.last,
            });
            let since = requests.counts_since().await.map_err(VaultError::from)?;
            Some((used.collect(), since))
        }
    };
    let known = used.as_ref().map(|(used, since)| Known { used, since: *since, has_unnamed });
    Ok(reckon(month, &held, known, bill, now))
}

fn held_of(ended: &mut BTreeMap<String, UnixMillis>, facts: Connection) -> Held {
    let disconnected_at = match facts.status {
        Status::Disconnected => {
            // The trail says it to the moment; where it does not reach back, nothing has changed since.
            Some(ended.remove(facts.connection_id.as_str()).unwrap_or(facts.updated_at))
        }
        Status::Active | Status::NeedsReauth | Status::Held | Status::Disconnecting => None,
    };
    Held {
        connection_id: facts.connection_id,
        company_id: facts.company_id,
        customer: facts.customer_id,
        provider: facts.provider_id,
        connected_at: facts.created_at,
        disconnected_at,
    }
}

impl Engine {
    /// Reckons up a month, with a bill or without.
    ///
    /// # Errors
    /// As [`usage`].
    pub async fn month_of_usage(
        &self,
        month: Month,
        bill: Option<&BTreeSet<String>>,
        now: UnixMillis,
    ) -> Result<Usage, VaultError> {
        let requests = (self.requests.as_deref(), self.settings.now().pass_through);
        usage(&self.vault, requests, month, bill, now).await
    }
}

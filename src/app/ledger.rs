//! Out of the configuration of the request ledger: whether there is one, and the way to it.

use super::StartError;
use crate::config::{self, Config};
use crate::store::StoreError;
use crate::store::connections::Scope;
use crate::store::requests::{Bounds, Requests};
use crate::telemetry::{Ledger, LedgerRules, Metrics};
use crate::vault::OpenError;
use std::sync::Arc;

/// Whose part of the store a configuration is about.
pub fn scope(config: &Config) -> Scope {
    Scope { application: config.finch.client_id.clone(), environment: config.finch.environment }
}

/// The ledger that a configuration describes, and the way to it.
pub(super) async fn open(
    config: &Config,
    metrics: &Metrics,
) -> Result<(Option<Arc<Requests>>, Ledger), StartError> {
    let config::Ledger { keep, flush, queue, rows } = config.ledger;
    let Some(keep) = keep else { return Ok((None, Ledger::off())) };
    let requests = match Requests::open(&config.vault.store, scope(config)).await {
        Ok(requests) => Arc::new(requests),
        Err(StoreError::Newer(why) | StoreError::Refused(why)) => {
            tracing::error!("calls are served and kept nowhere: {why}");
            return Ok((None, Ledger::off()));
        }
        Err(error) => return Err(OpenError::from(error).into()),
    };
    let queue = usize::try_from(queue).unwrap_or(usize::MAX);
    let rules = LedgerRules { bounds: Bounds { keep, rows }, flush, queue };
    let ledger = Ledger::start(Arc::clone(&requests), rules, metrics.ledger.clone());
    Ok((Some(requests), ledger))
}

//! Out of the configuration: what the engine takes of it, at start and whenever it is read anew.

use super::essentials::essentials;
use super::{merge, proof};
use crate::config::{self, Config, NotReady, Writes};
use crate::engine::{Batching, OutlookRules, Settings};
use crate::limit::patience::WaitRules;
use crate::policy::Proof;
use crate::policy::brake::{Brakes, PauseScope};
use crate::policy::rollout::{Circle, Rollout};
use crate::types::{ClientSecret, WebhookSecret};
use std::sync::Arc;

/// What the engine takes. `before` is the application's secret that another one has replaced.
pub(super) fn settings(config: &Config, before: Option<Arc<ClientSecret>>) -> Settings {
    Settings {
        client_id: config.finch.client_id.clone(),
        client_secret: Arc::clone(&config.finch.client_secret),
        client_secret_before: before,
        environment: config.finch.environment,
        wait: WaitRules { interactive: config.limits.wait.interactive, batch: config.limits.wait.batch },
        known_by: proof(config.apps.auth).unwrap_or(Proof::Key),
        writes: config.apps.writes == Writes::Allow,
        pass_through: config.apps.pass_through,
        rollout: Rollout {
            customers: circle(&config.rollout.customers),
            providers: circle(&config.rollout.providers),
        },
        brakes: brakes(&config.pause),
        coalesce: config.merge.coalesce,
        batching: Batching { products: config.merge.batch.clone(), apps: config.merge.batch_apps.clone() },
        splits: config.merge.split,
        inspect_bytes_max: config.listen.inspect_bytes_max,
        redirect_uri: config.finch.redirect_uri.clone(),
        outlook: outlook(config),
        repair: merge::repair(config.merge.repair),
        disconnect_retry: config.connections.disconnect_retry,
        introspect_every: config.connections.introspect_every,
        refuses_unready: config.merge.not_ready == NotReady::Error,
        grace: config.drain.grace,
        linger: config.drain.linger(&config.listen.proxy),
        essentials: essentials(config),
    }
}

/// What is sent again, and what is answered for dead logins.
pub(super) fn outlook(config: &Config) -> OutlookRules {
    OutlookRules {
        attempts_max: config.retry.attempts,
        retry_percent: config.retry.budget,
        probe: config.shield.probe,
    }
}

/// With what Finch may have signed: the key in force, and the one before.
pub(super) fn webhook_secrets(finch: &mut config::Finch) -> Vec<WebhookSecret> {
    [finch.webhook_secret.take(), finch.webhook_secret_previous.take()].into_iter().flatten().collect()
}

fn circle<T: Ord + Clone>(configured: &config::Circle<T>) -> Circle<T> {
    match configured {
        config::Circle::All => Circle::All,
        config::Circle::Listed(list) => Circle::Listed(list.iter().cloned().collect()),
        config::Circle::Share(percent) => Circle::Share(*percent),
    }
}

fn brakes(paused: &config::Paused) -> Brakes {
    let customers = paused.customers.iter().map(|id| (PauseScope::Customer, id.to_string()));
    let products = paused.products.iter().map(|product| (PauseScope::Product, product.to_string()));
    let providers = paused.providers.iter().map(|id| (PauseScope::Provider, id.to_string()));
    customers.chain(products).chain(providers).collect()
}

//! What perch is told to do, as far as it matters to who looks into a failure: for a support bundle. No secret, and no
//! address that could hold one.

use crate::config::{Circle, Config, LimitStore, Store};
use crate::types::Product;
use std::fmt::Debug;
use std::time::Duration;

/// The settings, each with its value as perch understood it.
pub fn essentials(config: &Config) -> Vec<(String, String)> {
    let span = |span: Duration| format!("{span:?}");
    let or_off = |it: Option<Duration>| it.map_or_else(|| "off".to_owned(), span);
    let (limits, merge) = (&config.limits, &config.merge);
    let products: Vec<String> = Product::ALL
        .into_iter()
        .filter_map(|product| Some(format!("{product} {}", limits.products.of(product)?)))
        .collect();
    let quota_store = match limits.store {
        LimitStore::Memory => "memory",
        LimitStore::Redis(_) => "redis",
    };
    let vault_store = match config.vault.store {
        Store::Sqlite(_) => "sqlite",
        Store::Postgres(_) => "postgres",
    };
    let word = |it: &dyn Debug| format!("{it:?}").to_lowercase();
    [
        ("finch.base_url", config.finch.base_url.to_string()),
        ("finch.environment", config.finch.environment.to_string()),
        ("finch.timeout", span(config.finch.timeout)),
        ("vault.store", vault_store.to_owned()),
        ("vault.cache_ttl", span(config.vault.cache_ttl)),
        ("limits.store", quota_store.to_owned()),
        ("limits.mode", limits.mode.as_str().to_owned()),
        ("limits.replicas", limits.replicas.to_string()),
        ("limits.window", span(limits.window)),
        ("limits.arrival_bound", or_off(limits.arrival_bound)),
        ("limits.products", products.join(", ")),
        ("limits.ip", format!("{} in {:?}", limits.ip.requests, limits.ip.window)),
        ("limits.wait", format!("interactive {:?}, batch {:?}", limits.wait.interactive, limits.wait.batch)),
        ("apps.auth", config.apps.auth.as_str().to_owned()),
        ("apps.writes", word(&config.apps.writes)),
        ("rollout.customers", circle(&config.rollout.customers)),
        ("rollout.providers", circle(&config.rollout.providers)),
        ("merge.coalesce", merge.coalesce.to_string()),
        ("merge.resend_memory", span(merge.resend_memory)),
        ("merge.batch", merge.batch.iter().map(|product| product.as_str()).collect::<Vec<_>>().join(", ")),
        ("merge.cache", merge.cache.keys().map(|product| product.as_str()).collect::<Vec<_>>().join(", ")),
        ("retry.attempts", config.retry.attempts.to_string()),
        ("shield.probe", or_off(config.shield.probe)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn circle<T>(of: &Circle<T>) -> String {
    match of {
        Circle::All => "all".to_owned(),
        Circle::Listed(list) => format!("a list of {}", list.len()),
        Circle::Share(percent) => format!("{percent}%"),
    }
}

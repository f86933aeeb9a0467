//! `perch check --online`: opens what a start would need, and says what it is and how it is set.

use super::exit::{Exit, Failure};
use super::serve::runtime;
use crate::app::{self, StartError};
use crate::config::{AppAuth, Config, LimitStore, Store};
use crate::doors::proof;
use crate::store::redis::Redis;
use crate::store::redis::advice::{Finding, Weight, findings};
use crate::store::redis::info::Mode;
use crate::store::redis::survey::{PROBE, Survey, survey};
use crate::store::requests::{Requests, Search};
use crate::store::tables::Found;
use crate::upstream::{Finch, SendError};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

/// How long the shared store may take over all that is asked of it.
const STORE_MAX: Duration = Duration::from_secs(10);

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Look {
    /// What it is to perch.
    pub(super) name: &'static str,
    what: String,
    findings: Vec<Finding>,
    details: Value,
    exit: Exit,
}

impl Look {
    fn fine(name: &'static str, what: String) -> Self {
        Self { name, what, findings: Vec::new(), details: json!({}), exit: Exit::Done }
    }

    fn failed(name: &'static str, what: String, exit: Exit) -> Self {
        Self { exit, ..Self::fine(name, what) }
    }

    /// For people.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mark = if self.exit == Exit::Done { "ok" } else { "no" };
        writeln!(out, "{mark}  {:<14}{}", self.name, self.what)?;
        for finding in &self.findings {
            let mark = match finding.weight {
                Weight::Warning => "!!",
                Weight::Note => "--",
            };
            writeln!(out, "{mark}  {:<14}{finding}", self.name)?;
        }
        Ok(())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            let weight = match finding.weight {
                Weight::Warning => "warning",
                Weight::Note => "note",
            };
            json!({ "weight": weight, "what": finding.what, "fix": finding.fix })
        };
        let findings: Vec<Value> = self.findings.iter().map(finding).collect();
        let mut look = json!({ "ok": self.exit == Exit::Done, "what": self.what });
        if !findings.is_empty() {
            look["findings"] = findings.into();
        }
        for (name, detail) in self.details.as_object().into_iter().flatten() {
            look[name] = detail.clone();
        }
        look
    }
}

/// How all of it ended: a wrong key first, for it needs a person; then what is not to be had.
pub(super) fn exit(looks: &[Look]) -> Exit {
    let has = |exit| looks.iter().any(|look| look.exit == exit);
    [Exit::Key, Exit::Unavailable].into_iter().find(|exit| has(*exit)).unwrap_or(Exit::Done)
}

/// Looks at everything, one after the other. Makes nothing.
///
/// # Errors
/// No threads.
pub(super) fn look(config: Config) -> Result<Vec<Look>, Failure> {
    runtime()?.block_on(async {
        Ok(vec![vault(&config).await, ledger(&config).await, finch(&config).await, quota(config).await])
    })
}

async fn vault(config: &Config) -> Look {
    const NAME: &str = "vault";
    let place = &config.vault.store;
    match Found::at(place).await {
        Ok(Found::Known) => {}
        Ok(Found::Nothing) => {
            return Look::fine(NAME, format!("{place} is not there yet; the first start makes it"));
        }
        Ok(Found::Older { there, known }) => {
            return Look::fine(
                NAME,
                format!(
                    "{place} is of an older perch (its tables: version {there}); the first start of this one's gateway renews it \
                     to version {known}, and until then it stays as it is. Whether the key fits was not tried"
                ),
            );
        }
        Err(why) => return Look::failed(NAME, why.to_string(), Exit::Unavailable),
    }
    match app::open_vault(config, false).await {
        Ok(vault) => {
            let mut what = "opened; the key fits".to_owned();
            let (one, many, add) = match config.apps.auth {
                AppAuth::Loopback => return Look::fine(NAME, what),
                AppAuth::Key => ("a key", "keys", ""),
                AppAuth::Mtls => ("a certificate's name", "certificates' names", " --certificate …"),
                AppAuth::Uid => ("a user", "users", " --uid …"),
            };
            what.push_str(&match proof(config.apps.auth).map_or(0, |by| vault.apps_known(by)) {
                0 => format!("; no app has {one}, so every call would be refused: perch apps add NAME{add}"),
                1 => format!("; one app has {one}"),
                n => format!("; {n} apps have {many}"),
            });
            Look::fine(NAME, what)
        }
        Err(StartError::Key(why)) => Look::failed(NAME, why, Exit::Key),
        Err(StartError::Configuration(why) | StartError::Unavailable(why)) => {
            Look::failed(NAME, why, Exit::Unavailable)
        }
    }
}

/// Beside the vault, and not part of it.
async fn ledger(config: &Config) -> Look {
    const NAME: &str = "ledger";
    if config.ledger.keep.is_none() {
        return Look::fine(NAME, "off: calls are kept nowhere".to_owned());
    }
    if let Store::Postgres(_) = config.vault.store
        && let Ok(Found::Older { .. }) = Found::at(&config.vault.store).await
    {
        return Look::fine(NAME, "is of an older perch, as the vault is".to_owned());
    }
    let newest = Search { limit: 1, ..Search::default() };
    let found = match Requests::look(&config.vault.store, app::scope(config)).await {
        Ok(None) => return Look::fine(NAME, "is not there yet; the first start makes it".to_owned()),
        Ok(Some(ledger)) => ledger.search(&newest).await,
        Err(why) => Err(why),
    };
    match found.map(|found| found.calls.first().map(|call| call.ts)) {
        Ok(Some(at)) => Look::fine(NAME, format!("opened; the newest call came in at {at}")),
        Ok(None) => Look::fine(NAME, "opened; no calls yet".to_owned()),
        Err(why) => Look::failed(NAME, why.to_string(), Exit::Unavailable),
    }
}

/// Only a connection, TLS included: a request would spend quota.
async fn finch(config: &Config) -> Look {
    const NAME: &str = "finch";
    let base = &config.finch.base_url;
    let failed = |why: String| Look::failed(NAME, why, Exit::Unavailable);
    let way = match Finch::new(app::finch_settings(config)) {
        Ok(way) => way,
        Err(why) => return failed(why.to_string()),
    };
    match way.connect().await {
        Ok(_) => Look::fine(NAME, format!("{base} takes connections; no request was sent")),
        Err(SendError::Unreachable(why) | SendError::Broken { why, .. } | SendError::BadAnswer(why)) => {
            failed(format!("{base} cannot be reached: {why}"))
        }
        Err(SendError::TimedOut) => failed(format!("{base} does not answer")),
    }
}

async fn quota(config: Config) -> Look {
    const NAME: &str = "quota";
    let url = match config.limits.store {
        LimitStore::Memory => return Look::fine(NAME, "in memory: nothing to open".to_owned()),
        LimitStore::Redis(url) => url,
    };
    let shown = url.to_string();
    let failed = |why: String| Look::failed(NAME, format!("{shown}: {why}"), Exit::Unavailable);
    let redis = match Redis::new(url, &config.limits.namespace, PROBE) {
        Ok(redis) => redis,
        Err(why) => return failed(why.to_string()),
    };
    match survey(&redis, STORE_MAX).await {
        Ok(found) => surveyed(NAME, &found),
        Err(why) => failed(why.to_string()),
    }
}

fn surveyed(name: &'static str, found: &Survey) -> Look {
    let server = &found.server;
    let place = match server.mode {
        Mode::Cluster => format!("cluster, the quota's slot is on {}", server.address),
        Mode::Standalone | Mode::Sentinel => format!("{}, {}", server.mode, server.address),
    };
    let micros = found.round_trip.as_micros();
    let millis = found.round_trip.as_secs_f64() * 1000.0;
    let what = format!("{}, {place}, round trip {millis:.2} ms (median of 20)", server.version);
    let details = json!({
        "version": server.version,
        "mode": server.mode.to_string(),
        "address": server.address.to_string(),
        "round_trip_us": u64::try_from(micros).unwrap_or(u64::MAX),
    });
    Look { findings: findings(&found.facts), details, ..Look::fine(name, what) }
}

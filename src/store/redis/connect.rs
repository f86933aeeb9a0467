//! Finds the one server that holds the quota, and signs in there.

use super::info::Mode;
use super::link::{Link, Server, ask, info};
use super::reply::{LinkError, Reply};
use super::socket::{Wire, open, tls_of};
use crate::config::{RedisUrl, Seed};
use crate::store::trust::TrustError;
use crate::telemetry::metrics::{ScriptTimes, Stores};
use redis::Cmd;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// The way to the shared quota. Holds no connection.
pub struct Redis {
    url: Arc<RedisUrl>,
    tls: Option<TlsConnector>,
    key: String,
    script: &'static str,
    stores: Option<Stores>,
    times: Option<Arc<ScriptTimes>>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("url", &self.url.to_string())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// As it may be logged: the URL without user and password.
impl fmt::Display for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl Redis {
    /// Prepares the way to the quota of this namespace; connects to nothing yet. The script gets `perch:{namespace}` as
    /// `KEYS[1]`, and makes its keys by adding to it: the braces keep them on one node of a cluster.
    ///
    /// # Errors
    /// [`TrustError`]: there is no one to trust for `rediss://`.
    pub fn new(url: RedisUrl, namespace: &str, script: &'static str) -> Result<Self, TrustError> {
        let tls = tls_of(&url)?;
        Ok(Self {
            url: Arc::new(url),
            tls,
            key: format!("perch:{{{namespace}}}"),
            script,
            stores: None,
            times: None,
        })
    }

    /// The same, telling under this name how long its script takes and what fails.
    #[must_use]
    pub fn measured(self, stores: &Stores, name: &'static str) -> Self {
        let times = Some(Arc::new(stores.script(name, &LinkError::KINDS)));
        Self { stores: Some(stores.clone()), times, ..self }
    }

    /// The way to the same place with another script of this name, for what must not stand in the quota's way.
    #[must_use]
    pub fn with_script(&self, script: &'static str, name: &'static str) -> Self {
        let (url, tls, key) = (Arc::clone(&self.url), self.tls.clone(), self.key.clone());
        let other = Self { url, tls, key, script, stores: None, times: None };
        match &self.stores {
            Some(stores) => other.measured(stores, name),
            None => other,
        }
    }

    /// Connects to the server that holds the quota now: of a cluster, the owner of the key's slot. The servers of the URL
    /// are tried in their order, each with its part of the time.
    ///
    /// # Errors
    /// [`LinkError`] of the server that came furthest.
    pub async fn connect(&self, within: Duration) -> Result<Link, LinkError> {
        let link = self.link(within).await;
        if let (Err(error), Some(times)) = (&link, &self.times) {
            times.failed(error.kind());
        }
        link
    }

    async fn link(&self, within: Duration) -> Result<Link, LinkError> {
        let deadline = Instant::now() + within;
        let mut failure = LinkError::Broken("no server is named".to_owned());
        for (at, seed) in self.url.seeds.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let waiting = u32::try_from(self.url.seeds.len() - at).unwrap_or(u32::MAX);
            match timeout_at(Instant::now() + left / waiting, self.link_by(seed)).await {
                Ok(Ok(link)) => return Ok(link),
                // A server that answers says more than one that does not.
                Ok(Err(error)) if !matches!(error, LinkError::Broken(_)) => failure = error,
                Ok(Err(error)) if matches!(failure, LinkError::Broken(_)) => failure = error,
                Err(_) if matches!(failure, LinkError::Broken(_)) => failure = LinkError::TimedOut,
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(failure)
    }

    /// Goes in by one server, and on to the owner of the slot.
    async fn link_by(&self, seed: &Seed) -> Result<Link, LinkError> {
        let (wire, server) = self.enter(seed).await?;
        let (wire, server) = match server.mode {
            Mode::Cluster => match self.owner(&wire, seed).await? {
                None => (wire, server),
                Some(owner) => {
                    // What the seed says of its cluster may be out of date; then the owner answers MOVED to the first
                    // call, and the next link finds the right one.
                    drop(wire);
                    self.enter(&owner).await?
                }
            },
            Mode::Standalone | Mode::Sentinel => (wire, server),
        };
        if self.url.db > 0 {
            ask(&wire, Cmd::new().arg("SELECT").arg(self.url.db)).await?;
        }
        let sha = ask(&wire, Cmd::new().arg("SCRIPT").arg("LOAD").arg(self.script)).await?;
        let is_sha = |text: &&str| text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let Some(sha) = sha.as_str().filter(is_sha).map(str::to_owned) else {
            return Err(LinkError::BadReply("no digest where a script was loaded".to_owned()));
        };
        Ok(Link::new(wire, server, self.script, sha, self.key.clone()).measured(self.times.clone()))
    }

    /// Opens a connection, signs in and looks who is there.
    async fn enter(&self, seed: &Seed) -> Result<(Wire, Server), LinkError> {
        let wire = open(seed, self.tls.as_ref()).await?;
        self.sign_in(&wire).await?;
        let info = info(&wire).await?;
        let mode = info.mode();
        let not_ours = |what: &str| Err(LinkError::BadReply(format!("{seed} is {what}")));
        match mode {
            Mode::Sentinel => {
                return not_ours("a sentinel, which perch does not ask; name the servers it watches");
            }
            Mode::Cluster if self.url.db > 0 => {
                return not_ours(
                    "a node of a cluster, which has database 0 only; take the number out of limits.store",
                );
            }
            Mode::Cluster | Mode::Standalone => {}
        }
        if info.is_loading() {
            return Err(LinkError::Loading);
        }
        // In a cluster any node knows who owns what, a replica too.
        if info.is_replica() && mode == Mode::Standalone {
            return Err(LinkError::ReadOnly);
        }
        let Some(run_id) = info.run_id() else {
            return not_ours(
                "a server whose INFO has no run_id, by which perch notices that it forgot everything",
            );
        };
        let server =
            Server { run_id: run_id.to_owned(), version: info.version(), mode, address: seed.clone() };
        Ok((wire, server))
    }

    async fn sign_in(&self, wire: &Wire) -> Result<(), LinkError> {
        let mut auth = Cmd::new();
        auth.arg("AUTH");
        match (&self.url.user, &self.url.password) {
            (None, None) => return Ok(()),
            (None, Some(password)) => auth.arg(password.expose()),
            (Some(user), Some(password)) => auth.arg(user.expose()).arg(password.expose()),
            (Some(user), None) => auth.arg(user.expose()).arg(""),
        };
        ask(wire, &auth).await.map(drop)
    }

    /// Who owns the slot of our key; `None` when it is the server that was asked.
    async fn owner(&self, wire: &Wire, seed: &Seed) -> Result<Option<Seed>, LinkError> {
        let slot = ask(wire, Cmd::new().arg("CLUSTER").arg("KEYSLOT").arg(&self.key)).await?;
        let slots = ask(wire, Cmd::new().arg("CLUSTER").arg("SLOTS")).await?;
        let own = ask(wire, Cmd::new().arg("CLUSTER").arg("MYID")).await?;
        let slot =
            slot.as_int().ok_or_else(|| LinkError::BadReply("no slot where one was asked".to_owned()))?;
        let Some(owner) = owner_in(&slots, slot) else { return Err(LinkError::Moved) };
        if owner.id.is_some() && owner.id == own.as_str() {
            return Ok(None);
        }
        let host = match (owner.host, seed) {
            ("" | "?", Seed::Tcp { host, .. }) => host.clone(),
            ("" | "?", Seed::Unix(_)) => {
                return Err(LinkError::BadReply("its cluster knows no addresses".to_owned()));
            }
            (host, _) => host.to_owned(),
        };
        Ok(Some(Seed::Tcp { host, port: owner.port }))
    }
}

struct Owner<'a> {
    /// Empty when the node does not know its own address.
    host: &'a str,
    port: u16,
    id: Option<&'a str>,
}

/// Reads `CLUSTER SLOTS`: `[[first, last, [host, port, id, …], replicas…], …]`.
fn owner_in(slots: &Reply, slot: i64) -> Option<Owner<'_>> {
    slots.as_list()?.iter().find_map(|range| {
        let [first, last, master, ..] = range.as_list()? else { return None };
        if !(first.as_int()?..=last.as_int()?).contains(&slot) {
            return None;
        }
        let [host, port, rest @ ..] = master.as_list()? else { return None };
        Some(Owner {
            host: host.as_str().unwrap_or_default(),
            port: u16::try_from(port.as_int()?).ok()?,
            id: rest.first().and_then(Reply::as_str),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn the_owner_of_a_slot_is_read_from_the_clusters_own_list() {
        let range = |first, last, host: Reply, port, id| {
            let node = Reply::List(vec![host, Reply::Int(port), text(id), Reply::List(Vec::new())]);
            let replica = Reply::List(vec![text("10.0.0.9"), Reply::Int(1), text("r")]);
            Reply::List(vec![Reply::Int(first), Reply::Int(last), node, replica])
        };
        let slots = Reply::List(vec![
            range(0, 5460, text("10.0.0.1"), 7000, "a"),
            range(5461, 10_922, Reply::Nil, 7001, "b"),
            range(10_924, 16_383, text("10.0.0.3"), 70_000, "c"),
        ]);
        let found = |slot| owner_in(&slots, slot).map(|owner| (owner.host.to_owned(), owner.port, owner.id));
        assert_eq!(found(5460), Some(("10.0.0.1".to_owned(), 7000, Some("a"))));
        assert_eq!(found(5461), Some((String::new(), 7001, Some("b"))));
        assert_eq!(found(10_923), None, "nobody serves it");
        assert_eq!(found(10_924), None, "no port");
        assert!(owner_in(&Reply::Nil, 0).is_none());
    }
}

//! The round: every connection is asked about once in a while, although no app calls it. What webhooks missed is found
//! this way, before an app's call finds it.

use super::super::Engine;
use super::super::call::By;
use super::errand::Errand;
use crate::policy::life::{beat, gap, is_due};
use crate::telemetry::clock::unix_now;
use crate::types::{ConnectionId, Product, UnixMillis};
use crate::vault::{Status, VaultError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The longest pause between two looks for connections that are due.
const LOOK_MAX: Duration = Duration::from_secs(5 * 60);
/// How long who asks has the question for itself, at most: after a failure it is asked anew.
const CLAIM_MAX: Duration = Duration::from_secs(60 * 60);

impl Engine {
    /// Asks about one connection after the other, until perch stops.
    pub async fn ask_round(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut settings = self.settings.changes();
        let rounds = async {
            loop {
                let every = settings.borrow_and_update().introspect_every;
                tokio::select! {
                    () = self.ask_each(every) => {}
                    // The engine holds the other end.
                    _ = settings.wait_for(|now| now.introspect_every != every) => {}
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            _ = stopping.wait_for(|stop| *stop) => {}
            () = self.drain.closing() => {}
        }
    }

    async fn ask_each(self: &Arc<Self>, every: Option<Duration>) {
        let Some(every) = every else { return std::future::pending().await };
        {
            // Not at the moment of a start, when all the apps come back.
            let mut pause = (every / 2).min(LOOK_MAX);
            loop {
                tokio::time::sleep(pause).await;
                pause = (every / 4).min(LOOK_MAX);
                match self.due(every).await {
                    Ok((due, rest)) => self.ask_all(due, every, rest).await,
                    Err(error) => {
                        tracing::warn!(error = %error, "the vault does not tell which connections to ask about");
                    }
                }
            }
        }
    }

    /// The connections that are due, the one that waits longest first, and the rest between two of them.
    async fn due(&self, every: Duration) -> Result<(Vec<ConnectionId>, Duration), VaultError> {
        let mut all = self.vault.in_status(Status::Active).await?;
        all.extend(self.vault.in_status(Status::NeedsReauth).await?);
        let (now, rest) = (unix_now(), gap(every, all.len()));
        all.retain(|(id, last)| is_due(id, every, *last, now));
        all.sort_by_key(|(id, last)| (last.unwrap_or(UnixMillis(0)), beat(id, every, now)));
        Ok((all.into_iter().map(|(id, _)| id).collect(), rest))
    }

    async fn ask_all(self: &Arc<Self>, due: Vec<ConnectionId>, every: Duration, rest: Duration) {
        for id in due {
            // Whoever is paused, or not rolled out, is asked about when that ends.
            let facts = self.vault.connection(&id).await;
            if facts.is_ok_and(|entry| self.is_left_alone(&entry.facts, Product::Introspect)) {
                continue;
            }
            if !self.quota.claim(&format!("introspect {id}"), (every / 2).min(CLAIM_MAX)).await {
                continue;
            }
            // In a task of its own: what was sent is finished when perch stops meanwhile.
            let engine = Arc::clone(self);
            let _ = tokio::spawn(async move { engine.run_errand(&Errand::Introspect, &id, By::Perch).await })
                .await;
            tokio::time::sleep(rest).await;
        }
    }
}

//! A disconnect comes to its end. The intent is committed before Finch is asked, so that no call uses the connection any
//! more; the token stays until Finch agrees, for only with it can a connection be ended that is billed until then.

use super::super::Engine;
use super::super::attempt::unanswered;
use super::super::call::{Answer, By, Call, Caller, Client, Ended, Identity};
use super::super::outlook::subjects;
use super::super::resolve::in_time;
use super::errand::Errand;
use crate::finch::endpoints::Endpoint;
use crate::finch::error::FinchError;
use crate::policy::life::{Parting, parting, pause};
use crate::policy::{Refusal, class};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::{ConnectionId, Moment};
use crate::vault::{Actor, Status, VaultError, failpoint};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often the store is asked what is to be disconnected, when nothing else says so.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How many are tried at once: Finch may take minutes to answer.
const AT_ONCE: usize = 8;

/// A disconnect that Finch did not confirm yet.
#[derive(Debug, Clone, Copy)]
struct Try {
    failures: u32,
    due: Moment,
}

/// The version of the token that an attempt was made with; no row has version zero.
fn version_of(identity: &Identity) -> u64 {
    match identity {
        Identity::Connection(entry) => entry.facts.version,
        Identity::Brought(_) | Identity::Application | Identity::InBody | Identity::Nobody => 0,
    }
}

impl Engine {
    /// Carries out a call to `/disconnect`.
    pub(in super::super) async fn disconnect(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Answer, Ended> {
        let id = match self.resolve(call, endpoint, caller, line).await? {
            Identity::Connection(entry) => entry.facts.connection_id.clone(),
            // The vault does not know a connection whose token an app brings.
            Identity::Brought(_) | Identity::Application | Identity::InBody | Identity::Nobody => {
                return self.carry_out(call, endpoint, caller, (client, line)).await;
            }
        };
        let left = caller.patience.saturating_sub(line.wait);
        let subjects = {
            let identity = self.resolve(call, endpoint, caller, line).await?;
            subjects(call, endpoint, &identity)
        };
        self.pass_holds(&subjects, left, (&mut *client, &mut *line)).await?;
        let left = caller.patience.saturating_sub(line.wait);
        let permit = self.admit(endpoint, caller, (None, left), client, line).await?;
        caller.sent.admit();
        let actor = match call.by {
            By::App => Actor::App(call.app_name().cloned()),
            By::Operator => Actor::Operator,
            By::Perch => Actor::Perch,
        };
        let begun = in_time(self.vault.begin_disconnect(&id, actor, unix_now())).await;
        failpoint::hit("disconnect:begun");
        let ready = match begun {
            Ok(()) => match self.resolve(call, endpoint, caller, line).await {
                Ok(identity) => self.inject(call, endpoint, &identity).map(|attempt| (identity, attempt)),
                Err(refusal) => Err(refusal),
            },
            Err(VaultError::Disconnected { connection }) => Err(Refusal::Disconnected(connection)),
            Err(error) => Err(self.vault_refusal(id.as_str(), &error)),
        };
        let (identity, attempt) = match ready {
            Ok(ready) => ready,
            Err(refusal) => {
                permit.refund();
                return Err(refusal.into());
            }
        };
        let secrets = self.secrets(&attempt);
        let heard = match self.attempt(&attempt, &secrets, permit, line).await {
            Ok(answer) => self.hear(answer, secrets, line).await,
            Err(error) => Err(unanswered(error)),
        };
        let heard = match heard {
            Ok(heard) => heard,
            Err(refusal) => {
                self.life.wake.notify_one();
                let why = refusal.problem().message;
                return Err(Refusal::DisconnectPending { connection: id, why }.into());
            }
        };
        failpoint::hit("disconnect:answered");
        let error = FinchError::read(&heard.body);
        match parting(heard.status, class::of_answer(endpoint, heard.status, &error), &error) {
            Parting::Done => {
                let version = version_of(&identity);
                match self.vault.mark_token_dead(&id, version, unix_now()).await {
                    Ok(true) => {}
                    // A token that came meanwhile, or the same one sealed anew: its own end is its own question.
                    Ok(false) => self.life.wake.notify_one(),
                    // Finch is asked again and says that it is gone.
                    Err(error) => {
                        tracing::warn!(error = %error, connection.id = %id, "could not note that connection {id} is disconnected");
                    }
                }
                // It has no login any more that could be dead.
                self.renewed(&id).await;
            }
            Parting::Pending => self.life.wake.notify_one(),
        }
        failpoint::hit("disconnect:noted");
        Ok(self.reply(call, endpoint, caller, &identity, heard, line).await?)
    }

    /// Goes on with every disconnect that Finch did not confirm, also those of earlier runs, until perch stops.
    pub async fn finish_disconnects(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut tries: HashMap<ConnectionId, Try> = HashMap::new();
        loop {
            match self.vault.in_status(Status::Disconnecting).await {
                Ok(pending) => self.keep_tries(&mut tries, pending.into_iter().map(|(id, _)| id).collect()),
                Err(error) => {
                    tracing::warn!(error = %error, "the vault does not tell what is to be disconnected");
                }
            }
            let now = self.quota.now();
            let due: Vec<ConnectionId> =
                tries.iter().filter(|(_, t)| t.due <= now).map(|(id, _)| id.clone()).take(AT_ONCE).collect();
            for (id, is_done) in self.try_all(&due).await {
                match tries.get_mut(&id) {
                    Some(_) if is_done => drop(tries.remove(&id)),
                    Some(one) => {
                        one.failures = one.failures.saturating_add(1);
                        one.due = self.quota.now() + self.rest_before(one.failures + 1);
                    }
                    None => {}
                }
            }
            let next = tries.values().map(|t| t.due.since(self.quota.now())).min().unwrap_or(LOOK_EVERY);
            tokio::select! {
                () = tokio::time::sleep(next.min(LOOK_EVERY)) => {}
                () = self.life.wake.notified() => {}
                _ = stopping.wait_for(|stop| *stop) => return,
                () = self.drain.closing() => return,
            }
        }
    }

    fn keep_tries(&self, tries: &mut HashMap<ConnectionId, Try>, pending: Vec<ConnectionId>) {
        tries.retain(|id, _| pending.contains(id));
        for id in pending {
            let first = || Try { failures: 0, due: self.quota.now() + self.rest_before(1) };
            tries.entry(id).or_insert_with(first);
        }
    }

    fn rest_before(&self, failures: u32) -> Duration {
        let chance = getrandom::u32().map_or(0.5, |n| f64::from(n) / (f64::from(u32::MAX) + 1.0));
        pause(failures, self.settings.now().disconnect_retry, chance)
    }

    /// Tries these, and tells of each whether it came to its end.
    async fn try_all(self: &Arc<Self>, due: &[ConnectionId]) -> Vec<(ConnectionId, bool)> {
        let mut running = JoinSet::new();
        for id in due {
            let (engine, id) = (Arc::clone(self), id.clone());
            running.spawn(async move {
                // One replica at a time, where several share a store.
                let is_ours = engine.quota.claim(&format!("disconnect {id}"), engine.settings.now().disconnect_retry / 2).await;
                if is_ours {
                    let answer = engine.run_errand(&Errand::Disconnect, &id, By::Perch).await;
                    tracing::info!(connection.id = %id, status = answer.status.as_u16(), "asked Finch again to disconnect {id}");
                }
                let gone = engine.vault.connection(&id).await;
                let is_done = gone.is_ok_and(|entry| entry.facts.status != Status::Disconnecting);
                (id, is_done)
            });
        }
        running.join_all().await
    }
}

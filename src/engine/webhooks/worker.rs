//! The task behind the door: it acts on what came, offers it to the app, and forgets what is old.

use super::{KNOWN_FOR, Webhooks, earlier};
use crate::engine::Engine;
use crate::engine::carry::jitter;
use crate::finch::webhook::Event;
use crate::policy::redeliver::{Next, after_failure};
use crate::store::StoreError;
use crate::store::webhooks::Kept;
use crate::telemetry::clock::unix_now;
use crate::telemetry::metrics::Outcome;
use crate::vault::VaultError;
use crate::vault::webhooks::Offered;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// The most events offered to the app at once, each of another connection.
const PARALLEL_MAX: usize = 8;
/// The most events acted on in one go.
const ACT_MAX: u32 = 64;
/// How long they may ask Finch in all; what is asked of it then goes unasked, and the round finds it.
const ASK_MAX: Duration = Duration::from_secs(10);
/// How long something that another process asked for may go unnoticed, and how long a store that is out is left alone.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the gateway that delivers keeps the others from it after its last look.
const LEASE: Duration = Duration::from_secs(30);
/// How often old events are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long offers under way may still take when perch stops.
const STOP_MAX: Duration = Duration::from_secs(1);

/// Runs until `stopping` says `true`.
pub async fn run(engine: Arc<Engine>, mut stopping: watch::Receiver<bool>) {
    let mut worker =
        Worker { engine, offers: JoinSet::new(), lanes: HashSet::new(), swept_at: None, leased_at: None };
    worker.begin().await;
    let mut is_well = true;
    loop {
        // What is cut off here is done again by the next run.
        let stepped = tokio::select! {
            stepped = worker.step() => stepped,
            _ = stopping.wait_for(|stop| *stop) => break,
        };
        let wait = match stepped {
            Ok(wait) => {
                is_well = true;
                wait
            }
            Err(error) => {
                if std::mem::take(&mut is_well) {
                    tracing::error!(error = %error, "webhooks wait: {error}");
                }
                LOOK_EVERY
            }
        };
        let Worker { engine, offers, lanes, .. } = &mut worker;
        tokio::select! {
            () = engine.webhooks.wake.notified() => {}
            Some(ended) = offers.join_next() => match ended {
                Ok(lane) => {
                    lanes.remove(&lane);
                }
                // Whose it was is not known any more, so all of them may be looked at again.
                Err(_) => lanes.clear(),
            },
            () = sleep(wait) => {}
            _ = stopping.wait_for(|stop| *stop) => break,
        }
    }
    // An offer that is cut off is made again by the next run: better finished than twice.
    let _ = timeout(STOP_MAX, async { while worker.offers.join_next().await.is_some() {} }).await;
}

struct Worker {
    engine: Arc<Engine>,
    offers: JoinSet<String>,
    /// Lanes in which an offer is under way.
    lanes: HashSet<String>,
    swept_at: Option<Instant>,
    /// When the lease on this work was last taken.
    leased_at: Option<Instant>,
}

impl Worker {
    /// What waits for an app that is not there any more is a dead letter.
    async fn begin(&self) {
        // Where several gateways share a store, another one may well have an app to deliver to.
        if self.engine.webhooks.courier.is_some() || self.engine.vault.is_shared() {
            return;
        }
        let given_up = self.engine.vault.give_up_webhooks(Webhooks::NOWHERE).await;
        if let Ok(count @ 1..) = given_up {
            self.engine.telemetry.metrics.webhooks.count_unnamed(Outcome::Dead, count);
            tracing::warn!(count, "{count} webhooks waited to be delivered; {}", Webhooks::NOWHERE);
        }
    }

    /// Does what can be done now. How long nothing more can be.
    async fn step(&mut self) -> Result<Duration, VaultError> {
        // Of several gateways one does it, and another when that one is gone.
        if self.leased_at.is_none_or(|at| at.elapsed() >= LEASE / 3) {
            self.leased_at = None;
            if !self.engine.vault.lease("webhooks", LEASE).await? {
                return Ok(LOOK_EVERY);
            }
            self.leased_at = Some(Instant::now());
        }
        if self.swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            self.sweep().await?;
            self.swept_at = Some(Instant::now());
        }
        let has_more = self.act().await? == ACT_MAX as usize;
        let wait = match self.engine.webhooks.courier.is_some() {
            // Between two goes: an app does not wait for what other events have to ask.
            true => self.offer().await?,
            false => LOOK_EVERY,
        };
        Ok(if has_more { Duration::ZERO } else { wait })
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let (now, keep) = (unix_now(), self.engine.webhooks.rules.keep);
        let done_before = earlier(now, keep.max(KNOWN_FOR));
        let dropped = self.engine.vault.sweep_webhooks(done_before, earlier(now, keep)).await?;
        if dropped > 0 {
            self.engine.telemetry.metrics.webhooks.count_unnamed(Outcome::Dropped, dropped);
            tracing::warn!(dropped, "{dropped} dead letters are older than webhooks.keep and are gone");
        }
        Ok(())
    }

    /// Acts on what came, in the order in which it came. How many events that were.
    async fn act(&self) -> Result<usize, VaultError> {
        let engine = &self.engine;
        let fresh = engine.vault.fresh_webhooks(ACT_MAX).await?;
        let asks_until = Instant::now() + ASK_MAX;
        let mut acted = Vec::with_capacity(fresh.len());
        let mut outcome = Ok(fresh.len());
        for kept in &fresh {
            let status = Event::parse(&kept.arrived.body).and_then(|event| event.status);
            match engine.act_on(&kept.arrived, status.as_deref(), Instant::now() < asks_until).await {
                Ok(()) => acted.push(kept.seq),
                Err(error @ VaultError::Store(_)) => {
                    outcome = Err(error);
                    break;
                }
                // It would fail again; the app has a right to the event all the same.
                Err(error) => {
                    let id = &kept.arrived.event_id;
                    tracing::error!(error = %error, event.id = %id, "perch did nothing about webhook {id}: {error}");
                    acted.push(kept.seq);
                }
            }
        }
        if !acted.is_empty() {
            let deliver_at = engine.webhooks.courier.is_some().then(unix_now);
            engine.vault.acted_on_webhooks(acted, deliver_at).await?;
        }
        outcome
    }

    /// Begins what is due for the app. How long until something else will be.
    async fn offer(&mut self) -> Result<Duration, StoreError> {
        let now = unix_now();
        let most = u32::try_from(PARALLEL_MAX + self.lanes.len()).unwrap_or(u32::MAX);
        let due = self.engine.vault.due_webhooks(now, most).await?;
        for kept in due.now {
            if self.lanes.len() >= PARALLEL_MAX {
                break;
            }
            if self.lanes.insert(kept.lane.clone()) {
                let engine = Arc::clone(&self.engine);
                self.offers.spawn(async move { engine.offer(kept).await });
            }
        }
        let until = |at: crate::types::UnixMillis| Duration::from_millis(at.0.abs_diff(now.0));
        Ok(due.next.map_or(LOOK_EVERY, until).min(LOOK_EVERY))
    }
}

impl Engine {
    /// Offers one event to the app and notes what came of it. The lane that is free then.
    async fn offer(&self, kept: Kept) -> String {
        let Kept { seq, arrived, attempts, lane } = kept;
        let Some(courier) = &self.webhooks.courier else { return lane };
        let id = &arrived.event_id;
        // Whose it is is a courtesy; the app has the event either way.
        let whose = self.whose_event(&arrived).await.unwrap_or_default();
        let offered = courier.offer(&arrived, &whose, unix_now()).await;
        let made = attempts.saturating_add(1);
        let (outcome, again_at) = match &offered {
            Ok(()) => (Outcome::Delivered, None),
            Err(_) => match after_failure(made, self.webhooks.rules.attempts, unix_now(), jitter()) {
                Next::At(at) => (Outcome::Retried, Some(at)),
                Next::Dead => (Outcome::Dead, None),
            },
        };
        match (&offered, again_at) {
            (Ok(()), _) => tracing::info!(event.id = %id, attempts = made, "webhook {id} is delivered"),
            (Err(why), Some(at)) => tracing::warn!(
                event.id = %id, attempts = made, "the app did not take webhook {id}: {why}; it is offered again at {at}"
            ),
            (Err(why), None) => tracing::error!(
                event.id = %id, attempts = made,
                "the app did not take webhook {id}: {why}; \"perch webhooks replay {id}\" offers it again"
            ),
        }
        let noted = match offered {
            Ok(()) => Offered::Taken,
            Err(why) => Offered::Failed(why, again_at),
        };
        match self.vault.offered_webhook(seq, noted).await {
            Ok(()) => self.telemetry.metrics.webhooks.count(&arrived.event_type, outcome),
            Err(error) => {
                tracing::error!(error = %error, event.id = %id, "what came of webhook {id} cannot be noted: {error}");
                // It is still due. The app shall not get it over and over meanwhile.
                sleep(LOOK_EVERY).await;
            }
        }
        lane
    }
}

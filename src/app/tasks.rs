//! What a gateway does all the time beside its calls, until it stops.

use crate::engine::Engine;
use crate::limit::Notice;
use crate::telemetry::metrics::VaultFault;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How often the vault looks whether another process changed the store: how long a disconnect on the
/// command line may go unnoticed here.
const REFRESH_EVERY: Duration = Duration::from_secs(2);

/// How much longer than its time an outcome may be remembered when no calls come.
const FORGET_EVERY: Duration = Duration::from_secs(5);

/// Takes what other replicas found out, until there is nothing more to hear.
pub(super) async fn hear_news(
    engine: Arc<Engine>,
    mut news: mpsc::Receiver<(Notice, Duration)>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        let heard = tokio::select! {
            heard = news.recv() => heard,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let Some((notice, left)) = heard else { return };
        engine.hear_notice(notice, left).await;
    }
}

/// Outcomes are remembered for their time, not until the next call comes.
pub(super) async fn forget_outcomes(engine: Arc<Engine>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FORGET_EVERY) => {
                engine.joins.sweep();
                engine.sweep_answers();
            }
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Notices what others wrote to the store: when it says so, and otherwise now and then.
pub(super) async fn watch_vault(engine: Arc<Engine>, mut stopping: watch::Receiver<bool>) {
    let mut is_well = true;
    loop {
        tokio::select! {
            () = tokio::time::sleep(REFRESH_EVERY) => {}
            () = engine.vault.told() => engine.webhooks.wake(),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        match engine.vault.refresh().await {
            Ok(is_changed) => {
                is_well = true;
                if is_changed {
                    engine.brakes_changed();
                    engine.life.look();
                    engine.forget_gone().await;
                }
            }
            Err(error) if is_well => {
                is_well = false;
                engine.telemetry.metrics.vault_fault(VaultFault::Store);
                tracing::error!(error = %error, "the vault's store does not answer; what is cached is served");
            }
            Err(_) => engine.telemetry.metrics.vault_fault(VaultFault::Store),
        }
    }
}

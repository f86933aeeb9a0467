//! What is kept, for operators: counted, offered again.

use super::Webhooks;
use crate::engine::Engine;
use crate::store::StoreError;
use crate::types::{EventId, UnixMillis};
use crate::vault::Actor;
use crate::vault::webhooks::Revived;

/// The most events that are listed at once.
pub const LIST_MAX: u32 = 1000;

impl Engine {
    /// Whether the app is told at all: without that nothing can be offered again.
    pub fn delivers_webhooks(&self) -> bool {
        self.webhooks.courier.is_some()
    }

    /// Has dead letters offered again at once: one, or all. Who wanted it is written down.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revive_webhooks(
        &self,
        one: Option<EventId>,
        actor: Actor,
        now: UnixMillis,
    ) -> Result<Revived, StoreError> {
        let revived = self.vault.revive_webhooks(one, actor, now).await?;
        self.webhooks.wake.notify_one();
        Ok(revived)
    }

    /// Counts what waits, for the metrics. Without the store the last counts stand.
    pub async fn count_webhooks(&self) {
        if let Ok(depth) = self.vault.webhook_depth().await {
            let counts = [("new", depth.new), ("waiting", depth.waiting), ("dead", depth.dead)];
            self.telemetry.metrics.webhooks.set_queue(&counts);
        }
    }
}

impl Webhooks {
    /// Why nothing can be offered again.
    pub const NOWHERE: &'static str = "webhooks.deliver_to is empty: there is nobody to deliver to";
}

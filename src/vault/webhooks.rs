//! Webhooks, kept beside the connections they are about: same file, same application, same environment. Nothing of them
//! is sealed; they hold no secret.

use super::{Action, Actor, Vault};
use crate::store::StoreError;
use crate::store::webhooks::{self as rows, Arrived, Depth, Kept, Listed, Put, State};
use crate::types::{EventId, UnixMillis};
use std::sync::Arc;

/// What came of the wish to have dead letters offered again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revived {
    /// So many will be.
    These(u64),
    /// No event of this name is kept.
    Unknown,
    /// It is no dead letter.
    NotDead(State),
}

/// What came of an offer to the app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// It has the event.
    Taken,
    /// It did not take it, for this reason. Without a time it is a dead letter now.
    Failed(String, Option<UnixMillis>),
}

/// What is due for the app, and when something else will be.
#[derive(Debug)]
pub struct Due {
    /// The first of each lane.
    pub now: Vec<Kept>,
    /// When the next becomes due.
    pub next: Option<UnixMillis>,
}

impl Vault {
    /// Keeps an event unless it is here. At most `most` are; done ones that came before `known_since` may go for it.
    ///
    /// # Errors
    /// [`StoreError`]; the event is not kept then.
    pub async fn keep_webhook(
        &self,
        event: Arrived,
        (most, known_since): (u32, UnixMillis),
        now: UnixMillis,
    ) -> Result<Put, StoreError> {
        let scope = self.shared.scope.clone();
        self.store.write(move |tx| rows::put(tx, &scope, &event, (most, known_since), now), |_| ()).await
    }

    /// Events that nobody has acted on, in the order in which they came.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fresh_webhooks(&self, limit: u32) -> Result<Vec<Kept>, StoreError> {
        let scope = self.shared.scope.clone();
        self.store.read(move |tx| rows::fresh(tx, &scope, limit)).await
    }

    /// perch has acted on these. The app shall have them from `deliver_at` on, or nobody.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn acted_on_webhooks(
        &self,
        these: Vec<i64>,
        deliver_at: Option<UnixMillis>,
    ) -> Result<(), StoreError> {
        self.store
            .write(move |tx| these.iter().try_for_each(|seq| rows::acted(tx, *seq, deliver_at)), |_| ())
            .await
    }

    /// What is due for the app.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_webhooks(&self, now: UnixMillis, limit: u32) -> Result<Due, StoreError> {
        let scope = self.shared.scope.clone();
        self.store
            .read(move |tx| {
                let next = rows::next_due(tx, &scope, now)?;
                Ok(Due { now: rows::due(tx, &scope, now, limit)?, next })
            })
            .await
    }

    /// Notes what came of an offer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn offered_webhook(&self, seq: i64, offered: Offered) -> Result<(), StoreError> {
        self.store
            .write(
                move |tx| match &offered {
                    Offered::Taken => rows::done(tx, seq),
                    Offered::Failed(why, again_at) => rows::failed(tx, seq, *again_at, why),
                },
                |_| (),
            )
            .await
    }

    /// Every event that waits is a dead letter now. How many those are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn give_up_webhooks(&self, why: &'static str) -> Result<u64, StoreError> {
        let scope = self.shared.scope.clone();
        self.store.write(move |tx| rows::give_up_waiting(tx, &scope, why), |_| ()).await
    }

    /// Forgets what is done and came before `done_before`, and dead letters from before `dead_before`. How many dead
    /// letters those are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sweep_webhooks(
        &self,
        done_before: UnixMillis,
        dead_before: UnixMillis,
    ) -> Result<u64, StoreError> {
        let scope = self.shared.scope.clone();
        self.store.write(move |tx| rows::sweep(tx, &scope, done_before, dead_before), |_| ()).await
    }

    /// The newest events, newest first; dead letters only when asked for.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_webhooks(&self, only_dead: bool, limit: u32) -> Result<Vec<Listed>, StoreError> {
        let scope = self.shared.scope.clone();
        let only = only_dead.then_some(State::Dead);
        self.store.read(move |tx| rows::list(tx, &scope, only, limit)).await
    }

    /// The newest events about these connections, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn webhooks_of(&self, ids: Vec<String>, limit: u32) -> Result<Vec<Listed>, StoreError> {
        let scope = self.shared.scope.clone();
        self.store.read(move |tx| rows::of_connections(tx, &scope, &ids, limit)).await
    }

    /// Has dead letters offered again: one, or all. Who wanted it is written down: with the connection the event is
    /// about, or for all of them with none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revive_webhooks(
        &self,
        one: Option<EventId>,
        actor: Actor,
        now: UnixMillis,
    ) -> Result<Revived, StoreError> {
        let (shared, ring) = (Arc::clone(&self.shared), self.shared.ring());
        self.store
            .write(
                move |tx| {
                    let scope = &shared.scope;
                    let count = rows::revive(tx, scope, one.as_ref(), now)?;
                    if count > 0 {
                        let of = one.as_ref().map(|id| rows::connection_of(tx, scope, id)).transpose()?;
                        // All of them are about no one connection.
                        let name = of.flatten().map_or("webhooks".to_owned(), |id| id.to_string());
                        shared.record_of(&ring, tx, (&actor, Action::Replay), (&name, 0), now)?;
                    }
                    let Some(id) = one.filter(|_| count == 0) else { return Ok(Revived::These(count)) };
                    Ok(match rows::state_of(tx, scope, &id)? {
                        None => Revived::Unknown,
                        Some(state) => Revived::NotDead(state),
                    })
                },
                |_| (),
            )
            .await
    }

    /// How many events still ask for something.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn webhook_depth(&self) -> Result<Depth, StoreError> {
        let scope = self.shared.scope.clone();
        self.store.read(move |tx| rows::depth(tx, &scope)).await
    }
}

//! Writing: a connection's life. Each change is one transaction; what was opened before it is
//! forgotten right behind the commit, on the same thread, whether or not anyone still waits.

use super::audit::{Action, Actor};
use super::entry::is_plain;
use super::follow;
use super::owner::reseal;
use super::ring::Ring;
use super::stored::Mark;
use super::{ImportError, NewConnection, Sealed, Shared, Status, Vault, VaultError};
use crate::store::Tx;
use crate::store::{Row, StoreError, connections, keys};
use crate::types::{ConnectionId, CustomerId, UnixMillis};
use std::sync::Arc;

/// Uses noted in one go.
const USES_MAX: usize = 10_000;

/// What the audit trail says of a change.
pub(super) enum Deeds {
    /// Nothing: it is Finch's word, or changes nothing of weight.
    None,
    /// Who did what; nothing when the row stays as it is.
    By(Actor, Action),
}

/// Tries of one change before it goes ahead with the keys at hand: the store's keys change a few times a year.
const TRIES: usize = 3;

/// What came of trying a change.
enum Tried<T> {
    Done(Change<T>),
    /// The store's keys are not those at hand; nothing was done.
    KeysMoved,
}

/// What a change did, for those who must forget what was before.
struct Change<T> {
    answer: T,
    /// The store's count of changes behind it.
    generation: i64,
    touched: Vec<(ConnectionId, u64, Vec<CustomerId>)>,
}

impl<T> Change<T> {
    fn new(answer: T, touched: Vec<(ConnectionId, u64, Vec<CustomerId>)>) -> Self {
        Self { answer, generation: 0, touched }
    }
}

impl Vault {
    /// Stores a token, new or in the place of an older one. It is durable when this returns.
    ///
    /// A known owner stays when none is named. A token of another environment is kept as held.
    ///
    /// # Errors
    /// [`VaultError::TokenElsewhere`], [`VaultError::BelongsToAnother`], [`VaultError::Invalid`],
    /// [`VaultError::Store`]; nothing is stored then.
    pub async fn seal(&self, new: NewConnection, now: UnixMillis) -> Result<Sealed, VaultError> {
        self.seal_by(new, Actor::Perch, now, |_, _, _| Ok(())).await
    }

    /// The same for somebody, with what else belongs into its transaction.
    pub(super) async fn seal_by(
        &self,
        new: NewConnection,
        actor: Actor,
        now: UnixMillis,
        beside: impl Fn(&Shared, &Tx<'_>, &ConnectionId) -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> Result<Sealed, VaultError> {
        self.change(Some(new.connection_id.clone()), move |shared, ring, tx| {
            let (sealed, touched) = shared.upsert(ring, tx, &new, now)?;
            shared.record(ring, tx, (&actor, Action::Seal), (&touched.0, touched.1), now)?;
            beside(shared, tx, &touched.0)?;
            Ok(Change::new(sealed, vec![touched]))
        })
        .await
    }

    /// Stores all of them, or none when one cannot be.
    ///
    /// # Errors
    /// [`ImportError`] with the first that cannot be stored, and why.
    pub async fn import(&self, new: Vec<NewConnection>, now: UnixMillis) -> Result<Vec<Sealed>, ImportError> {
        self.change(None, move |shared, ring, tx| {
            let mut change = Change::new(Vec::with_capacity(new.len()), Vec::new());
            for (at, new) in new.iter().enumerate() {
                let (sealed, touched) =
                    shared.upsert(ring, tx, new, now).map_err(|error| ImportError { at: Some(at), error })?;
                shared.record(ring, tx, (&Actor::Operator, Action::Import), (&touched.0, touched.1), now)?;
                change.answer.push(sealed);
                change.touched.push(touched);
            }
            Ok(change)
        })
        .await
    }

    /// Moves a connection on in its life. `held_reason` is kept for [`Status::Held`] only;
    /// [`Status::Disconnected`] erases the token, as [`Vault::mark_disconnected`] does;
    /// [`Status::NeedsReauth`] leaves a held or disconnecting connection as it is.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`]; [`VaultError::Disconnected`], for there is no way back from it;
    /// [`VaultError::OtherEnvironment`] when one of another environment would become usable.
    pub async fn set_status(
        &self,
        id: &ConnectionId,
        status: Status,
        held_reason: Option<String>,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        if status == Status::Disconnected {
            return self.mark_disconnected(id, now).await;
        }
        // Word of a broken login is Finch's, and no deed.
        let deeds = match status {
            Status::NeedsReauth => Deeds::None,
            _ => Deeds::By(Actor::Perch, Action::Status),
        };
        self.update(id, now, deeds, move |shared, _, row| {
            if row.facts.status == Status::Disconnected {
                return Err(VaultError::Disconnected { connection: row.facts.connection_id.clone() });
            }
            // Word of a broken login may come late: it neither frees what is held nor stops a disconnect.
            if status == Status::NeedsReauth
                && matches!(row.facts.status, Status::Held | Status::Disconnecting)
            {
                return Ok(());
            }
            let is_foreign = row.facts.client_type != shared.scope.environment;
            if is_foreign && matches!(status, Status::Active | Status::NeedsReauth) {
                return Err(VaultError::OtherEnvironment { stored: row.facts.client_type });
            }
            row.facts.status = status;
            row.facts.held_reason = match status {
                Status::Held => {
                    let reason = held_reason.clone().filter(|reason| is_plain(reason));
                    Some(reason.unwrap_or_else(|| "held by an operator".to_owned()))
                }
                Status::Active | Status::NeedsReauth | Status::Disconnecting | Status::Disconnected => None,
            };
            Ok(())
        })
        .await
    }

    /// Notes that Finch wants the login of this version's token renewed. A newer token is not concerned:
    /// a slow answer may come after the repair.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Store`].
    pub async fn note_reauthentication(
        &self,
        id: &ConnectionId,
        version: u64,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        self.update(id, now, Deeds::None, move |_, _, row| {
            // Nor is one that is held, that ends, or that has ended.
            if row.facts.status == Status::Active && row.facts.version <= version {
                row.facts.status = Status::NeedsReauth;
            }
            Ok(())
        })
        .await
    }

    /// Notes that Finch serves this version's token again. A connection that is anything else than waiting for its
    /// login to be renewed stays as it is.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Store`].
    pub async fn note_recovery(
        &self,
        id: &ConnectionId,
        version: u64,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        self.update(id, now, Deeds::None, move |_, _, row| {
            if row.facts.status == Status::NeedsReauth && row.facts.version == version {
                row.facts.status = Status::Active;
            }
            Ok(())
        })
        .await
    }

    /// Gives a connection to a customer: one without a customer, or one that is held, which this
    /// decides unless it is of another environment.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::BelongsToAnother`], [`VaultError::Disconnected`],
    /// [`VaultError::Unreadable`].
    pub async fn assign(
        &self,
        id: &ConnectionId,
        customer: &CustomerId,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        let customer = customer.clone();
        self.update(id, now, Deeds::By(Actor::Operator, Action::Assign), move |shared, ring, row| {
            let facts = &mut row.facts;
            let is_held = facts.status == Status::Held;
            match &facts.customer_id {
                Some(owner) if *owner != customer && !is_held => {
                    return Err(VaultError::BelongsToAnother { connection: facts.connection_id.clone() });
                }
                _ => {}
            }
            shared.give(ring, row, customer.clone())?;
            let facts = &mut row.facts;
            if is_held && facts.client_type == shared.scope.environment {
                facts.status = Status::Active;
                facts.held_reason = None;
            }
            Ok(())
        })
        .await
    }

    /// Erases the token of a connection that is gone at Finch. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Store`].
    pub async fn mark_disconnected(&self, id: &ConnectionId, now: UnixMillis) -> Result<(), VaultError> {
        self.update(id, now, Deeds::By(Actor::Perch, Action::Disconnected), move |shared, _, row| {
            shared.erase(row, now);
            Ok(())
        })
        .await
    }

    /// The same for the token of this version alone: what Finch says of one token is no reason to erase a newer one.
    /// Answers whether the connection has no token now.
    ///
    /// # Errors
    /// As [`Vault::mark_disconnected`].
    pub async fn mark_token_dead(
        &self,
        id: &ConnectionId,
        version: u64,
        now: UnixMillis,
    ) -> Result<bool, VaultError> {
        self.update(id, now, Deeds::By(Actor::Perch, Action::Disconnected), move |shared, _, row| {
            if row.facts.version == version {
                shared.erase(row, now);
            }
            Ok(row.sealed.is_none())
        })
        .await
    }

    /// Keeps Finch's last word on a connection (`connection_status.status` of `/introspect`).
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::Store`].
    pub async fn set_account_status(
        &self,
        id: &ConnectionId,
        account_status: Option<String>,
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        self.update(id, now, Deeds::None, move |_, _, row| {
            row.facts.account_status = account_status.clone().filter(|status| is_plain(status));
            row.facts.status_at = Some(now);
            Ok(())
        })
        .await
    }

    /// Notes when calls last used connections: gathered by the caller, written together, so that a call
    /// costs no write of its own. Beyond ten thousand the rest is left out.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn note_used(&self, uses: Vec<(ConnectionId, UnixMillis)>) -> Result<(), VaultError> {
        let shared = Arc::clone(&self.shared);
        self.store
            .write(
                move |tx| {
                    for (id, at) in uses.iter().take(USES_MAX) {
                        connections::used(tx, &shared.scope, id, *at)?;
                    }
                    Ok(())
                },
                |_| (),
            )
            .await
    }

    /// Changes one row that is there.
    pub(super) async fn update<T: Send + 'static>(
        &self,
        id: &ConnectionId,
        now: UnixMillis,
        deeds: Deeds,
        edit: impl Fn(&Shared, &Ring, &mut Row) -> Result<T, VaultError> + Send + Sync + 'static,
    ) -> Result<T, VaultError> {
        let target = id.clone();
        self.change(Some(id.clone()), move |shared, ring, tx| {
            let mut row =
                connections::find(tx, &shared.scope, &target)?.ok_or(VaultError::UnknownConnection)?;
            if row.environment != shared.scope.environment {
                return Err(VaultError::OtherEnvironment { stored: row.environment });
            }
            if row.facts.version < shared.seen.newest(&target) {
                return Err(shared.unreadable(&target, "an older version of its row was put back"));
            }
            let before = row.clone();
            let answer = edit(shared, ring, &mut row)?;
            if row != before {
                row.facts.updated_at = now;
                connections::put(tx, &shared.scope, &row, keys::next_generation(tx)?)?;
                if let Deeds::By(actor, action) = &deeds {
                    shared.record(ring, tx, (actor, *action), (&target, row.facts.version), now)?;
                }
            }
            let customers = [before.facts.customer_id, row.facts.customer_id].into_iter().flatten().collect();
            Ok(Change::new(answer, vec![(target.clone(), row.facts.version, customers)]))
        })
        .await
    }

    /// Does it with the keys that the store has in the very transaction. Where one of them does not open
    /// here, the last try goes ahead with those that do, as long as the one that seals is in use.
    async fn change<T, E>(
        &self,
        target: Option<ConnectionId>,
        work: impl Fn(&Shared, &Ring, &Tx<'_>) -> Result<Change<T>, E> + Send + Sync + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let work = Arc::new(work);
        let mut tries = 1;
        loop {
            let (inside, behind) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
            let (work, target, ring) = (Arc::clone(&work), target.clone(), self.shared.ring());
            let is_last = tries == TRIES;
            let tried = self
                .store
                .write(
                    move |tx| {
                        if !ring.is_of(&Mark::read(tx)?) {
                            if !is_last {
                                return Ok(Tried::KeysMoved);
                            }
                            follow::stands(&ring, tx)?;
                        }
                        let mut change = work(&inside, &ring, tx)?;
                        change.generation = keys::generation(tx)?;
                        Ok(Tried::Done(change))
                    },
                    move |outcome: &Result<Tried<T>, E>| behind.learn(outcome, target.as_ref()),
                )
                .await?;
            match tried {
                Tried::Done(change) => return Ok(change.answer),
                // What cannot be followed is told where it is noticed.
                Tried::KeysMoved => drop(self.follow_keys().await),
            }
            tries += 1;
        }
    }
}

impl From<StoreError> for ImportError {
    fn from(cause: StoreError) -> Self {
        ImportError { at: None, error: cause.into() }
    }
}

impl Shared {
    /// Forgets what was opened before a change.
    fn learn<T, E>(&self, outcome: &Result<Tried<T>, E>, target: Option<&ConnectionId>) {
        match outcome {
            Ok(Tried::Done(change)) => {
                for (id, version, customers) in &change.touched {
                    self.seen.admits(id, *version);
                    self.forget(id, customers);
                }
                if let Some(anchor) = &self.anchor {
                    anchor.note(change.generation);
                }
            }
            Ok(Tried::KeysMoved) => {}
            // A commit that reports a failure may still have happened.
            Err(_) => {
                if let Some(id) = target {
                    self.forget(id, []);
                } else {
                    self.connections.invalidate_all();
                }
                self.customers.invalidate_all();
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "one caller takes it apart")]
    fn upsert(
        &self,
        ring: &Ring,
        tx: &Tx<'_>,
        new: &NewConnection,
        now: UnixMillis,
    ) -> Result<(Sealed, (ConnectionId, u64, Vec<CustomerId>)), VaultError> {
        new.check()?;
        let id = &new.connection_id;
        let index = ring.index_of(&new.token);
        if let Some(stored_under) =
            connections::holder(tx, &self.scope, &index)?.filter(|holder| holder != id.as_str())
        {
            return Err(VaultError::TokenElsewhere { connection: id.clone(), stored_under });
        }
        let old =
            connections::find(tx, &self.scope, id)?.filter(|row| row.environment == self.scope.environment);
        let before = old.as_ref().and_then(|row| row.facts.customer_id.clone());
        let customer_id = match (&before, &new.customer_id) {
            (Some(owner), Some(named)) if owner != named => {
                return Err(VaultError::BelongsToAnother { connection: id.clone() });
            }
            (_, Some(named)) => Some(named.clone()),
            (Some(_), None) => self.proven_owner(ring, tx, old.as_ref())?,
            (None, None) => None,
        };
        let is_foreign = new.client_type != self.scope.environment;
        let (status, held_reason) = match new.status {
            Status::Held => (Status::Held, new.held_reason.clone().filter(|reason| is_plain(reason))),
            _ if is_foreign => (Status::Held, Some(self.foreign(new))),
            status => (status, None),
        };
        let mut facts = crate::store::Connection {
            connection_id: id.clone(),
            customer_id,
            company_id: new.company_id.clone(),
            provider_id: new.provider_id.clone(),
            products: new.products.clone(),
            entity_ids: new.entity_ids.clone(),
            client_type: new.client_type,
            account_status: new.account_status.clone(),
            status_at: new.account_status.is_some().then_some(now),
            // Only `/introspect` and imports that asked it know this word.
            introspected_at: new.account_status.is_some().then_some(now),
            note: None,
            status,
            held_reason,
            version: self.next_version(id, old.as_ref().map_or(0, |row| row.facts.version)),
            created_at: now,
            updated_at: now,
            last_used_at: None,
        };
        if let Some(old) = &old {
            facts.created_at = old.facts.created_at;
            facts.last_used_at = old.facts.last_used_at;
        }
        let sealed = Some(reseal(self, ring, &facts, &new.token)?);
        let touched = [before, facts.customer_id.clone()].into_iter().flatten().collect();
        let answer = Sealed { version: facts.version, replaced: old.is_some(), status };
        let row = Row { facts, environment: self.scope.environment, sealed };
        connections::put(tx, &self.scope, &row, keys::next_generation(tx)?)?;
        Ok((answer, (id.clone(), answer.version, touched)))
    }

    fn erase(&self, row: &mut Row, now: UnixMillis) {
        if row.facts.status != Status::Disconnected {
            row.facts.status = Status::Disconnected;
            row.facts.held_reason = None;
            row.facts.version = self.next_version(&row.facts.connection_id, row.facts.version);
            row.facts.account_status = Some("disconnected".to_owned());
            row.facts.status_at = Some(now);
            row.sealed = None;
        }
    }

    fn foreign(&self, new: &NewConnection) -> String {
        format!(
            "environment mismatch: the token is for {}, perch works with {}",
            new.client_type, self.scope.environment
        )
    }

    /// Above what is stored and above what was ever seen, so that a write over a replayed row is not
    /// itself taken for a replay.
    pub(super) fn next_version(&self, id: &ConnectionId, stored: u64) -> u64 {
        stored.max(self.seen.newest(id)).saturating_add(1)
    }
}

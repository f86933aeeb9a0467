//! The life of the ring's keys, step by step. Each step is one transaction or a row of them that may end
//! anywhere: what is done stays done, and the same step again does the rest.
//!
//! ```text
//! pending -> primary -> decrypt_only -> retired -> destroyed
//! ```
//! A key seals only after the running gateway has opened it, so no call meets a row that it cannot open.

use super::failpoint;
use super::ring::{OpenError, Ring};
use super::stored::{Mark, Stored, lost_keys, new_key, open_key, wrapped};
use super::wrap::KeyPlace;
use super::{Fingerprint, Vault, VaultError};
use crate::store::connections::{self, Place};
use crate::store::keys::{self, KeyState, Purpose};
use crate::store::{SealedToken, StoreError};
use crate::telemetry::clock::unix_now;
use crate::types::UnixMillis;
use std::fmt;
use zeroize::Zeroizing;

/// Rows sealed anew in one transaction: a gateway that wants to write waits for one of these at most.
pub const RESEAL_ROWS: usize = 100;

/// What is known of one key of the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its number.
    pub id: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it is in its life.
    pub state: KeyState,
    /// What wraps it.
    pub kek: String,
    /// The fingerprint of that.
    pub kek_fingerprint: Fingerprint,
    /// When it was made.
    pub created_at: UnixMillis,
    /// How many rows it has sealed, of all applications and environments.
    pub rows: u64,
}

/// Why a key did not move on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeysError {
    /// Not as things are: why, and what to do first.
    Refused(String),
    /// The store or a key did not open.
    Open(OpenError),
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeysError::Refused(why) => f.write_str(why),
            KeysError::Open(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeysError {}

impl From<OpenError> for KeysError {
    fn from(error: OpenError) -> Self {
        KeysError::Open(error)
    }
}

impl From<StoreError> for KeysError {
    fn from(error: StoreError) -> Self {
        KeysError::Open(error.into())
    }
}

impl From<VaultError> for KeysError {
    fn from(error: VaultError) -> Self {
        KeysError::Open(OpenError::Store(error.to_string()))
    }
}

/// What sealing some rows anew did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resealed {
    /// Where the walk has come to; `None` at its end.
    pub next: Option<Place>,
    /// Rows that are under the newest key now.
    pub done: u64,
    /// Rows that changed meanwhile and were left; the next walk takes them.
    pub raced: u64,
    /// Rows that do not open. They stay as they are.
    pub unreadable: Vec<String>,
}

impl Vault {
    /// Every key that was ever made, oldest first.
    ///
    /// # Errors
    /// [`KeysError::Open`].
    pub async fn keys(&self) -> Result<Vec<KeyFacts>, KeysError> {
        self.store
            .read(|tx| {
                let rows = keys::rows(tx)?;
                let facts = keys::all(tx)?.into_iter().map(|key| KeyFacts {
                    id: key.dek_id,
                    purpose: key.purpose,
                    state: key.state,
                    kek: key.kek_id,
                    kek_fingerprint: Fingerprint(key.kek_fp),
                    created_at: key.created_at,
                    rows: rows.get(&key.dek_id).copied().unwrap_or_default(),
                });
                Ok(facts.collect())
            })
            .await
    }

    /// The pending record key: the one there is, or a new one.
    ///
    /// # Errors
    /// [`KeysError::Open`].
    pub async fn add_key(&self, now: UnixMillis) -> Result<u64, KeysError> {
        loop {
            let stored = self.stored().await?;
            let is_pending =
                |key: &&keys::WrappedKey| (key.purpose, key.state) == (Purpose::Record, KeyState::Pending);
            if let Some(pending) = stored.keys.iter().find(is_pending) {
                return Ok(pending.dek_id);
            }
            // Numbers are never given twice: a blob names its key by it.
            let dek_id = stored.keys.iter().map(|key| key.dek_id).max().unwrap_or_default() + 1;
            let place = KeyPlace { store_id: &stored.store_id, dek_id, purpose: Purpose::Record };
            let key = new_key(&self.wrappers.current, place, KeyState::Pending, now).await?;
            failpoint::hit("add:before");
            let before = stored.mark();
            let is_added = self
                .store
                .write(
                    move |tx| {
                        let is_still = Mark::read(tx)? == before;
                        if is_still {
                            keys::add(tx, &key)?;
                            keys::next_generation(tx)?;
                        }
                        Ok::<_, KeysError>(is_still)
                    },
                    |_| (),
                )
                .await?;
            if is_added {
                failpoint::hit("add:after");
                self.follow_keys().await?;
                return Ok(dek_id);
            }
        }
    }

    /// Makes a pending key the one that seals. Answers `false`, and does nothing, while a gateway runs that
    /// has not opened it; ask again.
    ///
    /// # Errors
    /// [`KeysError::Refused`] when the key is not pending.
    pub async fn promote_key(&self, dek_id: u64) -> Result<bool, KeysError> {
        // A gateway that starts from now on finds the key, for it is stored.
        let now = unix_now();
        let (has_gateway, alive_since) = (self.store.has_gateway(now).await?, self.store.alive_since(now));
        let is_promoted = self
            .store
            .write(
                move |tx| {
                    if has_gateway
                        && keys::opened_by_gateways(tx, alive_since)?.is_none_or(|newest| newest < dek_id)
                    {
                        return Ok(false);
                    }
                    let state = Mark::read(tx)?.state(dek_id);
                    if state != Some(KeyState::Primary) && !keys::promote(tx, dek_id)? {
                        return Err(KeysError::Refused(format!(
                            "key {dek_id} is {} and was not promoted; \"perch keys list\" shows the keys",
                            state.map_or("not there", KeyState::as_str)
                        )));
                    }
                    keys::next_generation(tx)?;
                    failpoint::hit("promote:inside");
                    Ok(true)
                },
                |_| (),
            )
            .await?;
        if is_promoted {
            failpoint::hit("promote:after");
            self.follow_keys().await?;
        }
        Ok(is_promoted)
    }

    /// Seals up to [`RESEAL_ROWS`] rows that older keys have sealed with the newest one. Each is opened in
    /// the place that its own row names and stays there, one version further.
    ///
    /// # Errors
    /// [`KeysError::Open`]; what was done before stays done.
    pub async fn reseal(&self, after: Option<Place>) -> Result<Resealed, KeysError> {
        self.follow_keys().await?;
        let ring = self.shared.ring();
        let primary = ring.primary();
        let (mut told, sealed) = self
            .store
            .read(move |tx| {
                let rows = connections::walk(tx, after.as_ref(), Some(primary), RESEAL_ROWS)?;
                let mut told = Resealed::default();
                if rows.len() == RESEAL_ROWS {
                    told.next = rows.last().map(|(place, _)| place.clone());
                }
                let mut sealed = Vec::with_capacity(rows.len());
                for (place, row) in rows {
                    let anew = row.ok().and_then(|row| anew(&ring, &place, &row));
                    match anew {
                        Some((version, token)) => sealed.push((place, version, token)),
                        None => {
                            tracing::error!(
                                connection_id = place.connection_id,
                                "the token of connection {} does not open and is not sealed anew",
                                place.connection_id
                            );
                            told.unreadable.push(place.connection_id);
                        }
                    }
                }
                Ok::<_, KeysError>((told, sealed))
            })
            .await?;
        if sealed.is_empty() {
            return Ok(told);
        }
        let (done, raced) = self
            .store
            .write(
                move |tx| {
                    let (mut done, mut raced) = (0, 0);
                    if Mark::read(tx)?.state(primary) != Some(KeyState::Primary) {
                        return Ok((0, sealed.len() as u64));
                    }
                    for (place, version, token) in &sealed {
                        let change = keys::next_generation(tx)?;
                        match connections::reseal(tx, place, *version, token, change)? {
                            true => done += 1,
                            false => raced += 1,
                        }
                        failpoint::hit("reseal:inside");
                    }
                    Ok::<_, KeysError>((done, raced))
                },
                |_| (),
            )
            .await?;
        failpoint::hit("reseal:after");
        (told.done, told.raced) = (done, raced);
        Ok(told)
    }

    /// Takes a record key out of use: no ring opens it any more.
    ///
    /// # Errors
    /// [`KeysError::Refused`] for the key that seals, the key of the index, and any key that a row names.
    pub async fn retire_key(&self, dek_id: u64, now: UnixMillis) -> Result<(), KeysError> {
        let refused = |why: String| Err(KeysError::Refused(why));
        self.store
            .write(
                move |tx| {
                    let Some(key) = keys::all(tx)?.into_iter().find(|key| key.dek_id == dek_id) else {
                        return refused(no_key(dek_id));
                    };
                    match (key.purpose, key.state) {
                        (Purpose::Index, _) => {
                            return refused(format!(
                                "key {dek_id} makes the index that finds tokens; index keys are not rotated, so it stays"
                            ));
                        }
                        (Purpose::Record, KeyState::Primary) => {
                            return refused(format!(
                                "key {dek_id} is the one that seals; run \"perch keys rotate\" first"
                            ));
                        }
                        (Purpose::Record, KeyState::Retired | KeyState::Destroyed) => return Ok(()),
                        (Purpose::Record, KeyState::Pending | KeyState::DecryptOnly) => {}
                    }
                    match keys::rows(tx)?.get(&dek_id) {
                        Some(rows) if *rows > 0 => refused(format!(
                            "key {dek_id} still has {rows} rows, which only it opens; run \"perch keys reseal\" first"
                        )),
                        _ => {
                            keys::retire(tx, dek_id, now)?;
                            keys::next_generation(tx)?;
                            Ok(())
                        }
                    }
                },
                |_| (),
            )
            .await?;
        Ok(self.follow_keys().await?)
    }

    /// Erases a retired key. Answers whether its last traces have left the store's files too; while a
    /// gateway reads they may stay in the write-ahead log for a while. Backups keep what they have.
    ///
    /// # Errors
    /// [`KeysError::Refused`] when it is not retired.
    pub async fn destroy_key(&self, dek_id: u64) -> Result<bool, KeysError> {
        self.store
            .write(
                move |tx| match keys::all(tx)?.iter().find(|key| key.dek_id == dek_id).map(|key| key.state) {
                    None => Err(KeysError::Refused(no_key(dek_id))),
                    Some(KeyState::Destroyed) => Ok(()),
                    Some(KeyState::Retired) => {
                        keys::destroy(tx, dek_id)?;
                        keys::next_generation(tx)?;
                        Ok(())
                    }
                    Some(KeyState::Pending | KeyState::Primary | KeyState::DecryptOnly) => {
                        Err(KeysError::Refused(format!(
                            "key {dek_id} is in use; run \"perch keys retire {dek_id}\" first"
                        )))
                    }
                },
                |_| (),
            )
            .await?;
        Ok(self.store.empty_log().await?)
    }

    /// Wraps every key of the ring with the current wrapping key, in one transaction. Answers how many were
    /// under another one.
    ///
    /// # Errors
    /// [`KeysError`]; nothing is changed then.
    pub async fn rewrap_keys(&self) -> Result<u64, KeysError> {
        let stored = self.stored().await?;
        let current = &self.wrappers.current;
        let mut anew = Vec::new();
        for key in &stored.keys {
            if key.state == KeyState::Destroyed || key.kek_fp == current.fingerprint().0 {
                continue;
            }
            let dek = open_key(&stored.store_id, key, &self.wrappers).await?;
            let place = KeyPlace { store_id: &stored.store_id, dek_id: key.dek_id, purpose: key.purpose };
            let bytes = Zeroizing::new(*dek.bytes());
            let new = wrapped(current, place, key.state, &bytes, key.created_at).await?;
            // What cannot be read back is not put in the place of what can.
            open_key(&stored.store_id, &new, &self.wrappers).await?;
            anew.push((key.clone(), new));
        }
        let (count, before) = (anew.len() as u64, stored.mark());
        if count == 0 {
            return Ok(0);
        }
        failpoint::hit("rewrap:before");
        self.store
            .write(
                move |tx| {
                    let mut is_same = Mark::read(tx)? == before;
                    for (old, new) in &anew {
                        is_same = is_same && keys::rewrap(tx, old, new)?;
                        failpoint::hit("rewrap:inside");
                    }
                    keys::next_generation(tx)?;
                    match is_same {
                        true => Ok(()),
                        false => Err(KeysError::Refused(
                            "another command changed the store's keys meanwhile; nothing was changed, run it again"
                                .to_owned(),
                        )),
                    }
                },
                |_| (),
            )
            .await?;
        failpoint::hit("rewrap:after");
        Ok(count)
    }

    async fn stored(&self) -> Result<Stored, KeysError> {
        Ok(self.store.read(Stored::read).await?.ok_or_else(lost_keys)?)
    }
}

/// The row's token under the newest key, one version further, and the version it has now.
fn anew(ring: &Ring, place: &Place, row: &crate::store::Row) -> Option<(u64, SealedToken)> {
    let (facts, sealed) = (&row.facts, row.sealed.as_ref()?);
    let mut owner = super::Owner {
        application: &place.application,
        environment: &place.environment,
        customer_id: facts.customer_id.as_ref().map(|id| id.as_str()),
        connection_id: &place.connection_id,
        version: facts.version,
    };
    let token = ring.open_token(owner, &sealed.blob).ok()?;
    owner.version = facts.version.checked_add(1)?;
    Some((facts.version, ring.seal(owner, &token).ok()?))
}

fn no_key(dek_id: u64) -> String {
    format!("there is no key {dek_id}; \"perch keys list\" shows those there are")
}

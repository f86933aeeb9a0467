//! A ring that keeps up with its store: commands add, promote and retire keys while a gateway runs, and
//! no call may fail for it.

use super::anchor::Memory;
use super::ring::{OpenError, Ring};
use super::stored::{Mark, Stored, lost_keys};
use super::wrap::{Wrappers, random};
use super::{Vault, VaultError};
use crate::store::Tx;
use crate::store::{Store, StoreError, keys, lease};
use crate::telemetry::clock::unix_now;
use crate::types::UnixMillis;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// After a key did not open it is left alone for this long: whoever writes the store cannot make perch
/// ask a key service for every call.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often a gateway of a shared store says that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// A key that did not open.
pub(super) struct Failed {
    at: Instant,
    why: OpenError,
}

/// Opens the ring, or makes one when the store is new. Nothing is written unless it is new.
pub(super) async fn open_or_create(
    store: &Store,
    wrappers: &Wrappers,
    now: UnixMillis,
) -> Result<Ring, OpenError> {
    let stored = match store.read(Stored::read).await? {
        Some(stored) => stored,
        None => {
            let new = Stored::new(&wrappers.current, now).await?;
            let written = new.clone();
            match store.write(move |tx| written.write(tx), |_| ()).await? {
                true => new,
                // Another process was faster; its keys are the store's.
                false => store.read(Stored::read).await?.ok_or_else(lost_keys)?,
            }
        }
    };
    Ring::open(&stored, wrappers).await
}

/// What is to be remembered of the store; `None` when it was never used.
pub(super) fn memory(tx: &Tx<'_>) -> Result<Option<Memory>, StoreError> {
    let Some(store_id) = keys::store_id(tx)? else { return Ok(None) };
    Ok(Some(Memory { store_id, generation: keys::generation(tx)? }))
}

/// A name that no other gateway has.
pub(super) fn gateway_name() -> Result<String, OpenError> {
    let chance: [u8; 16] = random()?;
    Ok(chance.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Vault {
    /// Takes over what became of the store's keys. A key that does not open is left out, logged, and tried
    /// again later; what is open stays open.
    ///
    /// # Errors
    /// [`VaultError::Store`] when the store does not answer.
    pub(super) async fn follow_keys(&self) -> Result<(), VaultError> {
        let mut last = self.following.lock().await;
        if last.as_ref().is_some_and(|failed| failed.at.elapsed() < RETRY_AFTER) {
            return Ok(());
        }
        let stored = match self.store.read(Stored::read).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Err(VaultError::Damaged("it has lost its keys".to_owned())),
            Err(OpenError::Key(why) | OpenError::Store(why)) => return Err(VaultError::Store(why)),
        };
        let ring = self.shared.ring();
        if ring.is_of(&stored.mark()) {
            return Ok(());
        }
        let failed = match ring.follow(&stored, &self.wrappers).await {
            Ok((next, failed)) => {
                let (primary, newest) = (next.primary(), next.newest());
                let has_moved = (primary, newest) != (ring.primary(), ring.newest());
                *self.shared.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
                if has_moved {
                    tracing::info!(primary, newest, "the store's keys have changed: key {primary} seals");
                }
                failed
            }
            Err(error) => Some(error),
        };
        // Once for each reason: it is tried every two seconds.
        if let Some(error) = failed.as_ref().filter(|why| last.as_ref().is_none_or(|then| then.why != **why))
        {
            tracing::error!(
                error = %error,
                "a new key of the store is not used here, the older ones are: {error}; set vault.key (and \
                 vault.key_previous while it changes) to what the store has now, then restart"
            );
        }
        *last = failed.map(|why| Failed { at: Instant::now(), why });
        drop(last);
        Ok(self.tell_newest_key().await?)
    }

    /// A gateway tells in the store which keys it has opened: no key seals before.
    pub(super) async fn tell_newest_key(&self) -> Result<(), StoreError> {
        let Some(gateway) = self.gateway.clone() else { return Ok(()) };
        let (newest, now) = (self.shared.ring().newest(), unix_now());
        let before = self.store.forgotten_before(now);
        self.store.write(move |tx| keys::note_gateway(tx, &gateway, newest, before, now), |_| ()).await?;
        *self.told_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// A gateway of a shared store tells the others now and then that it is there.
    pub(super) async fn say_alive(&self) -> Result<(), VaultError> {
        let told_at = *self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.store.is_shared() || told_at.is_some_and(|at| at.elapsed() < ALIVE_EVERY) {
            return Ok(());
        }
        Ok(self.tell_newest_key().await?)
    }

    /// Tells the store that this gateway stops, so that nobody waits for it.
    pub async fn leave(&self) {
        let Some(gateway) = self.sharing_gateway() else { return };
        let gone = move |tx: &Tx<'_>| {
            lease::give_back_all(tx, &gateway)?;
            keys::forget_gateway(tx, &gateway)
        };
        if let Err(error) = self.store.write(gone, |_| ()).await {
            tracing::info!(error = %error, "the store was not told that this gateway stops; the others find out in a minute");
        }
    }

    /// Takes the lease on something that one gateway at a time should do, until `span` from now. Answers whether this one
    /// has it; of a store that is not shared it always has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease(&self, what: &str, span: Duration) -> Result<bool, StoreError> {
        let Some(gateway) = self.sharing_gateway() else { return Ok(true) };
        let scope = &self.shared.scope;
        let name = format!("{what} {} {}", scope.environment, scope.application);
        let now = unix_now();
        let bounds = (span, self.store.alive_since(now));
        self.store.write(move |tx| lease::take(tx, &name, &gateway, bounds, now), |_| ()).await
    }

    /// What this gateway calls itself where others use the same store.
    pub(super) fn sharing_gateway(&self) -> Option<String> {
        self.gateway.clone().filter(|_| self.store.is_shared())
    }
}

/// Whether a ring may seal and judge in this transaction although the store's keys have changed.
pub(super) fn stands(ring: &Ring, tx: &Tx<'_>) -> Result<(), StoreError> {
    match Mark::read(tx)?.state(ring.primary()) {
        Some(state) if state.is_in_use() => Ok(()),
        _ => Err(StoreError::Unavailable(format!(
            "key {} is no longer in use and the one that took its place does not open here",
            ring.primary()
        ))),
    }
}

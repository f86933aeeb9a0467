//! The ring as it lies in the store: wrapped keys, each in its place.

use super::kek::Fingerprint;
use super::ring::OpenError;
use super::seal::Dek;
use super::wrap::{KeyPlace, WrapError, Wrapper, Wrappers, random};
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::keys::{self, KeyState, Purpose, WrappedKey};
use crate::types::UnixMillis;
use zeroize::Zeroizing;

/// The keys of a store as they are stored.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub store_id: [u8; 16],
    pub keys: Vec<WrappedKey>,
}

impl Stored {
    /// Reads them; `None` when the store was never used.
    ///
    /// # Errors
    /// [`OpenError::Store`], also when the store has lost them.
    pub(super) fn read(tx: &Tx<'_>) -> Result<Option<Self>, OpenError> {
        match keys::store_id(tx)? {
            Some(store_id) => Ok(Some(Self { store_id, keys: keys::all(tx)? })),
            None if keys::is_untouched(tx)? => Ok(None),
            None => Err(lost_keys()),
        }
    }

    /// The keys of a new store, to be stored by [`Stored::write`].
    pub(super) async fn new(wrapper: &Wrapper, now: UnixMillis) -> Result<Self, OpenError> {
        let store_id: [u8; 16] = random()?;
        let mut keys = Vec::new();
        for (dek_id, purpose) in [(1, Purpose::Record), (2, Purpose::Index)] {
            let place = KeyPlace { store_id: &store_id, dek_id, purpose };
            keys.push(new_key(wrapper, place, KeyState::Primary, now).await?);
        }
        Ok(Self { store_id, keys })
    }

    /// Gives a store that was never used its name and keys. Answers whether it was one.
    pub(super) fn write(&self, tx: &Tx<'_>) -> Result<bool, OpenError> {
        if !keys::is_untouched(tx)? {
            return Ok(false);
        }
        keys::name_store(tx, &self.store_id)?;
        self.keys.iter().try_for_each(|key| keys::add(tx, key))?;
        Ok(true)
    }

    /// Its mark.
    pub(super) fn mark(&self) -> Mark {
        Mark::of(&self.keys)
    }
}

/// Which keys a store has and where they are in their lives: what moves when a key is added, promoted,
/// retired or destroyed, and not when it is wrapped anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark(Vec<(u64, KeyState)>);

impl Mark {
    /// The mark of the store as this transaction sees it.
    pub(super) fn read(tx: &Tx<'_>) -> Result<Self, StoreError> {
        Ok(Self::of(&keys::all(tx)?))
    }

    /// No store's.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    fn of(keys: &[WrappedKey]) -> Self {
        Self(keys.iter().map(|key| (key.dek_id, key.state)).collect())
    }

    /// Where a key of the store is in its life.
    pub(super) fn state(&self, dek_id: u64) -> Option<KeyState> {
        self.0.iter().find(|(id, _)| *id == dek_id).map(|(_, state)| *state)
    }
}

/// A new random key, wrapped.
pub(super) async fn new_key(
    wrapper: &Wrapper,
    place: KeyPlace<'_>,
    state: KeyState,
    now: UnixMillis,
) -> Result<WrappedKey, OpenError> {
    let dek = Zeroizing::new(random::<32>()?);
    wrapped(wrapper, place, state, &dek, now).await
}

/// A key, wrapped by this one.
pub(super) async fn wrapped(
    wrapper: &Wrapper,
    place: KeyPlace<'_>,
    state: KeyState,
    dek: &[u8; 32],
    created_at: UnixMillis,
) -> Result<WrappedKey, OpenError> {
    let KeyPlace { dek_id, purpose, .. } = place;
    let wrapped = wrapper.wrap(place, dek).await?;
    let (kek_id, kek_fp) = (wrapper.name().to_owned(), wrapper.fingerprint().0);
    Ok(WrappedKey { dek_id, purpose, state, kek_id, kek_fp, wrapped, created_at })
}

/// Opens one key of a store.
///
/// # Errors
/// [`OpenError::Key`] when none of `wrappers` is the key it was wrapped with.
pub(super) async fn open_key(
    store_id: &[u8; 16],
    key: &WrappedKey,
    wrappers: &Wrappers,
) -> Result<Dek, OpenError> {
    let Some(wrapper) = wrappers.with(key.kek_fp) else {
        let settings = match wrappers.previous {
            None => "vault.key must name",
            Some(_) => "vault.key or vault.key_previous must name",
        };
        return Err(OpenError::Key(format!(
            "wrong key, expected fingerprint {}, got {}: {settings} the key this store was made with",
            Fingerprint(key.kek_fp),
            wrappers.fingerprints()
        )));
    };
    let place = KeyPlace { store_id, dek_id: key.dek_id, purpose: key.purpose };
    wrapper.open(place, &key.wrapped).await.map_err(|error| match error {
        WrapError::Rejected => OpenError::Store(format!(
            "key {} of the store does not open although the wrapping key is right: the store is damaged or was tampered with; restore it from a backup",
            key.dek_id
        )),
        WrapError::Unavailable(why) => OpenError::Store(why),
    })
}

/// The store was used and does not say with which keys.
pub(super) fn lost_keys() -> OpenError {
    OpenError::Store(
        "the store has lost its name or its keys (tables vault_meta, vault_key); restore it from a backup"
            .to_owned(),
    )
}

//! The store's name and its wrapped keys, in SQL.

use super::StoreError;
use crate::types::UnixMillis;
use rusqlite::{OptionalExtension, Transaction, params};

/// What a key of the ring is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// It seals records.
    Record,
    /// It makes the blind index.
    Index,
}

impl Purpose {
    /// The word in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Purpose::Record => "record",
            Purpose::Index => "index",
        }
    }
}

/// Where a key is in its life. A destroyed key's row is not read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Known, not yet sealing.
    Pending,
    /// Seals; exactly one per purpose.
    Primary,
    /// Opens what it sealed before.
    DecryptOnly,
}

impl KeyState {
    const ALL: [KeyState; 3] = [KeyState::Pending, KeyState::Primary, KeyState::DecryptOnly];

    /// The word in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyState::Pending => "pending",
            KeyState::Primary => "primary",
            KeyState::DecryptOnly => "decrypt_only",
        }
    }
}

/// One key of the ring, wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its number.
    pub dek_id: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// Where it is in its life.
    pub state: KeyState,
    /// Fingerprint of the key that wraps it.
    pub kek_fp: [u8; 8],
    /// The key, sealed.
    pub wrapped: Vec<u8>,
}

/// The store's random name, once it has one.
///
/// # Errors
/// [`StoreError`].
pub fn store_id(tx: &Transaction<'_>) -> Result<Option<[u8; 16]>, StoreError> {
    Ok(tx.query_row("SELECT store_id FROM vault_meta", [], |row| row.get(0)).optional()?)
}

/// Whether nothing was ever stored: only then may the store be given a name and keys.
///
/// # Errors
/// [`StoreError`].
pub fn is_untouched(tx: &Transaction<'_>) -> Result<bool, StoreError> {
    Ok(tx.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM vault_meta) AND NOT EXISTS (SELECT 1 FROM vault_key) \
         AND NOT EXISTS (SELECT 1 FROM connection)",
        [],
        |row| row.get(0),
    )?)
}

/// Names the store, once.
///
/// # Errors
/// [`StoreError`], also when it has a name.
pub fn name_store(tx: &Transaction<'_>, store_id: &[u8; 16]) -> Result<(), StoreError> {
    tx.execute("INSERT INTO vault_meta (only, store_id, generation) VALUES (1, ?1, 0)", [store_id])?;
    Ok(())
}

/// Counts one more change of the store and answers the count.
///
/// # Errors
/// [`StoreError`].
pub fn next_generation(tx: &Transaction<'_>) -> Result<i64, StoreError> {
    Ok(tx.query_row("UPDATE vault_meta SET generation = generation + 1 RETURNING generation", [], |row| {
        row.get(0)
    })?)
}

/// How many changes the store has had.
///
/// # Errors
/// [`StoreError`].
pub fn generation(tx: &Transaction<'_>) -> Result<i64, StoreError> {
    Ok(tx.query_row("SELECT generation FROM vault_meta", [], |row| row.get(0))?)
}

/// Every key that can still be used.
///
/// # Errors
/// [`StoreError`].
pub fn all(tx: &Transaction<'_>) -> Result<Vec<WrappedKey>, StoreError> {
    let mut select = tx.prepare(
        "SELECT dek_id, purpose, state, kek_fp, wrapped FROM vault_key WHERE state <> 'destroyed' ORDER BY dek_id",
    )?;
    let mut rows = select.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, purpose, state): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let unknown = || StoreError::Damaged(format!("key {id} is of no known kind"));
        keys.push(WrappedKey {
            dek_id: u64::try_from(id).map_err(|_| unknown())?,
            purpose: [Purpose::Record, Purpose::Index]
                .into_iter()
                .find(|p| p.as_str() == purpose)
                .ok_or_else(unknown)?,
            state: KeyState::ALL.into_iter().find(|s| s.as_str() == state).ok_or_else(unknown)?,
            kek_fp: row.get(3)?,
            wrapped: row.get(4)?,
        });
    }
    Ok(keys)
}

/// Adds a key.
///
/// # Errors
/// [`StoreError`].
pub fn add(tx: &Transaction<'_>, key: &WrappedKey, now: UnixMillis) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO vault_key (dek_id, purpose, state, kek_id, kek_fp, wrapped, created_at) \
         VALUES (?1, ?2, ?3, 'local', ?4, ?5, ?6)",
        params![
            i64::try_from(key.dek_id).map_err(|_| StoreError::Damaged("too many keys".to_owned()))?,
            key.purpose.as_str(),
            key.state.as_str(),
            key.kek_fp,
            key.wrapped,
            now.0
        ],
    )?;
    Ok(())
}

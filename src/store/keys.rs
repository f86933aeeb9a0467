//! The store's name and its wrapped keys, in SQL.

use super::StoreError;
use super::sql::{Tx, values};
use crate::types::UnixMillis;
use std::collections::BTreeMap;

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

/// Where a key is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Known, not yet sealing.
    Pending,
    /// Seals; exactly one per purpose.
    Primary,
    /// Opens what it sealed before.
    DecryptOnly,
    /// Seals and opens nothing; no row named it when it was retired.
    Retired,
    /// Erased. Its row stays, so that its number is never given again.
    Destroyed,
}

impl KeyState {
    const ALL: [KeyState; 5] =
        [KeyState::Pending, KeyState::Primary, KeyState::DecryptOnly, KeyState::Retired, KeyState::Destroyed];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyState::Pending => "pending",
            KeyState::Primary => "primary",
            KeyState::DecryptOnly => "decrypt_only",
            KeyState::Retired => "retired",
            KeyState::Destroyed => "destroyed",
        }
    }

    /// Whether a gateway holds it.
    pub const fn is_in_use(self) -> bool {
        match self {
            KeyState::Pending | KeyState::Primary | KeyState::DecryptOnly => true,
            KeyState::Retired | KeyState::Destroyed => false,
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
    /// The name of what wraps it, for people: which wrapping key is used, the configuration decides.
    pub kek_id: String,
    /// Fingerprint of the key that wraps it.
    pub kek_fp: [u8; 8],
    /// The key, sealed; nothing when it is destroyed.
    pub wrapped: Vec<u8>,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// The store's random name, once it has one.
///
/// # Errors
/// [`StoreError`].
pub fn store_id(tx: &Tx<'_>) -> Result<Option<[u8; 16]>, StoreError> {
    tx.row("SELECT store_id FROM vault_meta", values![], |row| row.get(0))
}

/// When the key that seals was made, once there is one.
///
/// # Errors
/// [`StoreError`].
pub fn sealing_key_made(tx: &Tx<'_>) -> Result<Option<UnixMillis>, StoreError> {
    let sql = "SELECT created_at FROM vault_key WHERE purpose = ?1 AND state = ?2";
    let values = values![Purpose::Record.as_str(), KeyState::Primary.as_str()];
    Ok(tx.row(sql, values, |row| row.get::<i64>(0))?.map(UnixMillis))
}

/// Whether nothing was ever stored: only then may the store be given a name and keys.
///
/// # Errors
/// [`StoreError`].
pub fn is_untouched(tx: &Tx<'_>) -> Result<bool, StoreError> {
    tx.value(
        "SELECT NOT EXISTS (SELECT 1 FROM vault_meta) AND NOT EXISTS (SELECT 1 FROM vault_key) \
         AND NOT EXISTS (SELECT 1 FROM connection)",
        values![],
    )
}

/// Names the store, once.
///
/// # Errors
/// [`StoreError`], also when it has a name.
pub fn name_store(tx: &Tx<'_>, store_id: &[u8; 16]) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO vault_meta (\"only\", store_id, generation) VALUES (1, ?1, 0)",
        values![store_id],
    )?;
    Ok(())
}

/// Counts one more change of the store and answers the count.
///
/// # Errors
/// [`StoreError`].
pub fn next_generation(tx: &Tx<'_>) -> Result<i64, StoreError> {
    tx.value("UPDATE vault_meta SET generation = generation + 1 RETURNING generation", values![])
}

/// How many changes the store has had.
///
/// # Errors
/// [`StoreError`].
pub fn generation(tx: &Tx<'_>) -> Result<i64, StoreError> {
    tx.value("SELECT generation FROM vault_meta", values![])
}

/// Lets the store go on counting from beyond `generation`, after an older copy took its place; and forgets
/// the gateways of before.
///
/// # Errors
/// [`StoreError`].
pub fn go_on_after(tx: &Tx<'_>, generation: i64) -> Result<i64, StoreError> {
    tx.execute("DELETE FROM vault_gateway", values![])?;
    tx.execute("UPDATE vault_meta SET generation = ?1 WHERE generation < ?1", values![generation])?;
    let generation = next_generation(tx)?;
    // Whoever asks what has changed since then hears of every row.
    tx.execute("UPDATE connection SET change_seq = ?1", values![generation])?;
    Ok(generation)
}

/// Every key that was ever made, whatever became of it.
///
/// # Errors
/// [`StoreError`].
pub fn all(tx: &Tx<'_>) -> Result<Vec<WrappedKey>, StoreError> {
    let sql = "SELECT dek_id, purpose, \
         CASE WHEN state = 'destroyed' OR retired_at IS NULL THEN state ELSE 'retired' END, \
         kek_id, kek_fp, wrapped, created_at FROM vault_key ORDER BY dek_id";
    tx.rows(sql, values![], |row| {
        let (id, purpose, state): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let unknown = || StoreError::Damaged(format!("key {id} is of no known kind"));
        Ok(WrappedKey {
            dek_id: u64::try_from(id).map_err(|_| unknown())?,
            purpose: [Purpose::Record, Purpose::Index]
                .into_iter()
                .find(|p| p.as_str() == purpose)
                .ok_or_else(unknown)?,
            state: KeyState::ALL.into_iter().find(|s| s.as_str() == state).ok_or_else(unknown)?,
            kek_id: row.get(3)?,
            kek_fp: row.get(4)?,
            wrapped: row.get(5)?,
            created_at: UnixMillis(row.get(6)?),
        })
    })
}

/// Adds a key.
///
/// # Errors
/// [`StoreError`].
pub fn add(tx: &Tx<'_>, key: &WrappedKey) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO vault_key (dek_id, purpose, state, kek_id, kek_fp, wrapped, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        values![
            number(key.dek_id)?,
            key.purpose.as_str(),
            key.state.as_str(),
            &key.kek_id,
            &key.kek_fp,
            &key.wrapped,
            key.created_at.0
        ],
    )?;
    Ok(())
}

/// Makes a pending key the one that seals; the one before opens only. Answers whether the key was pending.
///
/// # Errors
/// [`StoreError`].
pub fn promote(tx: &Tx<'_>, dek_id: u64) -> Result<bool, StoreError> {
    let is_pending: bool = tx.value(
        "SELECT EXISTS (SELECT 1 FROM vault_key WHERE dek_id = ?1 AND purpose = 'record' \
         AND state = 'pending' AND retired_at IS NULL)",
        values![number(dek_id)?],
    )?;
    if is_pending {
        tx.execute(
            "UPDATE vault_key SET state = 'decrypt_only' WHERE purpose = 'record' AND state = 'primary'",
            values![],
        )?;
        tx.execute("UPDATE vault_key SET state = 'primary' WHERE dek_id = ?1", values![number(dek_id)?])?;
    }
    Ok(is_pending)
}

/// Takes a key out of use.
///
/// # Errors
/// [`StoreError`].
pub fn retire(tx: &Tx<'_>, dek_id: u64, now: UnixMillis) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE vault_key SET retired_at = ?2 WHERE dek_id = ?1 AND retired_at IS NULL",
        values![number(dek_id)?, now.0],
    )?;
    Ok(())
}

/// Erases a key.
///
/// # Errors
/// [`StoreError`].
pub fn destroy(tx: &Tx<'_>, dek_id: u64) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE vault_key SET state = 'destroyed', wrapped = ?2 WHERE dek_id = ?1",
        values![number(dek_id)?, b""],
    )?;
    Ok(())
}

/// Puts another wrapping of the same key in the place of the one that is expected there. Answers whether
/// that one was there.
///
/// # Errors
/// [`StoreError`].
pub fn rewrap(tx: &Tx<'_>, old: &WrappedKey, new: &WrappedKey) -> Result<bool, StoreError> {
    let changed = tx.execute(
        "UPDATE vault_key SET kek_id = ?3, kek_fp = ?4, wrapped = ?5 WHERE dek_id = ?1 AND wrapped = ?2",
        values![number(old.dek_id)?, &old.wrapped, &new.kek_id, &new.kek_fp, &new.wrapped],
    )?;
    Ok(changed == 1)
}

/// How many rows each key has sealed, of all applications and environments.
///
/// # Errors
/// [`StoreError`].
pub fn rows(tx: &Tx<'_>) -> Result<BTreeMap<u64, u64>, StoreError> {
    let sql = "SELECT dek_id, count(*) FROM connection WHERE dek_id IS NOT NULL GROUP BY dek_id";
    let mut counted = BTreeMap::new();
    tx.each(sql, values![], |row| {
        let (key, count): (i64, i64) = (row.get(0)?, row.get(1)?);
        counted.insert(key.unsigned_abs(), count.unsigned_abs());
        Ok::<_, StoreError>(())
    })?;
    Ok(counted)
}

/// Notes which key is the newest that a gateway has opened, and that it lives. Others that were not heard of
/// since `alive_since` are forgotten.
///
/// # Errors
/// [`StoreError`].
pub fn note_gateway(
    tx: &Tx<'_>,
    gateway: &str,
    newest: u64,
    alive_since: UnixMillis,
    now: UnixMillis,
) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM vault_gateway WHERE gateway <> ?1 AND seen_at < ?2",
        values![gateway, alive_since.0],
    )?;
    tx.execute(
        "INSERT INTO vault_gateway (gateway, newest_key, seen_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (gateway) DO UPDATE SET newest_key = excluded.newest_key, seen_at = excluded.seen_at",
        values![gateway, number(newest)?, now.0],
    )?;
    Ok(())
}

/// Forgets a gateway that stops.
///
/// # Errors
/// [`StoreError`].
pub fn forget_gateway(tx: &Tx<'_>, gateway: &str) -> Result<(), StoreError> {
    tx.execute("DELETE FROM vault_gateway WHERE gateway = ?1", values![gateway])?;
    Ok(())
}

/// Whether a gateway was heard of since then.
///
/// # Errors
/// [`StoreError`].
pub fn has_gateway(tx: &Tx<'_>, since: UnixMillis) -> Result<bool, StoreError> {
    tx.value("SELECT EXISTS (SELECT 1 FROM vault_gateway WHERE seen_at >= ?1)", values![since.0])
}

/// The newest key that every gateway has opened that was heard of since then; `None` when none has said so.
///
/// # Errors
/// [`StoreError`].
pub fn opened_by_gateways(tx: &Tx<'_>, since: UnixMillis) -> Result<Option<u64>, StoreError> {
    let newest: Option<i64> =
        tx.value("SELECT min(newest_key) FROM vault_gateway WHERE seen_at >= ?1", values![since.0])?;
    Ok(newest.map(i64::unsigned_abs))
}

fn number(dek_id: u64) -> Result<i64, StoreError> {
    i64::try_from(dek_id).map_err(|_| StoreError::Damaged("a key's number ran over".to_owned()))
}

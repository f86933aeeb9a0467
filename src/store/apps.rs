//! Apps and what they are known by, in SQL. Only a digest of a key is here. A revoked row stays, so that a key's id in
//! an old log still has a name.

use super::StoreError;
use super::connections::Scope;
use crate::types::UnixMillis;
use rusqlite::{Row, Transaction, params};

/// An app as it is stored. The policy is text here; what it means is the vault's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRow {
    /// The app's name.
    pub name: String,
    /// The public half of its key; chance where it has none.
    pub key_id: String,
    /// SHA-256 of the key; zeros where it has none.
    pub key_hash: [u8; 32],
    /// Its policy, as JSON.
    pub policy: String,
    /// The name in its certificate by which it is known.
    pub certificate: Option<String>,
    /// The user it runs as.
    pub uid: Option<i64>,
    /// When it was added.
    pub created_at: UnixMillis,
    /// When it ended.
    pub revoked_at: Option<UnixMillis>,
}

const COLUMNS: &str = "name, key_id, key_hash, policy, certificate, uid, created_at, revoked_at";

/// Every app of the scope, revoked ones too, oldest first.
///
/// # Errors
/// [`StoreError`].
pub fn all(tx: &Transaction<'_>, scope: &Scope) -> Result<Vec<AppRow>, StoreError> {
    let mut select = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM app WHERE application = ?1 AND env = ?2 ORDER BY created_at, key_id"
    ))?;
    let rows = select.query_map(params![scope.application.as_str(), scope.environment.as_str()], row_of)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Every app of the scope that is good.
///
/// # Errors
/// [`StoreError`].
pub fn good(tx: &Transaction<'_>, scope: &Scope) -> Result<Vec<AppRow>, StoreError> {
    let mut rows = all(tx, scope)?;
    rows.retain(|row| row.revoked_at.is_none());
    Ok(rows)
}

/// Adds an app. Of the revoked ones the newest `revoked_max` stay.
///
/// # Errors
/// [`StoreError`], also when a good app has its name or one of its marks.
pub fn add(tx: &Transaction<'_>, scope: &Scope, app: &AppRow, revoked_max: usize) -> Result<(), StoreError> {
    let AppRow { name, key_id, key_hash, policy, certificate, uid, created_at, revoked_at } = app;
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let revoked_at = revoked_at.map(|at| at.0);
    tx.execute(
        "INSERT INTO app (application, env, name, key_id, key_hash, policy, certificate, uid, created_at, revoked_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![application, env, name, key_id, key_hash, policy, certificate, uid, created_at.0, revoked_at],
    )?;
    tx.execute(
        "DELETE FROM app WHERE application = ?1 AND env = ?2 AND key_id IN ( \
            SELECT key_id FROM app WHERE application = ?1 AND env = ?2 AND revoked_at IS NOT NULL \
            ORDER BY revoked_at DESC, key_id LIMIT -1 OFFSET ?3)",
        params![application, env, i64::try_from(revoked_max).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

/// Gives the good app of this row's name the row's policy and marks; whether there was one.
///
/// # Errors
/// [`StoreError`], also when another good app has one of its marks.
pub fn change(tx: &Transaction<'_>, scope: &Scope, app: &AppRow) -> Result<bool, StoreError> {
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let changed = tx.execute(
        "UPDATE app SET policy = ?4, certificate = ?5, uid = ?6 \
         WHERE application = ?1 AND env = ?2 AND name = ?3 AND revoked_at IS NULL",
        params![application, env, app.name, app.policy, app.certificate, app.uid],
    )?;
    Ok(changed > 0)
}

/// Ends the good app of this name; whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn revoke(tx: &Transaction<'_>, scope: &Scope, name: &str, now: UnixMillis) -> Result<bool, StoreError> {
    let ended = tx.execute(
        "UPDATE app SET revoked_at = ?4 \
         WHERE application = ?1 AND env = ?2 AND name = ?3 AND revoked_at IS NULL",
        params![scope.application.as_str(), scope.environment.as_str(), name, now.0],
    )?;
    Ok(ended > 0)
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<AppRow> {
    Ok(AppRow {
        name: row.get(0)?,
        key_id: row.get(1)?,
        key_hash: row.get(2)?,
        policy: row.get(3)?,
        certificate: row.get(4)?,
        uid: row.get(5)?,
        created_at: UnixMillis(row.get(6)?),
        revoked_at: row.get::<_, Option<i64>>(7)?.map(UnixMillis),
    })
}

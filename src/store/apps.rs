//! Apps and what they are known by, in SQL. Only a digest of a key is here. A revoked row stays, so that a key's id in
//! an old log still has a name.

use super::StoreError;
use super::connections::Scope;
use super::sql::{Record, Tx, values};
use crate::types::UnixMillis;

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
pub fn all(tx: &Tx<'_>, scope: &Scope) -> Result<Vec<AppRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM app WHERE application = ?1 AND env = ?2 ORDER BY created_at, key_id");
    tx.rows(&sql, values![scope.application.as_str(), scope.environment.as_str()], row_of)
}

/// Every app of the scope that is good.
///
/// # Errors
/// [`StoreError`].
pub fn good(tx: &Tx<'_>, scope: &Scope) -> Result<Vec<AppRow>, StoreError> {
    let mut rows = all(tx, scope)?;
    rows.retain(|row| row.revoked_at.is_none());
    Ok(rows)
}

/// Adds an app. Of the revoked ones the newest `revoked_max` stay.
///
/// # Errors
/// [`StoreError`], also when a good app has its name or one of its marks.
pub fn add(tx: &Tx<'_>, scope: &Scope, app: &AppRow, revoked_max: usize) -> Result<(), StoreError> {
    let AppRow { name, key_id, key_hash, policy, certificate, uid, created_at, revoked_at } = app;
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let revoked_at = revoked_at.map(|at| at.0);
    tx.execute(
        "INSERT INTO app (application, env, name, key_id, key_hash, policy, certificate, uid, created_at, revoked_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        values![application, env, name, key_id, key_hash, policy, certificate, *uid, created_at.0, revoked_at],
    )?;
    tx.execute(
        "DELETE FROM app WHERE application = ?1 AND env = ?2 AND key_id IN ( \
            SELECT key_id FROM app WHERE application = ?1 AND env = ?2 AND revoked_at IS NOT NULL \
            ORDER BY revoked_at DESC, key_id LIMIT 1000000 OFFSET ?3)",
        values![application, env, i64::try_from(revoked_max).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

/// Gives the good app of this row's name the row's policy and marks; whether there was one.
///
/// # Errors
/// [`StoreError`], also when another good app has one of its marks.
pub fn change(tx: &Tx<'_>, scope: &Scope, app: &AppRow) -> Result<bool, StoreError> {
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let changed = tx.execute(
        "UPDATE app SET policy = ?4, certificate = ?5, uid = ?6 \
         WHERE application = ?1 AND env = ?2 AND name = ?3 AND revoked_at IS NULL",
        values![application, env, &app.name, &app.policy, &app.certificate, app.uid],
    )?;
    Ok(changed > 0)
}

/// Ends the good app of this name; whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn revoke(tx: &Tx<'_>, scope: &Scope, name: &str, now: UnixMillis) -> Result<bool, StoreError> {
    let ended = tx.execute(
        "UPDATE app SET revoked_at = ?4 \
         WHERE application = ?1 AND env = ?2 AND name = ?3 AND revoked_at IS NULL",
        values![scope.application.as_str(), scope.environment.as_str(), name, now.0],
    )?;
    Ok(ended > 0)
}

/// An app whose key was revoked, wherever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    application: String,
    env: String,
    key_id: String,
    /// Its name.
    pub name: String,
    at: i64,
}

/// Every app of the store whose key was revoked.
///
/// # Errors
/// [`StoreError`].
pub fn revoked(tx: &Tx<'_>) -> Result<Vec<Revoked>, StoreError> {
    let sql = "SELECT application, env, key_id, name, revoked_at FROM app WHERE revoked_at IS NOT NULL \
               ORDER BY revoked_at, key_id";
    tx.rows(sql, values![], |row| {
        Ok(Revoked {
            application: row.get(0)?,
            env: row.get(1)?,
            key_id: row.get(2)?,
            name: row.get(3)?,
            at: row.get(4)?,
        })
    })
}

/// Revokes a key that another copy of the store knows as revoked. Answers whether it was good here.
///
/// # Errors
/// [`StoreError`].
pub fn revoke_again(tx: &Tx<'_>, revoked: &Revoked) -> Result<bool, StoreError> {
    let Revoked { application, env, key_id, name: _, at } = revoked;
    let ended = tx.execute(
        "UPDATE app SET revoked_at = ?4 \
         WHERE application = ?1 AND env = ?2 AND key_id = ?3 AND revoked_at IS NULL",
        values![application, env, key_id, *at],
    )?;
    Ok(ended > 0)
}

fn row_of(row: &Record<'_>) -> Result<AppRow, StoreError> {
    Ok(AppRow {
        name: row.get(0)?,
        key_id: row.get(1)?,
        key_hash: row.get(2)?,
        policy: row.get(3)?,
        certificate: row.get(4)?,
        uid: row.get(5)?,
        created_at: UnixMillis(row.get(6)?),
        revoked_at: row.get::<Option<i64>>(7)?.map(UnixMillis),
    })
}

//! Pauses, in SQL: whose calls an operator has stopped until further notice.

use super::StoreError;
use super::connections::Scope;
use super::sql::{Record, Tx, values};
use crate::types::UnixMillis;

/// A pause as it is stored. What scope and name mean is the vault's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRow {
    /// `customer`, `product` or `provider`.
    pub scope: String,
    /// Which one.
    pub name: String,
    /// Since when.
    pub paused_at: UnixMillis,
    /// Who set it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// Every pause of the scope, by its kind and name.
///
/// # Errors
/// [`StoreError`].
pub fn all(tx: &Tx<'_>, scope: &Scope) -> Result<Vec<PauseRow>, StoreError> {
    let sql = "SELECT scope, name, paused_at, actor, reason FROM pause WHERE app = ?1 AND env = ?2 \
               ORDER BY scope, name";
    tx.rows(sql, values![scope.application.as_str(), scope.environment.as_str()], row_of)
}

/// Sets one; one that is set keeps its beginning and takes over who set it and why.
///
/// # Errors
/// [`StoreError`].
pub fn set(tx: &Tx<'_>, scope: &Scope, row: &PauseRow) -> Result<(), StoreError> {
    let PauseRow { scope: kind, name, paused_at, actor, reason } = row;
    let (app, env) = (scope.application.as_str(), scope.environment.as_str());
    tx.execute(
        "INSERT INTO pause (app, env, scope, name, paused_at, actor, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
         ON CONFLICT (app, env, scope, name) DO UPDATE SET actor = excluded.actor, reason = excluded.reason",
        values![app, env, kind, name, paused_at.0, actor, reason],
    )?;
    Ok(())
}

/// Takes one away; whether there was one.
///
/// # Errors
/// [`StoreError`].
pub fn take(tx: &Tx<'_>, scope: &Scope, kind: &str, name: &str) -> Result<bool, StoreError> {
    let (app, env) = (scope.application.as_str(), scope.environment.as_str());
    let taken = tx.execute(
        "DELETE FROM pause WHERE app = ?1 AND env = ?2 AND scope = ?3 AND name = ?4",
        values![app, env, kind, name],
    )?;
    Ok(taken > 0)
}

fn row_of(row: &Record<'_>) -> Result<PauseRow, StoreError> {
    Ok(PauseRow {
        scope: row.get(0)?,
        name: row.get(1)?,
        paused_at: UnixMillis(row.get(2)?),
        actor: row.get(3)?,
        reason: row.get(4)?,
    })
}

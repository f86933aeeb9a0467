//! The journal of code exchanges, in SQL: what became of each code, for a day. A code works once, and Finch's answer
//! may be lost with the process that waited for it; this is how the next one knows.

use super::StoreError;
use super::connections::Scope;
use super::sql::{Tx, values};
use crate::types::{ConnectionId, UnixMillis};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How long a row is kept. A code lives for ten minutes ("Finch Connect guide").
pub const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// The most rows; beyond it the oldest go first.
const ROWS_MAX: i64 = 100_000;

/// A code's digest: it finds the code's row, and does not tell the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeHash([u8; 32]);

impl CodeHash {
    /// The digest of a code.
    pub fn of(code: &str) -> Self {
        Self(Sha256::digest(code).into())
    }

    /// The name of the right to exchange it.
    pub fn lease(&self) -> String {
        let digest: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("code {digest}")
    }
}

/// What became of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was about to be sent; nothing is known beyond that.
    Started,
    /// Its token is sealed, for this connection.
    Done(ConnectionId),
    /// It was sent twice, and the second time Finch did not know it any more.
    Unknown,
}

/// A code's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What became of it.
    pub state: State,
    /// The app that sent it; empty where apps are not told apart.
    pub asked_by: String,
}

/// The code's row, when there is one.
///
/// # Errors
/// [`StoreError::Damaged`] when it says what no perch wrote.
pub fn find(tx: &Tx<'_>, scope: &Scope, code: &CodeHash) -> Result<Option<Row>, StoreError> {
    let found = tx.row(
        "SELECT state, asked_by, connection_id FROM exchange WHERE app = ?1 AND env = ?2 AND code_hash = ?3",
        values![scope.application.as_str(), scope.environment.as_str(), &code.0],
        |row| Ok((row.get::<String>(0)?, row.get(1)?, row.get::<Option<String>>(2)?)),
    )?;
    let Some((state, asked_by, connection)) = found else { return Ok(None) };
    let state = match (state.as_str(), connection.map(ConnectionId::new)) {
        ("started", None) => State::Started,
        ("done", Some(Ok(connection))) => State::Done(connection),
        ("unknown", None) => State::Unknown,
        _ => return Err(StoreError::Damaged("an exchange is not what perch writes".to_owned())),
    };
    Ok(Some(Row { state, asked_by }))
}

/// Notes that a code is about to be sent, and forgets what is older than a day.
///
/// # Errors
/// [`StoreError`].
pub fn start(
    tx: &Tx<'_>,
    scope: &Scope,
    code: &CodeHash,
    asked_by: &str,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let kept_from = now.0.saturating_sub(i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX));
    tx.execute("DELETE FROM exchange WHERE started_at < ?1", values![kept_from])?;
    let rows: i64 = tx.value("SELECT count(*) FROM exchange", values![])?;
    if rows >= ROWS_MAX {
        let oldest = "DELETE FROM exchange WHERE started_at <= (SELECT min(started_at) FROM exchange)";
        tx.execute(oldest, values![])?;
    }
    tx.execute(
        "INSERT INTO exchange (app, env, code_hash, state, asked_by, started_at) \
         VALUES (?1, ?2, ?3, 'started', ?4, ?5)",
        values![scope.application.as_str(), scope.environment.as_str(), &code.0, asked_by, now.0],
    )?;
    Ok(())
}

/// Notes what became of a code that was started. One that is done stays done.
///
/// # Errors
/// [`StoreError`].
pub fn finish(
    tx: &Tx<'_>,
    scope: &Scope,
    code: &CodeHash,
    connection: Option<&ConnectionId>,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let state = if connection.is_some() { "done" } else { "unknown" };
    tx.execute(
        "UPDATE exchange SET state = ?4, connection_id = ?5, finished_at = ?6 \
         WHERE app = ?1 AND env = ?2 AND code_hash = ?3 AND state <> 'done'",
        values![
            scope.application.as_str(),
            scope.environment.as_str(),
            &code.0,
            state,
            connection.map(ConnectionId::as_str),
            now.0
        ],
    )?;
    Ok(())
}

/// Forgets a code that was not sent, or that Finch refused: nothing became of it.
///
/// # Errors
/// [`StoreError`].
pub fn withdraw(tx: &Tx<'_>, scope: &Scope, code: &CodeHash) -> Result<(), StoreError> {
    tx.execute(
        "DELETE FROM exchange WHERE app = ?1 AND env = ?2 AND code_hash = ?3 AND state = 'started'",
        values![scope.application.as_str(), scope.environment.as_str(), &code.0],
    )?;
    Ok(())
}

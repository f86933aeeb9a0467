//! Who did what to which connection, in SQL: rows are only ever added, each bound to the one before it by a MAC that
//! the vault makes. The oldest go when there are very many.

use super::StoreError;
use super::connections::Scope;
use super::sql::{Record, Tx, values};
use crate::policy::brake::PauseScope;
use crate::types::{ConnectionId, UnixMillis};

/// The most rows kept.
const ROWS_MAX: i64 = 1_000_000;
/// How many go at once when there are more.
const PRUNED: i64 = 10_000;
/// How many are held in memory while all are read.
const READ_AT_ONCE: i64 = 1000;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Deed {
    /// Its number; they follow one another without a gap.
    pub seq: i64,
    /// When.
    pub at: UnixMillis,
    /// Who: `app`, `app:NAME`, `operator` or `perch`.
    pub actor: String,
    /// What.
    pub action: String,
    /// The Finch application.
    #[serde(skip)]
    pub app: String,
    /// The environment.
    #[serde(skip)]
    pub env: String,
    /// To which connection.
    pub connection_id: String,
    /// The connection's version after it.
    pub version: i64,
}

/// A row and what binds it to its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The row.
    pub deed: Deed,
    /// The MAC of the row before it.
    pub prev_mac: [u8; 32],
    /// Its own.
    pub mac: [u8; 32],
}

/// The number of the oldest row that is there when `newest` is the newest one and nobody but [`append`] took rows out.
pub const fn oldest_kept(newest: i64) -> i64 {
    let pruned = newest / PRUNED * PRUNED - ROWS_MAX;
    if pruned > 0 { pruned + 1 } else { 1 }
}

const COLUMNS: &str = "seq, at, actor, action, app, env, connection_id, row_version, prev_mac, mac";

/// The number and the MAC of the newest row; zeros when there is none.
///
/// # Errors
/// [`StoreError`].
pub fn newest(tx: &Tx<'_>) -> Result<(i64, [u8; 32]), StoreError> {
    let newest = "SELECT seq, mac FROM audit ORDER BY seq DESC LIMIT 1";
    let found = tx.row(newest, values![], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.unwrap_or((0, [0; 32])))
}

/// Adds a row.
///
/// # Errors
/// [`StoreError`].
pub fn append(tx: &Tx<'_>, row: &Bound) -> Result<(), StoreError> {
    let Bound { deed, prev_mac, mac } = row;
    let sql = format!("INSERT INTO audit ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    let values = values![
        deed.seq,
        deed.at.0,
        &deed.actor,
        &deed.action,
        &deed.app,
        &deed.env,
        &deed.connection_id,
        deed.version,
        prev_mac,
        mac
    ];
    tx.execute(&sql, values)?;
    if deed.seq % PRUNED == 0 {
        tx.execute("DELETE FROM audit WHERE seq <= ?1", values![deed.seq - ROWS_MAX])?;
    }
    Ok(())
}

/// The newest rows about a connection, newest first.
///
/// # Errors
/// [`StoreError`].
pub fn of_connection(
    tx: &Tx<'_>,
    scope: &Scope,
    id: &ConnectionId,
    limit: u32,
) -> Result<Vec<Deed>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM audit WHERE app = ?1 AND env = ?2 AND connection_id = ?3 ORDER BY seq DESC LIMIT ?4"
    );
    let values = values![scope.application.as_str(), scope.environment.as_str(), id.as_str(), limit];
    tx.rows(&sql, values, |row| Ok(row_of(row)?.deed))
}

/// The newest rows about what is no connection: pauses of a customer, a product or a provider, newest first. Such a row
/// names its scope, a space and the name in place of a connection.
///
/// # Errors
/// [`StoreError`].
pub fn of_brakes(tx: &Tx<'_>, scope: &Scope, limit: u32) -> Result<Vec<Deed>, StoreError> {
    // A range for each scope: few rows, found by the index of connections. `!` follows the space.
    let ranges = PauseScope::ALL.map(|scope| {
        format!("(connection_id >= '{scope} ' AND connection_id < '{scope}!')", scope = scope.as_str())
    });
    let sql = format!(
        "SELECT {COLUMNS} FROM audit WHERE app = ?1 AND env = ?2 AND ({}) AND action IN ('pause', 'resume') \
         ORDER BY seq DESC LIMIT ?3",
        ranges.join(" OR ")
    );
    let values = values![scope.application.as_str(), scope.environment.as_str(), limit];
    tx.rows(&sql, values, |row| Ok(row_of(row)?.deed))
}

/// When something was last done to each connection to which it was done.
///
/// # Errors
/// [`StoreError`].
pub fn newest_of_action(
    tx: &Tx<'_>,
    scope: &Scope,
    action: &str,
) -> Result<Vec<(String, UnixMillis)>, StoreError> {
    let sql = "SELECT connection_id, max(at) FROM audit WHERE app = ?1 AND env = ?2 AND action = ?3 \
        GROUP BY connection_id";
    let values = values![scope.application.as_str(), scope.environment.as_str(), action];
    tx.rows(sql, values, |row| Ok((row.get(0)?, UnixMillis(row.get(1)?))))
}

/// Shows every row to `look`, oldest first, until it has seen enough.
///
/// # Errors
/// [`StoreError`], that of `look` too.
pub fn each<E: From<StoreError>>(tx: &Tx<'_>, mut look: impl FnMut(Bound) -> Result<(), E>) -> Result<(), E> {
    let sql = format!("SELECT {COLUMNS} FROM audit WHERE seq > ?1 ORDER BY seq LIMIT {READ_AT_ONCE}");
    let mut last = i64::MIN;
    loop {
        let rows = tx.rows(&sql, values![last], row_of)?;
        let Some(newest) = rows.last().map(|row| row.deed.seq) else { return Ok(()) };
        last = newest;
        rows.into_iter().try_for_each(&mut look)?;
    }
}

fn row_of(row: &Record<'_>) -> Result<Bound, StoreError> {
    Ok(Bound {
        deed: Deed {
            seq: row.get(0)?,
            at: UnixMillis(row.get(1)?),
            actor: row.get(2)?,
            action: row.get(3)?,
            app: row.get(4)?,
            env: row.get(5)?,
            connection_id: row.get(6)?,
            version: row.get(7)?,
        },
        prev_mac: row.get(8)?,
        mac: row.get(9)?,
    })
}

//! Lets old calls go, a few at a time: one great deletion would keep writers waiting and the log growing.

use crate::store::StoreError;
use crate::store::connections::Scope;
use crate::store::sql::{Tx, Value, values};
use crate::types::UnixMillis;
use std::time::Duration;

/// The most calls of one step.
const STEP: u32 = 1000;

/// How long the counts of a month are kept: two years can be held against each other.
const MONTHS_KEPT: Duration = Duration::from_secs(25 * 31 * 24 * 60 * 60);

/// How much is kept of one application and environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// For how long after it came in.
    pub keep: Duration,
    /// How many calls at most; the oldest go first.
    pub rows: u32,
}

/// Deletes some of the oldest calls beyond the bounds. Answers whether there may be more.
pub(super) fn step(tx: &Tx<'_>, scope: &Scope, bounds: Bounds, now: UnixMillis) -> Result<bool, StoreError> {
    if let Tx::Postgres(_) = tx {
        let lock = "SELECT pg_try_advisory_xact_lock('request'::regclass::oid::bigint)";
        if !tx.value::<bool>(lock, &[])? {
            return Ok(false);
        }
    }
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let mut old: Vec<i64> = tx.rows(
        "SELECT seq FROM request WHERE application = ?1 AND env = ?2 AND ts < ?3 ORDER BY ts, seq LIMIT ?4",
        values![application, env, now.minus(bounds.keep).0, STEP],
        |row| row.get(0),
    )?;
    let mut may_be_more = old.len() == STEP as usize;
    if !may_be_more {
        // That some go for their age does not make the others few enough.
        let many = beyond(tx, scope, bounds.rows)?;
        may_be_more = many.len() == STEP as usize;
        old.extend(many);
        old.sort_unstable();
        old.dedup();
    }
    for table in ["finch_request", "request"] {
        delete(tx, table, &old)?;
    }
    tx.execute(
        "DELETE FROM usage WHERE application = ?1 AND env = ?2 AND month < ?3",
        values![application, env, &now.minus(MONTHS_KEPT).month()],
    )?;
    Ok(may_be_more)
}

/// Some of the oldest calls beyond this many.
fn beyond(tx: &Tx<'_>, scope: &Scope, rows: u32) -> Result<Vec<i64>, StoreError> {
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let others = "SELECT EXISTS (SELECT 1 FROM request WHERE application < ?1) \
        OR EXISTS (SELECT 1 FROM request WHERE application > ?1) \
        OR EXISTS (SELECT 1 FROM request WHERE application = ?1 AND env < ?2) \
        OR EXISTS (SELECT 1 FROM request WHERE application = ?1 AND env > ?2)";
    if !tx.row(others, values![application, env], |row| row.get::<bool>(0))?.unwrap_or(false) {
        // Numbers are given one after the other and the oldest go first, so there are no more calls than the numbers
        // between the first and the last.
        let newest: Option<i64> = tx.value("SELECT max(seq) FROM request", &[])?;
        return tx.rows(
            "SELECT seq FROM request WHERE seq <= ?1 ORDER BY seq LIMIT ?2",
            values![newest.unwrap_or(0).saturating_sub(rows.into()), STEP],
            |row| row.get(0),
        );
    }
    // Others' calls have numbers between: the first call too many is looked for along the index.
    let edge: Option<(i64, i64)> = tx.row(
        "SELECT ts, seq FROM request WHERE application = ?1 AND env = ?2 \
         ORDER BY ts DESC, seq DESC LIMIT 1 OFFSET ?3",
        values![application, env, rows],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some((ts, seq)) = edge else { return Ok(Vec::new()) };
    tx.rows(
        "SELECT seq FROM request WHERE application = ?1 AND env = ?2 AND ts <= ?3 AND (ts < ?3 OR seq <= ?4) \
         ORDER BY ts, seq LIMIT ?5",
        values![application, env, ts, seq, STEP],
        |row| row.get(0),
    )
}

fn delete(tx: &Tx<'_>, table: &str, numbers: &[i64]) -> Result<(), StoreError> {
    for part in numbers.chunks(STEP as usize) {
        let places: Vec<String> = (1..=part.len()).map(|at| format!("?{at}")).collect();
        let values: Vec<Value<'_>> = part.iter().map(|seq| Value::from(*seq)).collect();
        tx.execute(&format!("DELETE FROM {table} WHERE seq IN ({})", places.join(", ")), &values)?;
    }
    Ok(())
}

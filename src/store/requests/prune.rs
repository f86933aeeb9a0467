//! Lets old calls go, a few at a time: one great deletion would keep writers waiting and the log growing.

use crate::store::StoreError;
use crate::store::sql::{Tx, Value, values};
use crate::types::UnixMillis;
use std::time::Duration;

/// The most calls of one step.
const STEP: u32 = 1000;

/// How long the counts of a month are kept: two years can be held against each other.
const MONTHS_KEPT: Duration = Duration::from_secs(25 * 31 * 24 * 60 * 60);

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// For how long after it came in.
    pub keep: Duration,
    /// How many calls at most; the oldest go first.
    pub rows: u32,
}

/// Deletes some of the oldest calls beyond the bounds. Answers whether there may be more.
pub(super) fn step(tx: &Tx<'_>, bounds: Bounds, now: UnixMillis) -> Result<bool, StoreError> {
    if let Tx::Postgres(_) = tx {
        let lock = "SELECT pg_try_advisory_xact_lock('request'::regclass::oid::bigint)";
        if !tx.value::<bool>(lock, &[])? {
            return Ok(false);
        }
    }
    let mut old: Vec<i64> = tx.rows(
        "SELECT seq FROM request WHERE ts < ?1 ORDER BY ts, seq LIMIT ?2",
        values![now.minus(bounds.keep).0, STEP],
        |row| row.get(0),
    )?;
    if old.is_empty() {
        // Numbers are given one after the other and the oldest go first, so there are no more calls than the numbers
        // between the first and the last.
        let newest: Option<i64> = tx.value("SELECT max(seq) FROM request", &[])?;
        old = tx.rows(
            "SELECT seq FROM request WHERE seq <= ?1 ORDER BY seq LIMIT ?2",
            values![newest.unwrap_or(0).saturating_sub(bounds.rows.into()), STEP],
            |row| row.get(0),
        )?;
    }
    for table in ["finch_request", "request"] {
        delete(tx, table, &old)?;
    }
    tx.execute("DELETE FROM usage WHERE month < ?1", values![&now.minus(MONTHS_KEPT).month()])?;
    Ok(old.len() == STEP as usize)
}

fn delete(tx: &Tx<'_>, table: &str, numbers: &[i64]) -> Result<(), StoreError> {
    for part in numbers.chunks(STEP as usize) {
        let places: Vec<String> = (1..=part.len()).map(|at| format!("?{at}")).collect();
        let values: Vec<Value<'_>> = part.iter().map(|seq| Value::from(*seq)).collect();
        tx.execute(&format!("DELETE FROM {table} WHERE seq IN ({})", places.join(", ")), &values)?;
    }
    Ok(())
}

//! Writes calls, and counts them by month and connection.

use super::record::Recorded;
use crate::store::StoreError;
use crate::store::connections::Scope;
use crate::store::sql::{Record, Tx, Value, values};
use crate::telemetry::AccessLine;
use crate::types::{CompanyId, ConnectionId, CustomerId, ProviderId, UnixMillis};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// Rows of one statement on a server, where each statement costs a round trip.
const ROWS_AT_ONCE: usize = 100;

/// The most connections of one month that are told.
const USAGE_ROWS_MAX: i64 = 100_000;

/// The month under which a probe is written; it is long over, and goes with the next pruning.
const PROBE_MONTH: &str = "0000-00";

/// The number under which a probe is written: no call has it, and no number is used up.
const PROBE_SEQ: i64 = -1;

/// The columns of a call.
const REQUEST_COLUMNS: usize = 13;

/// The columns of a count.
const USAGE_COLUMNS: usize = 12;

/// A call, ready to be written.
#[derive(Debug, Clone)]
pub struct Row {
    recorded: Recorded,
    /// The whole of it as JSON, its number apart.
    facts: String,
}

/// What one connection was used for in one month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// The month in UTC, such as `2026-11`.
    pub month: String,
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its company at Finch, where that was known.
    pub company_id: Option<CompanyId>,
    /// Whose it is, as of the last call.
    pub customer: Option<CustomerId>,
    /// Its employment system.
    pub provider: Option<ProviderId>,
    /// Calls of apps, whatever became of them.
    pub calls: u64,
    /// Calls of perch's own and of operators: they are not the customer's use.
    pub own_calls: u64,
    /// Requests sent to Finch for any of these.
    pub attempts: u64,
    /// When the first of them came in.
    pub first: UnixMillis,
    /// When the last of them came in.
    pub last: UnixMillis,
}

impl Row {
    /// Of a call that was recorded, here or elsewhere.
    pub fn of(recorded: Recorded) -> Self {
        let recorded = Recorded { seq: 0, ..recorded };
        // Every field serialises: ids are text, numbers are whole.
        let facts = serde_json::to_string(&recorded).unwrap_or_default();
        Self { recorded, facts }
    }

    /// Of a finished call.
    pub fn of_line(line: AccessLine) -> Self {
        Self::of(Recorded::of(line))
    }
}

/// Writes calls, all or none.
pub(super) fn write(tx: &Tx<'_>, scope: &Scope, rows: &[Row], is_again: bool) -> Result<(), StoreError> {
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let there = if is_again { written(tx, scope, rows)? } else { HashSet::new() };
    let rows: Vec<&Row> =
        rows.iter().filter(|row| !there.contains(row.recorded.request_id.as_str())).collect();
    let numbers = numbers(tx, rows.len())?;
    let mut requests = Vec::with_capacity(rows.len() * REQUEST_COLUMNS);
    let mut finch = Vec::new();
    let mut usage: BTreeMap<(String, &str), Used<'_>> = BTreeMap::new();
    for (Row { recorded: call, facts }, seq) in rows.iter().zip(&numbers) {
        requests.extend_from_slice(values![
            *seq,
            call.ts.0,
            application,
            env,
            call.request_id.as_str(),
            call.customer.as_ref().map(CustomerId::as_str),
            call.connection_id.as_ref().map(ConnectionId::as_str),
            call.company_id.as_ref().map(CompanyId::as_str),
            call.app.as_ref().map(|app| app.as_str()),
            call.product.as_str(),
            call.class.as_str(),
            u32::from(call.status),
            facts,
        ]);
        for id in &call.finch_request_id {
            finch.extend_from_slice(values![id.as_str(), *seq]);
        }
        if let Some(connection) = &call.connection_id {
            usage.entry((call.ts.month(), connection.as_str())).or_default().count(call);
        }
    }
    insert(tx, "request", REQUEST_COLUMNS, &requests, "")?;
    // An id may stand twice in one call: Finch may give it twice.
    insert(tx, "finch_request", 2, &finch, "ON CONFLICT DO NOTHING")?;
    let mut counts = Vec::with_capacity(usage.len() * USAGE_COLUMNS);
    for ((month, connection), used) in &usage {
        counts.extend_from_slice(values![
            application,
            env,
            month,
            *connection,
            used.company_id,
            used.customer,
            used.provider,
            used.calls,
            used.own_calls,
            used.attempts,
            used.first,
            used.last,
        ]);
    }
    insert(tx, "usage", USAGE_COLUMNS, &counts, USAGE_AGAIN)
}

/// What a connection's count becomes when it has one. The newest word on whose it is wins.
const USAGE_AGAIN: &str = "ON CONFLICT (application, env, month, connection_id) DO UPDATE SET \
    company_id = coalesce(excluded.company_id, usage.company_id), \
    customer = coalesce(excluded.customer, usage.customer), \
    provider = coalesce(excluded.provider, usage.provider), \
    calls = usage.calls + excluded.calls, own_calls = usage.own_calls + excluded.own_calls, \
    attempts = usage.attempts + excluded.attempts, \
    first_at = CASE WHEN excluded.first_at < usage.first_at THEN excluded.first_at ELSE usage.first_at END, \
    last_at = CASE WHEN excluded.last_at > usage.last_at THEN excluded.last_at ELSE usage.last_at END";

/// The calls of one connection in one month, as far as these rows go.
#[derive(Default)]
struct Used<'a> {
    company_id: Option<&'a str>,
    customer: Option<&'a str>,
    provider: Option<&'a str>,
    calls: i64,
    own_calls: i64,
    attempts: i64,
    first: i64,
    last: i64,
}

impl<'a> Used<'a> {
    fn count(&mut self, call: &'a Recorded) {
        let is_first = self.calls + self.own_calls == 0;
        match call.by {
            None => self.calls += 1,
            Some(_) => self.own_calls += 1,
        }
        self.attempts += i64::from(call.attempts);
        self.company_id = call.company_id.as_ref().map(CompanyId::as_str).or(self.company_id);
        self.customer = call.customer.as_ref().map(CustomerId::as_str).or(self.customer);
        self.provider = call.provider.as_ref().map(ProviderId::as_str).or(self.provider);
        self.first = if is_first { call.ts.0 } else { self.first.min(call.ts.0) };
        self.last = if is_first { call.ts.0 } else { self.last.max(call.ts.0) };
    }
}

/// Which of these are there already, by perch's id.
fn written(tx: &Tx<'_>, scope: &Scope, rows: &[Row]) -> Result<HashSet<String>, StoreError> {
    let mut there = HashSet::new();
    for part in rows.chunks(ROWS_AT_ONCE) {
        let places: Vec<String> = (1..=part.len()).map(|at| format!("?{}", at + 2)).collect();
        let mut ids = values![scope.application.as_str(), scope.environment.as_str()].to_vec();
        ids.extend(part.iter().map(|row| Value::from(row.recorded.request_id.as_str())));
        let ask = format!(
            "SELECT request_id FROM request WHERE application = ?1 AND env = ?2 AND request_id IN ({})",
            places.join(", ")
        );
        there.extend(tx.rows(&ask, &ids, |row| row.get::<String>(0))?);
    }
    Ok(there)
}

/// New numbers, in order: larger than every number that is or was there.
fn numbers(tx: &Tx<'_>, count: usize) -> Result<Vec<i64>, StoreError> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    match tx {
        // The one that writes is the only one.
        Tx::Sqlite(_) => {
            let last = "SELECT seq FROM sqlite_sequence WHERE name = 'request'";
            let last: i64 = tx.row(last, &[], |row| row.get(0))?.unwrap_or(0);
            Ok((last + 1..=last.saturating_add(count)).collect())
        }
        Tx::Postgres(_) => {
            let next = "SELECT nextval('request_seq_seq') FROM generate_series(1, ?1)";
            let mut numbers = tx.rows(next, values![count], |row| row.get(0))?;
            numbers.sort_unstable();
            Ok(numbers)
        }
    }
}

/// Inserts rows of `width` cells each.
fn insert(tx: &Tx<'_>, table: &str, width: usize, cells: &[Value<'_>], then: &str) -> Result<(), StoreError> {
    let at_once = match tx {
        // A statement that is prepared once is the fastest there.
        Tx::Sqlite(_) => 1,
        Tx::Postgres(_) => ROWS_AT_ONCE,
    };
    let statement = |rows: usize| {
        let row = |row: usize| {
            let places: Vec<String> = (1..=width).map(|at| format!("?{}", row * width + at)).collect();
            format!("({})", places.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!("INSERT INTO {table} VALUES {} {then}", rows.join(", "))
    };
    let whole = statement(at_once);
    for part in cells.chunks(width * at_once) {
        match part.len() / width {
            rows if rows == at_once => tx.execute(&whole, part)?,
            rows => tx.execute(&statement(rows), part)?,
        };
    }
    Ok(())
}

/// Writes something of no meaning into each table that calls are written into, and takes it back where it would be found.
pub(super) fn probe(tx: &Tx<'_>, scope: &Scope) -> Result<(), StoreError> {
    let nothing: Option<&str> = None;
    let (application, env) = (scope.application.as_str(), scope.environment.as_str());
    let request = values![
        PROBE_SEQ,
        0_i64,
        application,
        env,
        "probe",
        nothing,
        nothing,
        nothing,
        nothing,
        "probe",
        "probe",
        0_i64,
        ""
    ];
    insert(tx, "request", REQUEST_COLUMNS, request, "")?;
    insert(tx, "finch_request", 2, values!["probe", PROBE_SEQ], "")?;
    for table in ["finch_request", "request"] {
        tx.execute(&format!("DELETE FROM {table} WHERE seq = ?1"), values![PROBE_SEQ])?;
    }
    let cells = values![
        application,
        env,
        PROBE_MONTH,
        "probe",
        nothing,
        nothing,
        nothing,
        0_i64,
        0_i64,
        0_i64,
        0_i64,
        0_i64
    ];
    insert(tx, "usage", USAGE_COLUMNS, cells, USAGE_AGAIN)
}

/// The first moment of which use is counted.
pub(super) fn counts_since(tx: &Tx<'_>, scope: &Scope) -> Result<Option<UnixMillis>, StoreError> {
    let first = "SELECT min(first_at) FROM usage WHERE application = ?1 AND env = ?2 AND month > ?3";
    let values = values![scope.application.as_str(), scope.environment.as_str(), PROBE_MONTH];
    let first = tx.row(first, values, |row| row.get::<Option<i64>>(0))?;
    Ok(first.flatten().map(UnixMillis))
}

/// What each connection was used for in a month.
pub(super) fn usage(tx: &Tx<'_>, scope: &Scope, month: &str) -> Result<Vec<UsageRow>, StoreError> {
    tx.rows(
        "SELECT month, connection_id, company_id, customer, provider, calls, own_calls, attempts, first_at, last_at \
         FROM usage WHERE application = ?1 AND env = ?2 AND month = ?3 \
         ORDER BY company_id, connection_id LIMIT ?4",
        values![scope.application.as_str(), scope.environment.as_str(), month, USAGE_ROWS_MAX],
        read_usage,
    )
}

fn read_usage(row: &Record<'_>) -> Result<UsageRow, StoreError> {
    let count = |at| row.get::<i64>(at).map(|count| u64::try_from(count).unwrap_or_default());
    // Ids were sound when they were written.
    Ok(UsageRow {
        month: row.get(0)?,
        connection_id: ConnectionId::new(row.get::<String>(1)?)
            .map_err(|why| StoreError::Damaged(format!("a connection's id {why}")))?,
        company_id: row.get::<Option<String>>(2)?.and_then(|id| CompanyId::new(id).ok()),
        customer: row.get::<Option<String>>(3)?.and_then(|id| CustomerId::new(id).ok()),
        provider: row.get::<Option<String>>(4)?.and_then(|id| ProviderId::new(id).ok()),
        calls: count(5)?,
        own_calls: count(6)?,
        attempts: count(7)?,
        first: UnixMillis(row.get(8)?),
        last: UnixMillis(row.get(9)?),
    })
}

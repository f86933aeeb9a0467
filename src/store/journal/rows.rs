//! The journal in SQL.

use super::super::StoreError;
use super::super::boot::Stamp;
use super::history::{Account, History, Spent, judge};
use super::{Grant, Hold};
use crate::limit::Scope;
use crate::types::{Priority, Product, UnixMillis};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::time::Duration;

/// The word for the egress IP in a hold's row; no product has it.
const EGRESS_IP: &str = "ip";

/// Reads the history, drops what no longer matters and begins a run. `was_begun`: there has been a journal
/// before, so that one without a row about itself was lost.
///
/// # Errors
/// [`StoreError::Damaged`] when the rows are not what perch writes.
pub(super) fn begin(
    tx: &Transaction<'_>,
    epoch: &str,
    now: Stamp,
    keep: Duration,
    was_begun: bool,
) -> Result<History, StoreError> {
    let (mut account, run) = account(tx)?;
    if account.is_none() && was_begun {
        account = Some(Account { epoch: epoch.to_owned(), untold: Some(now.wall), newest: None });
    }
    let judged = judge(account.as_ref(), epoch, now, horizon(keep));
    let steady = floor(now.steady);
    let holds = holds(tx, judged.is_measurable, now)?;
    if judged.is_measurable {
        tx.execute("DELETE FROM permit WHERE granted < ?1", [steady - ceil(keep)])?;
    } else {
        tx.execute("DELETE FROM permit", [])?;
    }
    tx.execute("DELETE FROM hold", [])?;
    for &(scope, span) in &holds {
        hold(tx, &Hold { scope, span, at: now })?;
    }
    let permits = permits(tx, steady)?;
    let run = run.checked_add(1).ok_or_else(|| unknown("run"))?;
    meta(tx, epoch, run, judged.untold)?;
    Ok(History { run: run.cast_unsigned(), verdict: judged.verdict, permits, holds })
}

/// Notes that from now on quota is spent without telling the journal.
///
/// # Errors
/// [`StoreError`].
pub(super) fn set_aside(tx: &Transaction<'_>, epoch: &str) -> Result<(), StoreError> {
    let (_, run) = account(tx)?;
    meta(tx, epoch, run, Some(UnixMillis(i64::MAX)))
}

fn meta(tx: &Transaction<'_>, epoch: &str, run: i64, untold: Option<UnixMillis>) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO journal (only, epoch, run, untold) VALUES (1, ?1, ?2, ?3) \
         ON CONFLICT (only) DO UPDATE SET epoch = excluded.epoch, run = excluded.run, untold = excluded.untold",
        params![epoch, run, untold.map(|at| at.0)],
    )?;
    Ok(())
}

/// What the journal says of itself, and the number of its last run.
fn account(tx: &Transaction<'_>) -> Result<(Option<Account>, i64), StoreError> {
    let row: Option<(String, i64, Option<i64>)> = tx
        .query_row("SELECT epoch, run, untold FROM journal", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((epoch, run, untold)) = row else { return Ok((None, 0)) };
    let newest: (Option<i64>, Option<i64>) =
        tx.query_row("SELECT max(granted), max(wall) FROM permit", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let newest = match newest {
        (Some(steady), Some(wall)) => Some(Stamp { steady: span(steady)?, wall: UnixMillis(wall) }),
        _ => None,
    };
    if run < 0 {
        return Err(unknown("run"));
    }
    Ok((Some(Account { epoch, untold: untold.map(UnixMillis), newest }), run))
}

fn permits(tx: &Transaction<'_>, now: i64) -> Result<Vec<Spent>, StoreError> {
    let mut select = tx.prepare(
        "SELECT run, ticket, product, priority, granted, arrived FROM permit ORDER BY run, ticket",
    )?;
    let mut rows = select.query([])?;
    let mut permits = Vec::new();
    while let Some(row) = rows.next()? {
        let (run, ticket): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (product, priority): (String, String) = (row.get(2)?, row.get(3)?);
        let ago = |then: i64| span(now.saturating_sub(then).max(0));
        permits.push(Spent {
            run: run.cast_unsigned(),
            ticket: ticket.cast_unsigned(),
            product: Product::parse(&product).ok_or_else(|| unknown("product"))?,
            priority: Priority::parse(&priority).ok_or_else(|| unknown("priority"))?,
            granted: ago(row.get(4)?)?,
            arrived: row.get::<_, Option<i64>>(5)?.map(ago).transpose()?,
        });
    }
    Ok(permits)
}

/// The holds that last. Finch's block goes on while a machine restarts, so where the steady clock does not
/// reach the wall clock decides, and never makes a hold longer than it was.
fn holds(
    tx: &Transaction<'_>,
    is_measurable: bool,
    now: Stamp,
) -> Result<Vec<(Scope, Duration)>, StoreError> {
    let mut select = tx.prepare("SELECT scope, until, until_wall, span FROM hold ORDER BY scope")?;
    let mut rows = select.query([])?;
    let mut holds = Vec::new();
    while let Some(row) = rows.next()? {
        let scope: String = row.get(0)?;
        let (until, until_wall, whole): (i64, i64, i64) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let scope = match scope.as_str() {
            EGRESS_IP => Scope::EgressIp,
            product => Scope::Product(Product::parse(product).ok_or_else(|| unknown("hold"))?),
        };
        let left = match is_measurable {
            true => until.saturating_sub(floor(now.steady)),
            false => until_wall.saturating_sub(now.wall.0),
        };
        let left = span(left.clamp(0, whole.max(0)))?;
        if !left.is_zero() {
            holds.push((scope, left));
        }
    }
    Ok(holds)
}

/// Writes a permit, or that it was extended.
///
/// # Errors
/// [`StoreError`].
pub(super) fn grant(tx: &Transaction<'_>, run: i64, grant: &Grant) -> Result<(), StoreError> {
    let mut insert = tx.prepare_cached(
        "INSERT INTO permit (run, ticket, product, priority, granted, wall) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (run, ticket) DO UPDATE SET granted = excluded.granted, wall = excluded.wall",
    )?;
    insert.execute(params![
        run,
        number(grant.ticket),
        grant.product.as_str(),
        grant.priority.as_str(),
        ceil(grant.at.steady),
        grant.at.wall.0,
    ])?;
    Ok(())
}

/// Writes that a permit's request has arrived.
///
/// # Errors
/// [`StoreError`].
pub(super) fn arrive(tx: &Transaction<'_>, run: i64, ticket: u64, at: Stamp) -> Result<(), StoreError> {
    let mut update = tx.prepare_cached("UPDATE permit SET arrived = ?3 WHERE run = ?1 AND ticket = ?2")?;
    update.execute(params![run, number(ticket), ceil(at.steady)])?;
    Ok(())
}

/// Takes a permit back.
///
/// # Errors
/// [`StoreError`].
pub(super) fn refund(tx: &Transaction<'_>, run: i64, ticket: u64) -> Result<(), StoreError> {
    let mut delete = tx.prepare_cached("DELETE FROM permit WHERE run = ?1 AND ticket = ?2")?;
    delete.execute(params![run, number(ticket)])?;
    Ok(())
}

/// Writes a hold; a longer one stays.
///
/// # Errors
/// [`StoreError`].
pub(super) fn hold(tx: &Transaction<'_>, hold: &Hold) -> Result<(), StoreError> {
    let scope = match hold.scope {
        Scope::EgressIp => EGRESS_IP,
        Scope::Product(product) => product.as_str(),
    };
    let mut insert = tx.prepare_cached(
        "INSERT INTO hold (scope, until, until_wall, span) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (scope) DO UPDATE SET until = excluded.until, until_wall = excluded.until_wall, \
            span = excluded.span WHERE excluded.until > until",
    )?;
    insert.execute(params![
        scope,
        ceil(hold.at.steady.saturating_add(hold.span)),
        hold.at.wall.plus(hold.span).0,
        ceil(hold.span)
    ])?;
    Ok(())
}

/// Drops permits granted before `at - keep` among the `most` oldest, so that no commit has much to do.
///
/// # Errors
/// [`StoreError`].
pub(super) fn prune(
    tx: &Transaction<'_>,
    at: Duration,
    keep: Duration,
    most: usize,
) -> Result<(), StoreError> {
    let mut delete = tx.prepare_cached(
        "DELETE FROM permit WHERE granted < ?1 AND (run, ticket) IN \
            (SELECT run, ticket FROM permit ORDER BY run, ticket LIMIT ?2)",
    )?;
    delete.execute(params![floor(at) - ceil(keep), i64::try_from(most).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// Whether the journal can be read at all.
pub(super) fn is_readable(db: &Connection) -> bool {
    db.query_row("SELECT count(*) FROM journal", [], |_| Ok(())).is_ok()
}

/// How long something untold matters: at least ten minutes, for the clocks of two boots may differ.
fn horizon(keep: Duration) -> Duration {
    keep.saturating_mul(2).max(Duration::from_secs(600))
}

fn unknown(what: &str) -> StoreError {
    StoreError::Damaged(format!("the quota journal holds an unknown {what}"))
}

fn span(millis: i64) -> Result<Duration, StoreError> {
    u64::try_from(millis)
        .map(Duration::from_millis)
        .map_err(|_| StoreError::Damaged("the quota journal holds a time before time".to_owned()))
}

/// A ticket's number as `SQLite` holds it; the sign is of no meaning.
fn number(ticket: u64) -> i64 {
    ticket.cast_signed()
}

/// Whole milliseconds, rounded up: a permit must not look older than it is.
fn ceil(at: Duration) -> i64 {
    i64::try_from(at.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// Whole milliseconds, rounded down.
fn floor(at: Duration) -> i64 {
    i64::try_from(at.as_millis()).unwrap_or(i64::MAX)
}

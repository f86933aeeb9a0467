//! Webhooks in SQL: what Finch told, whether perch has acted on it, whether the app has it. The unique event id is what
//! makes a message that comes twice count once.
//!
//! A body is kept as long as the app does not have it; it holds ids and words of status, never a person's data.

mod record;
#[cfg(test)]
mod tests;

pub use record::{Arrived, Depth, Kept, Listed, Put, State};

use super::StoreError;
use super::connections::Scope;
use super::sql::{Record, Tx, Value, values};
use crate::types::{CompanyId, ConnectionId, EntityId, EventId, UnixMillis};

/// Keeps an event, unless it is here. At most `most` are kept: done ones that came before `replay_until` go first, then
/// the oldest dead letters.
///
/// # Errors
/// [`StoreError`].
pub fn put(
    tx: &Tx<'_>,
    scope: &Scope,
    event: &Arrived,
    (most, replay_until): (u32, UnixMillis),
    now: UnixMillis,
) -> Result<Put, StoreError> {
    let (app, env) = (scope.application.as_str(), scope.environment.as_str());
    let known = tx.row(
        "SELECT seq FROM webhook WHERE app = ?1 AND env = ?2 AND event_id = ?3",
        values![app, env, event.event_id.as_str()],
        |row| row.get::<i64>(0),
    )?;
    if known.is_some() {
        return Ok(Put::Duplicate);
    }
    let mut dropped = 0;
    let count: i64 =
        tx.value("SELECT count(*) FROM webhook WHERE app = ?1 AND env = ?2", values![app, env])?;
    if count >= i64::from(most) {
        // The oldest tenth at once, so that a full queue does not pay for each event.
        let room = i64::from(most / 10).max(1) + count - i64::from(most);
        let done = tx.execute(
            "DELETE FROM webhook WHERE seq IN (SELECT seq FROM webhook \
             WHERE app = ?1 AND env = ?2 AND state = 'done' AND received_at < ?3 ORDER BY seq LIMIT ?4)",
            values![app, env, replay_until.0, room],
        )?;
        if done == 0 {
            dropped = tx.execute(
                "DELETE FROM webhook WHERE seq IN (SELECT seq FROM webhook \
                 WHERE app = ?1 AND env = ?2 AND state = 'dead' ORDER BY seq LIMIT ?3)",
                values![app, env, 1 + count - i64::from(most)],
            )?;
            if dropped == 0 {
                return Ok(Put::Full);
            }
        }
    }
    let connection = event.connection_id.as_ref().map(ConnectionId::as_str);
    let sql = "INSERT INTO webhook (app, env, event_id, event_type, connection_id, company_id, entity_id, lane, \
            sent_text, sent_at, signature, body, state, received_at, attempts, due_at, failure) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'new', ?13, 0, NULL, NULL)";
    let values = values![
        app,
        env,
        event.event_id.as_str(),
        &event.event_type,
        connection,
        event.company_id.as_ref().map(CompanyId::as_str),
        event.entity_id.as_ref().map(EntityId::as_str),
        connection.unwrap_or(event.event_id.as_str()),
        &event.timestamp,
        event.sent_at.0,
        &event.signature,
        &event.body,
        now.0,
    ];
    tx.execute(sql, values)?;
    Ok(Put::Kept { dropped })
}

const COLUMNS: &str = "seq, event_id, sent_text, sent_at, signature, event_type, connection_id, company_id, \
    entity_id, body, attempts, lane";

/// Events that perch has not acted on, in the order in which they came.
///
/// # Errors
/// [`StoreError`].
pub fn fresh(tx: &Tx<'_>, scope: &Scope, limit: u32) -> Result<Vec<Kept>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook WHERE app = ?1 AND env = ?2 AND state = 'new' ORDER BY seq LIMIT ?3"
    );
    kept(tx, &sql, values![scope.application.as_str(), scope.environment.as_str(), limit])
}

/// Events that are due for the app: the first of each lane.
///
/// # Errors
/// [`StoreError`].
pub fn due(tx: &Tx<'_>, scope: &Scope, now: UnixMillis, limit: u32) -> Result<Vec<Kept>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook WHERE seq IN (SELECT min(seq) FROM webhook \
         WHERE app = ?1 AND env = ?2 AND state = 'waiting' AND due_at <= ?3 GROUP BY lane \
         ORDER BY min(seq) LIMIT ?4) ORDER BY seq"
    );
    kept(tx, &sql, values![scope.application.as_str(), scope.environment.as_str(), now.0, limit])
}

/// When the next event that is not due yet will be.
///
/// # Errors
/// [`StoreError`].
pub fn next_due(tx: &Tx<'_>, scope: &Scope, now: UnixMillis) -> Result<Option<UnixMillis>, StoreError> {
    let next: Option<i64> = tx.value(
        "SELECT min(due_at) FROM webhook WHERE app = ?1 AND env = ?2 AND state = 'waiting' AND due_at > ?3",
        values![scope.application.as_str(), scope.environment.as_str(), now.0],
    )?;
    Ok(next.map(UnixMillis))
}

/// perch has acted on an event: the app shall have it now, or nobody.
///
/// # Errors
/// [`StoreError`].
pub fn acted(tx: &Tx<'_>, seq: i64, deliver_at: Option<UnixMillis>) -> Result<(), StoreError> {
    match deliver_at {
        Some(at) => {
            tx.execute(
                "UPDATE webhook SET state = 'waiting', due_at = ?2 WHERE seq = ?1 AND state = 'new'",
                values![seq, at.0],
            )?;
        }
        None => done(tx, seq)?,
    }
    Ok(())
}

/// Nothing is left to do for an event; its body goes.
///
/// # Errors
/// [`StoreError`].
pub fn done(tx: &Tx<'_>, seq: i64) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE webhook SET state = 'done', due_at = NULL, failure = NULL, body = ?2, \
         attempts = attempts + CASE state WHEN 'waiting' THEN 1 ELSE 0 END WHERE seq = ?1 AND state IN ('new', 'waiting')",
        values![seq, b""],
    )?;
    Ok(())
}

/// The app did not take an event: it is offered again at a time, or given up.
///
/// # Errors
/// [`StoreError`].
pub fn failed(tx: &Tx<'_>, seq: i64, again_at: Option<UnixMillis>, failure: &str) -> Result<(), StoreError> {
    let state = if again_at.is_some() { State::Waiting } else { State::Dead };
    tx.execute(
        "UPDATE webhook SET state = ?2, due_at = ?3, failure = ?4, attempts = attempts + 1 \
         WHERE seq = ?1 AND state IN ('new', 'waiting')",
        values![seq, state.as_str(), again_at.map(|at| at.0), failure],
    )?;
    Ok(())
}

/// Every event that waits is given up: there is nobody to have it.
///
/// # Errors
/// [`StoreError`].
pub fn give_up_waiting(tx: &Tx<'_>, scope: &Scope, failure: &str) -> Result<u64, StoreError> {
    let given_up = tx.execute(
        "UPDATE webhook SET state = 'dead', due_at = NULL, failure = ?3 \
         WHERE app = ?1 AND env = ?2 AND state = 'waiting'",
        values![scope.application.as_str(), scope.environment.as_str(), failure],
    )?;
    Ok(given_up)
}

/// Dead letters are offered again, as if for the first time: one, or all. How many they were.
///
/// # Errors
/// [`StoreError`].
pub fn revive(tx: &Tx<'_>, scope: &Scope, one: Option<&EventId>, now: UnixMillis) -> Result<u64, StoreError> {
    let revived = tx.execute(
        "UPDATE webhook SET state = 'waiting', due_at = ?4, attempts = 0 WHERE app = ?1 AND env = ?2 \
         AND state = 'dead' AND (?3 IS NULL OR event_id = ?3)",
        values![scope.application.as_str(), scope.environment.as_str(), one.map(EventId::as_str), now.0],
    )?;
    Ok(revived)
}

/// The state of one event; `None` when it is not here.
///
/// # Errors
/// [`StoreError`].
pub fn state_of(tx: &Tx<'_>, scope: &Scope, id: &EventId) -> Result<Option<State>, StoreError> {
    let word: Option<String> = tx.row(
        "SELECT state FROM webhook WHERE app = ?1 AND env = ?2 AND event_id = ?3",
        values![scope.application.as_str(), scope.environment.as_str(), id.as_str()],
        |row| row.get(0),
    )?;
    word.map(|word| State::parse(&word).ok_or_else(|| damaged("state"))).transpose()
}

/// The connection that an event is about, when Finch named it and the event is here.
///
/// # Errors
/// [`StoreError`].
pub fn connection_of(tx: &Tx<'_>, scope: &Scope, id: &EventId) -> Result<Option<ConnectionId>, StoreError> {
    let found: Option<Option<String>> = tx.row(
        "SELECT connection_id FROM webhook WHERE app = ?1 AND env = ?2 AND event_id = ?3",
        values![scope.application.as_str(), scope.environment.as_str(), id.as_str()],
        |row| row.get(0),
    )?;
    Ok(found.flatten().and_then(|id| ConnectionId::new(id).ok()))
}

/// Forgets what nobody asks about any more: done events that came before `done_before`, dead letters that came before
/// `dead_before`. How many dead letters were among them.
///
/// # Errors
/// [`StoreError`].
pub fn sweep(
    tx: &Tx<'_>,
    scope: &Scope,
    done_before: UnixMillis,
    dead_before: UnixMillis,
) -> Result<u64, StoreError> {
    let sql = "DELETE FROM webhook WHERE app = ?1 AND env = ?2 AND state = ?3 AND received_at < ?4";
    let (app, env) = (scope.application.as_str(), scope.environment.as_str());
    tx.execute(sql, values![app, env, State::Done.as_str(), done_before.0])?;
    tx.execute(sql, values![app, env, State::Dead.as_str(), dead_before.0])
}

/// The newest events, newest first, at most `limit`; `only` those of one state.
///
/// # Errors
/// [`StoreError`].
pub fn list(tx: &Tx<'_>, scope: &Scope, only: Option<State>, limit: u32) -> Result<Vec<Listed>, StoreError> {
    let sql = format!(
        "SELECT {LISTED} FROM webhook WHERE app = ?1 AND env = ?2 AND (?3 IS NULL OR state = ?3) \
         ORDER BY seq DESC LIMIT ?4"
    );
    let (app, env) = (scope.application.as_str(), scope.environment.as_str());
    tx.rows(&sql, values![app, env, only.map(State::as_str), limit], listed)
}

/// The columns of [`listed`].
const LISTED: &str = "event_id, event_type, state, connection_id, company_id, entity_id, sent_at, received_at, \
    attempts, due_at, failure";

fn listed(row: &Record<'_>) -> Result<Listed, StoreError> {
    Ok(Listed {
        event_id: row.get(0)?,
        event_type: row.get(1)?,
        state: State::parse(&row.get::<String>(2)?).ok_or_else(|| damaged("state"))?,
        connection_id: row.get(3)?,
        company_id: row.get(4)?,
        entity_id: row.get(5)?,
        sent_at: UnixMillis(row.get(6)?),
        received_at: UnixMillis(row.get(7)?),
        attempts: row.get(8)?,
        due_at: row.get::<Option<i64>>(9)?.map(UnixMillis),
        failure: row.get(10)?,
    })
}

/// The newest events about these connections, newest first, at most `limit`.
///
/// # Errors
/// [`StoreError`].
pub fn of_connections(
    tx: &Tx<'_>,
    scope: &Scope,
    ids: &[String],
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (0..ids.len()).map(|at| format!("?{}", at + 4)).collect();
    let sql = format!(
        "SELECT {LISTED} FROM webhook WHERE app = ?1 AND env = ?2 AND connection_id IN ({}) \
         ORDER BY seq DESC LIMIT ?3",
        places.join(", ")
    );
    let mut values = values![scope.application.as_str(), scope.environment.as_str(), limit].to_vec();
    values.extend(ids.iter().map(Value::from));
    tx.rows(&sql, &values, listed)
}

/// How many events still ask for something.
///
/// # Errors
/// [`StoreError`].
pub fn depth(tx: &Tx<'_>, scope: &Scope) -> Result<Depth, StoreError> {
    let sql =
        "SELECT state, count(*) FROM webhook WHERE app = ?1 AND env = ?2 AND state <> 'done' GROUP BY state";
    let mut depth = Depth::default();
    tx.each(sql, values![scope.application.as_str(), scope.environment.as_str()], |row| {
        let count = row.get::<i64>(1)?.unsigned_abs();
        match State::parse(&row.get::<String>(0)?).ok_or_else(|| damaged("state"))? {
            State::New => depth.new = count,
            State::Waiting => depth.waiting = count,
            State::Dead => depth.dead = count,
            State::Done => {}
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(depth)
}

fn kept(tx: &Tx<'_>, sql: &str, values: &[Value<'_>]) -> Result<Vec<Kept>, StoreError> {
    tx.rows(sql, values, |row| {
        let id = |at: usize| row.get::<Option<String>>(at);
        Ok(Kept {
            seq: row.get(0)?,
            arrived: Arrived {
                event_id: EventId::new(row.get::<String>(1)?).map_err(|_| damaged("event_id"))?,
                timestamp: row.get(2)?,
                sent_at: UnixMillis(row.get(3)?),
                signature: row.get(4)?,
                event_type: row.get(5)?,
                connection_id: id(6)?
                    .map(ConnectionId::new)
                    .transpose()
                    .map_err(|_| damaged("connection_id"))?,
                company_id: id(7)?.map(CompanyId::new).transpose().map_err(|_| damaged("company_id"))?,
                entity_id: id(8)?.map(EntityId::new).transpose().map_err(|_| damaged("entity_id"))?,
                body: row.get(9)?,
            },
            attempts: row.get(10)?,
            lane: row.get(11)?,
        })
    })
}

fn damaged(column: &str) -> StoreError {
    StoreError::Damaged(format!("a webhook's {column} is not what perch writes"))
}

//! Webhooks in SQL: what Finch told, whether perch has acted on it, whether the app has it. The unique event id is what
//! makes a message that comes twice count once.
//!
//! A body is kept as long as the app does not have it; it holds ids and words of status, never a person's data.

use super::StoreError;
use super::connections::Scope;
use crate::types::{CompanyId, ConnectionId, EntityId, EventId, UnixMillis};
use rusqlite::{OptionalExtension, Transaction, params};
use serde::{Serialize, Serializer};

/// Where an event is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Kept; perch has not acted on it.
    New,
    /// The app shall have it.
    Waiting,
    /// All that was to be done is done; only its id is of use.
    Done,
    /// The app did not take it; an operator decides.
    Dead,
}

impl State {
    const ALL: [State; 4] = [State::New, State::Waiting, State::Done, State::Dead];

    /// The word in the store and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::New => "new",
            State::Waiting => "waiting",
            State::Done => "done",
            State::Dead => "dead",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// An event as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Finch's name for it.
    pub event_id: EventId,
    /// `Finch-Timestamp`, as it stands in the header.
    pub timestamp: String,
    /// The moment that the timestamp names.
    pub sent_at: UnixMillis,
    /// `Finch-Signature`, as it stands in the header.
    pub signature: String,
    /// Finch's word for what happened.
    pub event_type: String,
    /// The connection, when Finch names it.
    pub connection_id: Option<ConnectionId>,
    /// The company, when Finch names it.
    pub company_id: Option<CompanyId>,
    /// The legal entity, when Finch names it.
    pub entity_id: Option<EntityId>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for Arrived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrived").field("event_id", &self.event_id).finish_non_exhaustive()
    }
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number here.
    pub seq: i64,
    /// What came.
    pub arrived: Arrived,
    /// How often it was offered to the app.
    pub attempts: u32,
    /// Events of one lane are offered one after the other.
    pub lane: String,
}

/// What an operator sees of an event. Not its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Finch's name for it.
    pub event_id: String,
    /// Finch's word for what happened.
    pub event_type: String,
    /// Where it is in its life.
    pub state: State,
    /// The connection, when Finch names it.
    pub connection_id: Option<String>,
    /// The company, when Finch names it.
    pub company_id: Option<String>,
    /// The legal entity, when Finch names it.
    pub entity_id: Option<String>,
    /// When Finch sent it.
    pub sent_at: UnixMillis,
    /// When it came.
    pub received_at: UnixMillis,
    /// How often it was offered to the app.
    pub attempts: u32,
    /// When it is offered next.
    pub due_at: Option<UnixMillis>,
    /// Why the app did not take it last time.
    pub failure: Option<String>,
}

/// What became of an event that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is kept, and so many old ones were given up for it.
    Kept {
        /// Dead letters that are gone for good.
        dropped: u64,
    },
    /// It is here already.
    Duplicate,
    /// As many as may be kept are here, and none of them can be given up.
    Full,
}

/// How many events are in each state that still asks for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Not acted on.
    pub new: u64,
    /// To be delivered.
    pub waiting: u64,
    /// Given up.
    pub dead: u64,
}

/// Keeps an event, unless it is here. At most `most` are kept: done ones that came before `replay_until` go first, then
/// the oldest dead letters.
///
/// # Errors
/// [`StoreError`].
pub fn put(
    tx: &Transaction<'_>,
    scope: &Scope,
    event: &Arrived,
    (most, replay_until): (u32, UnixMillis),
    now: UnixMillis,
) -> Result<Put, StoreError> {
    let (app, env) = (scope.application.as_str(), scope.environment.as_str());
    let known = tx
        .prepare_cached("SELECT seq FROM webhook WHERE app = ?1 AND env = ?2 AND event_id = ?3")?
        .query_row(params![app, env, event.event_id.as_str()], |row| row.get::<_, i64>(0))
        .optional()?;
    if known.is_some() {
        return Ok(Put::Duplicate);
    }
    let mut dropped = 0;
    let count: i64 = tx
        .prepare_cached("SELECT count(*) FROM webhook WHERE app = ?1 AND env = ?2")?
        .query_row(params![app, env], |row| row.get(0))?;
    if count >= i64::from(most) {
        // The oldest tenth at once, so that a full queue does not pay for each event.
        let room = i64::from(most / 10).max(1) + count - i64::from(most);
        let done = tx
            .prepare_cached(
                "DELETE FROM webhook WHERE seq IN (SELECT seq FROM webhook \
                 WHERE app = ?1 AND env = ?2 AND state = 'done' AND received_at < ?3 ORDER BY seq LIMIT ?4)",
            )?
            .execute(params![app, env, replay_until.0, room])?;
        if done == 0 {
            dropped = tx
                .prepare_cached(
                    "DELETE FROM webhook WHERE seq IN (SELECT seq FROM webhook \
                     WHERE app = ?1 AND env = ?2 AND state = 'dead' ORDER BY seq LIMIT ?3)",
                )?
                .execute(params![app, env, 1 + count - i64::from(most)])? as u64;
            if dropped == 0 {
                return Ok(Put::Full);
            }
        }
    }
    let connection = event.connection_id.as_ref().map(ConnectionId::as_str);
    tx.prepare_cached(
        "INSERT INTO webhook (app, env, event_id, event_type, connection_id, company_id, entity_id, lane, \
            sent_text, sent_at, signature, body, state, received_at, attempts, due_at, failure) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 'new', ?13, 0, NULL, NULL)",
    )?
    .execute(params![
        app,
        env,
        event.event_id.as_str(),
        event.event_type,
        connection,
        event.company_id.as_ref().map(CompanyId::as_str),
        event.entity_id.as_ref().map(EntityId::as_str),
        connection.unwrap_or(event.event_id.as_str()),
        event.timestamp,
        event.sent_at.0,
        event.signature,
        event.body,
        now.0,
    ])?;
    Ok(Put::Kept { dropped })
}

const COLUMNS: &str = "seq, event_id, sent_text, sent_at, signature, event_type, connection_id, company_id, \
    entity_id, body, attempts, lane";

/// Events that perch has not acted on, in the order in which they came.
///
/// # Errors
/// [`StoreError`].
pub fn fresh(tx: &Transaction<'_>, scope: &Scope, limit: u32) -> Result<Vec<Kept>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook WHERE app = ?1 AND env = ?2 AND state = 'new' ORDER BY seq LIMIT ?3"
    );
    kept(tx, &sql, params![scope.application.as_str(), scope.environment.as_str(), limit])
}

/// Events that are due for the app: the first of each lane.
///
/// # Errors
/// [`StoreError`].
pub fn due(
    tx: &Transaction<'_>,
    scope: &Scope,
    now: UnixMillis,
    limit: u32,
) -> Result<Vec<Kept>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook WHERE seq IN (SELECT min(seq) FROM webhook \
         WHERE app = ?1 AND env = ?2 AND state = 'waiting' AND due_at <= ?3 GROUP BY lane \
         ORDER BY min(seq) LIMIT ?4) ORDER BY seq"
    );
    kept(tx, &sql, params![scope.application.as_str(), scope.environment.as_str(), now.0, limit])
}

/// When the next event that is not due yet will be.
///
/// # Errors
/// [`StoreError`].
pub fn next_due(
    tx: &Transaction<'_>,
    scope: &Scope,
    now: UnixMillis,
) -> Result<Option<UnixMillis>, StoreError> {
    let mut select = tx.prepare_cached(
        "SELECT min(due_at) FROM webhook WHERE app = ?1 AND env = ?2 AND state = 'waiting' AND due_at > ?3",
    )?;
    let next: Option<i64> = select
        .query_row(params![scope.application.as_str(), scope.environment.as_str(), now.0], |row| {
            row.get(0)
        })?;
    Ok(next.map(UnixMillis))
}

/// perch has acted on an event: the app shall have it now, or nobody.
///
/// # Errors
/// [`StoreError`].
pub fn acted(tx: &Transaction<'_>, seq: i64, deliver_at: Option<UnixMillis>) -> Result<(), StoreError> {
    match deliver_at {
        Some(at) => {
            tx.prepare_cached(
                "UPDATE webhook SET state = 'waiting', due_at = ?2 WHERE seq = ?1 AND state = 'new'",
            )?
            .execute(params![seq, at.0])?;
        }
        None => done(tx, seq)?,
    }
    Ok(())
}

/// Nothing is left to do for an event; its body goes.
///
/// # Errors
/// [`StoreError`].
pub fn done(tx: &Transaction<'_>, seq: i64) -> Result<(), StoreError> {
    tx.prepare_cached(
        "UPDATE webhook SET state = 'done', due_at = NULL, failure = NULL, body = x'', attempts = attempts + \
            (state = 'waiting') WHERE seq = ?1",
    )?
    .execute(params![seq])?;
    Ok(())
}

/// The app did not take an event: it is offered again at a time, or given up.
///
/// # Errors
/// [`StoreError`].
pub fn failed(
    tx: &Transaction<'_>,
    seq: i64,
    again_at: Option<UnixMillis>,
    failure: &str,
) -> Result<(), StoreError> {
    let state = if again_at.is_some() { State::Waiting } else { State::Dead };
    tx.prepare_cached(
        "UPDATE webhook SET state = ?2, due_at = ?3, failure = ?4, attempts = attempts + 1 WHERE seq = ?1",
    )?
    .execute(params![seq, state.as_str(), again_at.map(|at| at.0), failure])?;
    Ok(())
}

/// Every event that waits is given up: there is nobody to have it.
///
/// # Errors
/// [`StoreError`].
pub fn give_up_waiting(tx: &Transaction<'_>, scope: &Scope, failure: &str) -> Result<u64, StoreError> {
    let given_up = tx.execute(
        "UPDATE webhook SET state = 'dead', due_at = NULL, failure = ?3 \
         WHERE app = ?1 AND env = ?2 AND state = 'waiting'",
        params![scope.application.as_str(), scope.environment.as_str(), failure],
    )?;
    Ok(given_up as u64)
}

/// Dead letters are offered again, as if for the first time: one, or all. How many they were.
///
/// # Errors
/// [`StoreError`].
pub fn revive(
    tx: &Transaction<'_>,
    scope: &Scope,
    one: Option<&EventId>,
    now: UnixMillis,
) -> Result<u64, StoreError> {
    let revived = tx.execute(
        "UPDATE webhook SET state = 'waiting', due_at = ?4, attempts = 0 WHERE app = ?1 AND env = ?2 \
         AND state = 'dead' AND (?3 IS NULL OR event_id = ?3)",
        params![scope.application.as_str(), scope.environment.as_str(), one.map(EventId::as_str), now.0],
    )?;
    Ok(revived as u64)
}

/// The state of one event; `None` when it is not here.
///
/// # Errors
/// [`StoreError`].
pub fn state_of(tx: &Transaction<'_>, scope: &Scope, id: &EventId) -> Result<Option<State>, StoreError> {
    let mut select =
        tx.prepare_cached("SELECT state FROM webhook WHERE app = ?1 AND env = ?2 AND event_id = ?3")?;
    let word: Option<String> = select
        .query_row(params![scope.application.as_str(), scope.environment.as_str(), id.as_str()], |row| {
            row.get(0)
        })
        .optional()?;
    word.map(|word| State::parse(&word).ok_or_else(|| damaged("state"))).transpose()
}

/// Forgets what nobody asks about any more: done events that came before `done_before`, dead letters that came before
/// `dead_before`. How many dead letters were among them.
///
/// # Errors
/// [`StoreError`].
pub fn sweep(
    tx: &Transaction<'_>,
    scope: &Scope,
    done_before: UnixMillis,
    dead_before: UnixMillis,
) -> Result<u64, StoreError> {
    let mut delete = tx.prepare_cached(
        "DELETE FROM webhook WHERE app = ?1 AND env = ?2 AND state = ?3 AND received_at < ?4",
    )?;
    let (app, env) = (scope.application.as_str(), scope.environment.as_str());
    delete.execute(params![app, env, State::Done.as_str(), done_before.0])?;
    Ok(delete.execute(params![app, env, State::Dead.as_str(), dead_before.0])? as u64)
}

/// The newest events, newest first, at most `limit`; `only` those of one state.
///
/// # Errors
/// [`StoreError`].
pub fn list(
    tx: &Transaction<'_>,
    scope: &Scope,
    only: Option<State>,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    let mut select = tx.prepare_cached(
        "SELECT event_id, event_type, state, connection_id, company_id, entity_id, sent_at, received_at, \
            attempts, due_at, failure FROM webhook WHERE app = ?1 AND env = ?2 AND (?3 IS NULL OR state = ?3) \
         ORDER BY seq DESC LIMIT ?4",
    )?;
    let mut rows = select.query(params![
        scope.application.as_str(),
        scope.environment.as_str(),
        only.map(State::as_str),
        limit
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Listed {
            event_id: row.get(0)?,
            event_type: row.get(1)?,
            state: State::parse(&row.get::<_, String>(2)?).ok_or_else(|| damaged("state"))?,
            connection_id: row.get(3)?,
            company_id: row.get(4)?,
            entity_id: row.get(5)?,
            sent_at: UnixMillis(row.get(6)?),
            received_at: UnixMillis(row.get(7)?),
            attempts: row.get(8)?,
            due_at: row.get::<_, Option<i64>>(9)?.map(UnixMillis),
            failure: row.get(10)?,
        });
    }
    Ok(found)
}

/// How many events still ask for something.
///
/// # Errors
/// [`StoreError`].
pub fn depth(tx: &Transaction<'_>, scope: &Scope) -> Result<Depth, StoreError> {
    let mut select = tx.prepare_cached(
        "SELECT state, count(*) FROM webhook WHERE app = ?1 AND env = ?2 AND state <> 'done' GROUP BY state",
    )?;
    let mut rows = select.query(params![scope.application.as_str(), scope.environment.as_str()])?;
    let mut depth = Depth::default();
    while let Some(row) = rows.next()? {
        let count = row.get::<_, i64>(1)?.unsigned_abs();
        match State::parse(&row.get::<_, String>(0)?).ok_or_else(|| damaged("state"))? {
            State::New => depth.new = count,
            State::Waiting => depth.waiting = count,
            State::Dead => depth.dead = count,
            State::Done => {}
        }
    }
    Ok(depth)
}

fn kept(tx: &Transaction<'_>, sql: &str, params: impl rusqlite::Params) -> Result<Vec<Kept>, StoreError> {
    let mut select = tx.prepare_cached(sql)?;
    let mut rows = select.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id = |at: usize| row.get::<_, Option<String>>(at);
        found.push(Kept {
            seq: row.get(0)?,
            arrived: Arrived {
                event_id: EventId::new(row.get::<_, String>(1)?).map_err(|_| damaged("event_id"))?,
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
        });
    }
    Ok(found)
}

fn damaged(column: &str) -> StoreError {
    StoreError::Damaged(format!("a webhook's {column} is not what perch writes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{STORE, migrate};
    use crate::types::{ApplicationId, Environment};
    use rusqlite::Connection;

    fn event(id: &str, connection: Option<&str>) -> Arrived {
        Arrived {
            event_id: EventId::new(id).unwrap(),
            timestamp: "1700000000".to_owned(),
            sent_at: UnixMillis(1_700_000_000_000),
            signature: "v1,x".to_owned(),
            event_type: "test".to_owned(),
            connection_id: connection.map(|id| ConnectionId::new(id).unwrap()),
            company_id: None,
            entity_id: None,
            body: b"{}".to_vec(),
        }
    }

    fn with(work: impl FnOnce(&Transaction<'_>, &Scope)) {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &STORE).unwrap();
        let scope =
            Scope { application: ApplicationId::new("app").unwrap(), environment: Environment::Sandbox };
        work(&db.transaction().unwrap(), &scope);
    }

    fn keep(tx: &Transaction<'_>, scope: &Scope, id: &str, lane: Option<&str>, at: i64) -> Put {
        put(tx, scope, &event(id, lane), (10, UnixMillis(at - 100)), UnixMillis(at)).unwrap()
    }

    #[test]
    fn an_event_that_comes_twice_is_kept_once_and_in_each_scope_by_itself() {
        with(|tx, scope| {
            assert_eq!(keep(tx, scope, "msg_1", None, 1), Put::Kept { dropped: 0 });
            assert_eq!(keep(tx, scope, "msg_1", None, 2), Put::Duplicate);
            let other = Scope { environment: Environment::Production, ..scope.clone() };
            assert_eq!(keep(tx, &other, "msg_1", None, 2), Put::Kept { dropped: 0 });
            let kept = fresh(tx, scope, 9).unwrap();
            assert_eq!(kept.len(), 1);
            assert_eq!(kept[0].arrived, event("msg_1", None));
            done(tx, kept[0].seq).unwrap();
            assert_eq!(keep(tx, scope, "msg_1", None, 3), Put::Duplicate, "done is still known");
        });
    }

    #[test]
    fn one_event_of_each_connection_is_due_at_a_time() {
        with(|tx, scope| {
            for (id, lane) in
                [("m1", Some("a")), ("m2", Some("a")), ("m3", Some("b")), ("m4", None), ("m5", None)]
            {
                keep(tx, scope, id, lane, 1);
            }
            let all = fresh(tx, scope, 9).unwrap();
            assert_eq!(due(tx, scope, UnixMillis(99), 9).unwrap(), [], "nothing before it was acted on");
            all.iter().for_each(|kept| acted(tx, kept.seq, Some(UnixMillis(10))).unwrap());
            let ids = |now, limit| -> Vec<String> {
                let due = due(tx, scope, UnixMillis(now), limit).unwrap();
                due.iter().map(|kept| kept.arrived.event_id.to_string()).collect()
            };
            assert_eq!(ids(9, 9), Vec::<String>::new());
            assert_eq!(next_due(tx, scope, UnixMillis(9)).unwrap(), Some(UnixMillis(10)));
            assert_eq!(ids(10, 9), ["m1", "m3", "m4", "m5"]);
            assert_eq!(ids(10, 2), ["m1", "m3"]);
            failed(tx, all[0].seq, Some(UnixMillis(50)), "it answered 500").unwrap();
            done(tx, all[2].seq).unwrap();
            assert_eq!(ids(10, 9), ["m2", "m4", "m5"], "one that waits longer holds up nobody");
            assert_eq!(next_due(tx, scope, UnixMillis(10)).unwrap(), Some(UnixMillis(50)));
            assert_eq!(depth(tx, scope).unwrap(), Depth { new: 0, waiting: 4, dead: 0 });
        });
    }

    #[test]
    fn a_dead_letter_keeps_its_body_and_can_be_revived() {
        with(|tx, scope| {
            keep(tx, scope, "m1", None, 1);
            keep(tx, scope, "m2", None, 1);
            for kept in fresh(tx, scope, 9).unwrap() {
                acted(tx, kept.seq, Some(UnixMillis(1))).unwrap();
                failed(tx, kept.seq, None, "it refused the connection").unwrap();
            }
            let dead = list(tx, scope, Some(State::Dead), 9).unwrap();
            assert_eq!((dead.len(), dead[0].event_id.as_str(), dead[0].attempts), (2, "m2", 1));
            assert_eq!(dead[0].failure.as_deref(), Some("it refused the connection"));
            let m1 = EventId::new("m1").unwrap();
            assert_eq!(revive(tx, scope, Some(&m1), UnixMillis(7)).unwrap(), 1);
            assert_eq!(revive(tx, scope, Some(&m1), UnixMillis(7)).unwrap(), 0);
            assert_eq!(state_of(tx, scope, &m1).unwrap(), Some(State::Waiting));
            let again = due(tx, scope, UnixMillis(7), 9).unwrap();
            assert_eq!(
                (again.len(), again[0].attempts, again[0].arrived.body.as_slice()),
                (1, 0, b"{}" as &[u8])
            );
            done(tx, again[0].seq).unwrap();
            assert_eq!(revive(tx, scope, None, UnixMillis(8)).unwrap(), 1, "m2 alone is dead");
            assert_eq!(give_up_waiting(tx, scope, "nowhere").unwrap(), 1);
            assert_eq!(state_of(tx, scope, &EventId::new("m9").unwrap()).unwrap(), None);
        });
    }

    #[test]
    fn the_queue_has_a_bound_and_what_is_still_needed_goes_last() {
        with(|tx, scope| {
            (0..10).for_each(|n| {
                assert_eq!(keep(tx, scope, &format!("m{n}"), None, n), Put::Kept { dropped: 0 })
            });
            assert_eq!(keep(tx, scope, "x1", None, 500), Put::Full, "none of them was acted on");
            let all = fresh(tx, scope, 99).unwrap();
            done(tx, all[0].seq).unwrap();
            done(tx, all[9].seq).unwrap();
            failed(tx, all[4].seq, None, "dead").unwrap();
            failed(tx, all[5].seq, None, "dead").unwrap();
            // m9 is done, but so young that Finch's message could be played again.
            let put_at = |id: &str, before: i64| {
                put(tx, scope, &event(id, None), (10, UnixMillis(before)), UnixMillis(500)).unwrap()
            };
            assert_eq!(put_at("x1", 9), Put::Kept { dropped: 0 });
            assert_eq!(put_at("x2", 9), Put::Kept { dropped: 1 }, "the oldest dead letter");
            assert_eq!(state_of(tx, scope, &EventId::new("m4").unwrap()).unwrap(), None);
            assert_eq!(put_at("x3", 9), Put::Kept { dropped: 1 });
            assert_eq!(put_at("x4", 9), Put::Full);
            assert_eq!(put_at("m9", 9), Put::Duplicate);
            assert_eq!(put_at("x5", 10), Put::Kept { dropped: 0 });
        });
    }

    #[test]
    fn a_sweep_takes_what_is_old_and_settled() {
        with(|tx, scope| {
            (0..4).for_each(|n| {
                assert_eq!(keep(tx, scope, &format!("m{n}"), None, n), Put::Kept { dropped: 0 })
            });
            let all = fresh(tx, scope, 9).unwrap();
            done(tx, all[0].seq).unwrap();
            failed(tx, all[1].seq, None, "dead").unwrap();
            done(tx, all[2].seq).unwrap();
            assert_eq!(sweep(tx, scope, UnixMillis(2), UnixMillis(1)).unwrap(), 0);
            assert_eq!(sweep(tx, scope, UnixMillis(2), UnixMillis(2)).unwrap(), 1);
            let left: Vec<String> =
                list(tx, scope, None, 9).unwrap().into_iter().map(|l| l.event_id).collect();
            assert_eq!(left, ["m3", "m2"]);
        });
    }
}

//! One transaction on the server, from a blocking thread.

use super::StoreError;
use crate::store::sql::{Tx, Value};
use bytes::BytesMut;
use deadpool_postgres::Object;
use std::cell::Cell;
use std::error::Error;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};
use tokio_postgres::{Client, Row};

/// How long an answer may stay away although the server ends a statement after two seconds, and the wait for the
/// writers' lock after five: then it is the line that is dead.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// The same, where a whole store is replaced.
const WHOLE_STORE_MAX: Duration = Duration::from_secs(15 * 60);

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read one moment.
    Reads,
    /// Write, alone.
    Writes,
    /// Write what nobody decides from, beside whoever writes the rest.
    WritesBeside,
}

impl Access {
    /// How it begins. The bounds are the transaction's own, so that they hold behind a pool too.
    const fn begin(self) -> &'static str {
        match self {
            Access::Reads => {
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
                 SET LOCAL statement_timeout = '2s'; SET LOCAL idle_in_transaction_session_timeout = '30s'"
            }
            Access::Writes => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                 SET LOCAL idle_in_transaction_session_timeout = '30s'; SET LOCAL statement_timeout = '5s'; \
                 SELECT pg_advisory_xact_lock('vault_meta'::regclass::oid::bigint); \
                 SET LOCAL statement_timeout = '2s'"
            }
            // Losing the last moments with the machine's power is allowed there, and waiting for its disk is not.
            Access::WritesBeside => {
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL synchronous_commit = off; \
                 SET LOCAL statement_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '30s'"
            }
        }
    }
}

/// A transaction that has begun.
pub struct PgTransaction<'a> {
    client: &'a Client,
    handle: &'a Handle,
    /// Whether nobody knows any more what the server does.
    is_in_doubt: Cell<bool>,
    /// How long an answer may stay away.
    silence_max: Cell<Duration>,
}

impl PgTransaction<'_> {
    /// Carries a statement out and answers how many rows it concerned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.wait(self.client.execute_typed(sql, &typed(values)))
    }

    /// The rows that a statement answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) fn query(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>, StoreError> {
        self.wait(self.client.query_typed(sql, &typed(values)))
    }

    /// Lets statements take as long as they need: everything is replaced, and nobody else is there.
    pub(in crate::store) fn be_patient(&self) -> Result<(), StoreError> {
        self.silence_max.set(WHOLE_STORE_MAX);
        self.say("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
    }

    fn say(&self, words: &str) -> Result<(), StoreError> {
        self.wait(self.client.batch_execute(words))
    }

    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        if self.is_in_doubt.get() {
            return Err(StoreError::Unavailable("the connection was given up".to_owned()));
        }
        match self.handle.block_on(async { tokio::time::timeout(self.silence_max.get(), answer).await }) {
            Ok(answered) => Ok(answered?),
            Err(_) => {
                self.is_in_doubt.set(true);
                Err(StoreError::Unavailable(format!("no answer within {:?}", self.silence_max.get())))
            }
        }
    }
}

/// A connection that goes back to the others only when its transaction has ended, one way or the other.
struct Lent(Option<Object>);

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(doubtful) = self.0.take() {
            drop(Object::take(doubtful));
        }
    }
}

/// Does `work` in one transaction.
pub(super) fn transact<T, E: From<StoreError>>(
    connection: Object,
    handle: &Handle,
    access: Access,
    work: impl FnOnce(&Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut lent = Lent(Some(connection));
    let Some(connection) = &lent.0 else { unreachable!("it was put there") };
    let tx = PgTransaction {
        client: connection,
        handle,
        is_in_doubt: Cell::new(false),
        silence_max: Cell::new(SILENCE_MAX),
    };
    tx.say(access.begin())?;
    let (outcome, is_ended) = match work(&Tx::Postgres(&tx)) {
        Ok(done) => match tx.say("COMMIT") {
            Ok(()) => (Ok(done), true),
            Err(cause) => (Err(cause.into()), false),
        },
        Err(refused) => (Err(refused), tx.say("ROLLBACK").is_ok()),
    };
    if is_ended {
        drop(lent.0.take());
    }
    outcome
}

fn typed<'a>(values: &'a [Value<'_>]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    values
        .iter()
        .map(|value| {
            let kind = match value {
                Value::Int(_) => Type::INT8,
                Value::Text(_) => Type::TEXT,
                Value::Blob(_) => Type::BYTEA,
            };
            (value as &(dyn ToSql + Sync), kind)
        })
        .collect()
}

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Int(number) => number.to_sql(kind, out),
            // The server's text holds no NUL. Whoever sends one learns that it became the sign for what cannot be shown.
            Value::Text(Some(text)) if text.contains('\0') => {
                text.replace('\0', "\u{FFFD}").to_sql(kind, out)
            }
            Value::Text(text) => text.to_sql(kind, out),
            Value::Blob(bytes) => bytes.to_sql(kind, out),
        }
    }

    accepts!(INT8, TEXT, BYTEA);
    to_sql_checked!();
}

//! FLOOR 2: what is remembered. Rows in, rows out; what a row means is the vault's affair.
//!
//! The store holds ciphertext, ids and statuses, never a key in clear nor a token. One `SQLite` file,
//! one connection to it, one mutex around that, every use of it inside `spawn_blocking`: a few
//! writes a day and a cached read per call need no more, and one writer cannot race itself. Other
//! processes (`perch connections …` beside a running gateway) share the file through WAL; a second
//! *gateway* is kept out by [`sqlite::Store::open_exclusive`], because two would spend one quota twice.
//!
//! The quota's journal and the request ledger are files of their own beside the store's: they are written at every call,
//! and none waits for another.
//!
//! `schema` says what the tables are and `tables` who may renew them, `keys`, `connections`, `exchange`, `audit`, `apps`, `pauses` and `webhooks` speak SQL, `record`
//! names what they speak about; `journal` is the quota's, and `boot` the clock it needs; `requests` is the ledger. No trait stands in
//! front: there is one implementation.
//!
//! `redis` is another thing: the way to the quota that several gateways share. No connection's row goes there.

pub mod apps;
pub mod audit;
pub mod boot;
pub mod connections;
mod copy;
mod database;
pub mod exchange;
pub mod journal;
pub mod keys;
pub mod lease;
pub mod pauses;
mod postgres;
pub mod record;
pub mod redis;
pub mod replace;
pub mod requests;
mod schema;
pub mod sql;
pub mod sqlite;
pub mod tables;
pub mod trust;
pub mod webhooks;

pub use database::Store;
pub use record::{Connection, Row, SealedToken, Status};
pub use sql::Tx;
pub use tables::Older;

use std::fmt;

/// What the store could not do. The text is for operators; no value of a row is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// It did not answer, now: locked for too long, disk full, input or output failed.
    Unavailable(String),
    /// It answered with something no version of perch wrote.
    Damaged(String),
    /// A newer perch has made or renewed it, and only that one knows what it means. It is sound.
    Newer(String),
    /// Nothing is wrong with it; what was wanted is not done as things are, and this says why.
    Refused(String),
}

impl StoreError {
    /// The same, naming the store that could not be opened.
    fn at(self, place: &str) -> Self {
        match self {
            StoreError::Unavailable(why) => {
                StoreError::Unavailable(format!("{place} cannot be opened: {why}"))
            }
            StoreError::Damaged(what) => StoreError::Damaged(format!("{place}: {what}")),
            StoreError::Newer(why) => StoreError::Newer(format!("{place}: {why}")),
            StoreError::Refused(why) => StoreError::Refused(format!("{place}: {why}")),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why) => write!(f, "the store does not answer: {why}"),
            StoreError::Damaged(what) => write!(f, "the store is damaged: {what}"),
            StoreError::Newer(why) | StoreError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(cause: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match &cause {
            E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => {
                StoreError::Damaged(cause.to_string())
            }
            E::SqliteFailure(code, _)
                if matches!(
                    code.code,
                    rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase
                ) =>
            {
                StoreError::Damaged(cause.to_string())
            }
            _ => StoreError::Unavailable(cause.to_string()),
        }
    }
}

//! The quota's journal: which permits were granted and which holds were set, so that a restart knows
//! what was sent. For a gateway that keeps its quota in memory; with a shared ledger it is not used.
//!
//! It is a file beside the store's, because it is written at every call. In the store's own file each of
//! its commits would look to the vault like another process's change and empty its cache, and an import of
//! many connections would keep every call waiting for the file's one writer.
//!
//! A permit is in the journal before the first byte of its request is sent. It is written without
//! waiting for the disk: what a killed process wrote, the system still has, and a machine that went down
//! has another boot id, after which history counts as unknown. All permits that wait at a time share one
//! transaction, so that many cost little more than one.
//!
//! Answers need not be told. A permit without one counts as arrived at Finch at the latest moment it can
//! have, which after a restart keeps it busy for some seconds more than needed, once. Where nothing bounds
//! the way to Finch ([`crate::limit::Rules::arrival_bound`] is off) that is minutes, and telling them with
//! [`Journal::arrived`] is worth its cost.
//!
//! `history` judges what is found, `rows` speaks SQL, `writer` is the thread.

mod history;
mod rows;
mod writer;

pub use history::{Doubt, History, Spent, Verdict};

use super::boot::{BootClock, Stamp};
use super::replace::set_apart;
use super::schema::{JOURNAL, STORE};
use super::sqlite::{self, transact};
use super::{Older, StoreError};
use crate::limit::Scope;
use crate::types::{Priority, Product};
use rusqlite::{Connection, Transaction};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The most words that wait for the writer; a permit waits for room, whatever need not be told is lost.
const INBOX_MAX: usize = 1024;

/// How long to wait for another's write. A call that waits for quota waits for this as well.
const BUSY_WAIT: Duration = Duration::from_secs(3);

/// A permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Its number, used once in a run.
    pub ticket: u64,
    /// What it counts against, next to the egress IP.
    pub product: Product,
    /// How urgent its call is.
    pub priority: Priority,
    /// When it was granted or extended: not before the moment from which its request's way to Finch is
    /// bounded.
    pub at: Stamp,
}

/// A scope in which nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hold {
    scope: Scope,
    span: Duration,
    at: Stamp,
}

/// What the writer is told.
#[derive(Debug)]
enum Word {
    Granted(Grant, oneshot::Sender<Result<(), JournalError>>),
    Arrived { ticket: u64, at: Stamp },
    Refunded { ticket: u64 },
    Held(Hold),
    Settle(oneshot::Sender<()>),
}

/// Why a permit could not be written down; it must not be used then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalError(String);

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the quota journal cannot be written: {}", self.0)
    }
}

impl std::error::Error for JournalError {}

/// The journal of one run. Its writer ends when this is dropped and all it was told is written.
#[derive(Debug)]
pub struct Journal {
    inbox: mpsc::Sender<Word>,
    clock: BootClock,
}

impl Journal {
    /// Opens the journal of a store, by the path of the store's file, and tells what earlier runs left. A
    /// permit is kept for `keep`: the longest window, its pad, and the longest that a request may be on its
    /// way. Blocks. The store must be this gateway's alone.
    ///
    /// # Errors
    /// [`StoreError`] when the journal cannot be opened or written. One that is not what perch writes is
    /// none: it is set apart, and history is unknown.
    pub fn open(store: &Path, keep: Duration) -> Result<(Self, History), StoreError> {
        Self::open_with(store, keep, BootClock::of_this_machine())
    }

    fn open_with(store: &Path, keep: Duration, clock: BootClock) -> Result<(Self, History), StoreError> {
        let path = file_of(store);
        let was_begun = was_begun(store)?;
        let now = clock.now();
        let begin = |was_begun| {
            let mut db = connect(&path)?;
            let begun = |tx: &Transaction<'_>| rows::begin(tx, clock.epoch(), now, keep, was_begun);
            let history = transact(&mut db, begun)?;
            Ok((db, history))
        };
        let begun = match begin(was_begun) {
            // Of a newer perch's journal nothing is known either.
            Err(StoreError::Damaged(why) | StoreError::Newer(why)) => {
                set_apart(&path)?;
                tracing::error!("{}: {why}; it is set apart and a new one begun", path.display());
                begin(true)
            }
            begun => begun,
        };
        let (db, history) = begun.map_err(|cause: StoreError| cause.at(&path.display().to_string()))?;
        let (inbox, words) = mpsc::channel(INBOX_MAX);
        let writer = writer::Writer::new(db, path, history.run, keep);
        std::thread::Builder::new()
            .name("quota-journal".to_owned())
            .spawn(move || writer.run(words))
            .map_err(|cause| StoreError::Unavailable(cause.to_string()))?;
        Ok((Self { inbox, clock }, history))
    }

    /// Tells the journal of a store that quota is spent elsewhere from now on, in a shared ledger: whoever
    /// opens it next does not know what was sent. Blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn set_aside(store: &Path) -> Result<(), StoreError> {
        let clock = BootClock::of_this_machine();
        was_begun(store)?;
        transact(&mut connect(&file_of(store))?, |tx| rows::set_aside(tx, clock.epoch()))
    }

    /// This moment, for a [`Grant`].
    pub fn now(&self) -> Stamp {
        self.clock.now()
    }

    /// Writes a permit, or that it was extended. It may be used once this returns; whoever stops waiting
    /// must take it for written.
    ///
    /// # Errors
    /// [`JournalError`]: give the permit back and refuse the call.
    pub async fn granted(&self, grant: Grant) -> Result<(), JournalError> {
        let stopped = || JournalError("its writer has stopped".to_owned());
        let (told, written) = oneshot::channel();
        self.inbox.send(Word::Granted(grant, told)).await.map_err(|_| stopped())?;
        written.await.map_err(|_| stopped())?
    }

    /// A permit's request has arrived. Written behind; may be lost.
    pub fn arrived(&self, ticket: u64) {
        let _ = self.inbox.try_send(Word::Arrived { ticket, at: self.now() });
    }

    /// A permit was given back unused. Written behind; may be lost.
    pub fn refunded(&self, ticket: u64) {
        let _ = self.inbox.try_send(Word::Refunded { ticket });
    }

    /// Nothing is sent in `scope` for this long. Written behind, and again until it succeeds.
    pub fn held(&self, scope: Scope, span: Duration) {
        let hold = Hold { scope, span, at: self.now() };
        // Holds are few; one that finds a thousand permits before it is told of by the next 429.
        let _ = self.inbox.try_send(Word::Held(hold));
    }

    /// Waits until all that was told before is written, or has failed.
    pub async fn settle(&self) {
        let (told, settled) = oneshot::channel();
        if self.inbox.send(Word::Settle(told)).await.is_ok() {
            let _ = settled.await;
        }
    }
}

/// The journal's file beside the store's.
fn file_of(store: &Path) -> PathBuf {
    sqlite::beside(store, ".quota")
}

/// Whether the store has had a journal before. From now on it has.
fn was_begun(store: &Path) -> Result<bool, StoreError> {
    let mut db = sqlite::connect(store, &STORE, Older::Renew)
        .map_err(|cause| cause.at(&store.display().to_string()))?;
    let rows: i64 = db.query_row("SELECT count(*) FROM quota_journal", [], |row| row.get(0))?;
    if rows == 0 {
        transact::<_, StoreError>(&mut db, |tx| Ok(tx.execute("INSERT INTO quota_journal VALUES (1)", [])?))?;
    }
    Ok(rows > 0)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let db = sqlite::connect(path, &JOURNAL, Older::Renew)?;
    db.busy_timeout(BUSY_WAIT)?;
    // Nothing here is secret, and a commit need not outlive the machine.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "secure_delete", "OFF")?;
    Ok(db)
}

#[cfg(test)]
mod tests;

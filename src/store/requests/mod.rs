//! The request ledger: the facts of every call, so that what became of one can be told weeks later, by Finch's id of it.
//!
//! Beside a file it is a file of its own (`perch.db.requests`), as the quota's journal is: ten million calls make neither
//! the vault's file nor its backups larger, and whoever writes the one does not wait for who writes the other. On a server
//! it is tables of the same database, in connections of its own; whoever writes them takes no lock of the vault's and
//! tells nobody. It is evidence and not state: perch runs without it, and `vault backup` leaves it out.
//!
//! A commit here need not outlive the machine's power. What a killed process committed, the system still has.
//!
//! `record` is what is kept of a call, `rows` writes it, `search` finds it, `prune` lets it go; `file` is the file.

mod file;
mod prune;
mod record;
mod rows;
mod search;
#[cfg(test)]
mod tests;

pub use prune::Bounds;
pub use record::{Recorded, RecordedBatch, RecordedCut, RecordedStep};
pub use rows::{Row, UsageRow};
pub use search::{Found, LIMIT_MAX, LOOKED_MAX, Search};

use super::connections::Scope;
use super::postgres::PostgresStore;
use super::sql::Tx;
use super::sqlite::SqliteStore;
use super::{Store, StoreError};
use crate::config;
use crate::types::UnixMillis;
use std::sync::Arc;

/// The ledger of one store, as far as it is of one Finch application and environment: several may share a store.
pub struct Requests {
    place: Place,
    scope: Arc<Scope>,
}

/// Where it is.
enum Place {
    /// In a file beside the store's: who searches does not wait for who writes.
    File { writes: Option<Arc<SqliteStore>>, reads: Arc<SqliteStore> },
    /// Among the store's tables on a server.
    Server(PostgresStore),
}

impl Requests {
    /// Opens the ledger of a store for its gateway, making it where it is missing. A file that is no ledger, or a damaged
    /// one, is set apart: calls are not stopped for want of evidence. So is one whose damage shows later, when it is written.
    ///
    /// # Errors
    /// [`StoreError`] with the place's name; [`StoreError::Refused`] for a newer perch's file, which is left as it is.
    pub async fn open(store: &config::Store, scope: Scope) -> Result<Self, StoreError> {
        let place = match store {
            config::Store::Sqlite(path) => {
                let path = path.clone();
                let (writes, reads) = blocking(move || file::open(&path)).await?;
                Place::File { writes: Some(Arc::new(writes)), reads: Arc::new(reads) }
            }
            config::Store::Postgres(server) => Place::Server(PostgresStore::open_beside(server).await?),
        };
        Ok(Self { place, scope: Arc::new(scope) })
    }

    /// Opens the ledger of a store to search it, beside a running gateway. Makes and changes nothing; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`] with the place's name.
    pub async fn look(store: &config::Store, scope: Scope) -> Result<Option<Self>, StoreError> {
        let place = match store {
            config::Store::Sqlite(path) => {
                let path = path.clone();
                let reads = blocking(move || file::look(&path)).await?;
                reads.map(|reads| Place::File { writes: None, reads: Arc::new(reads) })
            }
            config::Store::Postgres(server) => match Store::is_used(server).await? {
                true => Some(Place::Server(PostgresStore::look_beside(server).await?)),
                false => None,
            },
        };
        Ok(place.map(|place| Self { place, scope: Arc::new(scope) }))
    }

    /// The calls that a search is for, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when the ledger does not answer.
    pub async fn search(&self, search: &Search) -> Result<Found, StoreError> {
        let search = search.clone();
        self.read(move |tx, scope| search::run(tx, scope, &search)).await
    }

    /// What each connection was used for in a month, such as `2026-11`, in UTC.
    ///
    /// # Errors
    /// [`StoreError`] when the ledger does not answer.
    pub async fn usage(&self, month: &str) -> Result<Vec<UsageRow>, StoreError> {
        let month = month.to_owned();
        self.read(move |tx, scope| rows::usage(tx, scope, &month)).await
    }

    /// The first moment of which use is counted; none while there was no call with a connection.
    ///
    /// # Errors
    /// [`StoreError`] when the ledger does not answer.
    pub async fn counts_since(&self) -> Result<Option<UnixMillis>, StoreError> {
        self.read(rows::counts_since).await
    }

    /// Writes calls, all or none, and counts them into their month. `is_again` when an earlier try to write them may have
    /// succeeded: those that are there already are left alone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn write(&self, rows: &Arc<Vec<Row>>, is_again: bool) -> Result<(), StoreError> {
        match self.try_to_write(rows, is_again).await {
            Err(StoreError::Damaged(why)) => {
                self.begin_anew(why).await?;
                self.try_to_write(rows, is_again).await
            }
            outcome => outcome,
        }
    }

    async fn try_to_write(&self, rows: &Arc<Vec<Row>>, is_again: bool) -> Result<(), StoreError> {
        let rows = Arc::clone(rows);
        self.change(move |tx, scope| rows::write(tx, scope, &rows, is_again)).await
    }

    /// A damaged file recovers by itself never: it is set apart, and a new one begun.
    ///
    /// # Errors
    /// That it is damaged, where nothing can be begun; or why nothing could.
    async fn begin_anew(&self, why: String) -> Result<(), StoreError> {
        let Place::File { writes: Some(writes), reads } = &self.place else {
            return Err(StoreError::Damaged(why));
        };
        let (writes, reads) = (writes.clone(), reads.clone());
        blocking(move || file::begin_anew(&writes, &reads, &why)).await
    }

    /// Finds out, by writing something of no meaning, whether the ledger can be written at all.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.change(rows::probe).await
    }

    /// Deletes some of the oldest calls beyond the bounds, and the counts of months that are long over. Answers whether
    /// there may be more to delete. Of several gateways one does it at a time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune(&self, bounds: Bounds, now: UnixMillis) -> Result<bool, StoreError> {
        match self.change(move |tx, scope| prune::step(tx, scope, bounds, now)).await {
            Err(StoreError::Damaged(why)) => self.begin_anew(why).await.map(|()| false),
            outcome => outcome,
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>, &Scope) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let scope = Arc::clone(&self.scope);
        let work = move |tx: &Tx<'_>| work(tx, &scope);
        match &self.place {
            Place::File { reads, .. } => reads.read(work).await,
            Place::Server(server) => server.read(work).await,
        }
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>, &Scope) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let scope = Arc::clone(&self.scope);
        let work = move |tx: &Tx<'_>| work(tx, &scope);
        match &self.place {
            Place::File { writes: Some(file), .. } => file.write(work, |_| ()).await,
            Place::File { writes: None, .. } => {
                Err(StoreError::Refused("the ledger was opened to be searched, not to be written".to_owned()))
            }
            Place::Server(server) => server.write_beside(work).await,
        }
    }
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.place {
            Place::File { .. } => "Requests(a file)",
            Place::Server(_) => "Requests(a server)",
        })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let stopping = |_| StoreError::Unavailable("perch is stopping".to_owned());
    tokio::task::spawn_blocking(work).await.map_err(stopping)?
}

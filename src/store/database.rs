//! The store, wherever it is: a file of `SQLite` that one gateway has to itself, or a PostgreSQL server that several
//! share.

use super::postgres::PostgresStore;
use super::sql::Tx;
use super::sqlite::SqliteStore;
use super::{Older, StoreError, keys};
use crate::config::Postgres;
use crate::telemetry::metrics::{StoreTimes, Stores};
use crate::types::UnixMillis;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long after its last word a gateway of a shared store counts as running. It speaks every ten seconds.
const GATEWAY_SILENT_MAX: Duration = Duration::from_secs(60);

/// The store. Rows in, rows out.
pub enum Store {
    /// A file.
    Sqlite(SqliteStore),
    /// A server.
    Postgres(PostgresStore),
}

impl Store {
    /// Opens a file, making it when it is missing. Beside a running gateway this is allowed. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] with the file's name and what to do.
    pub fn open(path: &Path, older: Older) -> Result<Self, StoreError> {
        Ok(Store::Sqlite(SqliteStore::open(path, older)?))
    }

    /// Opens a file for a gateway: no second gateway can, until this one is gone. Blocks.
    ///
    /// # Errors
    /// As [`Store::open`], and when another gateway has it.
    pub fn open_exclusive(path: &Path) -> Result<Self, StoreError> {
        Ok(Store::Sqlite(SqliteStore::open_exclusive(path)?))
    }

    /// Opens a server's, making its tables where they are missing and the role may. `is_gateway` also listens for others'
    /// changes.
    ///
    /// # Errors
    /// [`StoreError`] with the server's name and what to do.
    pub async fn connect(options: &Postgres, older: Older, is_gateway: bool) -> Result<Self, StoreError> {
        Ok(Store::Postgres(PostgresStore::open(options, older, is_gateway).await?))
    }

    /// Makes or renews a server's tables and lets these roles use them. Answers the version of the tables.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn migrate(options: &Postgres, roles: &[String]) -> Result<usize, StoreError> {
        PostgresStore::migrate(options, roles).await
    }

    /// Whether a server has a store that was used. Makes nothing.
    ///
    /// # Errors
    /// [`StoreError`] with the server's name.
    pub async fn is_used(options: &Postgres) -> Result<bool, StoreError> {
        PostgresStore::is_used(options).await
    }

    /// Writes a copy of the store as it is at this moment into a new file of `SQLite`, beside whoever uses the store.
    ///
    /// # Errors
    /// [`StoreError`]; no file is left then.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        match self {
            Store::Sqlite(store) => store.copy_to(path).await,
            Store::Postgres(store) => {
                let (path, version) = (path.to_owned(), store.file_version());
                store.read(move |tx| SqliteStore::copy_of(tx, &path, version)).await
            }
        }
    }

    /// Puts the rows of a copy in the place of a server's, all at once, if that has had `expected` changes and no gateway
    /// runs.
    ///
    /// # Errors
    /// [`StoreError`], with everything as it was.
    pub async fn replace_with(&self, copy: &Path, expected: i64, now: UnixMillis) -> Result<(), StoreError> {
        let (copy, alive_since) = (copy.to_owned(), self.alive_since(now));
        self.write(
            move |tx| {
                // What was found out before is still so: nobody has written since, nobody runs.
                let there = tx.row("SELECT generation FROM vault_meta", &[], |row| row.get::<i64>(0))?.unwrap_or(0);
                if there != expected || keys::has_gateway(tx, alive_since)? {
                    return Err(StoreError::Refused(
                        "the store was used while it was about to be replaced; nothing was changed: stop what uses it, then do \
                         it again"
                            .to_owned(),
                    ));
                }
                if let Tx::Postgres(tx) = tx {
                    tx.be_patient()?;
                }
                SqliteStore::copy_into(&copy, tx)?;
                if let Tx::Postgres(_) = tx {
                    // Numbers that came with the rows are not given again.
                    let next = "SELECT setval('webhook_seq_seq', (SELECT coalesce(max(seq), 0) + 1 FROM webhook), false)";
                    tx.execute(next, &[])?;
                }
                Ok(())
            },
            |_| (),
        )
        .await
    }

    /// Whether several gateways may use it at once.
    pub fn is_shared(&self) -> bool {
        match self {
            Store::Sqlite(_) => false,
            Store::Postgres(_) => true,
        }
    }

    /// Reads in one consistent view.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError`] when the view cannot be had.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let began = Instant::now();
        let outcome = match self {
            Store::Sqlite(store) => store.read(work).await,
            Store::Postgres(store) => store.read(work).await,
        };
        if let Some(times) = self.times().get() {
            times.read(began.elapsed());
        }
        outcome
    }

    /// Writes in one transaction, durable when this returns. `after` learns the outcome on the same
    /// thread, right after the commit or the refusal: it runs even when the caller has stopped
    /// waiting, so that what must follow a commit does follow. Writers take turns.
    ///
    /// # Errors
    /// Those of `work`, when nothing is changed; and [`StoreError`].
    pub async fn write<T, E, F, A>(&self, work: F, after: A) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        A: FnOnce(&Result<T, E>) + Send + 'static,
    {
        let began = Instant::now();
        let outcome = match self {
            Store::Sqlite(store) => store.write(work, after).await,
            Store::Postgres(store) => store.write(work, after).await,
        };
        if let Some(times) = self.times().get() {
            times.wrote(began.elapsed());
        }
        outcome
    }

    /// Tells how long it takes, from now on.
    pub fn measure(&self, stores: &Stores) {
        let kind = match self {
            Store::Sqlite(_) => "sqlite",
            Store::Postgres(_) => "postgres",
        };
        // Whoever came first is told.
        let _ = self.times().set(stores.store(kind));
    }

    fn times(&self) -> &OnceLock<StoreTimes> {
        match self {
            Store::Sqlite(store) => &store.times,
            Store::Postgres(store) => &store.times,
        }
    }

    /// Whether a gateway has the store, this process or another.
    ///
    /// # Errors
    /// [`StoreError`] when that cannot be found out.
    pub async fn has_gateway(&self, now: UnixMillis) -> Result<bool, StoreError> {
        match self {
            Store::Sqlite(store) => store.has_gateway().await,
            Store::Postgres(store) => store.read(move |tx| keys::has_gateway(tx, self_alive(now))).await,
        }
    }

    /// Since when a gateway must have been heard of to count as running.
    pub fn alive_since(&self, now: UnixMillis) -> UnixMillis {
        match self {
            // It has one gateway at most, which says what it has to say once.
            Store::Sqlite(_) => UnixMillis(i64::MIN),
            Store::Postgres(_) => self_alive(now),
        }
    }

    /// Which gateways are forgotten when one speaks: those not heard of since.
    pub fn forgotten_before(&self, now: UnixMillis) -> UnixMillis {
        match self {
            // The one that speaks is the only one.
            Store::Sqlite(_) => UnixMillis(i64::MAX),
            Store::Postgres(_) => self_alive(now),
        }
    }

    /// Leaves nothing of what was erased in the store's own files, as far as that can be done from here. Answers whether
    /// it could: others that read keep it, and so does a server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn empty_log(&self) -> Result<bool, StoreError> {
        match self {
            Store::Sqlite(store) => store.empty_log().await,
            Store::Postgres(_) => Ok(false),
        }
    }

    /// A number that moves whenever another process has committed a change that somebody's view depends on. Of a shared
    /// store it is the count of its changes, and moves with our own too.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer.
    pub async fn data_version(&self) -> Result<i64, StoreError> {
        match self {
            Store::Sqlite(store) => store.data_version().await,
            Store::Postgres(store) => store.data_version().await,
        }
    }

    /// Ends when the store says that it has changed. A file never says so.
    pub async fn told(&self) {
        match self {
            Store::Sqlite(_) => std::future::pending().await,
            Store::Postgres(store) => store.told().await,
        }
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.read(|tx| tx.value::<i64>("SELECT count(*) FROM vault_meta", &[]).map(drop)).await
    }
}

fn self_alive(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(i64::try_from(GATEWAY_SILENT_MAX.as_millis()).unwrap_or(i64::MAX)))
}

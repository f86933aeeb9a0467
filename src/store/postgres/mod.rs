//! A PostgreSQL server: the store that several gateways share.
//!
//! A transaction speaks the same SQL as one of the file's, from a blocking thread. Writers of one store take turns, as
//! they do on the file: each takes the store's advisory lock before it looks at anything, so what it decided from is
//! still so when it commits, and changes are numbered in the order of their commits. Readers see one moment and wait
//! for nobody.
//!
//! Statements are sent with their types and never prepared, so a pool in front of the server that hands its connections
//! out by transaction is fine. Every wait has an end: the server's for a statement, perch's own for an answer that never
//! comes. A connection whose state is in doubt is closed.

mod feed;
mod schema;
mod transaction;

pub(super) use transaction::PgTransaction;

use super::sql::{Tx, values};
use super::trust::{self, TrustError};
use super::{Older, StoreError};
use crate::config::Postgres;
use crate::telemetry::metrics::StoreTimes;
use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use feed::Feed;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use transaction::{Access, transact};

/// Connections of one perch: reads of an opened connection are rare, and writers take turns anyway.
const CONNECTIONS_MAX: usize = 4;

/// Those of the request ledger: one writes, one searches.
const CONNECTIONS_BESIDE_MAX: usize = 2;

/// How long connecting, signing in included, may take.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// How long to wait for one of the connections to come free.
const TURN_MAX: Duration = Duration::from_secs(5);

/// After this long without an answer on an idle line the system asks whether the server is there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// The store on a server.
pub struct PostgresStore {
    pool: Pool,
    /// The version of its tables.
    version: usize,
    feed: Option<Feed>,
    /// Where its times are told, when somebody wants them.
    pub(super) times: OnceLock<StoreTimes>,
}

impl PostgresStore {
    /// Connects, and makes the tables where they are missing and the role may; what becomes of older ones `older` says.
    /// `is_gateway` also listens for others' changes.
    ///
    /// # Errors
    /// [`StoreError`] with the server's name and what to do.
    pub async fn open(options: &Postgres, older: Older, is_gateway: bool) -> Result<Self, StoreError> {
        let store = Self::connect(options, CONNECTIONS_MAX, Some(older)).await?;
        let place =
            |cause: TrustError| StoreError::Unavailable(cause.to_string()).at(&options.url.to_string());
        let tls = tls_of(options).map_err(place)?;
        schema::warn_of_power(&*store.connection().await?).await;
        Ok(Self { feed: is_gateway.then(|| Feed::listen(config_of(options), tls)), ..store })
    }

    /// Opens the same server in connections of its own, for the request ledger: neither waits for the other's.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub(super) async fn open_beside(options: &Postgres) -> Result<Self, StoreError> {
        Self::connect(options, CONNECTIONS_BESIDE_MAX, Some(Older::Renew)).await
    }

    /// The same to look only: tables of another version are refused and left as they are.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub(super) async fn look_beside(options: &Postgres) -> Result<Self, StoreError> {
        Self::connect(options, CONNECTIONS_BESIDE_MAX, None).await
    }

    /// The version of a file's tables that are what these are.
    pub(super) fn file_version(&self) -> usize {
        schema::file_version(self.version)
    }

    /// Connects. Nothing is made where nothing is said of older tables.
    async fn connect(
        options: &Postgres,
        connections_max: usize,
        older: Option<Older>,
    ) -> Result<Self, StoreError> {
        let place = options.url.to_string();
        let named = |cause: StoreError| cause.at(&place);
        let (config, tls) =
            (config_of(options), tls_of(options).map_err(|e| named(StoreError::Unavailable(e.to_string())))?);
        let manager =
            Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let limits = Timeouts { wait: Some(TURN_MAX), create: Some(CONNECT_MAX), recycle: Some(CONNECT_MAX) };
        let pool = Pool::builder(manager)
            .max_size(connections_max)
            .timeouts(limits)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|cause| StoreError::Unavailable(cause.to_string()))?;
        let client = pool.get().await.map_err(|cause| named(cause.into()))?;
        let version = match older {
            Some(older) => schema::prepare(&client, older, &[]).await,
            None => schema::check(&client).await,
        }
        .map_err(named)?;
        drop(client);
        Ok(Self { pool, version, feed: None, times: OnceLock::new() })
    }

    /// Makes or renews the tables and lets these roles use them, and nothing else. Answers the version of the tables.
    ///
    /// # Errors
    /// [`StoreError`], when the role that signs in may not.
    pub async fn migrate(options: &Postgres, roles: &[String]) -> Result<usize, StoreError> {
        let done = async {
            let (client, line) = once(options).await?;
            let done = schema::prepare(&client, Older::Renew, roles).await;
            line.abort();
            done
        };
        done.await.map_err(|cause: StoreError| cause.at(&options.url.to_string()))
    }

    /// Whether a store is there that was used. Makes nothing.
    ///
    /// # Errors
    /// [`StoreError`] with the server's name.
    pub async fn is_used(options: &Postgres) -> Result<bool, StoreError> {
        let is_used = async {
            let (client, line) = once(options).await?;
            let is_used = schema::is_used(&client).await;
            line.abort();
            is_used
        };
        is_used.await.map_err(|cause: StoreError| cause.at(&options.url.to_string()))
    }

    /// The version of the tables and the one known here. Makes nothing.
    ///
    /// # Errors
    /// [`StoreError`] with the server's name; [`StoreError::Newer`] when it is beyond what is known.
    pub async fn versions(options: &Postgres) -> Result<(usize, usize), StoreError> {
        let asked = async {
            let (client, line) = once(options).await?;
            let versions = schema::versions(&client).await;
            line.abort();
            versions
        };
        asked.await.map_err(|cause: StoreError| cause.at(&options.url.to_string()))
    }

    /// Reads in one consistent view.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError`].
    pub(super) async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.run(Access::Reads, work, |_| ()).await
    }

    /// Writes in one transaction; `after` learns the outcome on the same thread.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError`].
    pub(super) async fn write<T, E, F, A>(&self, work: F, after: A) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        A: FnOnce(&Result<T, E>) + Send + 'static,
    {
        self.run(Access::Writes, work, after).await
    }

    /// Writes in one transaction, without a turn among the writers of the vault and without telling anybody: only what
    /// nobody decides from.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError`].
    pub(super) async fn write_beside<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        self.run(Access::WritesBeside, work, |_| ()).await
    }

    async fn run<T, E, F, A>(&self, access: Access, work: F, after: A) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
        A: FnOnce(&Result<T, E>) + Send + 'static,
    {
        let connection = match self.connection().await {
            Ok(connection) => connection,
            Err(cause) => {
                let outcome = Err(cause.into());
                after(&outcome);
                return outcome;
            }
        };
        let handle = Handle::current();
        tokio::task::spawn_blocking(move || {
            let outcome = transact(connection, &handle, access, work);
            after(&outcome);
            outcome
        })
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("perch is stopping".to_owned()).into()))
    }

    async fn connection(&self) -> Result<Object, StoreError> {
        Ok(self.pool.get().await?)
    }

    /// How many changes the store has had, which is also the mark of the last one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn data_version(&self) -> Result<i64, StoreError> {
        self.read(|tx| {
            Ok(tx.row("SELECT generation FROM vault_meta", values![], |row| row.get(0))?.unwrap_or(0))
        })
        .await
    }

    /// Ends when somebody says that the store has changed, or may have.
    pub(super) async fn told(&self) {
        match &self.feed {
            Some(feed) => feed.told().await,
            None => std::future::pending().await,
        }
    }
}

/// A connection outside the pool, and what keeps it going.
async fn once(options: &Postgres) -> Result<(Client, JoinHandle<()>), StoreError> {
    let tls = tls_of(options).map_err(|cause| StoreError::Unavailable(cause.to_string()))?;
    let config = config_of(options);
    let connecting = tokio::time::timeout(CONNECT_MAX, config.connect(tls)).await;
    let (client, connection) =
        connecting.map_err(|_| StoreError::Unavailable(format!("no answer within {CONNECT_MAX:?}")))??;
    Ok((client, tokio::spawn(async move { drop(connection.await) })))
}

/// How to reach the server. What the URL says of time goes before what is the habit here.
fn config_of(options: &Postgres) -> Config {
    let mut config = options.url.config().clone();
    config.application_name("perch");
    if config.get_connect_timeout().is_none() {
        // Of several hosts each gets its part, so that a silent one does not hide the others.
        let hosts = u32::try_from(config.get_hosts().len().max(1)).unwrap_or(u32::MAX);
        config.connect_timeout(CONNECT_MAX / hosts);
    }
    config.keepalives(true).keepalives_idle(KEEPALIVE_AFTER);
    config
}

fn tls_of(options: &Postgres) -> Result<MakeRustlsConnect, TrustError> {
    Ok(MakeRustlsConnect::new(trust::client_config(options.ca_file.as_deref(), "vault.ca_file")?))
}

impl From<PoolError> for StoreError {
    fn from(cause: PoolError) -> Self {
        match cause {
            PoolError::Backend(cause) => cause.into(),
            PoolError::Timeout(_) => StoreError::Unavailable("no connection in time".to_owned()),
            other => StoreError::Unavailable(other.to_string()),
        }
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(cause: tokio_postgres::Error) -> Self {
        // Not the detail: it repeats values of rows.
        if let Some(said) = cause.as_db_error() {
            return StoreError::Unavailable(format!("{} ({})", said.message(), said.code().code()));
        }
        let mut why = cause.to_string();
        let mut source = std::error::Error::source(&cause);
        while let Some(deeper) = source {
            let deeper_text = deeper.to_string();
            if !why.contains(&deeper_text) {
                why = format!("{why}: {deeper_text}");
            }
            source = deeper.source();
        }
        StoreError::Unavailable(why)
    }
}

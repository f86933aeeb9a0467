//! The vault: which customer has which connections, and their tokens, sealed at rest.
//!
//! ```text
//! seal    how a secret is encrypted, byte for byte          ring   the store's keys; stored: as they lie there
//! kek     the key from outside that opens the ring          cache  what was opened lately
//! command, ask, transit, aws (sigv4)   a key from a program, or a key service that wraps
//! wrap    what wraps the ring's keys                        follow a ring that keeps up with its store
//! anchor  a memory outside the store                        restore backups, and back
//! rotate  the life of the ring's keys                       verify a look at every row
//! seen    the newest version of each row: no replays        read, write, life  the life of a connection
//! apps    who may call, by the keys they show              audit  who did what, in a chain
//! pauses  whose calls an operator has stopped
//! webhooks  what Finch told of them                        answers what replicas pass to each other
//! ```
//! A token leaves in an [`Entry`] only. A row that does not open is refused, never guessed around;
//! there is no plaintext mode. There is no trait: one vault, over one store.

mod anchor;
pub mod answers;
mod apps;
mod ask;
pub mod audit;
mod aws;
mod cache;
mod command;
mod entry;
mod error;
pub(crate) mod failpoint;
mod follow;
mod gcp;
pub mod kek;
mod life;
mod owner;
pub mod pauses;
pub mod process;
mod read;
mod restore;
pub mod ring;
mod rotate;
pub mod seal;
mod seen;
mod sigv4;
mod source;
mod stored;
mod transit;
mod verify;
pub mod webhooks;
mod wrap;
mod write;

pub use crate::store::exchange::CodeHash;
pub use crate::store::{Connection, Status};
pub use apps::{APPS_MAX, AppError, AppFacts};
pub use audit::{Action, Actor};
pub use entry::{
    Entry, ImportError, LIST_ITEMS_MAX, NewConnection, Sealed, Stats, TEXT_BYTES_MAX, TOKEN_BYTES_MAX,
};
pub use error::VaultError;
pub use kek::{Fingerprint, KeyError};
pub use life::{Journalled, Learnt, Misfit};
pub use read::Page;
pub use restore::{RestoreOptions, Restored, backup_as_it_is, restore};
pub use ring::OpenError;
pub use rotate::{KeyFacts, KeysError, RESEAL_ROWS, Resealed};
pub use source::wrappers;
pub use verify::Verified;
pub use wrap::{Wrapper, Wrappers};

use crate::config;
use crate::store::connections::{self, Scope};
use crate::store::{Older, Row, Store, Tx};
use crate::telemetry::metrics::Stores;
use crate::types::{ApplicationId, ConnectionId, CustomerId, Environment, Moment, UnixMillis};
use cache::Cache;
use ring::{Owner, Ring};
use seen::Seen;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The mark of a store before anything was seen of it.
const LOOK_AT_ALL: i64 = -1;

/// Rows that are forgotten one by one; beyond it all are.
const CHANGED_MAX: u32 = 1000;

/// What a vault is opened with.
#[derive(Debug)]
pub struct VaultOptions {
    /// Where the store is.
    pub store: config::Store,
    /// What wraps the store's keys.
    pub keys: Wrappers,
    /// The Finch application whose connections these are.
    pub application: ApplicationId,
    /// The environment perch works with.
    pub environment: Environment,
    /// How long an opened connection is believed without looking.
    pub cache_ttl: Duration,
    /// Whether this is a gateway, of which a file has one at most.
    pub is_gateway: bool,
    /// Where the store's count of changes is remembered outside the store.
    pub generation_file: Option<PathBuf>,
    /// Whether a store that is older than remembered is opened all the same.
    pub accept_rollback: bool,
    /// Now, for the birth of a new store.
    pub now: UnixMillis,
}

/// The vault.
pub struct Vault {
    store: Store,
    shared: Arc<Shared>,
    wrappers: Wrappers,
    /// What a gateway calls itself in the store; commands have no name.
    gateway: Option<String>,
    /// One look at the store's keys at a time, and what came of the last one that did not open them all.
    following: tokio::sync::Mutex<Option<follow::Failed>>,
    /// The origin of the cache's clock.
    origin: Instant,
    /// The store's mark of other processes' commits, as last seen.
    data_version: AtomicI64,
    /// One refresh at a time: two could each take the other's mark for their own.
    refreshing: tokio::sync::Mutex<()>,
    /// When this gateway last told the store that it lives.
    told_at: Mutex<Option<Instant>>,
}

/// What the blocking side of reads and writes needs too.
struct Shared {
    scope: Scope,
    ring: RwLock<Arc<Ring>>,
    seen: Seen,
    connections: Cache<ConnectionId, read::Found>,
    customers: Cache<CustomerId, Arc<[Connection]>>,
    apps: apps::Apps,
    pauses: pauses::Pauses,
    unreadable: AtomicU64,
    /// The connections last reported unreadable, so that the log has one line for each and not one per call.
    reported: Mutex<std::collections::HashSet<ConnectionId>>,
    anchor: Option<anchor::Anchor>,
}

impl Vault {
    /// Opens the vault, making the store and its keys when the file is new or empty. Tables of an older perch are renewed
    /// for a gateway, and refused otherwise.
    ///
    /// # Errors
    /// [`OpenError`] when the key is wrong, the store is not sound or another gateway has it; nothing
    /// in an existing store is changed then.
    pub async fn open(options: VaultOptions) -> Result<Arc<Self>, OpenError> {
        let VaultOptions { store, keys, application, environment, cache_ttl, is_gateway, now, .. } = options;
        let generation_file = options.generation_file;
        let store = open_store(store, is_gateway).await?;
        let data_version = store.data_version().await?;
        if let Some(path) = &generation_file {
            let memory = store.read(follow::memory).await?;
            anchor::Anchor::check(path, memory.as_ref(), options.accept_rollback)?;
        }
        let ring = follow::open_or_create(&store, &keys, now).await?;
        let anchor = match (generation_file, store.read(follow::memory).await?) {
            (Some(path), Some(memory)) => Some(anchor::Anchor::hold(path, memory, options.accept_rollback)?),
            _ => None,
        };
        let vault = Arc::new(Self {
            store,
            shared: Arc::new(Shared {
                scope: Scope { application, environment },
                ring: RwLock::new(Arc::new(ring)),
                seen: Seen::default(),
                connections: Cache::new(cache_ttl),
                customers: Cache::new(cache_ttl),
                apps: apps::Apps::default(),
                pauses: pauses::Pauses::default(),
                unreadable: AtomicU64::new(0),
                reported: Mutex::default(),
                anchor,
            }),
            wrappers: keys,
            gateway: if is_gateway { Some(follow::gateway_name()?) } else { None },
            following: tokio::sync::Mutex::new(None),
            origin: Instant::now(),
            data_version: AtomicI64::new(data_version),
            refreshing: tokio::sync::Mutex::new(()),
            told_at: Mutex::new(None),
        });
        vault.shared.doubt_apps();
        vault.renew_apps().await.map_err(|error| OpenError::Store(error.to_string()))?;
        vault.shared.pauses.doubt();
        vault.renew_pauses().await.map_err(|error| OpenError::Store(error.to_string()))?;
        vault.tell_newest_key().await?;
        Ok(vault)
    }

    /// Notices what other processes wrote, such as `perch connections …` beside a running gateway, and
    /// forgets what was opened before. Call it every two seconds: that is how long a change made
    /// elsewhere may take to be obeyed. Answers whether there was one.
    ///
    /// # Errors
    /// [`VaultError::Store`] when the store does not answer; what is cached is served until it does.
    pub async fn refresh(&self) -> Result<bool, VaultError> {
        let _one = self.refreshing.lock().await;
        let version = self.store.data_version().await?;
        self.remember_generation().await?;
        let before = self.data_version.swap(version, Ordering::SeqCst);
        let is_changed = before != version;
        let looked = self.look_again(is_changed.then_some(before)).await;
        if looked.is_err() {
            // What was not looked at is looked at again: of a server all that came since, of a file everything.
            let again = if self.store.is_shared() { before } else { LOOK_AT_ALL };
            self.data_version.store(again, Ordering::SeqCst);
        }
        looked?;
        self.say_alive().await?;
        Ok(is_changed)
    }

    /// Whether several gateways may use its store.
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Ends when the store says that it has changed: the time for a [`Vault::refresh`]. Only a store that several
    /// gateways share ever says so.
    pub async fn told(&self) {
        self.store.told().await;
    }

    /// Forgets what was opened before a change and takes over what the change brought. `changed` is the store's mark
    /// before it.
    async fn look_again(&self, changed: Option<i64>) -> Result<(), VaultError> {
        if let Some(before) = changed {
            self.forget_changed(before).await?;
            self.shared.doubt_apps();
            self.shared.pauses.doubt();
        }
        self.renew_apps().await?;
        self.renew_pauses().await?;
        if changed.is_some() || !self.shared.ring().is_whole() {
            self.follow_keys().await?;
        }
        Ok(())
    }

    /// A file does not say what has changed. A server does, by the count of changes: what others wrote costs the reading
    /// of those rows, and everything else that was opened may stand in while the server is out.
    async fn forget_changed(&self, before: i64) -> Result<(), VaultError> {
        let mut few = None;
        if self.store.is_shared() && before != LOOK_AT_ALL {
            let scope = self.shared.scope.clone();
            let changed = move |tx: &Tx<'_>| connections::changed_after(tx, &scope, before, CHANGED_MAX);
            few = Some(self.store.read(changed).await?).filter(|ids| ids.len() < CHANGED_MAX as usize);
        }
        match few {
            Some(ids) => ids.iter().for_each(|id| self.shared.connections.invalidate(id)),
            None => self.shared.connections.invalidate_all(),
        }
        self.shared.customers.invalidate_all();
        Ok(())
    }

    /// Writes down outside the store how many changes it has had, when that is wanted and due.
    async fn remember_generation(&self) -> Result<(), VaultError> {
        if self.shared.anchor.is_none() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.store
            .read(move |tx| {
                let generation = crate::store::keys::generation(tx)?;
                if let Some(anchor) = &shared.anchor {
                    anchor.note(generation);
                }
                Ok(())
            })
            .await
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`VaultError::Store`] when it does not.
    pub async fn ping(&self) -> Result<(), VaultError> {
        Ok(self.store.ping().await?)
    }

    /// The environment this vault works with.
    pub fn environment(&self) -> Environment {
        self.shared.scope.environment
    }

    fn now(&self) -> Moment {
        Moment::at(self.origin.elapsed())
    }
}

impl Shared {
    fn owner<'a>(
        &'a self,
        customer: Option<&'a CustomerId>,
        id: &'a ConnectionId,
        version: u64,
    ) -> Owner<'a> {
        Owner {
            application: self.scope.application.as_str(),
            environment: self.scope.environment.as_str(),
            customer_id: customer.map(CustomerId::as_str),
            connection_id: id.as_str(),
            version,
        }
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens a row of this scope: its token, `None` when it is disconnected.
    /// `newest` is the newest version of it that was known before the row was read: a row that is changed meanwhile is
    /// not an old one put back.
    fn open_row(
        &self,
        ring: &Ring,
        row: &Row,
        newest: u64,
    ) -> Result<Option<crate::types::AccessToken>, VaultError> {
        let facts = &row.facts;
        let id = &facts.connection_id;
        let token = match &row.sealed {
            Some(sealed) => {
                let owner = self.owner(facts.customer_id.as_ref(), id, facts.version);
                let opened = ring.open_token(owner, &sealed.blob);
                Some(opened.map_err(|seal::Rejected| {
                    self.unreadable(id, "its sealed token does not open in its place")
                })?)
            }
            None => None,
        };
        // Only now: a forged row with a huge version must not make the true one look old.
        let is_newest = self.seen.admits(id, facts.version);
        if !is_newest && facts.version < newest {
            return Err(self.unreadable(id, "an older version of its row was put back"));
        }
        Ok(token)
    }

    fn unreadable(&self, id: &ConnectionId, why: &'static str) -> VaultError {
        /// Connections whose report is remembered.
        const REPORTED_MAX: usize = 1000;
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() < REPORTED_MAX && reported.insert(id.clone()) {
            tracing::error!(connection_id = %id, "the token of connection {id} is refused: {why}");
        }
        VaultError::Unreadable { connection: id.clone() }
    }
}

impl Vault {
    /// Has the times of its store told.
    pub fn measure(&self, stores: &Stores) {
        self.store.measure(stores);
    }
}

/// Opens the store that a configuration names. Only a gateway renews the tables of an older perch: others may still run
/// on them.
pub(crate) async fn open_store(store: config::Store, is_gateway: bool) -> Result<Store, OpenError> {
    let older = if is_gateway { Older::Renew } else { Older::Refuse };
    match store {
        config::Store::Sqlite(path) => tokio::task::spawn_blocking(move || {
            if is_gateway { Store::open_exclusive(&path) } else { Store::open(&path, older) }
        })
        .await
        .map_err(|_| OpenError::Store("perch is stopping".to_owned()))?
        .map_err(OpenError::from),
        config::Store::Postgres(server) => Ok(Store::connect(&server, older, is_gateway).await?),
    }
}

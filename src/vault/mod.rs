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
mod failpoint;
mod follow;
pub mod kek;
mod life;
mod owner;
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
pub use restore::{RestoreOptions, Restored, restore};
pub use ring::OpenError;
pub use rotate::{KeyFacts, KeysError, RESEAL_ROWS, Resealed};
pub use source::wrappers;
pub use verify::Verified;
pub use wrap::{Wrapper, Wrappers};

use crate::store::connections::Scope;
use crate::store::{Row, Store};
use crate::types::{ApplicationId, ConnectionId, CustomerId, Environment, Moment, UnixMillis};
use cache::Cache;
use ring::{Owner, Ring};
use seen::Seen;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What a vault is opened with.
#[derive(Debug)]
pub struct VaultOptions {
    /// The store's file.
    pub path: PathBuf,
    /// What wraps the store's keys.
    pub keys: Wrappers,
    /// The Finch application whose connections these are.
    pub application: ApplicationId,
    /// The environment perch works with.
    pub environment: Environment,
    /// How long an opened connection is believed without looking.
    pub cache_ttl: Duration,
    /// Whether this is a gateway, of which a store has one at most.
    pub exclusive: bool,
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
}

/// What the blocking side of reads and writes needs too.
struct Shared {
    scope: Scope,
    ring: RwLock<Arc<Ring>>,
    seen: Seen,
    connections: Cache<ConnectionId, read::Found>,
    customers: Cache<CustomerId, Arc<[Connection]>>,
    apps: apps::Apps,
    unreadable: AtomicU64,
    /// The connections last reported unreadable, so that the log has one line for each and not one per call.
    reported: Mutex<std::collections::HashSet<ConnectionId>>,
    anchor: Option<anchor::Anchor>,
}

impl Vault {
    /// Opens the vault, making the store and its keys when the file is new or empty.
    ///
    /// # Errors
    /// [`OpenError`] when the key is wrong, the store is not sound or another gateway has it; nothing
    /// in an existing store is changed then.
    pub async fn open(options: VaultOptions) -> Result<Arc<Self>, OpenError> {
        let VaultOptions { path, keys, application, environment, cache_ttl, exclusive, now, .. } = options;
        let generation_file = options.generation_file;
        let store = tokio::task::spawn_blocking(move || {
            if exclusive { Store::open_exclusive(&path) } else { Store::open(&path) }
        })
        .await
        .map_err(|_| OpenError::Store("perch is stopping".to_owned()))??;
        let data_version = store.data_version().await?;
        if let Some(path) = &generation_file {
            let memory = store.read(follow::memory).await?;
            anchor::Anchor::check(path, memory.as_ref(), options.accept_rollback)?;
        }
        let ring = follow::open_or_create(&store, &keys, now).await?;
        let anchor = match (generation_file, store.read(follow::memory).await?) {
            (Some(path), Some(memory)) => Some(anchor::Anchor::hold(path, memory)?),
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
                unreadable: AtomicU64::new(0),
                reported: Mutex::default(),
                anchor,
            }),
            wrappers: keys,
            gateway: if exclusive { Some(follow::gateway_name()?) } else { None },
            following: tokio::sync::Mutex::new(None),
            origin: Instant::now(),
            data_version: AtomicI64::new(data_version),
            refreshing: tokio::sync::Mutex::new(()),
        });
        vault.shared.doubt_apps();
        vault.renew_apps().await.map_err(|error| OpenError::Store(error.to_string()))?;
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
        let is_changed = self.data_version.swap(version, Ordering::SeqCst) != version;
        if is_changed {
            self.shared.connections.invalidate_all();
            self.shared.customers.invalidate_all();
            self.shared.doubt_apps();
        }
        self.renew_apps().await?;
        if is_changed || !self.shared.ring().is_whole() {
            let followed = self.follow_keys().await;
            if followed.is_err() {
                // What was not looked at is looked at again.
                self.data_version.store(-1, Ordering::SeqCst);
            }
            followed?;
        }
        Ok(is_changed)
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
    fn open_row(&self, ring: &Ring, row: &Row) -> Result<Option<crate::types::AccessToken>, VaultError> {
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
        if !self.seen.admits(id, facts.version) {
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

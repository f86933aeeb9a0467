//! Reading: by connection, by customer, all.

use super::stored::Mark;
use super::{Entry, Shared, Stats, Vault, VaultError, seal};
use crate::store::connections::Sought;
use crate::store::{Connection, connections, keys};
use crate::types::{ConnectionId, CustomerId, Environment, Moment, ProviderId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most connections one customer may have.
const CONNECTIONS_OF_CUSTOMER_MAX: usize = 1000;

/// A page of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Oldest first.
    pub connections: Vec<Connection>,
    /// Whether there are none behind it.
    pub is_last: bool,
}

/// What the cache keeps of a connection.
#[derive(Clone)]
pub(super) enum Found {
    Here(Arc<Entry>),
    Elsewhere(Environment),
}

impl Vault {
    /// One connection, opened.
    ///
    /// # Errors
    /// [`VaultError::UnknownConnection`], [`VaultError::OtherEnvironment`], [`VaultError::Unreadable`],
    /// or [`VaultError::Store`] when the store is down and nothing lately opened can stand in.
    pub async fn connection(&self, id: &ConnectionId) -> Result<Arc<Entry>, VaultError> {
        self.connection_at(id, self.now()).await
    }

    /// The same, read from the store whatever is cached: another process may have stored a newer token.
    ///
    /// # Errors
    /// As [`Vault::connection`].
    pub async fn read_anew(&self, id: &ConnectionId) -> Result<Arc<Entry>, VaultError> {
        self.shared.connections.invalidate(id);
        self.connection(id).await
    }

    async fn connection_at(&self, id: &ConnectionId, now: Moment) -> Result<Arc<Entry>, VaultError> {
        let found = self.shared.connections.get(id, now, || self.load(id.clone())).await?;
        match found {
            Some(Found::Here(entry)) => Ok(entry),
            Some(Found::Elsewhere(stored)) => Err(VaultError::OtherEnvironment { stored }),
            None => Err(VaultError::UnknownConnection),
        }
    }

    /// The customer's connections, oldest first, whatever their status; none for an unknown customer.
    /// One that is unreadable stands among them without its token.
    ///
    /// # Errors
    /// [`VaultError::Store`] and [`VaultError::Damaged`].
    pub async fn of_customer(&self, customer: &CustomerId) -> Result<Vec<Arc<Entry>>, VaultError> {
        let now = self.now();
        let listed =
            self.shared.customers.get(customer, now, || self.load_customer(customer.clone())).await?;
        let mut entries = Vec::new();
        for facts in listed.iter().flat_map(|list| list.iter()) {
            match self.connection_at(&facts.connection_id, now).await {
                // The list and the connection may be of different ages: the connection decides.
                Ok(entry) if entry.facts.customer_id.as_ref() == Some(customer) => entries.push(entry),
                Ok(_) | Err(VaultError::UnknownConnection | VaultError::OtherEnvironment { .. }) => {}
                Err(VaultError::Unreadable { .. }) => {
                    entries.push(Arc::new(Entry { facts: facts.clone(), token: None, is_unreadable: true }));
                }
                Err(other) => return Err(other),
            }
        }
        Ok(entries)
    }

    /// The facts of every connection, oldest first; read from the store each time. A damaged row is
    /// left out, logged and counted.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn list(&self) -> Result<Vec<Connection>, VaultError> {
        let shared = Arc::clone(&self.shared);
        self.store
            .read(move |tx| {
                let mut sound = Vec::new();
                for row in connections::all(tx, &shared.scope)? {
                    match row {
                        Ok(facts) => sound.push(facts),
                        Err(cause) => {
                            shared.unreadable.fetch_add(1, Ordering::Relaxed);
                            tracing::error!(error = %cause, "a connection is left out of the list: {cause}");
                        }
                    }
                }
                Ok(sound)
            })
            .await
    }

    /// The facts of those that are sought, oldest first, at most `limit`: a page, read from the store. A damaged row is
    /// left out as in [`Vault::list`].
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn page(&self, sought: Sought, limit: u32) -> Result<Page, VaultError> {
        let shared = Arc::clone(&self.shared);
        self.store
            .read(move |tx| {
                // One more than asked for tells whether there are more.
                let rows = connections::page(tx, &shared.scope, &sought, limit.saturating_add(1))?;
                let is_last = rows.len() <= usize::try_from(limit).unwrap_or(usize::MAX);
                let mut connections = Vec::with_capacity(rows.len());
                for row in rows.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
                    match row {
                        Ok(facts) => connections.push(facts),
                        Err(cause) => {
                            shared.unreadable.fetch_add(1, Ordering::Relaxed);
                            tracing::error!(error = %cause, "a connection is left out of the list: {cause}");
                        }
                    }
                }
                Ok(Page { connections, is_last })
            })
            .await
    }

    /// Numbers for metrics.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn stats(&self) -> Result<Stats, VaultError> {
        let shared = Arc::clone(&self.shared);
        let (counts, generation, sealing_key_made) = self
            .store
            .read(move |tx| {
                let counts = connections::counts(tx, &shared.scope)?;
                Ok::<_, VaultError>((counts, keys::generation(tx)?, keys::sealing_key_made(tx)?))
            })
            .await?;
        let connections = counts
            .into_iter()
            .map(|(status, provider, count)| (status, provider.and_then(|p| ProviderId::new(p).ok()), count))
            .collect();
        Ok(Stats {
            connections,
            generation,
            sealing_key_made,
            unreadable_total: self.shared.unreadable.load(Ordering::Relaxed),
            loads_total: self.shared.connections.loads() + self.shared.customers.loads(),
        })
    }

    async fn load(&self, id: ConnectionId) -> Result<Option<Found>, VaultError> {
        match self.look(id.clone(), false).await? {
            Some(found) => Ok(found),
            None => {
                self.follow_keys().await?;
                Ok(self.look(id, true).await?.flatten())
            }
        }
    }

    /// Reads and opens a connection. `None`, unless this is the last look: it is sealed with a key that is
    /// not at hand, and the store's keys have changed.
    async fn look(&self, id: ConnectionId, is_last: bool) -> Result<Option<Option<Found>>, VaultError> {
        let (shared, ring, newest) =
            (Arc::clone(&self.shared), self.shared.ring(), self.shared.seen.newest(&id));
        self.store
            .read(move |tx| match connections::find(tx, &shared.scope, &id) {
                Ok(None) => Ok(Some(None)),
                Ok(Some(row)) if row.environment != shared.scope.environment => {
                    Ok(Some(Some(Found::Elsewhere(row.environment))))
                }
                Ok(Some(row)) => {
                    let key = row.sealed.as_ref().and_then(|sealed| seal::key_id(&sealed.blob));
                    if !is_last && key.is_some_and(|key| !ring.has(key)) && !ring.is_of(&Mark::read(tx)?) {
                        return Ok(None);
                    }
                    let token = shared.open_row(&ring, &row, newest)?;
                    let entry = Entry { facts: row.facts, token, is_unreadable: false };
                    Ok(Some(Some(Found::Here(Arc::new(entry)))))
                }
                Err(crate::store::StoreError::Damaged(_)) => {
                    Err(shared.unreadable(&id, "its row is not what perch writes"))
                }
                Err(other) => Err(other.into()),
            })
            .await
    }

    async fn load_customer(&self, customer: CustomerId) -> Result<Option<Arc<[Connection]>>, VaultError> {
        let shared = Arc::clone(&self.shared);
        self.store
            .read(move |tx| {
                let limit = CONNECTIONS_OF_CUSTOMER_MAX + 1;
                let list = connections::of_customer(tx, &shared.scope, &customer, limit)?;
                match list.len() {
                    0 => Ok(None),
                    n if n >= limit => Err(VaultError::Damaged(format!(
                        "customer {customer} has more than {CONNECTIONS_OF_CUSTOMER_MAX} connections; name one with Perch-Connection"
                    ))),
                    _ => Ok(Some(list.into())),
                }
            })
            .await
    }
}

impl Shared {
    /// Forgets what was opened of a connection and of those it belongs to.
    pub(super) fn forget<'a>(&self, id: &ConnectionId, customers: impl IntoIterator<Item = &'a CustomerId>) {
        self.connections.invalidate(id);
        customers.into_iter().for_each(|customer| self.customers.invalidate(customer));
    }
}

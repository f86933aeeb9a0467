//! Whose the tables of a store are, and who may renew them: a gateway when it starts, and `perch vault migrate`. Every other
//! command that meets an older perch's leaves them to the gateways that run on them.

use super::postgres::PostgresStore;
use super::schema::{self, STORE};
use super::sqlite;
use super::{Store, StoreError};
use crate::config;
use std::path::Path;

/// What becomes of tables that an older perch has made, when a store is opened. Where there are none they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Older {
    /// They are renewed.
    Renew,
    /// They stay as they are, and the store is not opened.
    Refuse,
    /// They stay as they are, and are used so: by what asks only for what every version has.
    Keep,
}

/// What is at the place of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No store, or one that was never used.
    Nothing,
    /// A store whose tables an older perch has made.
    Older {
        /// Their version.
        there: usize,
        /// The version that this perch writes.
        known: usize,
    },
    /// A store as this perch writes it.
    Known,
}

impl Found {
    /// Looks, and makes nothing.
    ///
    /// # Errors
    /// [`StoreError`] with the place's name; [`StoreError::Newer`] when a newer perch has made it.
    pub async fn at(store: &config::Store) -> Result<Self, StoreError> {
        let (there, known, is_used) = match store {
            config::Store::Sqlite(path) => {
                let path = path.clone();
                let looked = tokio::task::spawn_blocking(move || {
                    file(&path).map_err(|cause| cause.at(&path.display().to_string()))
                });
                let stopping = |_| StoreError::Unavailable("perch is stopping".to_owned());
                let there = looked.await.map_err(stopping)??;
                (there.unwrap_or(0), STORE.newest(), there.is_some())
            }
            config::Store::Postgres(server) => {
                let (there, known) = PostgresStore::versions(server).await?;
                (there, known, Store::is_used(server).await?)
            }
        };
        Ok(match there {
            _ if !is_used => Found::Nothing,
            0 => Found::Known,
            _ if there < known => Found::Older { there, known },
            _ => Found::Known,
        })
    }
}

/// The version of a file's tables; `None` where there is no file.
fn file(path: &Path) -> Result<Option<usize>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let version = schema::version(&sqlite::look(path)?, &STORE)?;
    if version > STORE.newest() {
        return Err(schema::newer_than_known(version, &STORE));
    }
    Ok(Some(version))
}

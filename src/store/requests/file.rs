//! The ledger's file beside the store's.

use crate::store::StoreError;
use crate::store::schema::{self, REQUESTS};
use crate::store::sqlite::{self, SqliteStore};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for another's write: only whoever renews the tables writes beside the gateway.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Pages kept in memory by who writes, in KiB: Finch's ids come in no order, so their index is written everywhere.
const CACHE_KIB: i64 = 16 * 1024;

/// The ledger's file of a store, by the path of the store's own.
fn file_of(store: &Path) -> PathBuf {
    sqlite::beside(store, ".requests")
}

/// Opens the file twice, to write and to search, making it where it is missing. What is no ledger is set apart. Blocks.
///
/// # Errors
/// [`StoreError`] with the file's name.
pub(super) fn open(store: &Path) -> Result<(SqliteStore, SqliteStore), StoreError> {
    let path = file_of(store);
    let writes = match connect(&path) {
        Err(StoreError::Damaged(why)) => {
            sqlite::set_apart(&path)?;
            tracing::error!(
                "{}: {why}; it is set apart and a new ledger begun, so that calls go on",
                path.display()
            );
            connect(&path)
        }
        opened => opened,
    };
    let named = |cause: StoreError| cause.at(&path.display().to_string());
    let (writes, reads) = (writes.map_err(named)?, read_only(&path).map_err(named)?);
    Ok((SqliteStore::over(writes, &path), SqliteStore::over(reads, &path)))
}

/// Opens the file to search it; `None` when there is none. Blocks.
///
/// # Errors
/// [`StoreError`] with the file's name.
pub(super) fn look(store: &Path) -> Result<Option<SqliteStore>, StoreError> {
    let path = file_of(store);
    if !path.exists() {
        return Ok(None);
    }
    let db = read_only(&path).map_err(|cause| cause.at(&path.display().to_string()))?;
    Ok(Some(SqliteStore::over(db, &path)))
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let db = sqlite::connect(path, &REQUESTS)?;
    db.busy_timeout(BUSY_WAIT)?;
    // Evidence need not outlive the machine's power, and what is old need not be scratched out page by page.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(()))?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(db)
}

fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "trusted_schema", "OFF")?;
    schema::check(&db, &REQUESTS)?;
    Ok(db)
}

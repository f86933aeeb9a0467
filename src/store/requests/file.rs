//! The ledger's file beside the store's.

use crate::store::replace::set_apart;
use crate::store::schema::{self, REQUESTS};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{Older, StoreError};
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
/// [`StoreError`] with the file's name; [`StoreError::Refused`] when it is a newer perch's, and then nothing is moved.
pub(super) fn open(store: &Path) -> Result<(SqliteStore, SqliteStore), StoreError> {
    let path = file_of(store);
    if let Some(version) = newer(&path) {
        return Err(StoreError::Refused(format!(
            "{} is the ledger of a newer perch (version {version} of its schema); use that perch, or move the file away",
            path.display()
        )));
    }
    let both = match connect_both(&path) {
        Err(StoreError::Damaged(why)) => anew(&path, &why),
        opened => opened,
    };
    let (writes, reads) = both.map_err(|cause: StoreError| cause.at(&path.display().to_string()))?;
    Ok((SqliteStore::over(writes, &path), SqliteStore::over(reads, &path)))
}

/// Sets a ledger apart that turned out to be damaged, and begins a new one in its place. Blocks.
///
/// # Errors
/// [`StoreError`] with the file's name; the connections are what they were then.
pub(super) fn begin_anew(writes: &SqliteStore, reads: &SqliteStore, why: &str) -> Result<(), StoreError> {
    SqliteStore::replace_both(writes, reads, |path| {
        anew(path, why).map_err(|cause| cause.at(&path.display().to_string()))
    })
}

fn anew(path: &Path, why: &str) -> Result<(Connection, Connection), StoreError> {
    let name = set_apart(path)?;
    tracing::error!(
        "{}: {why}; it is set apart as {} and a new ledger begun, so that calls go on",
        path.display(),
        name.display()
    );
    connect_both(path)
}

fn connect_both(path: &Path) -> Result<(Connection, Connection), StoreError> {
    Ok((connect(path)?, read_only(path)?))
}

/// The version of a ledger that is newer than this perch knows. What cannot be read is not.
fn newer(path: &Path) -> Option<i64> {
    if !path.exists() {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).ok()?;
    db.busy_timeout(BUSY_WAIT).ok()?;
    schema::newer(&db, &REQUESTS)
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
    let db = sqlite::connect(path, &REQUESTS, Older::Renew)?;
    db.busy_timeout(BUSY_WAIT)?;
    // Evidence need not outlive the machine's power, and what is old need not be scratched out page by page.
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(()))?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    Ok(db)
}

fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let db = sqlite::look(path)?;
    schema::check(&db, &REQUESTS)?;
    Ok(db)
}

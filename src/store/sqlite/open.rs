//! How a file of `SQLite` is opened: made for its owner alone, written ahead, and with the tables that are wanted.

use crate::store::schema::{self, Kind};
use crate::store::{Older, StoreError};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long to wait for another process's write: longer than an import of some ten thousand
/// connections holds it.
const BUSY_WAIT: Duration = Duration::from_secs(5);

/// Between two tries where `SQLite` does not wait by itself: the others are done within milliseconds.
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Opens a connection of its own to a file, making the file and its tables where they are missing. What becomes of
/// older tables `older` says.
pub(in crate::store) fn connect(path: &Path, kind: &Kind, older: Older) -> Result<Connection, StoreError> {
    let mut db = attach(path)?;
    schema::migrate(&mut db, kind, older)?;
    Ok(db)
}

/// Opens a file to look at it, whoever made it. It stays as it is.
pub(in crate::store) fn look(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY_WAIT)?;
    db.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(db)
}

/// Opens a file to write it, whatever its tables are, and makes it where it is missing.
pub(super) fn attach(path: &Path) -> Result<Connection, StoreError> {
    private(path)?;
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(BUSY_WAIT)?;
    let mode = write_ahead(&db)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(StoreError::Unavailable(format!(
            "its file system allows journal mode {mode} only; perch needs a local disk"
        )));
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "secure_delete", "ON")?;
    db.pragma_update(None, "foreign_keys", "ON")?;
    db.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(db)
}

/// Switches to write-ahead logging and tells the mode that holds then. `SQLite` answers "locked" at
/// once, whatever the busy timeout, when others open or close the same file at that moment; so the
/// waiting is done here, and is as long.
fn write_ahead(db: &Connection) -> rusqlite::Result<String> {
    let deadline = Instant::now() + BUSY_WAIT;
    loop {
        match db.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)) {
            Err(cause)
                if cause.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(BUSY_PAUSE);
            }
            ended => return ended,
        }
    }
}

/// Makes the file for its owner alone before `SQLite` sees it: `SQLite` gives its `-wal` and `-shm` the
/// mode of the file itself. One that was opened wider by someone is narrowed, by its path: to open
/// and close a file that `SQLite` has open in this process would let go of `SQLite`'s locks on it.
fn private(path: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::Unavailable(cause.to_string());
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
        Err(cause) => return Err(failed(cause)),
    }
    for suffix in ["", "-wal", "-shm"] {
        let name = beside(path, suffix);
        if let Ok(facts) = fs::metadata(&name)
            && facts.mode() & 0o077 != 0
        {
            fs::set_permissions(&name, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        }
    }
    Ok(())
}

/// The file beside `path` whose name is longer by `suffix`.
pub(in crate::store) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

//! One `SQLite` file: how it is guarded and used.

mod open;

pub(super) use open::{beside, connect, look};

use super::replace::new_file;
use super::schema::STORE;
use super::sql::Tx;
use super::{Older, StoreError, copy};
use crate::telemetry::metrics::StoreTimes;
use open::{BUSY_PAUSE, attach};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long to wait for another gateway's guard. The lock of a killed process was seen to outlive it
/// by some milliseconds, and who restarts it at once should find its store free.
const GUARD_WAIT: Duration = Duration::from_millis(500);

/// The store: one connection behind a mutex, used from blocking threads only.
pub struct SqliteStore {
    db: Arc<Mutex<Connection>>,
    path: PathBuf,
    /// Held while the gateway lives.
    _guard: Option<Guard>,
    /// Where its times are told, when somebody wants them.
    pub(super) times: OnceLock<StoreTimes>,
}

/// The right to be the store's only gateway. The system lets it go with the process, however that ends.
pub(super) struct Guard {
    _file: File,
}

impl Guard {
    /// Takes it.
    ///
    /// # Errors
    /// [`StoreError`] when a gateway has it.
    pub(super) fn take(path: &Path) -> Result<Self, StoreError> {
        let file = guard(path, GUARD_WAIT).map_err(|taken| taken.at(path))?;
        Ok(Self { _file: file })
    }
}

impl SqliteStore {
    /// Opens the file, making it when it is missing. Beside a running gateway this is allowed. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] with the file's name and what to do.
    pub fn open(path: &Path, older: Older) -> Result<Self, StoreError> {
        let db = connect(path, &STORE, older).map_err(|cause| cause.at(&path.display().to_string()))?;
        Ok(Self { db: Arc::new(Mutex::new(db)), path: path.to_owned(), _guard: None, times: OnceLock::new() })
    }

    /// Opens the file for a gateway: no second gateway can, until this one is gone. Blocks.
    ///
    /// # Errors
    /// As [`SqliteStore::open`], and when another gateway has it.
    pub fn open_exclusive(path: &Path) -> Result<Self, StoreError> {
        let guard = Guard::take(path)?;
        Ok(Self { _guard: Some(guard), ..Self::open(path, Older::Renew)? })
    }

    /// A file that was opened otherwise.
    pub(super) fn over(db: Connection, path: &Path) -> Self {
        Self { db: Arc::new(Mutex::new(db)), path: path.to_owned(), times: OnceLock::new(), _guard: None }
    }

    /// Puts other connections in the place of these two, while nobody uses either; where they cannot be had, all stays.
    /// Blocks.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) fn replace_both(
        first: &Self,
        second: &Self,
        open: impl FnOnce(&Path) -> Result<(Connection, Connection), StoreError>,
    ) -> Result<(), StoreError> {
        let mut one = first.db.lock().unwrap_or_else(PoisonError::into_inner);
        let mut other = second.db.lock().unwrap_or_else(PoisonError::into_inner);
        (*one, *other) = open(&first.path)?;
        Ok(())
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
        self.run(move |db| {
            let tx = db.transaction().map_err(StoreError::from)?;
            work(&Tx::Sqlite(&tx))
        })
        .await
    }

    /// Writes in one transaction, durable when this returns. `after` learns the outcome on the same
    /// thread, right after the commit or the refusal: it runs even when the caller has stopped
    /// waiting, so that what must follow a commit does follow.
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
        self.run(move |db| {
            let outcome = transact(db, |tx| work(&Tx::Sqlite(tx)));
            after(&outcome);
            outcome
        })
        .await
    }

    async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    {
        let db = Arc::clone(&self.db);
        tokio::task::spawn_blocking(move || {
            // A panic inside rolled its transaction back; the connection itself is sound.
            work(&mut db.lock().unwrap_or_else(PoisonError::into_inner))
        })
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("perch is stopping".to_owned()).into()))
    }

    /// Whether a gateway has the store, this process or another.
    ///
    /// # Errors
    /// [`StoreError`] when the guard's file cannot be asked.
    pub async fn has_gateway(&self) -> Result<bool, StoreError> {
        let (is_ours, path) = (self._guard.is_some(), self.path.clone());
        if is_ours {
            return Ok(true);
        }
        tokio::task::spawn_blocking(move || match guard(&path, Duration::ZERO) {
            Ok(_free) => Ok(false),
            Err(Taken::ByAnother) => Ok(true),
            Err(Taken::Unknown(error)) => Err(error),
        })
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("perch is stopping".to_owned())))
    }

    /// Moves what is in the write-ahead log into the file and empties the log. Answers whether it could:
    /// others that read keep it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn empty_log(&self) -> Result<bool, StoreError> {
        self.run(|db| {
            let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            Ok(busy == 0)
        })
        .await
    }

    /// Writes a copy of the store as it is at this moment into a new file, beside whoever uses the store.
    ///
    /// # Errors
    /// [`StoreError`]; no file is left then.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.to_owned();
        self.run(move |db| {
            let file = new_file(&path)?;
            let written = match path.to_str() {
                Some(name) => db.execute("VACUUM INTO ?1", [name]).map_err(StoreError::from),
                None => Err(StoreError::Unavailable("the file's name is not UTF-8".to_owned())),
            };
            let kept = written
                .and_then(|_| file.sync_all().map_err(|cause| StoreError::Unavailable(cause.to_string())));
            if kept.is_err() {
                // It is of no use to anyone.
                let _ = fs::remove_file(&path);
            }
            kept
        })
        .await
    }

    /// Writes a copy of another store into a new file, whose tables are of this version. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]; no file is left then.
    pub(super) fn copy_of(from: &Tx<'_>, path: &Path, version: usize) -> Result<(), StoreError> {
        let file = new_file(path)?;
        let copied = connect(path, &STORE.at(version), Older::Refuse).and_then(|mut db| {
            transact(&mut db, |tx| {
                copy::all(from, &Tx::Sqlite(tx))?;
                // What was sent to Finch until then stands nowhere in it.
                tx.execute("INSERT INTO quota_journal VALUES (1)", [])?;
                Ok::<_, StoreError>(())
            })
        });
        let kept = copied
            .and_then(|()| Self::close_alone(path))
            .and_then(|()| file.sync_all().map_err(|cause| StoreError::Unavailable(cause.to_string())));
        if kept.is_err() {
            for suffix in ["", "-wal", "-shm"] {
                // It is of no use to anyone.
                let _ = fs::remove_file(beside(path, suffix));
            }
        }
        kept
    }

    /// Puts the rows of a file in the place of another store's. Blocks.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn copy_into(path: &Path, to: &Tx<'_>) -> Result<(), StoreError> {
        let mut db =
            connect(path, &STORE, Older::Renew).map_err(|cause| cause.at(&path.display().to_string()))?;
        let from = db.transaction()?;
        copy::clear(to)?;
        copy::all(&Tx::Sqlite(&from), to)
    }

    /// Moves the log of a store that nobody has open into its file, and leaves no log behind; whatever perch's it is,
    /// its tables stay as they are. Blocks.
    ///
    /// # Errors
    /// [`StoreError`], also when somebody has it open.
    pub(super) fn close_alone(path: &Path) -> Result<(), StoreError> {
        let db = attach(path).map_err(|cause| cause.at(&path.display().to_string()))?;
        let taken = |why: String| {
            StoreError::Refused(format!(
                "another perch command is using {} ({why}); wait for it",
                path.display()
            ))
        };
        let mode: String = db
            .pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))
            .map_err(|cause| taken(cause.to_string()))?;
        match mode.as_str() {
            "delete" => Ok(()),
            other => Err(taken(format!("its journal stays {other}"))),
        }
    }

    /// A number that moves whenever another process has committed a change.
    ///
    /// # Errors
    /// [`StoreError`] when the file does not answer.
    pub async fn data_version(&self) -> Result<i64, StoreError> {
        self.run(|db| Ok(db.pragma_query_value(None, "data_version", |row| row.get(0))?)).await
    }

    /// Whether the file answers.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.run(|db| Ok(db.query_row("SELECT count(*) FROM vault_meta", [], |_| Ok(()))?)).await
    }
}

/// Writes in one transaction.
pub(super) fn transact<T, E: From<StoreError>>(
    db: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
) -> Result<T, E> {
    // Immediate: a reader that turns writer half-way could fail where waiting would have helped.
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(StoreError::from)?;
    let done = work(&tx)?;
    tx.commit().map_err(StoreError::from)?;
    Ok(done)
}

/// Why the guard was not taken.
enum Taken {
    ByAnother,
    Unknown(StoreError),
}

impl Taken {
    fn at(self, path: &Path) -> StoreError {
        match self {
            Taken::ByAnother => StoreError::Refused(format!(
                "another perch gateway is using {}; stop it first, or give this one a store of its own",
                path.display()
            )),
            Taken::Unknown(error) => error,
        }
    }
}

fn guard(path: &Path, wait: Duration) -> Result<File, Taken> {
    let name = beside(path, ".lock");
    let unknown =
        |cause: io::Error| Taken::Unknown(StoreError::Unavailable(format!("{}: {cause}", name.display())));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(unknown)?;
    let deadline = Instant::now() + wait;
    let mut locked = file.try_lock();
    while matches!(locked, Err(TryLockError::WouldBlock)) && Instant::now() < deadline {
        std::thread::sleep(BUSY_PAUSE);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Taken::ByAnother),
        Err(TryLockError::Error(cause)) => Err(unknown(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_and_its_companions_are_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("perch.db");
        let store = SqliteStore::open(&path, Older::Refuse).unwrap();
        for suffix in ["", "-wal", "-shm"] {
            assert_eq!(mode(&beside(&path, suffix)), 0o600, "{suffix:?}");
        }
        drop(store);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let _store = SqliteStore::open(&path, Older::Refuse).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn it_is_opened_to_survive_and_to_forget() {
        let dir = tempfile::tempdir().unwrap();
        let db = connect(&dir.path().join("perch.db"), &STORE, Older::Refuse).unwrap();
        let pragma = |name: &str| -> String {
            db.pragma_query_value(None, name, |row| {
                row.get::<_, rusqlite::types::Value>(0).map(|v| match v {
                    rusqlite::types::Value::Integer(n) => n.to_string(),
                    rusqlite::types::Value::Text(text) => text,
                    other => format!("{other:?}"),
                })
            })
            .unwrap()
        };
        assert_eq!(pragma("journal_mode"), "wal");
        assert_eq!(pragma("synchronous"), "2", "full");
        assert_eq!(pragma("secure_delete"), "1");
        assert_eq!(pragma("foreign_keys"), "1");
        assert_eq!(pragma("busy_timeout"), "5000");
    }

    #[test]
    fn a_second_gateway_is_refused_while_a_command_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("perch.db");
        let first = SqliteStore::open_exclusive(&path).unwrap();
        let said = SqliteStore::open_exclusive(&path).err().expect("refused").to_string();
        assert!(said.contains("another perch gateway is using") && said.contains("perch.db"), "{said}");
        assert!(SqliteStore::open(&path, Older::Refuse).is_ok());
        drop(first);
        assert!(SqliteStore::open_exclusive(&path).is_ok());
    }

    #[test]
    fn many_commands_may_open_a_new_store_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("perch.db");
        std::thread::scope(|threads| {
            let openers: Vec<_> =
                (0..8).map(|_| threads.spawn(|| SqliteStore::open(&path, Older::Refuse).err())).collect();
            for opener in openers {
                assert_eq!(opener.join().unwrap(), None);
            }
        });
    }

    #[test]
    fn what_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("no/such/perch.db");
        let said = SqliteStore::open(&missing, Older::Refuse).err().expect("refused").to_string();
        assert!(said.contains("no/such/perch.db"), "{said}");
        let text = dir.path().join("notes.txt");
        fs::write(&text, "not a database, but long enough to have a header of one hundred bytes ".repeat(9))
            .unwrap();
        let said = SqliteStore::open(&text, Older::Refuse).err().expect("refused").to_string();
        assert!(said.contains("notes.txt"), "{said}");
    }

    #[tokio::test]
    async fn another_process_s_commit_moves_the_data_version_and_our_own_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("perch.db");
        let (ours, theirs) = (
            SqliteStore::open(&path, Older::Refuse).unwrap(),
            SqliteStore::open(&path, Older::Refuse).unwrap(),
        );
        let touch = |tx: &Tx<'_>| -> Result<(), StoreError> {
            tx.execute("INSERT OR REPLACE INTO vault_meta VALUES (1, zeroblob(16), 1)", &[])?;
            Ok(())
        };
        let before = ours.data_version().await.unwrap();
        ours.write(touch, |_| ()).await.unwrap();
        assert_eq!(ours.data_version().await.unwrap(), before);
        theirs.write(touch, |_| ()).await.unwrap();
        assert_ne!(ours.data_version().await.unwrap(), before);
    }
}

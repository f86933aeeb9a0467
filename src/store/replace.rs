//! A store on its way out and in: a copy made beside a running gateway, and a copy put in the place of the
//! store. At every moment of it there is one whole store under the store's name.

use super::apps::{self, Revoked};
use super::connections::Place;
use super::schema::{self, STORE};
use super::sql::{Tx, values};
use super::sqlite::{self, Guard, SqliteStore, beside};
use super::{StoreError, keys};
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The version of a file's tables since which there are apps.
const APPS_SINCE: usize = 3;

/// What a row says without being opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The keyed index of its token; `None` when the token is erased. Equal for equal tokens of one store.
    pub index: Option<Vec<u8>>,
}

/// What two copies of a store are compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The store's name; `None` when it was never used.
    pub store_id: Option<[u8; 16]>,
    /// How many changes it has had.
    pub generation: i64,
    /// Every connection of every application and environment.
    pub rows: BTreeMap<(String, String, String), Glance>,
    /// Every app whose key was revoked.
    pub revoked: Vec<Revoked>,
}

impl Survey {
    /// Reads it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn read(tx: &Tx<'_>) -> Result<Self, StoreError> {
        Self::of(tx, true)
    }

    /// Reads it from a file of any perch's, and leaves the file as it is. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Newer`] when a newer perch made it and it cannot be read here.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        let looked = || {
            let mut db = sqlite::look(path)?;
            let version = schema::version(&db, &STORE)?;
            if version == 0 {
                return Ok(Self {
                    store_id: None,
                    generation: 0,
                    rows: BTreeMap::new(),
                    revoked: Vec::new(),
                });
            }
            let survey = Self::of(&Tx::Sqlite(&db.transaction()?), version >= APPS_SINCE);
            // Names that are not there are no damage where another perch has named them.
            survey.map_err(|cause| match version > STORE.newest() {
                true => StoreError::Newer(format!(
                    "{}, and it cannot be read here ({cause})",
                    schema::newer_than_known(version, &STORE)
                )),
                false => cause,
            })
        };
        looked().map_err(|cause: StoreError| cause.at(&path.display().to_string()))
    }

    fn of(tx: &Tx<'_>, has_apps: bool) -> Result<Self, StoreError> {
        let store_id = keys::store_id(tx)?;
        let generation = if store_id.is_some() { keys::generation(tx)? } else { 0 };
        let mut rows = BTreeMap::new();
        tx.each("SELECT app, env, connection_id, token_bidx FROM connection", values![], |row| {
            rows.insert((row.get(0)?, row.get(1)?, row.get(2)?), Glance { index: row.get(3)? });
            Ok::<_, StoreError>(())
        })?;
        let revoked = if has_apps { apps::revoked(tx)? } else { Vec::new() };
        Ok(Self { store_id, generation, rows, revoked })
    }

    /// The connections whose tokens this copy has and `older` has not: they came, or came anew, after it.
    pub fn newer_than(&self, older: &Survey) -> Vec<Place> {
        let is_lost = |place: &(String, String, String), glance: &Glance| {
            glance.index.is_some() && older.rows.get(place).is_none_or(|then| then.index != glance.index)
        };
        self.places(is_lost)
    }

    /// The connections whose tokens were erased here and are in `older` still.
    pub fn erased_since(&self, older: &Survey) -> Vec<Place> {
        let is_back = |place: &(String, String, String), glance: &Glance| {
            glance.index.is_none() && older.rows.get(place).is_some_and(|then| then.index.is_some())
        };
        self.places(is_back)
    }

    fn places(&self, is_meant: impl Fn(&(String, String, String), &Glance) -> bool) -> Vec<Place> {
        self.rows
            .iter()
            .filter(|(place, glance)| is_meant(place, glance))
            .map(|((application, environment, connection_id), _)| Place {
                application: application.clone(),
                environment: environment.clone(),
                connection_id: connection_id.clone(),
            })
            .collect()
    }
}

/// How many changes a copy has had, which nobody writes to.
///
/// # Errors
/// [`StoreError`].
pub fn generation_of(copy: &Path) -> Result<i64, StoreError> {
    let mut db = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    keys::generation(&Tx::Sqlite(&db.transaction()?))
}

/// Makes the file of a copy: new, and its owner's alone from the first byte on.
pub(super) fn new_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|cause| {
        StoreError::Refused(match cause.kind() {
            io::ErrorKind::AlreadyExists => {
                format!("{} exists already and is left as it is; choose another name", path.display())
            }
            _ => format!("{} cannot be made: {cause}", path.display()),
        })
    })
}

/// A copy of a backup, to work on. It goes when it is dropped.
pub struct Candidate(PathBuf);

impl Candidate {
    /// Lays a copy of `backup` at `path` with another ending. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the copy cannot be made.
    pub fn of(backup: &Path, path: &Path) -> Result<Self, StoreError> {
        let name = beside(path, ".restoring");
        let failed =
            |cause: io::Error| StoreError::Refused(format!("{} cannot be copied: {cause}", backup.display()));
        if fs::canonicalize(backup).is_ok_and(|backup| fs::canonicalize(&name).ok() == Some(backup)) {
            return Err(StoreError::Refused(format!(
                "{} has the name that a restore uses for its own copy; rename it first",
                backup.display()
            )));
        }
        // One that a killed command has left is nobody's.
        remove(&name);
        let candidate = Self(name);
        fs::copy(backup, &candidate.0).map_err(failed)?;
        fs::set_permissions(&candidate.0, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(candidate)
    }

    /// Whether the copy is whole: every page of it, of every table. Why it is not, when it is not. Blocks.
    pub fn is_whole(&self) -> Result<(), String> {
        let open = || Connection::open_with_flags(&self.0, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let looked = || open()?.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match looked() {
            Ok(word) if word == "ok" => Ok(()),
            Ok(why) => Err(why.lines().next_back().unwrap_or_default().to_owned()),
            Err(cause) => Err(cause.to_string()),
        }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// Keeps a file that cannot be understood under another name, which is answered. What was set apart earlier stays.
pub(super) fn set_apart(path: &Path) -> Result<PathBuf, StoreError> {
    const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
    let is_free = |name: &PathBuf| SUFFIXES.iter().all(|suffix| !beside(name, suffix).exists());
    let name = (0..)
        .map(|n| beside(path, &if n == 0 { ".damaged".to_owned() } else { format!(".damaged-{n}") }))
        .find(is_free)
        .expect("the numbers do not end");
    for suffix in SUFFIXES {
        let (from, to) = (beside(path, suffix), beside(&name, suffix));
        match fs::rename(&from, &to) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Unavailable(format!("{}: {cause}", from.display())));
            }
            _ => {}
        }
    }
    Ok(name)
}

/// A name beside `path` that nothing has yet, for what was in a store's place before.
pub fn kept_name(path: &Path) -> PathBuf {
    (0..)
        .map(|n| beside(path, &format!(".replaced-{n}")))
        .find(|name| !name.exists())
        .expect("the numbers do not end")
}

/// A copy that is about to take the place of the store. While it lives no gateway can start on the store.
pub struct Replacement {
    path: PathBuf,
    candidate: Candidate,
    _guard: Guard,
}

impl Replacement {
    /// Takes the store for itself and lays a copy of `backup` beside it. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when a gateway has the store or the copy cannot be made.
    pub fn of(path: &Path, backup: &Path) -> Result<Self, StoreError> {
        let guard = Guard::take(path)?;
        Ok(Self { path: path.to_owned(), candidate: Candidate::of(backup, path)?, _guard: guard })
    }

    /// The copy meanwhile.
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Puts the copy in the store's place. Both must be closed. The store that was there stays beside it,
    /// under the name that is answered; `None` when there was none. `at` hears of each step. Blocks.
    ///
    /// # Errors
    /// [`StoreError`], with the store as it was: also when another command has it open.
    pub fn put(self, is_sound: bool, at: impl Fn(&'static str)) -> Result<Option<PathBuf>, StoreError> {
        let failed = |cause: io::Error| StoreError::Unavailable(format!("{}: {cause}", self.path.display()));
        SqliteStore::close_alone(self.candidate.path())?;
        let mut kept = None;
        if self.path.exists() {
            if is_sound {
                // Its log is in it from here on, so that the file alone is the store.
                SqliteStore::close_alone(&self.path)?;
            }
            at("closed");
            let name = kept_name(&self.path);
            fs::hard_link(&self.path, &name).map_err(failed)?;
            for suffix in ["-wal", "-shm"] {
                // Left where it is, the log of a damaged store would be read into the new one.
                match fs::rename(beside(&self.path, suffix), beside(&name, suffix)) {
                    Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
                    _ => {}
                }
            }
            at("linked");
            kept = Some(name);
        }
        File::open(self.candidate.path()).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(self.candidate.path(), &self.path).map_err(failed)?;
        at("replaced");
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        Ok(kept)
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(candidate: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        // What is not there, or stays, is looked at when the next one is made.
        let _ = fs::remove_file(beside(candidate, suffix));
    }
}

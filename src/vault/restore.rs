//! Out to a backup and back. A backup holds ciphertext only and is worth nothing without the wrapping key.
//!
//! Going back is losing what came since: the connections whose tokens are newer than the backup are named,
//! because Finch still bills them and nobody has their tokens any more.

use super::anchor::{self, Memory};
use super::failpoint;
use super::ring::{OpenError, Ring};
use super::stored::Stored;
use super::{KeysError, Vault, Wrappers};
use crate::config;
use crate::store::connections::{self, Place};
use crate::store::replace::{Candidate, Replacement, Survey, generation_of, kept_name};
use crate::store::{Older, Store, StoreError, Tx, apps, keys};
use crate::telemetry::clock::unix_now;
use crate::types::ApplicationId;
use std::path::{Path, PathBuf};

/// What is to be restored, and where.
#[derive(Debug)]
pub struct RestoreOptions {
    /// Where the store is.
    pub store: config::Store,
    /// The backup's.
    pub backup: PathBuf,
    /// What wraps the backup's keys.
    pub keys: Wrappers,
    /// The application that is configured.
    pub application: ApplicationId,
    /// Where the store's count of changes is remembered.
    pub generation_file: Option<PathBuf>,
    /// Whether an older copy may take the place of the store.
    pub accept_rollback: bool,
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Where the store that was there lies now.
    pub kept: Option<PathBuf>,
    /// Changes of the store before, and of the backup.
    pub generations: (i64, i64),
    /// Connections whose tokens came after the backup and are lost.
    pub lost: Vec<Place>,
    /// Connections that were disconnected after the backup and whose tokens are back.
    pub back: Vec<Place>,
    /// Apps whose keys the backup had as good and the store as revoked: they stay revoked.
    pub revoked: Vec<String>,
}

impl Vault {
    /// Writes a copy of the store into a new file that only its owner may read, beside a running gateway.
    /// Answers how many changes the copy has had.
    ///
    /// # Errors
    /// [`KeysError::Open`]; no file is left then.
    pub async fn backup(&self, file: &Path) -> Result<i64, KeysError> {
        self.store.copy_to(file).await?;
        let file = file.to_owned();
        // Asked of the copy itself: the store goes on meanwhile.
        Ok(self.store.read(move |_| generation_of(&file)).await?)
    }
}

/// The same of a store on whose tables gateways of an older perch may run: they stay of that version, in the copy too. No
/// key is asked for.
///
/// # Errors
/// [`StoreError`]; no file is left then.
pub async fn backup_as_it_is(store: &config::Store, file: &Path) -> Result<i64, StoreError> {
    let store = match store.clone() {
        config::Store::Sqlite(path) => blocking(move || Store::open(&path, Older::Keep)).await?,
        config::Store::Postgres(server) => Store::connect(&server, Older::Keep, false).await?,
    };
    store.copy_to(file).await?;
    let file = file.to_owned();
    blocking(move || generation_of(&file)).await
}

/// Puts a backup in the place of the store. At every moment one of the two is there, whole.
///
/// # Errors
/// [`KeysError::Refused`] when it is another store, another application, or older without leave;
/// [`KeysError::Open`] when a gateway runs or the backup does not open. The store is as it was then.
pub async fn restore(options: RestoreOptions) -> Result<Restored, KeysError> {
    let RestoreOptions { store, backup, keys, application, generation_file, accept_rollback } = options;
    let target = Target::take(store, &backup).await?;
    failpoint::hit("restore:copied");
    let (target, found) = blocking(move || {
        let found = target.candidate().is_whole();
        Ok((target, found))
    })
    .await?;
    found.map_err(|why| {
        let backup = backup.display();
        OpenError::Store(format!("{backup} is damaged ({why}): nothing was changed; take another backup"))
    })?;
    let candidate = target.candidate().path().to_owned();
    let copy = blocking(move || Store::open(&candidate, Older::Renew)).await?;
    let there = copy.read(Survey::read).await?;
    let stored = copy.read(Stored::read).await?;
    let (Some(store_id), Some(stored)) = (there.store_id, stored) else {
        return Err(KeysError::Refused(format!("{} is a store that was never used", backup.display())));
    };
    Ring::open(&stored, &keys).await?;
    let applications = copy.read(connections::applications).await?;
    if !applications.is_empty() && !applications.iter().any(|one| one == application.as_str()) {
        return Err(KeysError::Refused(format!(
            "{} holds connections of another Finch application than {application}; see finch.client_id",
            backup.display()
        )));
    }
    let remembered = match &generation_file {
        Some(file) => anchor::read(file).map_err(OpenError::Store)?,
        None => None,
    };
    let here = target.here(accept_rollback).await?;
    let ids =
        [here.as_ref().and_then(|here| here.store_id), remembered.as_ref().map(|memory| memory.store_id)];
    if ids.into_iter().flatten().any(|id| id != store_id) {
        return Err(KeysError::Refused(format!(
            "{} is a backup of another store than {}; move that one (and vault.generation_file) away first if \
             it is to go",
            backup.display(),
            target.name()
        )));
    }
    let then = [
        here.as_ref().map_or(0, |here| here.generation),
        remembered.as_ref().map_or(0, |memory| memory.generation),
    ];
    let newest = then.into_iter().max().unwrap_or_default();
    let (lost, back) = match &here {
        Some(here) => (here.newer_than(&there), here.erased_since(&there)),
        None => (Vec::new(), Vec::new()),
    };
    if there.generation < newest && !accept_rollback {
        return Err(KeysError::Refused(refusal(&backup, &there, newest, here.is_some().then_some(&lost))));
    }
    failpoint::hit("restore:checked");
    let gone = here.as_ref().map(|here| here.revoked.clone()).unwrap_or_default();
    let finish = move |tx: &Tx<'_>| {
        let mut revoked = Vec::new();
        // A key that was revoked does not become good again because tokens have to.
        for app in gone {
            if apps::revoke_again(tx, &app)? {
                revoked.push(app.name);
            }
        }
        Ok::<_, StoreError>((keys::go_on_after(tx, newest)?, revoked))
    };
    let (generation, revoked) = copy.write(finish, |_| ()).await?;
    drop(copy);
    failpoint::hit("restore:counted");
    let kept = target.put(here.as_ref()).await?;
    if let Some(file) = generation_file {
        let memory = Memory { store_id, generation };
        anchor::write(&file, &memory)
            .map_err(|cause| OpenError::Store(format!("{} cannot be written: {cause}", file.display())))?;
    }
    failpoint::hit("restore:remembered");
    Ok(Restored { kept, generations: (newest, there.generation), lost, back, revoked })
}

/// What is to be replaced.
enum Target {
    /// A file, which no gateway can open meanwhile.
    File { path: PathBuf, replacement: Replacement },
    /// The rows of a server, where no gateway was heard of lately.
    Server { server: config::Postgres, backup: PathBuf, candidate: Candidate, store: Box<Store> },
}

impl Target {
    async fn take(store: config::Store, backup: &Path) -> Result<Self, KeysError> {
        let backup = backup.to_owned();
        match store {
            config::Store::Sqlite(path) => {
                let place = path.clone();
                let replacement = blocking(move || Replacement::of(&place, &backup)).await?;
                Ok(Target::File { path, replacement })
            }
            config::Store::Postgres(server) => {
                // Gateways of an older perch may run on it: that is asked next.
                let opened = Store::connect(&server, Older::Keep, false).await;
                let store = Box::new(opened.map_err(|cause| match cause {
                    StoreError::Newer(why) => KeysError::Refused(format!(
                        "{why}. Nothing was changed. An older perch cannot go back there: write down what \"perch connections list\" \
                         and \"perch apps list\" of the newer one tell, put the server's own backup back, and revoke again what was \
                         revoked since"
                    )),
                    other => other.into(),
                })?);
                if store.has_gateway(unix_now()).await? {
                    return Err(KeysError::Refused(format!(
                        "gateways use {}, or did within the last minute; stop them first",
                        server.url
                    )));
                }
                let file = backup.clone();
                let candidate = blocking(move || Candidate::of(&file, &file)).await?;
                Ok(Target::Server { server, backup, candidate, store })
            }
        }
    }

    fn candidate(&self) -> &Candidate {
        match self {
            Target::File { replacement, .. } => replacement.candidate(),
            Target::Server { candidate, .. } => candidate,
        }
    }

    fn name(&self) -> String {
        match self {
            Target::File { path, .. } => path.display().to_string(),
            Target::Server { server, .. } => server.url.to_string(),
        }
    }

    /// What is there now; `None` when there is nothing, or nothing that can be read and that is accepted.
    async fn here(&self, accept_rollback: bool) -> Result<Option<Survey>, KeysError> {
        let survey = match self {
            Target::File { path, .. } if !path.exists() => return Ok(None),
            Target::File { path, .. } => {
                let path = path.clone();
                blocking(move || Survey::look(&path)).await
            }
            Target::Server { store, .. } => store.read(Survey::read).await,
        };
        match survey {
            Ok(survey) => Ok(Some(survey)),
            Err(StoreError::Damaged(_)) if accept_rollback => Ok(None),
            Err(StoreError::Newer(why)) => Err(KeysError::Refused(format!(
                "what is there cannot be compared with the backup: {why}. Nothing was changed. Write down what \"perch connections \
                 list\" and \"perch apps list\" of the newer perch tell, move the store away, restore, and revoke again what was \
                 revoked since"
            ))),
            Err(cause) => Err(KeysError::Refused(format!(
                "what is at {} cannot be compared with the backup: {cause}; with --accept-rollback a damaged store is \
                 replaced, and which connections are lost cannot be told",
                self.name()
            ))),
        }
    }

    /// Puts the copy in the store's place. Answers where what was there lies now.
    async fn put(self, here: Option<&Survey>) -> Result<Option<PathBuf>, KeysError> {
        match self {
            Target::File { replacement, .. } => {
                let is_sound = here.is_some();
                let at = |step: &'static str| match step {
                    "closed" => failpoint::hit("restore:closed"),
                    "linked" => failpoint::hit("restore:linked"),
                    _ => failpoint::hit("restore:replaced"),
                };
                Ok(blocking(move || replacement.put(is_sound, at)).await?)
            }
            Target::Server { server, backup, candidate, store } => {
                let mut kept = None;
                if here.is_some_and(|here| here.store_id.is_some()) {
                    let name = kept_name(&backup);
                    store.copy_to(&name).await?;
                    kept = Some(name);
                }
                // An older perch's come now, when nothing else can be refused: the rows are those of this perch's tables.
                Store::migrate(&server, &[]).await?;
                let expected = here.map_or(0, |here| here.generation);
                store.replace_with(candidate.path(), expected, unix_now()).await?;
                failpoint::hit("restore:replaced");
                Ok(kept)
            }
        }
    }
}

fn refusal(backup: &Path, there: &Survey, newest: i64, lost: Option<&Vec<Place>>) -> String {
    /// Connections named in a refusal; a restore names them all.
    const NAMED: usize = 20;
    let Some(lost) = lost else {
        return format!(
            "{} has had {} changes and vault.generation_file remembers {newest}: which tokens came since cannot be \
             told without the store itself. Add --accept-rollback to go back all the same",
            backup.display(),
            there.generation
        );
    };
    let ids: Vec<&str> = lost.iter().take(NAMED).map(|place| place.connection_id.as_str()).collect();
    let named = match (ids.is_empty(), lost.len().saturating_sub(NAMED)) {
        (true, _) => String::new(),
        (false, 0) => format!("; lost would be {}", ids.join(", ")),
        (false, more) => format!("; lost would be {} and {more} more", ids.join(", ")),
    };
    format!(
        "{} has had {} changes and the store {newest}: going back loses {} tokens that came since{named}. Add \
         --accept-rollback to do it",
        backup.display(),
        there.generation,
        lost.len()
    )
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(StoreError::Unavailable("perch is stopping".to_owned())))
}

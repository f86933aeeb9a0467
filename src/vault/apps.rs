//! The apps: whose key is shown, and what its owner may do. All of them are in memory; the store is asked when
//! somebody has changed it. While the store is out, whoever was known stays known, and nobody else is.

use super::{Shared, Vault, VaultError};
use crate::policy::app_key::{self, KeyDigest, KeyId, Shown};
use crate::policy::{App, Policy};
use crate::store::Tx;
use crate::store::apps::{self, AppRow};
use crate::store::keys;
use crate::types::{AppKey, AppName, UnixMillis};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// The most apps with a good key.
pub const APPS_MAX: u64 = 1000;
/// The most revoked keys that are remembered.
const REVOKED_MAX: usize = 1000;

/// Who is known, by the public half of the key.
#[derive(Default)]
pub(super) struct Apps {
    known: RwLock<HashMap<KeyId, (KeyDigest, Arc<App>)>>,
    /// Whether the store may say something else by now.
    is_stale: AtomicBool,
}

/// What an operator sees of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppFacts {
    /// Its name.
    pub name: AppName,
    /// The public half of its key.
    pub key_id: String,
    /// What it may do.
    pub policy: Policy,
    /// When its key was made.
    pub created_at: UnixMillis,
    /// When its key ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<UnixMillis>,
}

/// Why an app is not what it was to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppError {
    /// An app of this name has a good key.
    Exists(AppName),
    /// No app of this name has a good key.
    Unknown(AppName),
    /// Its row is not what this perch writes.
    Damaged(AppName),
    /// There are as many as there can be.
    TooMany,
    /// The system gives no chance to make a key of.
    NoChance,
    /// The store does not answer.
    Vault(VaultError),
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppError::Exists(name) => write!(
                f,
                "app {name} has a key already; revoke it first with \"perch apps revoke {name}\", or choose another name"
            ),
            AppError::Unknown(name) => {
                write!(f, "there is no app {name}; \"perch apps list\" shows those there are")
            }
            AppError::Damaged(name) => {
                write!(f, "what app {name} may do is not what this perch writes; revoke it and add it anew")
            }
            AppError::TooMany => write!(f, "there are {APPS_MAX} apps already; revoke one first"),
            AppError::NoChance => f.write_str("the system gives no random numbers; nothing was made"),
            AppError::Vault(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AppError {}

impl<E: Into<VaultError>> From<E> for AppError {
    fn from(error: E) -> Self {
        AppError::Vault(error.into())
    }
}

impl Vault {
    /// Whose key this is.
    pub fn app_of(&self, shown: &Shown) -> Option<Arc<App>> {
        let known = self.shared.apps.known.read().unwrap_or_else(PoisonError::into_inner);
        let (digest, app) = match known.get(&shown.id) {
            Some((digest, app)) => (*digest, Some(app)),
            None => (KeyDigest::NONE, None),
        };
        let is_it = shown.digest.is(&digest);
        app.filter(|_| is_it).cloned()
    }

    /// An app that was known, as it is now: a call may have waited for minutes, and its app's key may have
    /// ended meanwhile, or its policy been changed.
    pub fn app_now(&self, app: &App) -> Option<Arc<App>> {
        let known = self.shared.apps.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&app.key_id).map(|(_, now)| Arc::clone(now))
    }

    /// How many apps have a good key.
    pub fn apps_known(&self) -> usize {
        self.shared.apps.known.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every app, revoked ones too, oldest first; read from the store. A damaged row is left out and logged.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn list_apps(&self) -> Result<Vec<AppFacts>, VaultError> {
        let shared = Arc::clone(&self.shared);
        let rows = self.store.read(move |tx| Ok::<_, VaultError>(apps::all(tx, &shared.scope)?)).await?;
        Ok(rows.into_iter().filter_map(|row| facts_of(row).map(|(facts, _)| facts)).collect())
    }

    /// Adds an app and makes its key, which is nowhere else from then on.
    ///
    /// # Errors
    /// [`AppError`]; nothing is added then.
    pub async fn add_app(
        &self,
        name: AppName,
        policy: Policy,
        now: UnixMillis,
    ) -> Result<(AppKey, AppFacts), AppError> {
        let (mut id, mut secret) = ([0; 8], Zeroizing::new([0; 32]));
        getrandom::fill(&mut id).map_err(|_| AppError::NoChance)?;
        getrandom::fill(&mut *secret).map_err(|_| AppError::NoChance)?;
        let (key, shown) = app_key::make(id, &secret);
        let facts =
            AppFacts { name, key_id: shown.id.to_string(), policy, created_at: now, revoked_at: None };
        let row = AppRow {
            name: facts.name.to_string(),
            key_id: facts.key_id.clone(),
            key_hash: *shown.digest.bytes(),
            policy: json_of(&facts.policy)?,
            created_at: now,
            revoked_at: None,
        };
        let (name, shared) = (facts.name.clone(), Arc::clone(&self.shared));
        let written = move |tx: &Tx<'_>| {
            if apps::find(tx, &shared.scope, name.as_str())?.is_some() {
                return Err(AppError::Exists(name));
            }
            if apps::count(tx, &shared.scope)? >= APPS_MAX {
                return Err(AppError::TooMany);
            }
            apps::add(tx, &shared.scope, &row, REVOKED_MAX)?;
            keys::next_generation(tx)?;
            Ok(())
        };
        self.change_apps(written).await?;
        Ok((key, facts))
    }

    /// Changes what an app may do; its key stays. What it becomes is made out of what it is, in one step.
    ///
    /// # Errors
    /// [`AppError::Unknown`], [`AppError::Vault`].
    pub async fn change_app(
        &self,
        name: AppName,
        change: impl FnOnce(Policy) -> Policy + Send + 'static,
    ) -> Result<(), AppError> {
        let shared = Arc::clone(&self.shared);
        let written = move |tx: &Tx<'_>| {
            let row = apps::find(tx, &shared.scope, name.as_str())?;
            let row = row.ok_or_else(|| AppError::Unknown(name.clone()))?;
            let Some((facts, _)) = facts_of(row) else {
                return Err(AppError::Damaged(name));
            };
            let policy = json_of(&change(facts.policy))?;
            apps::set_policy(tx, &shared.scope, name.as_str(), &policy)?;
            keys::next_generation(tx)?;
            Ok(())
        };
        self.change_apps(written).await
    }

    /// Ends an app's key. A running gateway notices at its next [`Vault::refresh`].
    ///
    /// # Errors
    /// [`AppError::Unknown`], [`AppError::Vault`].
    pub async fn revoke_app(&self, name: AppName, now: UnixMillis) -> Result<(), AppError> {
        let shared = Arc::clone(&self.shared);
        let written = move |tx: &Tx<'_>| {
            if !apps::revoke(tx, &shared.scope, name.as_str(), now)? {
                return Err(AppError::Unknown(name));
            }
            keys::next_generation(tx)?;
            Ok(())
        };
        self.change_apps(written).await
    }

    async fn change_apps(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<(), AppError> + Send + 'static,
    ) -> Result<(), AppError> {
        let shared = Arc::clone(&self.shared);
        self.store.write(work, move |_| shared.apps.doubt()).await?;
        // It is done; who cannot read it now reads it at the next refresh.
        let _ = self.renew_apps().await;
        Ok(())
    }

    /// Reads the apps anew where they may have changed. What is known stays when that fails, and is read
    /// the next time.
    pub(super) async fn renew_apps(&self) -> Result<(), VaultError> {
        if !self.shared.apps.is_stale.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let read = self.store.read(move |tx| Ok::<_, VaultError>(apps::all(tx, &shared.scope)?)).await;
        match read {
            Ok(rows) => {
                self.shared.apps.learn(rows);
                Ok(())
            }
            Err(error) => {
                self.shared.apps.doubt();
                Err(error)
            }
        }
    }
}

impl Shared {
    /// What is known may be out of date.
    pub(super) fn doubt_apps(&self) {
        self.apps.doubt();
    }
}

impl Apps {
    fn doubt(&self) {
        self.is_stale.store(true, Ordering::SeqCst);
    }

    fn learn(&self, rows: Vec<AppRow>) {
        let good = rows.into_iter().filter(|row| row.revoked_at.is_none());
        let known = good
            .filter_map(facts_of)
            .filter_map(|(facts, digest)| {
                let key_id = KeyId::parse(&facts.key_id)?;
                Some((key_id, (digest, Arc::new(App { name: facts.name, key_id, policy: facts.policy }))))
            })
            .collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

fn json_of(policy: &Policy) -> Result<String, VaultError> {
    serde_json::to_string(policy).map_err(|cause| VaultError::Damaged(cause.to_string()))
}

/// What a row means; `None` when it is not what this perch writes: then its app is nobody.
fn facts_of(row: AppRow) -> Option<(AppFacts, KeyDigest)> {
    let AppRow { name, key_id, key_hash, policy, created_at, revoked_at } = row;
    let read = || -> Option<AppFacts> {
        let policy = serde_json::from_str(&policy).ok()?;
        let key_id = KeyId::parse(&key_id)?.to_string();
        Some(AppFacts { name: AppName::new(&name).ok()?, key_id, policy, created_at, revoked_at })
    };
    let facts = read();
    if facts.is_none() {
        let name = name.chars().filter(|c| !c.is_control()).take(255).collect::<String>();
        tracing::error!(
            app = name,
            "app {name} is refused: its row in the store is not what this perch writes; revoke it and add it anew"
        );
    }
    facts.map(|facts| (facts, KeyDigest::stored(key_hash)))
}

#[cfg(test)]
mod tests {
    use super::super::{VaultOptions, kek};
    use super::*;
    use crate::types::{ApplicationId, Environment};
    use std::path::Path;
    use std::time::Duration;

    async fn vault(dir: &Path, environment: Environment) -> Arc<Vault> {
        let key = dir.join("perch.key");
        if !key.exists() {
            kek::generate(&key).unwrap();
        }
        Vault::open(VaultOptions {
            store: crate::config::Store::Sqlite(dir.join("perch.db")),
            keys: kek::from_file(&key, false).unwrap().into(),
            generation_file: None,
            accept_rollback: false,
            application: ApplicationId::new("app").unwrap(),
            environment,
            cache_ttl: Duration::from_secs(60),
            is_gateway: false,
            now: UnixMillis(1),
        })
        .await
        .unwrap()
    }

    fn name(text: &str) -> AppName {
        AppName::new(text).unwrap()
    }

    fn shown(key: &AppKey) -> Shown {
        Shown::read(key.expose()).unwrap()
    }

    #[tokio::test]
    async fn an_app_is_known_by_its_key_until_it_is_revoked_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = vault(dir.path(), Environment::Sandbox).await;
        let command = vault(dir.path(), Environment::Sandbox).await;
        let (key, _) = command.add_app(name("payroll"), Policy::default(), UnixMillis(2)).await.unwrap();
        assert!(command.app_of(&shown(&key)).is_some(), "who made it knows it at once");
        assert!(gateway.app_of(&shown(&key)).is_none());
        assert!(gateway.refresh().await.unwrap());
        let app = gateway.app_of(&shown(&key)).unwrap();
        assert!(app.name == name("payroll") && gateway.app_now(&app) == Some(Arc::clone(&app)));
        command.revoke_app(name("payroll"), UnixMillis(3)).await.unwrap();
        gateway.refresh().await.unwrap();
        assert!(gateway.app_of(&shown(&key)).is_none() && gateway.app_now(&app).is_none());
        let unknown = command.revoke_app(name("payroll"), UnixMillis(4)).await;
        assert_eq!(unknown, Err(AppError::Unknown(name("payroll"))));
    }

    #[tokio::test]
    async fn what_an_app_may_do_changes_and_its_key_stays() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path(), Environment::Sandbox).await;
        let (key, _) = vault.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
        let before = vault.app_of(&shown(&key)).unwrap();
        vault.change_app(name("a"), |policy| Policy { writes: true, ..policy }).await.unwrap();
        let now = vault.app_of(&shown(&key)).unwrap();
        assert!(!before.policy.writes && now.policy.writes);
        assert_eq!(vault.app_now(&before), Some(now));
        let unknown = vault.change_app(name("b"), |policy| policy).await;
        assert_eq!(unknown, Err(AppError::Unknown(name("b"))));
    }

    #[tokio::test]
    async fn a_name_has_one_good_key_and_no_other_key_with_its_id_is_it() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path(), Environment::Sandbox).await;
        let (first, _) = vault.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
        let again = vault.add_app(name("a"), Policy::default(), UnixMillis(2)).await;
        assert_eq!(again.err(), Some(AppError::Exists(name("a"))));
        let (other, _) = vault.add_app(name("b"), Policy::default(), UnixMillis(3)).await.unwrap();
        let mixed = Shown { id: shown(&first).id, digest: shown(&other).digest };
        assert!(vault.app_of(&mixed).is_none());
        vault.revoke_app(name("a"), UnixMillis(4)).await.unwrap();
        let (second, _) = vault.add_app(name("a"), Policy::default(), UnixMillis(5)).await.unwrap();
        assert!(vault.app_of(&shown(&first)).is_none() && vault.app_of(&shown(&second)).is_some());
        let listed = vault.list_apps().await.unwrap();
        let revoked: Vec<bool> = listed.iter().map(|app| app.revoked_at.is_some()).collect();
        assert_eq!(revoked, [true, false, false]);
    }

    #[tokio::test]
    async fn a_key_of_one_environment_is_nobodys_in_another() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = vault(dir.path(), Environment::Sandbox).await;
        let (key, _) = sandbox.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
        let production = vault(dir.path(), Environment::Production).await;
        assert!(production.app_of(&shown(&key)).is_none() && sandbox.app_of(&shown(&key)).is_some());
        assert_eq!(production.list_apps().await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_policy_that_is_not_understood_makes_its_app_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = vault(dir.path(), Environment::Sandbox).await;
        let (key, _) = gateway.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
        let (well, _) = gateway.add_app(name("b"), Policy::default(), UnixMillis(1)).await.unwrap();
        let db = rusqlite::Connection::open(dir.path().join("perch.db")).unwrap();
        db.execute("UPDATE app SET policy = '{\"hours\":\"9-17\"}' WHERE name = 'a'", []).unwrap();
        gateway.refresh().await.unwrap();
        assert!(gateway.app_of(&shown(&key)).is_none() && gateway.app_of(&shown(&well)).is_some());
    }

    #[tokio::test]
    async fn while_the_store_is_out_whoever_was_known_stays_known() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = vault(dir.path(), Environment::Sandbox).await;
        let (key, _) = gateway.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
        let db = rusqlite::Connection::open(dir.path().join("perch.db")).unwrap();
        db.execute("ALTER TABLE app RENAME TO gone", []).unwrap();
        assert!(gateway.refresh().await.is_err());
        assert!(gateway.app_of(&shown(&key)).is_some());
        db.execute("UPDATE gone SET revoked_at = 2", []).unwrap();
        db.execute("ALTER TABLE gone RENAME TO app", []).unwrap();
        gateway.refresh().await.unwrap();
        assert!(gateway.app_of(&shown(&key)).is_none(), "the change is read once it can be");
    }

    #[tokio::test]
    async fn the_store_has_no_key_and_forgets_the_oldest_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let gateway = vault(dir.path(), Environment::Sandbox).await;
        let (key, facts) = gateway.add_app(name("a"), Policy::default(), UnixMillis(1)).await.unwrap();
        let secret = key.expose().rsplit('_').next().unwrap().to_owned();
        let shared = Arc::clone(&gateway.shared);
        let row = AppRow {
            name: "old".to_owned(),
            key_id: String::new(),
            key_hash: [0; 32],
            policy: "{}".to_owned(),
            created_at: UnixMillis(0),
            revoked_at: None,
        };
        let left = gateway
            .store
            .write(
                move |tx| {
                    for n in 0..5 {
                        let key_id = format!("{n:016x}");
                        let row = AppRow { key_id, revoked_at: Some(UnixMillis(n)), ..row.clone() };
                        apps::add(tx, &shared.scope, &row, 3)?;
                    }
                    Ok::<_, VaultError>(apps::all(tx, &shared.scope)?)
                },
                |_| (),
            )
            .await
            .unwrap();
        let mut ids: Vec<&str> = left.iter().map(|row| row.key_id.as_str()).collect();
        ids.sort_unstable();
        let mut expected =
            vec!["0000000000000002", "0000000000000003", "0000000000000004", facts.key_id.as_str()];
        expected.sort_unstable();
        assert_eq!(ids, expected);
        drop(gateway);
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
        }
    }
}

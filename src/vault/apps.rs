//! The apps: whose key, certificate or user it is, and what its owner may do. All of them are in memory; the store is asked when
//! somebody has changed it. While the store is out, whoever was known stays known, and nobody else is.

use super::{Shared, Vault, VaultError};
use crate::policy::app_key::{self, KeyDigest, KeyId, Shown};
use crate::policy::certificate::CertificateName;
use crate::policy::proof::{Marks, Uid};
use crate::policy::{App, Policy, Proof};
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

/// The most good apps.
pub const APPS_MAX: usize = 1000;
/// The most revoked keys that are remembered.
const REVOKED_MAX: usize = 1000;

/// Who is known.
#[derive(Default)]
pub(super) struct Apps {
    known: RwLock<Known>,
    /// Whether the store may say something else by now.
    is_stale: AtomicBool,
}

/// Every good app, and by what it is known.
#[derive(Default)]
struct Known {
    by_id: HashMap<KeyId, (Facts, Arc<App>)>,
    by_certificate: HashMap<CertificateName, KeyId>,
    by_uid: HashMap<Uid, KeyId>,
}

/// What an app is known by.
struct Facts {
    /// [`KeyDigest::NONE`] where it has no key.
    digest: KeyDigest,
    has: Marks,
}

/// What an operator sees of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppFacts {
    /// Its name.
    pub name: AppName,
    /// The public half of its key, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The name in its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateName>,
    /// The user it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// What it may do.
    pub policy: Policy,
    /// When it was added.
    pub created_at: UnixMillis,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<UnixMillis>,
}

/// Why an app is not what it was to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppError {
    /// There is a good app of this name.
    Exists(AppName),
    /// No good app has this name.
    Unknown(AppName),
    /// What it was to be known by is another good app's.
    Taken {
        /// The mark.
        mark: String,
        /// Whose it is.
        by: String,
    },
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
                "there is an app {name} already; revoke it first with \"perch apps revoke {name}\", or choose another name"
            ),
            AppError::Taken { mark, by } => {
                write!(f, "{mark} is app {by}'s; revoke that one first, or give this one another")
            }
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
        let (digest, app) = match known.by_id.get(&shown.id) {
            Some((facts, app)) => (facts.digest, Some(app)),
            None => (KeyDigest::NONE, None),
        };
        let is_it = shown.digest.is(&digest);
        app.filter(|_| is_it).cloned()
    }

    /// Whose certificate has these names: one app's, and not several apps'.
    pub fn app_of_certificate(&self, names: &[CertificateName]) -> Option<Arc<App>> {
        let known = self.shared.apps.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids = names.iter().filter_map(|name| known.by_certificate.get(name));
        let id = ids.next()?;
        ids.all(|other| other == id).then(|| known.by_id.get(id).map(|(_, app)| Arc::clone(app)))?
    }

    /// Which app runs as this user.
    pub fn app_of_uid(&self, uid: Uid) -> Option<Arc<App>> {
        let known = self.shared.apps.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_uid.get(&uid).and_then(|id| known.by_id.get(id)).map(|(_, app)| Arc::clone(app))
    }

    /// An app that was known, as it is now: a call may have waited for minutes, and its app may have ended
    /// meanwhile, or its policy been changed.
    pub fn app_now(&self, app: &App) -> Option<Arc<App>> {
        let known = self.shared.apps.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_id.get(&app.key_id).map(|(_, now)| Arc::clone(now))
    }

    /// How many good apps can show this proof.
    pub fn apps_known(&self, by: Proof) -> usize {
        let known = self.shared.apps.known.read().unwrap_or_else(PoisonError::into_inner);
        let can = |facts: &Facts| match by {
            Proof::Key => !facts.digest.is(&KeyDigest::NONE),
            Proof::Certificate => facts.has.certificate.is_some(),
            Proof::Uid => facts.has.uid.is_some(),
        };
        known.by_id.values().filter(|(facts, _)| can(facts)).count()
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
        let facts = self.add(name, policy, Marks::default(), shown, now).await?;
        Ok((key, facts))
    }

    /// Adds an app that has no key and is known by its marks.
    ///
    /// # Errors
    /// [`AppError`]; nothing is added then.
    pub async fn add_marked_app(
        &self,
        name: AppName,
        policy: Policy,
        marks: Marks,
        now: UnixMillis,
    ) -> Result<AppFacts, AppError> {
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|_| AppError::NoChance)?;
        let nobody = Shown { id: KeyId::new(id), digest: KeyDigest::NONE };
        self.add(name, policy, marks, nobody, now).await
    }

    async fn add(
        &self,
        name: AppName,
        policy: Policy,
        marks: Marks,
        shown: Shown,
        now: UnixMillis,
    ) -> Result<AppFacts, AppError> {
        let has_key = !shown.digest.is(&KeyDigest::NONE);
        let row = AppRow {
            name: name.to_string(),
            key_id: shown.id.to_string(),
            key_hash: *shown.digest.bytes(),
            policy: json_of(&policy)?,
            certificate: marks.certificate.as_ref().map(ToString::to_string),
            uid: marks.uid.map(|uid| uid.get().into()),
            created_at: now,
            revoked_at: None,
        };
        let facts = AppFacts {
            name: name.clone(),
            key_id: has_key.then(|| row.key_id.clone()),
            certificate: marks.certificate,
            uid: marks.uid,
            policy,
            created_at: now,
            revoked_at: None,
        };
        let shared = Arc::clone(&self.shared);
        let written = move |tx: &Tx<'_>| {
            let good = apps::good(tx, &shared.scope)?;
            if good.iter().any(|other| other.name == row.name) {
                return Err(AppError::Exists(name));
            }
            if good.len() >= APPS_MAX {
                return Err(AppError::TooMany);
            }
            not_taken(&row, &good)?;
            apps::add(tx, &shared.scope, &row, REVOKED_MAX)?;
            keys::next_generation(tx)?;
            Ok(())
        };
        self.change_apps(written).await?;
        Ok(facts)
    }

    /// Changes what an app may do, and what it is known by beside its key, which stays; marks that are not given stay,
    /// too. What it becomes is made out of what it is, in one step.
    ///
    /// # Errors
    /// [`AppError::Unknown`], [`AppError::Taken`], [`AppError::Vault`].
    pub async fn change_app(
        &self,
        name: AppName,
        marks: Marks,
        change: impl FnOnce(Policy) -> Policy + Send + 'static,
    ) -> Result<(), AppError> {
        let shared = Arc::clone(&self.shared);
        let written = move |tx: &Tx<'_>| {
            let good = apps::good(tx, &shared.scope)?;
            let row = good.iter().find(|row| row.name == name.as_str()).cloned();
            let row = row.ok_or_else(|| AppError::Unknown(name.clone()))?;
            let Some((facts, _)) = facts_of(row.clone()) else {
                return Err(AppError::Damaged(name));
            };
            let row = AppRow {
                policy: json_of(&change(facts.policy))?,
                certificate: marks.certificate.map(|name| name.to_string()).or(row.certificate),
                uid: marks.uid.map(|uid| uid.get().into()).or(row.uid),
                ..row
            };
            not_taken(&row, &good)?;
            apps::change(tx, &shared.scope, &row)?;
            keys::next_generation(tx)?;
            Ok(())
        };
        self.change_apps(written).await
    }

    /// Ends an app. A running gateway notices at its next [`Vault::refresh`].
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
        let mut known = Known::default();
        for row in rows.into_iter().filter(|row| row.revoked_at.is_none()) {
            let Some((facts, proof)) = facts_of(row) else { continue };
            let key_id = proof.id;
            if let Some(name) = &facts.certificate {
                known.by_certificate.insert(name.clone(), key_id);
            }
            if let Some(uid) = facts.uid {
                known.by_uid.insert(uid, key_id);
            }
            let has = Marks { certificate: facts.certificate, uid: facts.uid };
            let app = Arc::new(App { name: facts.name, key_id, policy: facts.policy });
            known.by_id.insert(key_id, (Facts { digest: proof.digest, has }, app));
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

/// A mark is one app's: with two it would be chance which of them calls.
fn not_taken(row: &AppRow, good: &[AppRow]) -> Result<(), AppError> {
    let others = || good.iter().filter(|other| other.name != row.name);
    let taken = |mark: String, by: &AppRow| AppError::Taken { mark, by: by.name.clone() };
    if let Some(name) = &row.certificate
        && let Some(by) = others().find(|other| other.certificate.as_ref() == Some(name))
    {
        return Err(taken(format!("the certificate name {name}"), by));
    }
    if let Some(uid) = row.uid
        && let Some(by) = others().find(|other| other.uid == Some(uid))
    {
        return Err(taken(format!("the user {uid}"), by));
    }
    Ok(())
}

fn json_of(policy: &Policy) -> Result<String, VaultError> {
    serde_json::to_string(policy).map_err(|cause| VaultError::Damaged(cause.to_string()))
}

/// What a row means, and what proves to be it; `None` when it is not what this perch writes: then its app is nobody.
fn facts_of(row: AppRow) -> Option<(AppFacts, Shown)> {
    let AppRow { name, key_id, key_hash, policy, certificate, uid, created_at, revoked_at } = row;
    let read = || -> Option<(AppFacts, Shown)> {
        let shown = Shown { id: KeyId::parse(&key_id)?, digest: KeyDigest::stored(key_hash) };
        let has_key = !shown.digest.is(&KeyDigest::NONE);
        let facts = AppFacts {
            name: AppName::new(&name).ok()?,
            key_id: has_key.then(|| shown.id.to_string()),
            certificate: certificate.map(|name| CertificateName::parse(&name)).transpose().ok()?,
            uid: uid
                .map(|uid| u32::try_from(uid).ok().and_then(|uid| Uid::new(uid).ok()).ok_or(()))
                .transpose()
                .ok()?,
            policy: serde_json::from_str(&policy).ok()?,
            created_at,
            revoked_at,
        };
        Some((facts, shown))
    };
    let facts = read();
    if facts.is_none() {
        let name = name.chars().filter(|c| !c.is_control()).take(255).collect::<String>();
        tracing::error!(
            app = name,
            "app {name} is refused: its row in the store is not what this perch writes; revoke it and add it anew"
        );
    }
    facts
}

#[cfg(test)]
mod tests;

//! Pauses that operators set while perch runs. All of them are in memory; the store is asked when somebody has changed
//! it. While the store is out, what was paused stays paused.

use super::audit::{Action, Actor};
use super::{Vault, VaultError};
use crate::policy::brake::{Brakes, PauseScope};
use crate::store::Tx;
use crate::store::keys;
use crate::store::pauses::{self, PauseRow};
use crate::types::UnixMillis;
use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The most pauses at once.
pub const PAUSES_MAX: usize = 1000;
/// The longest reason.
pub const REASON_BYTES_MAX: usize = 200;

/// What is paused.
#[derive(Default)]
pub(super) struct Pauses {
    known: RwLock<Arc<Known>>,
    /// Whether the store may say something else by now.
    is_stale: AtomicBool,
    /// One reading at a time: an older one must not overtake a newer one.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    brakes: Arc<Brakes>,
    list: Vec<Paused>,
}

/// A pause to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// What it is about.
    pub scope: PauseScope,
    /// Which customer, product or provider.
    pub name: String,
    /// Why, for whoever finds it: no data of people.
    pub reason: Option<String>,
}

/// A pause that is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paused {
    /// What it is about.
    pub scope: PauseScope,
    /// Which customer, product or provider.
    pub name: String,
    /// Since when; not known of those in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// Who set it: `operator`, or `configuration`, which alone can end it then.
    pub by: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of a pause that was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// Nothing pauses it any more.
    GoesOn,
    /// What an operator set is gone; the configuration pauses it still.
    StillConfigured,
}

impl Resumed {
    /// What to tell of it.
    pub fn said(self, scope: PauseScope, name: &str) -> String {
        match self {
            Resumed::GoesOn => format!("Calls of {scope} {name} go on."),
            Resumed::StillConfigured => format!(
                "The pause that an operator set for {scope} {name} is ended. The configuration pauses it still: \
                 take it out of pause.{scope}s there, which a running gateway reads anew."
            ),
        }
    }
}

/// Why a pause is not what it was to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseError {
    /// There is nothing of this name that could be paused.
    Name {
        /// What it was to be.
        scope: PauseScope,
        /// What is wrong with the name, in a sentence's end.
        why: String,
    },
    /// The reason is too long, or cannot be printed.
    Reason,
    /// It is not paused.
    NotPaused(PauseScope, String),
    /// The configuration pauses it.
    Configured(PauseScope, String),
    /// There are as many as there can be.
    TooMany,
    /// The store does not answer.
    Vault(VaultError),
}

impl fmt::Display for PauseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PauseError::Name { scope, why } => {
                write!(f, "the name of the {scope} {why}; nothing was changed")
            }
            PauseError::Reason => {
                write!(
                    f,
                    "the reason is longer than {REASON_BYTES_MAX} bytes or cannot be printed; nothing was changed"
                )
            }
            PauseError::NotPaused(scope, name) => {
                write!(f, "{scope} {name} is not paused; \"perch pauses\" shows what is")
            }
            PauseError::Configured(scope, name) => write!(
                f,
                "the configuration pauses {scope} {name}; take it out of pause.{scope}s there, which a running gateway reads anew"
            ),
            PauseError::TooMany => write!(f, "{PAUSES_MAX} pauses are set already; resume one first"),
            PauseError::Vault(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PauseError {}

impl<E: Into<VaultError>> From<E> for PauseError {
    fn from(error: E) -> Self {
        PauseError::Vault(error.into())
    }
}

impl Paused {
    /// One that the configuration has.
    pub fn configured(scope: PauseScope, name: &str) -> Self {
        Self { scope, name: name.to_owned(), since: None, by: "configuration".to_owned(), reason: None }
    }
}

impl Pause {
    /// Whether it can be set.
    ///
    /// # Errors
    /// [`PauseError::Name`], [`PauseError::Reason`].
    pub fn check(&self) -> Result<(), PauseError> {
        self.scope.check(&self.name).map_err(|why| PauseError::Name { scope: self.scope, why })?;
        let is_plain = |reason: &String| {
            reason.len() <= REASON_BYTES_MAX
                && !reason.trim().is_empty()
                && !reason.chars().any(char::is_control)
        };
        match self.reason.as_ref().is_none_or(is_plain) {
            true => Ok(()),
            false => Err(PauseError::Reason),
        }
    }
}

impl Vault {
    /// What operators have paused, for calls.
    pub fn brakes(&self) -> Arc<Brakes> {
        Arc::clone(&self.known().brakes)
    }

    /// The same with who and when, by scope and name.
    pub fn paused(&self) -> Vec<Paused> {
        self.known().list.clone()
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.shared.pauses.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sets a pause, which every gateway on the store obeys within two seconds. One that is set stays, with the new
    /// reason.
    ///
    /// # Errors
    /// [`PauseError`]; nothing is changed then.
    pub async fn pause(&self, pause: Pause, actor: Actor, now: UnixMillis) -> Result<(), PauseError> {
        pause.check()?;
        let Pause { scope: kind, name, reason } = pause;
        let (shared, ring) = (Arc::clone(&self.shared), self.shared.ring());
        let work = move |tx: &Tx<'_>| {
            let there = pauses::all(tx, &shared.scope)?;
            let is_new = !there.iter().any(|row| row.scope == kind.as_str() && row.name == name);
            if is_new && there.len() >= PAUSES_MAX {
                return Err(PauseError::TooMany);
            }
            let what = format!("{kind} {name}");
            let scope = kind.as_str().to_owned();
            let row = PauseRow { scope, name, paused_at: now, actor: actor.to_string(), reason };
            pauses::set(tx, &shared.scope, &row)?;
            shared.record_of(&ring, tx, (&actor, Action::Pause), (&what, 0), now)?;
            keys::next_generation(tx)?;
            Ok(())
        };
        self.change_pauses(work).await
    }

    /// Ends a pause that an operator set.
    ///
    /// # Errors
    /// [`PauseError::NotPaused`], [`PauseError::Vault`].
    pub async fn resume(
        &self,
        kind: PauseScope,
        name: String,
        actor: Actor,
        now: UnixMillis,
    ) -> Result<(), PauseError> {
        let (shared, ring) = (Arc::clone(&self.shared), self.shared.ring());
        let work = move |tx: &Tx<'_>| {
            if !pauses::take(tx, &shared.scope, kind.as_str(), &name)? {
                return Err(PauseError::NotPaused(kind, name));
            }
            shared.record_of(&ring, tx, (&actor, Action::Resume), (&format!("{kind} {name}"), 0), now)?;
            keys::next_generation(tx)?;
            Ok(())
        };
        self.change_pauses(work).await
    }

    async fn change_pauses(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<(), PauseError> + Send + 'static,
    ) -> Result<(), PauseError> {
        let shared = Arc::clone(&self.shared);
        self.store.write(work, move |_| shared.pauses.doubt()).await?;
        // It is done; who cannot read it now reads it at the next refresh.
        let _ = self.renew_pauses().await;
        Ok(())
    }

    /// Reads the pauses anew where they may have changed. What is known stays when that fails, and is read the next
    /// time.
    pub(super) async fn renew_pauses(&self) -> Result<(), VaultError> {
        let _one = self.shared.pauses.reading.lock().await;
        if !self.shared.pauses.is_stale.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        match self.store.read(move |tx| Ok::<_, VaultError>(pauses::all(tx, &shared.scope)?)).await {
            Ok(rows) => {
                self.shared.pauses.learn(rows);
                Ok(())
            }
            Err(error) => {
                self.shared.pauses.doubt();
                Err(error)
            }
        }
    }
}

impl Pauses {
    /// What is known may be out of date.
    pub(super) fn doubt(&self) {
        self.is_stale.store(true, Ordering::SeqCst);
    }

    fn learn(&self, rows: Vec<PauseRow>) {
        let list: Vec<Paused> = rows
            .into_iter()
            .filter_map(|row| {
                // A scope that this perch does not know is a newer one's.
                let scope = PauseScope::parse(&row.scope)?;
                let PauseRow { name, paused_at, actor, reason, .. } = row;
                Some(Paused { scope, name, since: Some(paused_at), by: actor, reason })
            })
            .collect();
        let brakes = list.iter().map(|paused| (paused.scope, paused.name.clone())).collect();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Known { brakes: Arc::new(brakes), list });
    }
}

//! Who did what to which connection: each row carries a MAC over itself and the row before it, under a key that the
//! store does not hold. A row that was changed, moved or taken out is found by [`verify_chain`]; rows cut off the end
//! are not, unless an older copy tells that they were there.

use super::ring::Ring;
use super::seal::{hmac, lp};
use super::{Shared, Vault, VaultError};
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::audit::{self, Bound, Deed};
use crate::types::{AppName, ConnectionId, UnixMillis};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The most rows shown of one connection.
const SHOWN_MAX: u32 = 20;

/// Who does something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An app, by its name where apps are told apart.
    App(Option<AppName>),
    /// A person at the command line or the admin door.
    Operator,
    /// perch by itself.
    Perch,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::App(None) => f.write_str("app"),
            Actor::App(Some(name)) => write!(f, "app:{name}"),
            Actor::Operator => f.write_str("operator"),
            Actor::Perch => f.write_str("perch"),
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A token is sealed.
    Seal,
    /// The same, out of an import.
    Import,
    /// The connection is given to a customer.
    Assign,
    /// Its place in its life is set.
    Status,
    /// It is to be disconnected: calls are refused from now on.
    Disconnect,
    /// Finch agrees; the token is erased.
    Disconnected,
    /// Finch is asked about it.
    Introspect,
    /// A link to renew its login is made.
    ReauthLink,
    /// Webhooks that could not be delivered are offered again.
    Replay,
    /// The calls of a customer, product or provider are stopped.
    Pause,
    /// They go on.
    Resume,
}

impl Action {
    /// The word in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Seal => "seal",
            Action::Import => "import",
            Action::Assign => "assign",
            Action::Status => "status",
            Action::Disconnect => "disconnect",
            Action::Disconnected => "disconnected",
            Action::Introspect => "introspect",
            Action::ReauthLink => "reauth_link",
            Action::Replay => "replay",
            Action::Pause => "pause",
            Action::Resume => "resume",
        }
    }
}

/// A chain that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// How many rows.
    pub rows: u64,
    /// The number of the newest; 0 when there is none.
    pub newest: i64,
}

/// Why a chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The row with this number was changed, or the one before it taken out.
    At(i64),
    /// The store does not answer.
    Store(StoreError),
}

impl From<StoreError> for Broken {
    fn from(cause: StoreError) -> Self {
        Broken::Store(cause)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::At(seq) => write!(
                f,
                "the audit trail is broken at row {seq}: it was changed, or a row before it taken out, by somebody who can \
                 write the store; compare it with a backup"
            ),
            Broken::Store(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for Broken {}

impl Broken {
    /// The number of the row that does not fit, where it is known.
    pub const fn seq(&self) -> Option<i64> {
        match self {
            Broken::At(seq) => Some(*seq),
            Broken::Store(_) => None,
        }
    }
}

/// Holds every row against its MAC and its neighbour, oldest first. The oldest row that is kept is believed about
/// what was before it, and must be the one that its own age leaves as the oldest.
///
/// # Errors
/// [`Broken`] names the first row that does not fit.
pub fn verify_chain(tx: &Tx<'_>, ring: &Ring) -> Result<Chain, Broken> {
    let key = ring.audit_key();
    let (mut before, mut chain): (Option<(i64, [u8; 32])>, Chain) = (None, Chain { rows: 0, newest: 0 });
    let oldest = audit::oldest_kept(audit::newest(tx)?.0);
    audit::each(tx, |Bound { deed, prev_mac, mac }| {
        let follows = match before {
            // The first row of all follows nothing.
            None => deed.seq == oldest && (oldest > 1 || prev_mac == [0; 32]),
            Some((seq, mac)) => deed.seq == seq + 1 && prev_mac == mac,
        };
        if !follows || !bool::from(mac_of(&key, &prev_mac, &deed).ct_eq(&mac)) {
            return Err(Broken::At(deed.seq));
        }
        before = Some((deed.seq, mac));
        chain = Chain { rows: chain.rows + 1, newest: deed.seq };
        Ok(())
    })?;
    Ok(chain)
}

fn mac_of(key: &[u8; 32], prev_mac: &[u8; 32], deed: &Deed) -> [u8; 32] {
    let Deed { seq, at, actor, action, app, env, connection_id, version } = deed;
    let row = lp(&[
        prev_mac,
        &seq.to_be_bytes(),
        &at.0.to_be_bytes(),
        actor.as_bytes(),
        action.as_bytes(),
        app.as_bytes(),
        env.as_bytes(),
        connection_id.as_bytes(),
        &version.to_be_bytes(),
    ]);
    hmac(key, &row)
}

impl Shared {
    /// Adds a row, in the transaction of what it tells.
    pub(super) fn record(
        &self,
        ring: &Ring,
        tx: &Tx<'_>,
        (actor, action): (&Actor, Action),
        (id, version): (&ConnectionId, u64),
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.record_of(ring, tx, (actor, action), (id.as_str(), version), now)
    }

    /// The same about whatever has this name.
    pub(super) fn record_of(
        &self,
        ring: &Ring,
        tx: &Tx<'_>,
        (actor, action): (&Actor, Action),
        (name, version): (&str, u64),
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let (newest, prev_mac) = audit::newest(tx)?;
        let deed = Deed {
            seq: newest + 1,
            at: now,
            actor: actor.to_string(),
            action: action.as_str().to_owned(),
            app: self.scope.application.to_string(),
            env: self.scope.environment.to_string(),
            connection_id: name.to_owned(),
            version: i64::try_from(version).unwrap_or(i64::MAX),
        };
        let mac = mac_of(&ring.audit_key(), &prev_mac, &deed);
        audit::append(tx, &Bound { deed, prev_mac, mac })
    }
}

impl Vault {
    /// Notes something that changes no row of a connection.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn note_deed(
        &self,
        actor: Actor,
        action: Action,
        (id, version): (&ConnectionId, u64),
        now: UnixMillis,
    ) -> Result<(), VaultError> {
        let (shared, ring, id) = (Arc::clone(&self.shared), self.shared.ring(), id.clone());
        let note = move |tx: &Tx<'_>| {
            Ok::<_, VaultError>(shared.record(&ring, tx, (&actor, action), (&id, version), now)?)
        };
        self.store.write(note, |_| ()).await
    }

    /// What was done to a connection lately, newest first.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn deeds(&self, id: &ConnectionId) -> Result<Vec<Deed>, VaultError> {
        let (shared, id) = (Arc::clone(&self.shared), id.clone());
        let look =
            move |tx: &Tx<'_>| Ok::<_, VaultError>(audit::of_connection(tx, &shared.scope, &id, SHOWN_MAX)?);
        self.store.read(look).await
    }

    /// Who paused and resumed what lately, newest first. A deed names its scope and its name in place of a connection.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn brake_deeds(&self) -> Result<Vec<Deed>, VaultError> {
        let shared = Arc::clone(&self.shared);
        let look = move |tx: &Tx<'_>| Ok::<_, VaultError>(audit::of_brakes(tx, &shared.scope, SHOWN_MAX)?);
        self.store.read(look).await
    }

    /// When each connection was disconnected last, as far as the trail reaches back.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn disconnections(&self) -> Result<BTreeMap<String, UnixMillis>, VaultError> {
        let shared = Arc::clone(&self.shared);
        let look = move |tx: &Tx<'_>| {
            let newest = audit::newest_of_action(tx, &shared.scope, "disconnected")?;
            Ok::<_, VaultError>(newest.into_iter().collect())
        };
        self.store.read(look).await
    }

    /// Holds the whole audit trail against its MACs.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn verify_audit(&self) -> Result<Chain, Broken> {
        let ring = self.shared.ring();
        self.store.read(move |tx| verify_chain(tx, &ring)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_row_is_told_by_the_newest() {
        for (newest, oldest) in [
            (0, 1),
            (1, 1),
            (1_000_000, 1),
            (1_009_999, 1),
            (1_010_000, 10_001),
            (1_019_999, 10_001),
            (1_020_000, 20_001),
        ] {
            assert_eq!(audit::oldest_kept(newest), oldest, "{newest}");
        }
    }
}

//! The facts of a connection as they are remembered. No secret is among them.

use crate::types::{CompanyId, ConnectionId, CustomerId, EntityId, Environment, ProviderId, UnixMillis};
use serde::{Serialize, Serializer};
use std::fmt;

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Usable.
    Active,
    /// Finch said `reauthenticate_user`; calls are still sent, other entities may work.
    NeedsReauth,
    /// Kept, and not usable until an operator decides: its environment or customer did not agree.
    Held,
    /// Being disconnected: no call uses it; its token is kept because Finch's `/disconnect` needs it.
    Disconnecting,
    /// Gone at Finch; the token is erased, the facts stay for the bill.
    Disconnected,
}

impl Status {
    /// Every status, in the order of a life.
    pub const ALL: [Status; 5] =
        [Status::Active, Status::NeedsReauth, Status::Held, Status::Disconnecting, Status::Disconnected];

    /// The word in the store, in JSON and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::NeedsReauth => "needs_reauth",
            Status::Held => "held",
            Status::Disconnecting => "disconnecting",
            Status::Disconnected => "disconnected",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// The facts of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// Finch's name for it.
    pub connection_id: ConnectionId,
    /// Whose it is; `None` while it is unassigned.
    pub customer_id: Option<CustomerId>,
    /// The company behind it, when Finch told one.
    pub company_id: Option<CompanyId>,
    /// The employment system; unknown only for an import that was not verified.
    pub provider_id: Option<ProviderId>,
    /// Finch's scopes, as granted.
    pub products: Vec<String>,
    /// The legal entities it reaches.
    pub entity_ids: Vec<EntityId>,
    /// The kind of credentials its token came from; Finch's `client_type`.
    #[serde(serialize_with = "in_words")]
    pub client_type: Environment,
    /// Finch's last word on it: `connection_status.status` of `/introspect`, a webhook's, or what its answers mean.
    pub account_status: Option<String>,
    /// When that word was learnt; older words do not replace it.
    pub status_at: Option<UnixMillis>,
    /// When `/introspect` was last asked about it.
    pub introspected_at: Option<UnixMillis>,
    /// What an operator should know: where Finch and the vault disagree.
    pub note: Option<String>,
    /// Where it is in its life.
    pub status: Status,
    /// Why it is held.
    pub held_reason: Option<String>,
    /// Counts the tokens and owners it has had; a higher one is newer.
    pub version: u64,
    /// When it was first stored.
    pub created_at: UnixMillis,
    /// When any of this last changed, use aside.
    pub updated_at: UnixMillis,
    /// When a call last used it.
    pub last_used_at: Option<UnixMillis>,
}

fn in_words<S: Serializer>(environment: &Environment, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(environment.as_str())
}

/// A connection with what is sealed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The facts, readable by anyone who reads the file.
    pub facts: Connection,
    /// The environment it is stored under.
    pub environment: Environment,
    /// The sealed token and what finds it; `None` exactly when it is disconnected.
    pub sealed: Option<SealedToken>,
}

/// A sealed token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedToken {
    /// The blob.
    pub blob: Vec<u8>,
    /// The key it was sealed with.
    pub dek_id: u64,
    /// The keyed index of the token: equal for equal tokens, worthless without the key.
    pub index: [u8; 16],
}

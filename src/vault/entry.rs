//! What goes into the vault and what comes out.

use super::VaultError;
use crate::store::{Connection, Status};
use crate::types::{
    AccessToken, CompanyId, ConnectionId, CustomerId, EntityId, Environment, ProviderId, UnixMillis,
};

/// The longest token stored, in bytes. Finch's examples have 36; a header has room for this.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Most entities or products one connection may have.
pub const LIST_ITEMS_MAX: usize = 10_000;
/// The longest text kept beside a connection, in bytes.
pub const TEXT_BYTES_MAX: usize = 500;

/// One connection, opened.
#[derive(Debug)]
pub struct Entry {
    /// What is known of it.
    pub facts: Connection,
    /// Its token; `None` when it is disconnected or unreadable.
    pub token: Option<AccessToken>,
    /// The sealed token cannot be trusted. Only [`super::Vault::of_customer`] gives such entries, so
    /// that one damaged connection neither hides nor makes another the customer's only one.
    pub is_unreadable: bool,
}

/// A connection to store.
#[derive(Debug)]
pub struct NewConnection {
    /// Finch's name for it.
    pub connection_id: ConnectionId,
    /// Whose it is, when that is known.
    pub customer_id: Option<CustomerId>,
    /// The company behind it.
    pub company_id: Option<CompanyId>,
    /// The employment system.
    pub provider_id: Option<ProviderId>,
    /// Finch's scopes, as granted.
    pub products: Vec<String>,
    /// The legal entities it reaches.
    pub entity_ids: Vec<EntityId>,
    /// The kind of credentials the token came from. Another than perch's own makes it held.
    pub client_type: Environment,
    /// Finch's last word on it.
    pub account_status: Option<String>,
    /// Its token.
    pub token: AccessToken,
    /// Where it starts.
    pub status: Status,
    /// Why it is held.
    pub held_reason: Option<String>,
}

impl NewConnection {
    pub(super) fn check(&self) -> Result<(), VaultError> {
        let invalid = |why| Err(VaultError::Invalid { connection: self.connection_id.clone(), why });
        let token = self.token.expose();
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return invalid("its token is not 1 to 4096 printable ASCII characters without blanks");
        }
        if self.entity_ids.len() > LIST_ITEMS_MAX || self.products.len() > LIST_ITEMS_MAX {
            return invalid("it has more than 10000 entities or products");
        }
        if self.products.iter().any(|p| !is_plain(p))
            || self.account_status.as_deref().is_some_and(|s| !is_plain(s))
        {
            return invalid("a product or its account status is too long or has control characters");
        }
        if self.status == Status::Disconnected {
            return invalid("a disconnected connection has no token");
        }
        Ok(())
    }
}

pub(super) fn is_plain(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

/// What storing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The version of what is stored now.
    pub version: u64,
    /// Whether the connection was there before.
    pub replaced: bool,
    /// Where it is in its life: held when its environment is another than perch's.
    pub status: Status,
}

/// Why an import stored nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportError {
    /// Which of the connections, counted from 0; `None` when none of them is at fault.
    pub at: Option<usize>,
    /// What is wrong.
    pub error: VaultError,
}

/// Numbers for metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections by status and provider.
    pub connections: Vec<(Status, Option<ProviderId>, u64)>,
    /// How many changes the store has had: after a restore from a backup it is lower than before.
    pub generation: i64,
    /// When the key that seals was made.
    pub sealing_key_made: Option<UnixMillis>,
    /// Rows found unreadable since start. Any is an alert.
    pub unreadable_total: u64,
    /// Times the store was asked because the cache could not answer, since start.
    pub loads_total: u64,
}

//! What the vault answers when it does not answer with a connection.

use super::cache::Failure;
use crate::store::StoreError;
use crate::types::{ConnectionId, Environment};
use std::fmt;

/// Why the vault did not do it. No text of these holds a secret, or another customer's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultError {
    /// There is no such connection.
    UnknownConnection,
    /// The connection is stored, but under another environment than perch works with.
    OtherEnvironment {
        /// The one it is stored under.
        stored: Environment,
    },
    /// The sealed token does not open in its place, or is older than one seen before. Never overlooked;
    /// other connections are not concerned.
    Unreadable {
        /// Which.
        connection: ConnectionId,
    },
    /// The very same token is stored under another connection.
    TokenElsewhere {
        /// The one that was to be stored.
        connection: ConnectionId,
        /// The one that has the token.
        stored_under: String,
    },
    /// The connection belongs to another customer.
    BelongsToAnother {
        /// Which.
        connection: ConnectionId,
    },
    /// The connection is disconnected; its token is erased.
    Disconnected {
        /// Which.
        connection: ConnectionId,
    },
    /// What was to be stored is not storable.
    Invalid {
        /// Which.
        connection: ConnectionId,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The store does not answer; later it may.
    Store(String),
    /// The store answers with something no perch wrote.
    Damaged(String),
}

impl fmt::Display for VaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VaultError::UnknownConnection => {
                f.write_str("there is no such connection; \"perch connections list\" shows those there are")
            }
            VaultError::OtherEnvironment { stored } => write!(
                f,
                "this connection belongs to the {stored} environment; use a perch that works with {stored}"
            ),
            VaultError::Unreadable { connection } => write!(
                f,
                "the stored token of connection {connection} cannot be trusted: it was damaged, moved or replaced \
                 in the store; restore the store or have the customer connect again"
            ),
            VaultError::TokenElsewhere { connection, stored_under } => write!(
                f,
                "the token given for connection {connection} is already stored under connection {stored_under}"
            ),
            VaultError::BelongsToAnother { connection } => {
                write!(f, "connection {connection} belongs to another customer and was left as it is")
            }
            VaultError::Disconnected { connection } => write!(
                f,
                "connection {connection} is disconnected and its token erased; the customer has to connect again"
            ),
            VaultError::Invalid { connection, why } => {
                write!(f, "connection {connection} cannot be stored: {why}")
            }
            VaultError::Store(why) => write!(f, "the store does not answer: {why}"),
            VaultError::Damaged(what) => write!(f, "the store is damaged: {what}"),
        }
    }
}

impl std::error::Error for VaultError {}

impl From<StoreError> for VaultError {
    fn from(cause: StoreError) -> Self {
        match cause {
            StoreError::Unavailable(why) | StoreError::Newer(why) | StoreError::Refused(why) => {
                VaultError::Store(why)
            }
            StoreError::Damaged(what) => VaultError::Damaged(what),
        }
    }
}

impl Failure for VaultError {
    fn is_outage(&self) -> bool {
        matches!(self, VaultError::Store(_))
    }

    fn never_still() -> Self {
        VaultError::Store("it changes faster than it can be read; try again".to_owned())
    }
}

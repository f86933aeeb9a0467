//! FLOOR 0: the words of the house. Ids, secrets, products, instants. No I/O, no clock.

pub mod id;
pub mod json;
pub mod product;
pub mod secret;
pub mod time;

pub use id::{
    AppName, ApplicationId, CompanyId, ConnectionId, CustomerId, EntityId, EventId, FinchRequestId,
    InvalidId, ProviderId, RequestId,
};
pub use product::Product;
pub use secret::{
    AccessToken, AdminToken, AppKey, ClientSecret, CollectorKey, Kek, KeyToken, StorePassword, StoreUser,
    WebhookSecret,
};
pub use time::{Moment, UnixMillis};

use std::fmt;

/// Which kind of Finch credentials perch works with. Finch's `client_type`.
/// A token of one environment is refused in another (Finch Connect guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// Real customers.
    Production,
    /// Real providers, few connections.
    Development,
    /// Invented data.
    Sandbox,
}

impl Environment {
    /// Every environment, in the order of the documentation.
    pub const ALL: [Environment; 3] =
        [Environment::Production, Environment::Development, Environment::Sandbox];

    /// Finch's own word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Environment::Production => "production",
            Environment::Development => "development",
            Environment::Sandbox => "sandbox",
        }
    }

    /// Reads Finch's `client_type`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.as_str() == word)
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How urgent a call is. An interactive call has a person waiting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// A person is waiting.
    Interactive,
    /// A job is running.
    Batch,
}

impl Priority {
    /// Every priority, most urgent first.
    pub const ALL: [Priority; 2] = [Priority::Interactive, Priority::Batch];

    /// The word used in `Perch-Priority` and in metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Interactive => "interactive",
            Priority::Batch => "batch",
        }
    }

    /// Reads the value of `Perch-Priority`.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == word)
    }
}

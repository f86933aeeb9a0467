//! Several calls in one request, and one call in several: Finch counts requests, not the ids in them.
//!
//! Which calls may share a request, what the shared one asks, and how its answer becomes each call's own again. Items
//! keep their bytes; whatever cannot be taken apart with certainty is not.

mod answer;
mod ask;
mod table;

pub use answer::{Answer, joined};
pub use ask::{Asks, parts};
pub use table::{Entered, Id, Member, Near, Table};

use crate::finch::endpoints::Endpoint;
use crate::finch::error::FinchError;
use crate::policy::Class;
use crate::policy::class::of_answer;
use crate::types::{AppName, ConnectionId, CustomerId, Priority};
use http::HeaderMap;
use sha2::{Digest, Sha256};

/// The most ids of a call that is gathered with others. A larger one uses its request well enough, and would make a
/// call for one person wait for the answer about hundreds.
pub const CALL_IDS_MAX: usize = 100;

/// The most calls in one request.
pub const MEMBERS_MAX: usize = 1_000;

/// The most items that several of them get copies of, beyond what Finch answers at most.
pub const COPIES_MAX: usize = 1_000;

/// The most bytes of entries in one request.
pub const BYTES_MAX: usize = 1 << 20;

/// The most calls that wait in gatherings at once, all together; further ones wait by themselves.
pub const WAITING_MAX: usize = 10_000;

/// The most requests that one over-size call becomes; a larger one goes to Finch as it is.
pub const PARTS_MAX: usize = 64;

/// Counts how often the client has sent the call: it says nothing of what is asked for.
const SAYS_NOTHING: &str = "x-stainless-retry-count";

/// What calls must have in common to share a request: whose they are and all that is sent but the ids.
#[derive(Debug, Clone, Copy)]
pub struct Common<'a> {
    /// The key the app has now: one that took its place is another app.
    pub app_key: Option<&'a str>,
    /// How urgent it is: a person does not wait for a job's larger answer.
    pub priority: Priority,
    /// The app, when apps are told apart.
    pub app: Option<&'a AppName>,
    /// Whom they are for.
    pub customer: Option<&'a CustomerId>,
    /// With whose token.
    pub connection: &'a ConnectionId,
    /// The path.
    pub path: &'a str,
    /// The query: the entity is in there.
    pub query: Option<&'a str>,
    /// The headers that reach Finch.
    pub headers: &'a HeaderMap,
    /// The body without its list.
    pub frame: &'a [u8],
}

/// The digest of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Common<'_> {
    /// Two calls with the same key may share a request.
    pub fn key(&self) -> Key {
        let mut digest = Sha256::new();
        // Each part with its length, so that no two rows of parts read the same.
        let mut part = |bytes: Option<&[u8]>| match bytes {
            Some(bytes) => {
                digest.update([1]);
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(bytes);
            }
            None => digest.update([0]),
        };
        part(self.app.map(|app| app.as_str().as_bytes()));
        part(self.app_key.map(str::as_bytes));
        part(Some(self.priority.as_str().as_bytes()));
        part(self.customer.map(|customer| customer.as_str().as_bytes()));
        part(Some(self.connection.as_str().as_bytes()));
        part(Some(self.path.as_bytes()));
        part(self.query.map(str::as_bytes));
        part(Some(self.frame));
        let mut headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        headers.sort_unstable();
        for (name, value) in headers.into_iter().filter(|(name, _)| *name != SAYS_NOTHING) {
            part(Some(name.as_bytes()));
            part(Some(value));
        }
        Key(digest.finalize().into())
    }
}

/// Whom a shared request that brought no items concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns {
    /// Everyone in it would have been told the same: it is about the token, the limits, the provider's abilities.
    Everyone,
    /// Something in the body may be at fault, and nobody knows whose part it is. Finch will say it again at once.
    Somebody,
    /// The same, but Finch or the provider may just be down, and more requests would not help them.
    SomebodyOrFinch,
}

/// Whom an error of Finch's concerns.
pub fn concerns(endpoint: &Endpoint, status: u16, error: &FinchError) -> Concerns {
    match of_answer(endpoint, status, error) {
        Class::InvalidRequest => Concerns::Somebody,
        // A 503 is said before anything of the body is looked at.
        Class::ProviderError | Class::FinchError if status != 503 => Concerns::SomebodyOrFinch,
        _ if status == 408 => Concerns::SomebodyOrFinch,
        _ => Concerns::Everyone,
    }
}

#[cfg(test)]
mod tests;

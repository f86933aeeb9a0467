//! What an app may do, and for whom. Every "no" about whom is the answer that an unknown name gets.

use super::app_key::KeyId;
use super::refusal::{Forbidden, Refusal};
use crate::finch::endpoints::{Auth, Effect, Endpoint, Operation};
use crate::types::{AppName, ConnectionId, CustomerId, InvalidId, Priority, Product};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most entries of a policy's list: each is compared at every call.
pub const LIST_MAX: usize = 1000;

/// The word for no restriction.
const ALL: &str = "all";

/// An app that has proved to be it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its name in logs, and what keeps its calls apart from those of others.
    pub name: AppName,
    /// By what the store finds it: the public half of its key, where it has one.
    pub key_id: KeyId,
    /// What it may do.
    pub policy: Policy,
}

/// All, or those listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Among<T> {
    /// No restriction.
    All,
    /// These, and no others.
    Only(Vec<T>),
}

impl<T> Among<T> {
    fn any(&self, is: impl FnMut(&T) -> bool) -> bool {
        match self {
            Among::All => true,
            Among::Only(list) => list.iter().any(is),
        }
    }

    const fn is_all(&self) -> bool {
        matches!(self, Among::All)
    }
}

/// A customer, or all whose ids begin alike: `acme`, `acme-*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Customers {
    /// This one.
    One(CustomerId),
    /// Those whose ids begin so.
    Beginning(Box<str>),
}

impl Customers {
    /// Reads an id, or the beginning of ids and a star.
    ///
    /// # Errors
    /// What is wrong with the id. A star alone is an empty beginning: who means everyone says `all`.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        match text.strip_suffix('*') {
            // An id may not end in a blank; a beginning may.
            Some(beginning) => CustomerId::new(beginning.trim_end())
                .and_then(|_| CustomerId::new(text))
                .map(|_| Customers::Beginning(beginning.into())),
            None => CustomerId::new(text).map(Customers::One),
        }
    }

    fn is(&self, customer: &CustomerId) -> bool {
        match self {
            Customers::One(one) => one == customer,
            Customers::Beginning(beginning) => customer.as_str().starts_with(&**beginning),
        }
    }
}

impl fmt::Display for Customers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Customers::One(one) => one.fmt(f),
            Customers::Beginning(beginning) => write!(f, "{beginning}*"),
        }
    }
}

/// What an app may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Policy {
    /// For which customers.
    pub customers: Among<Customers>,
    /// Through which connections of theirs.
    pub connections: Among<ConnectionId>,
    /// Which products it may call.
    pub products: Among<Product>,
    /// Whether it may do more than read and connect customers. Changing an employment system needs
    /// `apps.writes = "allow"` too.
    pub writes: bool,
    /// The most urgent its calls can be.
    pub priority: Priority,
}

impl Default for Policy {
    /// It reads, for everyone.
    fn default() -> Self {
        Self {
            customers: Among::All,
            connections: Among::All,
            products: Among::All,
            writes: false,
            priority: Priority::Interactive,
        }
    }
}

impl Policy {
    /// Whether the app may call this endpoint at all, for whomever.
    ///
    /// # Errors
    /// Its product or its effect is not the app's.
    pub fn permit(&self, endpoint: &Endpoint) -> Result<(), Refusal> {
        if !self.products.any(|product| *product == endpoint.product) {
            return Err(Refusal::AppForbidden(Forbidden::Product(endpoint.product)));
        }
        let connects = matches!(
            endpoint.operation,
            Operation::CreateSession | Operation::ReauthenticateSession | Operation::CreateAccessToken
        );
        match endpoint.effect {
            Effect::Writes if !self.writes && !connects => Err(Refusal::AppForbidden(Forbidden::Effect)),
            Effect::Writes | Effect::Reads => Ok(()),
        }
    }

    /// How urgent a call of the app is that asks for `priority`.
    pub fn cap(&self, priority: Priority) -> Priority {
        // The most urgent stands first.
        priority.max(self.priority)
    }

    /// Whether the app may act for this customer.
    pub fn admits_customer(&self, customer: &CustomerId) -> bool {
        self.customers.any(|pattern| pattern.is(customer))
    }

    /// Whether it may use this connection, which is that customer's; nobody's connection is for those who
    /// may act for everyone.
    pub fn admits(&self, customer: Option<&CustomerId>, connection: &ConnectionId) -> bool {
        let is_theirs = match customer {
            Some(customer) => self.admits_customer(customer),
            None => self.customers.is_all(),
        };
        is_theirs && self.admits_connection(connection)
    }

    /// Whether it may use this connection, if it may act for its customer.
    pub fn admits_connection(&self, connection: &ConnectionId) -> bool {
        self.connections.any(|one| one == connection)
    }

    /// Whether there is anybody it may not act for.
    pub fn is_restricted(&self) -> bool {
        !(self.customers.is_all() && self.connections.is_all())
    }

    /// Whether a call that is not made with a connection's own token must be looked into for whom it is.
    pub fn looks_into(&self, endpoint: &Endpoint) -> bool {
        self.is_restricted() && matches!(endpoint.auth, Auth::Basic | Auth::InBody)
    }
}

/// A policy as it stands in the store. A member that this perch does not know may be a restriction, so it is
/// refused, and so is one that is missing.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    customers: Words,
    connections: Words,
    products: Words,
    writes: bool,
    priority: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Words {
    All(String),
    Only(Vec<String>),
}

impl<T> Among<T> {
    /// Reads words: `all` alone, or each by `read`.
    ///
    /// # Errors
    /// No word, too many, `all` among others, or what `read` says of one.
    pub fn parse<S: AsRef<str>, E: fmt::Display>(
        words: &[S],
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Self, String> {
        match words {
            [] => return Err("names nothing".to_owned()),
            [one] if one.as_ref() == ALL => return Ok(Among::All),
            words if words.len() > LIST_MAX => {
                return Err(format!("has {} entries; {LIST_MAX} is the most", words.len()));
            }
            words if words.iter().any(|word| word.as_ref() == ALL) => {
                return Err("says all and names some; say one or the other".to_owned());
            }
            _ => {}
        }
        let read = |word: &S| read(word.as_ref()).map_err(|why| format!("{:?}: {why}", word.as_ref()));
        words.iter().map(read).collect::<Result<_, _>>().map(Among::Only)
    }

    fn write(&self, text: impl Fn(&T) -> String) -> Words {
        match self {
            Among::All => Words::All(ALL.to_owned()),
            Among::Only(list) => Words::Only(list.iter().map(text).collect()),
        }
    }

    fn read<E: fmt::Display>(words: &Words, read: impl Fn(&str) -> Result<T, E>) -> Result<Self, String> {
        match words {
            Words::All(word) if word == ALL => Ok(Among::All),
            Words::All(_) => Err("is neither all nor a list".to_owned()),
            Words::Only(list) => Self::parse(list, read),
        }
    }
}

/// Reads a product's name.
///
/// # Errors
/// Finch has none of this name.
pub fn product(text: &str) -> Result<Product, &'static str> {
    Product::parse(text).ok_or("is no product of Finch's")
}

impl TryFrom<Written> for Policy {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        Ok(Self {
            customers: Among::read(&written.customers, Customers::parse)?,
            connections: Among::read(&written.connections, |id| ConnectionId::new(id))?,
            products: Among::read(&written.products, product)?,
            writes: written.writes,
            priority: Priority::parse(&written.priority).ok_or("the priority is no word of perch's")?,
        })
    }
}

impl From<Policy> for Written {
    fn from(policy: Policy) -> Self {
        Self {
            customers: policy.customers.write(ToString::to_string),
            connections: policy.connections.write(ToString::to_string),
            products: policy.products.write(ToString::to_string),
            writes: policy.writes,
            priority: policy.priority.as_str().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;

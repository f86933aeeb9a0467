//! Brakes: customers, products and providers whose calls are not sent until somebody releases them.

use crate::finch::endpoints::can_be_kept_back;
use crate::types::{CustomerId, Product, ProviderId};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// What a pause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PauseScope {
    /// One customer.
    Customer,
    /// One product of Finch's, for every customer.
    Product,
    /// One employment system, for every customer.
    Provider,
}

impl PauseScope {
    /// Every scope.
    pub const ALL: [PauseScope; 3] = [PauseScope::Customer, PauseScope::Product, PauseScope::Provider];

    /// The word in commands, error bodies, metric labels and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            PauseScope::Customer => "customer",
            PauseScope::Product => "product",
            PauseScope::Provider => "provider",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }

    /// Whether there can be something of this name in the scope, which is all that can be known of customers and
    /// providers: a brake may be set before there is anybody it stops.
    ///
    /// # Errors
    /// What is wrong with the name, in a sentence's end: "… is empty".
    pub fn check(self, name: &str) -> Result<(), String> {
        match self {
            PauseScope::Customer => CustomerId::new(name).map(drop).map_err(|why| why.to_string()),
            PauseScope::Provider => ProviderId::new(name).map(drop).map_err(|why| why.to_string()),
            PauseScope::Product if Product::parse(name).is_some_and(can_be_kept_back) => Ok(()),
            PauseScope::Product => {
                let all: Vec<&str> =
                    Product::ALL.into_iter().filter(|p| can_be_kept_back(*p)).map(Product::as_str).collect();
                Err(format!("is no product that can be paused; those are {}", all.join(", ")))
            }
        }
    }
}

impl fmt::Display for PauseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of brakes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brakes(HashSet<(PauseScope, Box<str>)>);

/// For whom and for what a call is.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// For whom, where that is known.
    pub customer: Option<&'a CustomerId>,
    /// For what.
    pub product: Product,
    /// Through which system, where that is known.
    pub provider: Option<&'a ProviderId>,
}

impl Brakes {
    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of a scope are set.
    pub fn count(&self, scope: PauseScope) -> usize {
        self.0.iter().filter(|(other, _)| *other == scope).count()
    }

    /// Every one, by scope and name.
    pub fn all(&self) -> Vec<(PauseScope, &str)> {
        let mut all: Vec<_> = self.0.iter().map(|(scope, name)| (*scope, &**name)).collect();
        all.sort_unstable();
        all
    }

    /// Whether this one is set.
    pub fn has(&self, scope: PauseScope, name: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&(scope, name.into()))
    }

    /// The brake that stops a call, the widest first.
    pub fn stops(&self, bound: Bound<'_>) -> Option<(PauseScope, String)> {
        if self.0.is_empty() {
            return None;
        }
        let named = [
            (PauseScope::Product, Some(bound.product.as_str())),
            (PauseScope::Provider, bound.provider.map(ProviderId::as_str)),
            (PauseScope::Customer, bound.customer.map(CustomerId::as_str)),
        ];
        let set =
            |&(scope, name): &(PauseScope, Option<&str>)| name.is_some_and(|name| self.has(scope, name));
        let (scope, name) = named.into_iter().find(set)?;
        Some((scope, name?.to_owned()))
    }
}

impl FromIterator<(PauseScope, String)> for Brakes {
    fn from_iter<I: IntoIterator<Item = (PauseScope, String)>>(brakes: I) -> Self {
        Self(brakes.into_iter().map(|(scope, name)| (scope, name.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brakes(list: &[(PauseScope, &str)]) -> Brakes {
        list.iter().map(|(scope, name)| (*scope, (*name).to_owned())).collect()
    }

    fn bound<'a>(customer: &'a CustomerId, provider: &'a ProviderId) -> Bound<'a> {
        Bound { customer: Some(customer), product: Product::Directory, provider: Some(provider) }
    }

    #[test]
    fn a_brake_stops_its_own_scope_and_nothing_of_the_same_name() {
        let (acme, gusto) = (CustomerId::new("acme").unwrap(), ProviderId::new("gusto").unwrap());
        let stops = |list: &[(PauseScope, &str)]| brakes(list).stops(bound(&acme, &gusto)).map(|(s, _)| s);
        assert_eq!(stops(&[]), None);
        assert_eq!(stops(&[(PauseScope::Customer, "acme")]), Some(PauseScope::Customer));
        assert_eq!(stops(&[(PauseScope::Provider, "gusto")]), Some(PauseScope::Provider));
        assert_eq!(stops(&[(PauseScope::Product, "directory")]), Some(PauseScope::Product));
        assert_eq!(
            stops(&[
                (PauseScope::Customer, "gusto"),
                (PauseScope::Provider, "acme"),
                (PauseScope::Product, "company")
            ]),
            None
        );
        assert_eq!(
            stops(&[(PauseScope::Customer, "acme"), (PauseScope::Product, "directory")]),
            Some(PauseScope::Product),
            "the widest is told"
        );
    }

    #[test]
    fn a_call_that_names_nobody_is_stopped_by_its_product_alone() {
        let all = brakes(&[(PauseScope::Customer, "acme"), (PauseScope::Provider, "gusto")]);
        let nobody = Bound { customer: None, product: Product::Directory, provider: None };
        assert_eq!(all.stops(nobody), None);
    }

    #[test]
    fn making_and_ending_a_connection_cannot_be_paused() {
        for product in [Product::Auth, Product::Connect, Product::Disconnect, Product::Providers] {
            assert!(
                !can_be_kept_back(product) && PauseScope::Product.check(product.as_str()).is_err(),
                "{product}"
            );
        }
        for product in [Product::Directory, Product::Benefits, Product::Introspect, Product::Jobs] {
            assert_eq!(PauseScope::Product.check(product.as_str()), Ok(()), "{product}");
        }
        assert!(PauseScope::Customer.check("").is_err() && PauseScope::Customer.check("acme").is_ok());
    }
}

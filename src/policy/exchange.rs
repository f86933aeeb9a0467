//! What to do with a token that an exchange brought. It is always kept: a code works once, and a
//! token that is thrown away leaves a connection nobody can use and Finch still bills.

use crate::types::{CustomerId, Environment};

/// What is known when the token arrives.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The customer Finch names.
    pub finch: Option<&'a CustomerId>,
    /// The customer the app names.
    pub named: Option<&'a CustomerId>,
    /// The customer this connection is already stored for.
    pub stored: Option<&'a CustomerId>,
    /// Finch's `client_type`, where it was told.
    pub client_type: Option<Environment>,
    /// The environment perch works in.
    pub configured: Environment,
}

/// How the token is kept, and what the app is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeping {
    /// For this customer, or for nobody yet: usable by its reference.
    Active(Option<CustomerId>),
    /// For the customer the connection already had; the app that named another one is refused.
    Swapped(CustomerId),
    /// Unusable until an operator decides.
    HeldForCustomer,
    /// Unusable: its environment is not this one.
    HeldForEnvironment(Environment),
}

/// Decides.
pub fn keep(arrival: Arrival<'_>) -> Keeping {
    if let Some(other) = arrival.client_type.filter(|t| *t != arrival.configured) {
        return Keeping::HeldForEnvironment(other);
    }
    let owner = arrival.finch.or(arrival.stored).or(arrival.named);
    let is_agreed =
        [arrival.finch, arrival.stored, arrival.named].into_iter().flatten().all(|c| Some(c) == owner);
    match (owner, arrival.stored) {
        (owner, _) if is_agreed => Keeping::Active(owner.cloned()),
        // The same connection, and Finch does not contradict: only the app named somebody else.
        (Some(owner), Some(stored)) if owner == stored => Keeping::Swapped(stored.clone()),
        _ => Keeping::HeldForCustomer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_whoever_disagrees() {
        let id = |text: &str| (!text.is_empty()).then(|| CustomerId::new(text).expect("an id"));
        for (finch, named, stored, keeping) in [
            ("", "", "", Keeping::Active(None)),
            ("a", "", "", Keeping::Active(id("a"))),
            ("", "a", "", Keeping::Active(id("a"))),
            ("a", "a", "a", Keeping::Active(id("a"))),
            ("", "", "a", Keeping::Active(id("a"))),
            ("a", "b", "", Keeping::HeldForCustomer),
            ("a", "b", "a", Keeping::Swapped(CustomerId::new("a").expect("an id"))),
            ("", "b", "a", Keeping::Swapped(CustomerId::new("a").expect("an id"))),
            ("b", "b", "a", Keeping::HeldForCustomer),
            ("b", "", "a", Keeping::HeldForCustomer),
        ] {
            let (f, n, s) = (id(finch), id(named), id(stored));
            let arrival = Arrival {
                finch: f.as_ref(),
                named: n.as_ref(),
                stored: s.as_ref(),
                client_type: None,
                configured: Environment::Sandbox,
            };
            assert_eq!(keep(arrival), keeping, "finch {finch:?}, named {named:?}, stored {stored:?}");
        }
    }

    #[test]
    fn a_token_of_another_environment_is_held() {
        let arrival = Arrival {
            finch: None,
            named: None,
            stored: None,
            client_type: Some(Environment::Sandbox),
            configured: Environment::Production,
        };
        assert_eq!(keep(arrival), Keeping::HeldForEnvironment(Environment::Sandbox));
        assert_eq!(keep(Arrival { client_type: None, ..arrival }), Keeping::Active(None));
    }
}

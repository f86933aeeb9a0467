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
    /// For the customer the connection already had, whom the app may not act for: it is refused.
    Withheld(CustomerId),
    /// For this customer or nobody, whom the app may not act for: unusable until an operator decides.
    HeldForApp(Option<CustomerId>),
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

impl Keeping {
    /// The same for an app that may, or may not, act for whom the token was found to be: nothing is handed to
    /// an app that may not, and a new connection waits for somebody who decides.
    #[must_use]
    pub fn for_app(self, may: bool, arrival: Arrival<'_>) -> Self {
        match self {
            keeping if may => keeping,
            Keeping::Active(Some(owner)) if arrival.stored == Some(&owner) => Keeping::Withheld(owner),
            Keeping::Active(owner) | Keeping::HeldForApp(owner) => Keeping::HeldForApp(owner),
            Keeping::Swapped(owner) | Keeping::Withheld(owner) => Keeping::Withheld(owner),
            Keeping::HeldForCustomer => Keeping::HeldForApp(arrival.stored.cloned()),
            Keeping::HeldForEnvironment(other) => Keeping::HeldForEnvironment(other),
        }
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

    #[test]
    fn an_app_that_may_not_act_for_the_customer_gets_nothing_to_use() {
        let (a, b) = (CustomerId::new("a").expect("an id"), CustomerId::new("b").expect("an id"));
        let none = Arrival {
            finch: None,
            named: None,
            stored: None,
            client_type: None,
            configured: Environment::Sandbox,
        };
        for (arrival, keeping) in [
            (none, Keeping::HeldForApp(None)),
            (Arrival { finch: Some(&a), ..none }, Keeping::HeldForApp(Some(a.clone()))),
            (Arrival { finch: Some(&a), stored: Some(&a), ..none }, Keeping::Withheld(a.clone())),
            (Arrival { finch: Some(&a), stored: Some(&b), ..none }, Keeping::HeldForApp(Some(b.clone()))),
            (Arrival { named: Some(&b), stored: Some(&a), ..none }, Keeping::Withheld(a.clone())),
            (
                Arrival { client_type: Some(Environment::Production), ..none },
                Keeping::HeldForEnvironment(Environment::Production),
            ),
        ] {
            assert_eq!(keep(arrival).for_app(false, arrival), keeping, "{arrival:?}");
            assert_eq!(keep(arrival).for_app(true, arrival), keep(arrival), "{arrival:?}");
        }
    }
}

//! Which connection a call means, out of those its customer has.

use super::refusal::{Choice, Refusal};
use crate::types::{ConnectionId, CustomerId, ProviderId};

/// What the choice needs to know of a connection.
pub trait Candidate {
    /// Its id.
    fn connection_id(&self) -> &ConnectionId;
    /// Its provider.
    fn provider_id(&self) -> Option<&ProviderId>;
    /// Whether it can be used at all: neither disconnected nor held.
    fn is_usable(&self) -> bool;
}

/// Picks one connection of a customer's.
///
/// Connections that can no longer be used count only when there is nothing else, so that their
/// own reason is what the caller reads.
///
/// # Errors
/// None, none that fits, or several that fit.
pub fn pick<C: Candidate + Clone>(
    customer: &CustomerId,
    connections: &[C],
    pick: Option<&str>,
) -> Result<C, Refusal> {
    if connections.is_empty() {
        return Err(Refusal::UnknownCustomer(customer.clone()));
    }
    let fits = |c: &&C| pick.is_none_or(|p| is(*c, p));
    let mut fitting: Vec<&C> = connections.iter().filter(|c| c.is_usable()).filter(fits).collect();
    if fitting.is_empty() {
        fitting = connections.iter().filter(fits).collect();
    }
    match (fitting.as_slice(), pick) {
        ([one], _) => Ok((*one).clone()),
        ([], Some(name)) => Err(Refusal::UnknownConnection(name.to_owned())),
        ([], None) => Err(Refusal::UnknownCustomer(customer.clone())),
        (several, _) => Err(Refusal::Ambiguous {
            customer: Some(customer.clone()),
            choices: several
                .iter()
                .map(|c| Choice {
                    connection_id: c.connection_id().to_string(),
                    provider_id: c.provider_id().map(ToString::to_string),
                })
                .collect(),
        }),
    }
}

/// Whether `name` is this connection's id or provider.
pub fn is(connection: &impl Candidate, name: &str) -> bool {
    connection.connection_id().as_str() == name
        || connection.provider_id().is_some_and(|p| p.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Link(ConnectionId, ProviderId, bool);

    impl Candidate for Link {
        fn connection_id(&self) -> &ConnectionId {
            &self.0
        }
        fn provider_id(&self) -> Option<&ProviderId> {
            Some(&self.1)
        }
        fn is_usable(&self) -> bool {
            self.2
        }
    }

    fn link(id: &str, provider: &str, usable: bool) -> Link {
        Link(ConnectionId::new(id).expect("an id"), ProviderId::new(provider).expect("an id"), usable)
    }

    fn picked(links: &[Link], name: Option<&str>) -> Result<String, Refusal> {
        pick(&CustomerId::new("acme").expect("an id"), links, name).map(|l| l.0.to_string())
    }

    #[test]
    fn nothing_is_guessed_among_several() {
        let links = [link("c1", "gusto", true), link("c2", "bamboo", true), link("c3", "bamboo", true)];
        assert_eq!(picked(&links, Some("c3")).as_deref(), Ok("c3"));
        assert_eq!(picked(&links, Some("gusto")).as_deref(), Ok("c1"));
        assert_eq!(picked(&links, Some("nope")), Err(Refusal::UnknownConnection("nope".to_owned())));
        for name in [None, Some("bamboo")] {
            match picked(&links, name) {
                Err(Refusal::Ambiguous { choices, .. }) => {
                    assert_eq!(choices.len(), if name.is_some() { 2 } else { 3 })
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(picked(&[], None), Err(Refusal::UnknownCustomer(_))));
    }

    #[test]
    fn a_dead_connection_is_meant_only_when_it_is_the_only_one() {
        assert_eq!(
            picked(&[link("c1", "gusto", false), link("c2", "bamboo", true)], None).as_deref(),
            Ok("c2")
        );
        assert_eq!(picked(&[link("c1", "gusto", false)], None).as_deref(), Ok("c1"));
        assert_eq!(
            picked(&[link("c1", "gusto", false), link("c2", "gusto", true)], Some("c1")).as_deref(),
            Ok("c1")
        );
    }
}

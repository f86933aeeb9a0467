//! For whom perch works already. A share of the customers is always the same customers, here and at every replica, and a
//! larger share has all of those of a smaller one.

use crate::types::{CustomerId, ProviderId};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Who is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Circle<T: Ord> {
    /// Everyone, and whoever has no name too.
    All,
    /// These.
    Listed(BTreeSet<T>),
    /// So many of a hundred, 0 to 100, by a digest of their ids.
    Share(u8),
}

/// For whom perch works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Customers.
    pub customers: Circle<CustomerId>,
    /// Providers; never a share.
    pub providers: Circle<ProviderId>,
}

/// What keeps a call outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Its customer.
    Customer,
    /// Its provider.
    Provider,
}

impl Outside {
    /// The setting that says so.
    pub const fn setting(self) -> &'static str {
        match self {
            Outside::Customer => "rollout.customers",
            Outside::Provider => "rollout.providers",
        }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self { customers: Circle::All, providers: Circle::All }
    }
}

impl<T: Ord + AsRef<str>> Circle<T> {
    /// Whether someone is in. Whoever has no name is in when everyone is.
    pub fn has(&self, who: Option<&T>) -> bool {
        match (self, who) {
            (Circle::All | Circle::Share(100..), _) => true,
            (Circle::Listed(_) | Circle::Share(_), None) => false,
            (Circle::Listed(list), Some(who)) => list.contains(who),
            (Circle::Share(percent), Some(who)) => place(who.as_ref()) < u32::from(*percent) * (SPAN / 100),
        }
    }
}

impl Rollout {
    /// Whether a call of this customer through this provider is served; what keeps it outside when not.
    pub fn outside(&self, customer: Option<&CustomerId>, provider: Option<&ProviderId>) -> Option<Outside> {
        if !self.customers.has(customer) {
            return Some(Outside::Customer);
        }
        (!self.providers.has(provider)).then_some(Outside::Provider)
    }
}

/// How fine shares are.
const SPAN: u32 = 10_000;

/// The place of a customer in a row of [`SPAN`] places: the first eight bytes of the SHA-256 of a fixed word and the id,
/// modulo. A share is the first places of the row.
fn place(id: &str) -> u32 {
    let digest = Sha256::new().chain_update(b"perch rollout 1\n").chain_update(id.as_bytes()).finalize();
    let first = digest.iter().take(8).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    u32::try_from(first % u64::from(SPAN)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> CustomerId {
        CustomerId::new(text).expect("an id")
    }

    #[test]
    fn a_place_is_the_same_for_ever() {
        // Computed once with another program: printf 'perch rollout 1\nacme' | sha256sum
        for (name, at) in PLACES {
            assert_eq!(place(name), at, "{name}");
        }
    }

    const PLACES: [(&str, u32); 3] = [("acme", 7445), ("globex", 9441), ("Müller & Söhne", 2259)];

    #[test]
    fn whoever_has_no_name_is_in_only_when_everyone_is() {
        assert!(Circle::<CustomerId>::All.has(None) && Circle::<CustomerId>::Share(100).has(None));
        assert!(!Circle::<CustomerId>::Share(99).has(None));
        assert!(!Circle::Listed([id("acme")].into()).has(None));
    }

    #[test]
    fn a_list_has_those_who_stand_in_it() {
        let rollout = Rollout {
            customers: Circle::Listed([id("acme")].into()),
            providers: Circle::Listed([ProviderId::new("gusto").expect("an id")].into()),
        };
        let (gusto, other) = (ProviderId::new("gusto").unwrap(), ProviderId::new("rippling").unwrap());
        assert_eq!(rollout.outside(Some(&id("acme")), Some(&gusto)), None);
        assert_eq!(rollout.outside(Some(&id("acme")), Some(&other)), Some(Outside::Provider));
        assert_eq!(rollout.outside(Some(&id("globex")), Some(&gusto)), Some(Outside::Customer));
        assert_eq!(rollout.outside(Some(&id("acme")), None), Some(Outside::Provider));
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says() {
        for percent in [1_u8, 10, 50, 90] {
            let circle = Circle::Share(percent);
            let of = (0..10_000).filter(|n| circle.has(Some(&id(&format!("customer-{n}"))))).count();
            let wanted = usize::from(percent) * 100;
            assert!(of.abs_diff(wanted) < 200, "{percent} %: {of} of 10000");
        }
    }

    proptest! {
        #[test]
        fn a_larger_share_only_adds_customers(name in "[a-z0-9]{1,12}", a in 0_u8..=100, b in 0_u8..=100) {
            let (less, more) = (a.min(b), a.max(b));
            let who = id(&name);
            prop_assert!(!Circle::Share(less).has(Some(&who)) || Circle::Share(more).has(Some(&who)));
            prop_assert!(!Circle::Share(0).has(Some(&who)));
            prop_assert!(Circle::Share(100).has(Some(&who)));
        }
    }
}

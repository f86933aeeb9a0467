//! Which answers may be kept and served again, for whom, and for how long.
//!
//! `key` says which calls ask for the same, `wishes` what a call says about it, `shelf` what is kept within its bounds,
//! `record` how an answer is written down for another replica.

mod key;
mod record;
mod shelf;
mod wishes;

pub use key::{Asked, Name};
pub use record::Record;
pub use shelf::{Began, New, Shelf};
pub use wishes::{Wishes, wishes};

use super::class::Class;
use super::freshness::Freshness;
use crate::finch::endpoints::{Auth, Effect, Endpoint};
use crate::types::Product;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an answer is kept at most whose data Finch could not renew: it serves what it has until a better one is
/// there, which may be at any moment. That much is enough to spare quota when many ask.
pub const STALE_MAX: Duration = Duration::from_secs(30);

/// What an entry costs beside its texts: its places in the tables, and the facts for the log.
pub const ENTRY_BYTES: usize = 1024;

/// How long answers are kept, for each product that is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lifetimes(BTreeMap<Product, Duration>);

impl FromIterator<(Product, Duration)> for Lifetimes {
    fn from_iter<I: IntoIterator<Item = (Product, Duration)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Lifetimes {
    /// Of answers of this product; `None` when they are not kept.
    pub fn of(&self, product: Product) -> Option<Duration> {
        self.0.get(&product).copied()
    }

    /// The longest of them.
    pub fn longest(&self) -> Option<Duration> {
        self.0.values().copied().max()
    }
}

/// Whether answers of an endpoint can be kept or passed to another replica at all: data of an employer, read with a
/// connection's token. What Finch says of a login, of a job or of itself is asked for when it is wanted.
pub fn is_data(endpoint: &Endpoint) -> bool {
    endpoint.effect == Effect::Reads && endpoint.auth == Auth::Bearer && endpoint.product.is_metered()
}

/// An answer, as far as it decides whether it is kept.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its status, as the app gets it.
    pub status: u16,
    /// What became of the call.
    pub class: Class,
    /// Whether perch holds and has looked into all of it.
    pub is_whole: bool,
    /// What Finch says of its data.
    pub fresh: &'a Freshness,
}

/// How long an answer may be kept of the time that its product has; `None` for not at all. Only what is good in every
/// item is: an error, a part or a "not yet" must not outlive its cause.
pub fn span(facts: Facts<'_>, lifetime: Duration) -> Option<Duration> {
    let is_good = (200..300).contains(&facts.status) && facts.class == Class::Ok && facts.is_whole;
    let is_stale = facts.fresh.last_update.is_some_and(|last| last.is_stale());
    is_good.then(|| if is_stale { lifetime.min(STALE_MAX) } else { lifetime })
}

/// Whether an answer may be passed on to a replica that waits for this very exchange. What is refused or failed is not:
/// whoever waits finds out by itself, in its own words.
pub fn may_tell(facts: Facts<'_>) -> bool {
    (200..300).contains(&facts.status) && !facts.class.is_error() && facts.is_whole
}

#[cfg(test)]
mod tests {
    use super::super::freshness::LastUpdate;
    use super::*;
    use crate::finch::endpoints::ENDPOINTS;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn only_what_is_good_in_every_item_is_kept() {
        let fresh = Freshness::default();
        for class in Class::ALL {
            for (status, is_whole) in [(200, true), (207, true), (200, false), (202, true), (503, true)] {
                let facts = Facts { status, class, is_whole, fresh: &fresh };
                let is_good = class == Class::Ok && status < 300 && is_whole;
                assert_eq!(span(facts, HOUR).is_some(), is_good, "{facts:?}");
                let is_told = !class.is_error() && status < 300 && is_whole;
                assert_eq!(may_tell(facts), is_told, "{facts:?}");
            }
        }
    }

    #[test]
    fn data_that_finch_could_not_renew_is_kept_for_a_moment_only() {
        for (last_update, lifetime, kept) in [
            (None, HOUR, HOUR),
            (Some(LastUpdate::Success), HOUR, HOUR),
            (Some(LastUpdate::Error), HOUR, STALE_MAX),
            (Some(LastUpdate::Behind), HOUR, STALE_MAX),
            (Some(LastUpdate::PartialError), Duration::from_secs(1), Duration::from_secs(1)),
        ] {
            let fresh = Freshness { retrieved: None, last_update };
            let facts = Facts { status: 200, class: Class::Ok, is_whole: true, fresh: &fresh };
            assert_eq!(span(facts, lifetime), Some(kept), "{last_update:?}");
        }
    }

    #[test]
    fn data_of_employers_alone_can_be_kept() {
        for endpoint in &ENDPOINTS {
            let is_kept = endpoint.path.starts_with("/employer/") && endpoint.effect == Effect::Reads;
            assert_eq!(is_data(endpoint), is_kept, "{} {}", endpoint.method, endpoint.path);
        }
    }
}

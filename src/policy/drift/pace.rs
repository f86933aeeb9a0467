//! Which answers are looked into: few, and none that is large. Looking takes a thousandth of a second or more, and the
//! thousandth answer of a provider tells no more than the first.

use crate::types::{Moment, Product};
use std::collections::HashMap;
use std::time::Duration;

/// How long after one answer of a product and a provider the next is looked into.
const EVERY: Duration = Duration::from_secs(10);

/// The most answers looked into in that time, of all products and providers together.
const LOOKS_MAX: u32 = 40;

/// The largest body that is looked into, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The most providers that are told apart: Finch's words, and Finch adds new ones.
const PROVIDERS_MAX: usize = 100;

/// What the others are called.
const OTHER_PROVIDER: &str = "other";

/// Whether a good answer could be looked into at all: it is data, and not large. Benefits answer with 207 for many people.
pub fn is_worth_a_look(status: u16, body_bytes: usize) -> bool {
    matches!(status, 200 | 207) && (1..=BODY_BYTES_MAX).contains(&body_bytes)
}

/// When each product of each provider was looked into last.
#[derive(Debug, Default)]
pub struct Pace {
    providers: HashMap<Box<str>, HashMap<Product, Moment>>,
    since: Moment,
    looks: u32,
}

impl Pace {
    /// Whether an answer of this product and provider is looked into now, and what the provider is called then.
    pub fn admits<'a>(&mut self, product: Product, provider: &'a str, now: Moment) -> Option<&'a str> {
        if now.since(self.since) >= EVERY {
            (self.since, self.looks) = (now, 0);
        }
        if self.looks >= LOOKS_MAX {
            return None;
        }
        let has_room = self.providers.len() < PROVIDERS_MAX || self.providers.contains_key(provider);
        let provider = if has_room { provider } else { OTHER_PROVIDER };
        if !self.providers.contains_key(provider) {
            self.providers.insert(provider.into(), HashMap::new());
        }
        let looked = self.providers.get_mut(provider)?;
        if looked.get(&product).is_some_and(|at| now.since(*at) < EVERY) {
            return None;
        }
        looked.insert(product, now);
        self.looks += 1;
        Some(provider)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn one_answer_in_ten_seconds_is_looked_into_for_each_product_and_provider() {
        let mut pace = Pace::default();
        assert_eq!(pace.admits(Product::Directory, "gusto", at(0)), Some("gusto"));
        assert_eq!(pace.admits(Product::Directory, "gusto", at(9)), None);
        assert_eq!(pace.admits(Product::Company, "gusto", at(9)), Some("gusto"));
        assert_eq!(pace.admits(Product::Directory, "adp_run", at(9)), Some("adp_run"));
        assert_eq!(pace.admits(Product::Directory, "gusto", at(10)), Some("gusto"));
    }

    #[test]
    fn providers_beyond_the_bound_share_a_name_and_all_share_a_bound() {
        let mut pace = Pace::default();
        let mut admitted = Vec::new();
        for n in 0..1000 {
            let provider = format!("p{n}");
            admitted.extend(
                pace.admits(Product::Company, &provider, at(n / 20 * 10)).map(|name| (name.to_owned(), n)),
            );
        }
        assert!(admitted.iter().any(|(name, _)| name == OTHER_PROVIDER));
        assert_eq!(pace.providers.len(), PROVIDERS_MAX + 1);
        let burst =
            (0..1000).filter(|n| pace.admits(Product::ALL[n % 10], &format!("p{n}"), at(9000)).is_some());
        assert_eq!(burst.count(), LOOKS_MAX as usize);
    }

    #[test]
    fn only_data_of_a_moderate_size_is_worth_a_look() {
        for (status, bytes, is_worth) in [
            (200, 1, true),
            (207, BODY_BYTES_MAX, true),
            (200, BODY_BYTES_MAX + 1, false),
            (200, 0, false),
            (202, 9, false),
            (500, 9, false),
        ] {
            assert_eq!(is_worth_a_look(status, bytes), is_worth, "{status} {bytes}");
        }
    }
}

//! Finch's limits, to the request: a rolling window per product, and a budget and a penalty per address.
//!
//! Pure: `now` is an argument. The application is one, so a product is the whole key (Finch rate-limit guide).

use super::settings::LimitSettings;
use crate::types::{Moment, Product};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// The most addresses remembered; those beyond are not counted.
const ADDRESSES_MAX: usize = 4096;
/// The most starts remembered in one window; a window this full is far over any limit.
const STARTS_MAX: usize = 1_000_000;

/// The starts inside a trailing window. A start exactly one window old is outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Window(VecDeque<Moment>);

impl Window {
    /// Forgets what is `span` old or older and says how many starts are left.
    pub(super) fn count(&mut self, span: Duration, now: Moment) -> usize {
        while self.0.front().is_some_and(|start| now.since(*start) >= span) {
            self.0.pop_front();
        }
        self.0.len()
    }

    /// Notes a start.
    pub(super) fn push(&mut self, now: Moment) {
        if self.0.len() >= STARTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }
}

#[derive(Debug, Default)]
struct Address {
    starts: Window,
    blocked_until: Option<Moment>,
}

/// What Finch knows of how often it was called.
#[derive(Debug)]
pub(super) struct Limiter {
    settings: LimitSettings,
    products: BTreeMap<Product, Window>,
    addresses: HashMap<IpAddr, Address>,
}

impl Limiter {
    /// Nothing was called yet.
    pub(super) fn new(settings: LimitSettings) -> Self {
        Self { settings, products: BTreeMap::new(), addresses: HashMap::new() }
    }

    /// Counts a request of this address. `false`: the address is, or is now, blocked.
    pub(super) fn admit_address(&mut self, address: IpAddr, now: Moment) -> bool {
        let ip = self.settings.ip;
        if !self.addresses.contains_key(&address) && self.addresses.len() >= ADDRESSES_MAX {
            return true;
        }
        let known = self.addresses.entry(address).or_default();
        match known.blocked_until {
            Some(until) if now < until => return false,
            Some(_) => *known = Address::default(),
            None => {}
        }
        known.starts.push(now);
        if known.starts.count(ip.window, now) > ip.requests as usize {
            known.blocked_until = Some(now + ip.penalty);
            return false;
        }
        true
    }

    /// Counts a request for this product. `false`: the product's window is full.
    ///
    /// Finch does not say whether a refused request counts; it does here only when the scenario says so.
    pub(super) fn admit_product(&mut self, product: Product, now: Moment) -> bool {
        let Some(limit) = self.settings.of(product) else { return true };
        let window = self.products.entry(product).or_default();
        let fits = window.count(self.settings.window, now) < limit as usize;
        if fits || self.settings.count_rejected {
            window.push(now);
        }
        fits
    }

    /// Forgets every count and every penalty.
    pub(super) fn forget(&mut self) {
        self.products.clear();
        self.addresses.clear();
    }

    /// The numbers in force.
    pub(super) fn settings(&self) -> &LimitSettings {
        &self.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn at(ms: u64) -> Moment {
        Moment::at(Duration::from_millis(ms))
    }

    #[test]
    fn the_twenty_first_directory_call_of_a_minute_is_refused_and_the_window_rolls() {
        let mut limiter = Limiter::new(LimitSettings::default());
        for n in 0..20 {
            assert!(limiter.admit_product(Product::Directory, at(n * 100)), "{n}");
        }
        assert!(!limiter.admit_product(Product::Directory, at(59_999)));
        assert!(limiter.admit_product(Product::Company, at(59_999)), "another product has its own");
        assert!(limiter.admit_product(Product::Directory, at(60_000)), "the first start is now a window old");
        assert!(!limiter.admit_product(Product::Directory, at(60_099)));
        assert!(limiter.admit_product(Product::Directory, at(60_100)));
    }

    #[test]
    fn payments_have_twelve_and_introspection_none() {
        let mut limiter = Limiter::new(LimitSettings::default());
        let mut passed = |product| (0..100).filter(|_| limiter.admit_product(product, at(0))).count();
        assert_eq!(passed(Product::Payment), 12);
        assert_eq!(passed(Product::PayStatement), 12);
        assert_eq!(passed(Product::PayGroups), 12);
        assert_eq!(passed(Product::Documents), 20);
        assert_eq!(passed(Product::Benefits), 100);
        assert_eq!(passed(Product::Introspect), 100);
    }

    #[test]
    fn refused_calls_count_only_when_told_so() {
        for count_rejected in [false, true] {
            let mut limiter = Limiter::new(LimitSettings { count_rejected, ..LimitSettings::default() });
            (0..20).for_each(|_| assert!(limiter.admit_product(Product::Company, at(0))));
            (0..20).for_each(|_| assert!(!limiter.admit_product(Product::Company, at(30_000))));
            assert_eq!(limiter.admit_product(Product::Company, at(60_000)), !count_rejected);
        }
    }

    #[test]
    fn the_thousand_and_first_call_blocks_the_address_for_an_hour() {
        let mut limiter = Limiter::new(LimitSettings::default());
        for n in 0..1000 {
            assert!(limiter.admit_address(HOME, at(n)), "{n}");
        }
        assert!(!limiter.admit_address(HOME, at(299_999)));
        let other = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        assert!(limiter.admit_address(other, at(299_999)));
        assert!(!limiter.admit_address(HOME, at(299_999 + 3_599_999)));
        assert!(limiter.admit_address(HOME, at(299_999 + 3_600_000)));
    }
}

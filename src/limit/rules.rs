//! What the operator says about Finch's limits, and what the arithmetic assumes.

use super::PerProduct;
use super::beat::Pools;
use crate::types::{CustomerId, Product};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many requests may leave one address, whatever they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRule {
    /// The most requests in any window. Finch punishes the 1001st with an hour of refusals, so the
    /// default stays well away from it: 800.
    pub requests: NonZeroU32,
    /// The window; Finch says five minutes.
    pub window: Duration,
}

/// The limits and the assumptions they rest on. Numbers are configuration: Finch changes them.
/// Every replica that shares a ledger has the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Finch's rolling window for one product.
    pub window: Duration,
    /// Added to every window, because two clocks never run at quite the same rate (100 ppm of
    /// 60 s is 6 ms) and a comparison on Finch's side may round.
    pub pad: Duration,
    /// The longest a request is on its way to Finch. An unanswered one counts as arrived this long
    /// after it was sent, so a slow answer does not keep its permit. `None` assumes nothing about
    /// the network: a permit then stays busy until the answer.
    pub arrival_bound: Option<Duration>,
    /// After this long without an answer none will come, so that a lost call cannot keep a permit
    /// for ever. At least the timeout of an attempt, connecting included.
    pub answer_max: Duration,
    /// How long after the question a permit may be used. Whoever is later extends it first.
    pub grace: Duration,
    /// The limit of each product; `None` where it counts against the egress IP alone.
    pub limits: PerProduct<Option<NonZeroU32>>,
    /// The limit of the egress IP.
    pub ip: IpRule,
    /// Whether batch calls are spread over the window, so that an interactive one never waits long.
    pub pacing: bool,
    /// The most calls that may wait at once.
    pub queue_max: usize,
    /// The most calls that may wait at once for one customer; calls that name none share one such
    /// bound.
    pub queue_per_customer_max: usize,
    /// How late a waiting ticket may ask again before it loses its place.
    pub stale: Duration,
    /// How often a replica says that it lives.
    pub heartbeat: Duration,
    /// After this long without a heartbeat a replica counts as cut off, and its lease as being spent.
    pub silence: Duration,
    /// The longest wait for an answer of the store.
    pub call_timeout: Duration,
    /// How much of every limit is leased to replicas for the time without a store, in percent.
    pub share_percent: u32,
    /// For how long a lease may be spent.
    pub lease_life: Duration,
    /// Customers that count as more than one.
    pub weights: BTreeMap<CustomerId, NonZeroU32>,
}

impl Rules {
    /// These limits, and the defaults for everything else.
    pub fn with_limits(limits: PerProduct<Option<NonZeroU32>>) -> Self {
        Self {
            window: Duration::from_secs(60),
            pad: Duration::from_millis(100),
            arrival_bound: Some(Duration::from_secs(5)),
            // Finch takes up to six minutes, perch waits 370 s, and connecting takes its time.
            answer_max: Duration::from_secs(400),
            grace: Duration::from_secs(1),
            limits,
            ip: IpRule { requests: NonZeroU32::MIN.saturating_add(799), window: Duration::from_secs(5 * 60) },
            pacing: true,
            queue_max: 10_000,
            queue_per_customer_max: 200,
            stale: Duration::from_millis(500),
            heartbeat: Duration::from_secs(2),
            silence: Duration::from_secs(6),
            call_timeout: Duration::from_millis(100),
            share_percent: 50,
            lease_life: Duration::from_secs(10 * 60),
            weights: BTreeMap::new(),
        }
    }

    /// The customer's share next to others'.
    pub fn weight(&self, customer: Option<&CustomerId>) -> NonZeroU32 {
        customer.and_then(|customer| self.weights.get(customer)).copied().unwrap_or(NonZeroU32::MIN)
    }

    /// How long a permit stays busy after its request has arrived.
    pub fn span(&self) -> Duration {
        self.window + self.pad
    }

    /// How long after the question a request has arrived at Finch at the latest, or never will.
    pub fn flight(&self) -> Duration {
        self.grace + self.arrival_bound.unwrap_or(self.answer_max)
    }

    /// The limit of every pool; zero where a product has none.
    pub fn pools(&self) -> Pools {
        Pools {
            products: PerProduct::from_fn(|p: Product| self.limits[p].map_or(0, NonZeroU32::get)),
            ip: self.ip.requests.get(),
        }
    }
}

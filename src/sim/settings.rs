//! The numbers of a scenario: how often Finch may be called, and how its jobs run.

use crate::types::Product;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::time::Duration;

/// Finch's limits; the defaults are the documented ones (Finch rate-limit guide).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// How long a request of an application counts.
    #[serde(deserialize_with = "span")]
    pub window: Duration,
    /// Whether a request that was refused counts too.
    pub count_rejected: bool,
    /// Requests per window and product; 0 takes the limit away. Unnamed products keep Finch's.
    #[serde(deserialize_with = "products")]
    pub products: BTreeMap<Product, u32>,
    /// The limit of one address.
    pub ip: IpSettings,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            count_rejected: false,
            products: BTreeMap::new(),
            ip: IpSettings::default(),
        }
    }
}

impl LimitSettings {
    /// The requests per window of this product, when it has a limit.
    pub fn of(&self, product: Product) -> Option<u32> {
        match self.products.get(&product) {
            Some(0) => None,
            Some(limit) => Some(*limit),
            None => documented(product),
        }
    }
}

const fn documented(product: Product) -> Option<u32> {
    match product {
        Product::Company
        | Product::Directory
        | Product::Individual
        | Product::Employment
        | Product::PayStatementItem
        | Product::Documents => Some(20),
        Product::Payment | Product::PayStatement | Product::PayGroups => Some(12),
        Product::Benefits
        | Product::Connect
        | Product::Auth
        | Product::Providers
        | Product::Introspect
        | Product::Disconnect
        | Product::Forward
        | Product::Jobs
        | Product::Sandbox => None,
    }
}

/// The limit of one address.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpSettings {
    /// Requests per window.
    pub requests: u32,
    /// How long one counts.
    #[serde(deserialize_with = "span")]
    pub window: Duration,
    /// How long an address that went over is refused.
    #[serde(deserialize_with = "span")]
    pub penalty: Duration,
}

impl Default for IpSettings {
    fn default() -> Self {
        Self { requests: 1000, window: Duration::from_secs(300), penalty: Duration::from_secs(3600) }
    }
}

/// How automated jobs run (Finch API reference).
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobSettings {
    /// How long one takes.
    #[serde(deserialize_with = "span")]
    pub duration: Duration,
    /// Forced refreshes per connection and window.
    pub refreshes: u32,
    /// The fixed window of that quota.
    #[serde(deserialize_with = "span")]
    pub window: Duration,
}

impl Default for JobSettings {
    fn default() -> Self {
        Self { duration: Duration::from_secs(2), refreshes: 1, window: Duration::from_secs(3600) }
    }
}

fn products<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<Product, u32>, D::Error> {
    let named = BTreeMap::<String, u32>::deserialize(d)?;
    named
        .into_iter()
        .map(|(name, limit)| product(&name).map(|p| (p, limit)).map_err(de::Error::custom))
        .collect()
}

/// Reads a product's name.
pub(super) fn product(name: &str) -> Result<Product, String> {
    Product::parse(name).ok_or_else(|| {
        let known: Vec<&str> = Product::ALL.iter().map(|p| p.as_str()).collect();
        format!("{name:?} is no product; the products are {}", known.join(", "))
    })
}

/// Reads a span such as `250ms`, `2s`, `5m` or `1h`, longer than nothing.
pub(super) fn span<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    parse_span(&text).filter(|span| !span.is_zero()).ok_or_else(|| {
        de::Error::custom(format_args!("{text:?} is no span; write it as 250ms, 2s, 5m or 1h"))
    })
}

pub(super) fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

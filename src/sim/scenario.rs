//! What a simulation is made of: customers, limits, faults. A TOML file in which an unknown word is an error.

use super::fault::Fault;
use super::world::Status;
use crate::types::{Environment, Product};
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The most people one customer may employ; ids of all are held in memory.
const EMPLOYEES_MAX: usize = 100_000;
/// The most legal entities of one connection.
const ENTITIES_MAX: usize = 100;

/// A whole simulation. The default is an empty world with Finch's documented limits.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// What all invented data follows from.
    pub seed: Option<u64>,
    /// A text that every access token shall contain, to search for leaks with.
    pub token_marker: Option<String>,
    /// Finch's `client_type`.
    #[serde(deserialize_with = "environment")]
    pub environment: Environment,
    /// People of a customer who is not listed.
    pub employees: usize,
    /// Legal entities of a customer who is not listed.
    pub entities: usize,
    /// The provider an employer picks when the session names none.
    pub provider: String,
    /// How often Finch may be called.
    pub limits: LimitSettings,
    /// How automated jobs run.
    pub jobs: JobSettings,
    /// Customers who are known from the start.
    #[serde(rename = "customer")]
    pub customers: Vec<Customer>,
    /// What goes wrong, and when.
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            seed: None,
            token_marker: None,
            environment: Environment::Sandbox,
            employees: 25,
            entities: 1,
            provider: "gusto".to_owned(),
            limits: LimitSettings::default(),
            jobs: JobSettings::default(),
            customers: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// One client of the company, connected before the simulation begins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Customer {
    /// The company's own id for it.
    pub id: String,
    /// Its name; the id when left out.
    pub name: Option<String>,
    /// One connection each. Empty: nothing is connected yet.
    #[serde(default = "one_provider")]
    pub providers: Vec<String>,
    /// People over all its entities.
    pub employees: Option<usize>,
    /// Legal entities per connection.
    pub entities: Option<usize>,
    /// The state its connections are in.
    #[serde(default)]
    pub status: Status,
    /// Its access token, when it shall be a fixed one. Only with a single provider.
    pub token: Option<String>,
    /// The scopes of its tokens.
    #[serde(default = "all_scopes")]
    pub products: Vec<String>,
    /// How the employer proves itself to the provider.
    pub authentication: Option<Authentication>,
}

fn one_provider() -> Vec<String> {
    vec!["gusto".to_owned()]
}

/// Every scope that opens an endpoint.
pub(super) fn all_scopes() -> Vec<String> {
    [
        "company",
        "directory",
        "individual",
        "ssn",
        "employment",
        "payment",
        "pay_statement",
        "benefits",
        "documents",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Finch's authentication types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// Finch's people do it by hand; data is weeks old.
    Assisted,
    /// User name and password.
    Credential,
    /// A token made by the employer.
    ApiToken,
    /// A key pair made by the employer.
    ApiCredential,
    /// OAuth.
    Oauth,
}

impl Authentication {
    /// Finch's word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Authentication::Assisted => "assisted",
            Authentication::Credential => "credential",
            Authentication::ApiToken => "api_token",
            Authentication::ApiCredential => "api_credential",
            Authentication::Oauth => "oauth",
        }
    }

    /// Reads Finch's word.
    pub(super) fn parse(word: &str) -> Option<Self> {
        [
            Authentication::Assisted,
            Authentication::Credential,
            Authentication::ApiToken,
            Authentication::ApiCredential,
            Authentication::Oauth,
        ]
        .into_iter()
        .find(|a| a.as_str() == word)
    }
}

/// Finch's limits; the defaults are the documented ones (FINCH.md §3.1, §3.4).
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

/// How automated jobs run (FINCH.md §2, notes).
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

/// Why a scenario cannot be played: the file, the line and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioError(String);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// Reads a scenario. `name` is the file's, for messages.
    ///
    /// # Errors
    /// The first thing that is wrong, as `file:line: reason`.
    pub fn parse(text: &str, name: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.get(..start).map_or(1, |before| before.matches('\n').count() + 1);
            ScenarioError(format!("{name}:{line}: {}", error.message()))
        })?;
        scenario.check().map_err(|why| ScenarioError(format!("{name}: {why}")))?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
        let sizes = |who: &str, employees: usize, entities: usize| {
            if employees > EMPLOYEES_MAX {
                return Err(format!("{who} has {employees} employees; {EMPLOYEES_MAX} is the most"));
            }
            if entities == 0 || entities > ENTITIES_MAX {
                return Err(format!("{who} has {entities} entities; it needs 1 to {ENTITIES_MAX}"));
            }
            Ok(())
        };
        sizes("the default customer", self.employees, self.entities)?;
        for (at, customer) in self.customers.iter().enumerate() {
            let who = format!("customer {:?}", customer.id);
            sizes(
                &who,
                customer.employees.unwrap_or(self.employees),
                customer.entities.unwrap_or(self.entities),
            )?;
            if customer.token.is_some() && customer.providers.len() != 1 {
                return Err(format!(
                    "{who} has a fixed token and {} providers; a token belongs to one connection",
                    customer.providers.len()
                ));
            }
            let earlier = self.customers.get(..at).unwrap_or_default();
            if earlier.iter().any(|c| c.id == customer.id) {
                return Err(format!("{who} stands twice; list all its providers in one"));
            }
            if customer.token.is_some() && earlier.iter().any(|c| c.token == customer.token) {
                return Err(format!("{who} has the token of another customer"));
            }
        }
        Ok(())
    }
}

fn environment<'de, D: Deserializer<'de>>(d: D) -> Result<Environment, D::Error> {
    let word = String::deserialize(d)?;
    Environment::parse(&word).ok_or_else(|| {
        de::Error::custom(format_args!("environment {word:?} is not one of production, development, sandbox"))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Scenario::parse(text, "s.toml").expect_err("must be refused").to_string()
    }

    #[test]
    fn an_unknown_word_is_refused_with_its_line() {
        let why = refused("seed = 1\n\n[limits]\nwindw = \"2s\"\n");
        assert!(why.starts_with("s.toml:4: ") && why.contains("windw"), "{why}");
        let why = refused("[[customer]]\nid = \"acme\"\nstaff = 3\n");
        assert!(why.starts_with("s.toml:3: ") && why.contains("staff"), "{why}");
        let why = refused("[limits.products]\ndirektory = 3\n");
        assert!(why.starts_with("s.toml:") && why.contains("direktory"), "{why}");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_what_to_do() {
        assert!(refused("[limits]\nwindow = \"soon\"\n").contains("250ms, 2s, 5m or 1h"));
        assert!(refused("[limits]\nwindow = \"0s\"\n").starts_with("s.toml:2"));
        assert!(refused("entities = 0\n").contains("1 to 100"));
        assert!(
            refused("[[customer]]\nid = \"a\"\nproviders = [\"gusto\", \"adp_run\"]\ntoken = \"t\"\n")
                .contains("one connection")
        );
        assert!(refused("[[customer]]\nid = \"a\"\n[[customer]]\nid = \"a\"\n").contains("twice"));
        assert!(refused("[[customer]]\nid = \"a\"\nstatus = \"fine\"\n").starts_with("s.toml:3"));
    }

    #[test]
    fn limits_can_be_made_small_or_taken_away() {
        let scenario = Scenario::parse(
            "[limits]\nwindow = \"2s\"\n[limits.products]\ncompany = 3\nbenefits = 5\npayment = 0\n",
            "s.toml",
        )
        .expect("a sound scenario");
        assert_eq!(scenario.limits.window, Duration::from_secs(2));
        assert_eq!(scenario.limits.of(Product::Company), Some(3));
        assert_eq!(scenario.limits.of(Product::Benefits), Some(5));
        assert_eq!(scenario.limits.of(Product::Payment), None);
        assert_eq!(scenario.limits.of(Product::Directory), Some(20));
    }
}

//! What a simulation is made of: customers, limits, faults. A TOML file in which an unknown word is an error.

use super::connect::SCOPES;
use super::fault::Fault;
use super::settings::{JobSettings, LimitSettings};
use super::world::Status;
use crate::types::Environment;
use serde::{Deserialize, Deserializer, de};
use std::fmt;

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
    /// Its access token, when it shall be a fixed one. Only with a single provider. The scenario's marker
    /// goes before it when it does not contain it.
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
            if let Some(unknown) = customer.products.iter().find(|p| !SCOPES.contains(&p.as_str())) {
                return Err(format!(
                    "{who} has {unknown:?}, which is no product; they are {}",
                    SCOPES.join(", ")
                ));
            }
            if customer
                .token
                .as_ref()
                .is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic()))
            {
                return Err(format!("{who} has a token that cannot stand in a header"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Product;
    use std::time::Duration;

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
        assert!(refused("[[customer]]\nid = \"a\"\nproducts = [\"compny\"]\n").contains("compny"));
        assert!(refused("[[customer]]\nid = \"a\"\ntoken = \"a b\"\n").contains("header"));
        assert!(refused("[[customer]]\nid = \"a\"\nstatus = \"fine\"\n").starts_with("s.toml:3"));
    }

    #[test]
    fn a_fault_is_refused_with_its_line() {
        let why = refused("seed = 1\n\n[[fault]]\npath = \"/introspect\"\npreset = \"reath\"\n");
        assert!(why.starts_with("s.toml:3: ") && why.contains("reath"), "{why}");
        let why = refused("[[fault]]\nstall = true\n\n[[fault]]\nstal = true\n");
        assert!(why.starts_with("s.toml:") && why.contains("stal"), "{why}");
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

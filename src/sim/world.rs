//! Who is connected to what: connections, the access tokens that open them, and the codes that become tokens.

use super::benefits::Benefits;
use super::company::Entity;
use super::invitations::Invitations;
use super::items::Rules;
use super::jobs::Jobs;
use super::refusal::{Reason, Refusal};
use super::scenario::{Authentication, Customer, Scenario, all_scopes};
use super::seed::Seed;
use super::settings::JobSettings;
use crate::types::{ClientSecret, Environment, UnixMillis};
use serde::Deserialize;
use std::collections::HashMap;

/// The most connections ever made.
const CONNECTIONS_MAX: usize = 10_000;
/// The most access tokens ever issued.
const TOKENS_MAX: usize = 100_000;

/// The state of a connection or an entity, in Finch's words (Finch Connect guide).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Begun, not yet validated.
    Pending,
    /// The first sync is running.
    Processing,
    /// Well.
    #[default]
    Connected,
    /// The employer's account is not set up.
    ErrorNoAccountSetup,
    /// The provider's user lacks permissions.
    ErrorPermissions,
    /// The login no longer works.
    #[serde(alias = "error_reauth")]
    Reauth,
    /// Over, for good.
    Disconnected,
}

impl Status {
    /// Finch's word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Processing => "processing",
            Status::Connected => "connected",
            Status::ErrorNoAccountSetup => "error_no_account_setup",
            Status::ErrorPermissions => "error_permissions",
            Status::Reauth => "reauth",
            Status::Disconnected => "disconnected",
        }
    }
}

/// One login of one employer at one provider.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: String,
    pub(super) customer_id: Option<String>,
    pub(super) customer_name: Option<String>,
    pub(super) customer_email: Option<String>,
    pub(super) provider: String,
    pub(super) authentication: Authentication,
    pub(super) status: Status,
    pub(super) company_id: String,
    pub(super) account_id: String,
    pub(super) entities: Vec<Entity>,
    /// When data last came from the provider.
    pub(super) synced: UnixMillis,
    pub(super) jobs: Jobs,
    pub(super) benefits: Benefits,
    pub(super) rules: Rules,
}

/// Whether a token still opens its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenState {
    Live,
    /// A reauthentication brought another.
    Replaced,
    /// Its connection is disconnected.
    Disconnected,
}

/// What an access token opens.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// The token's own id, which is no secret.
    pub(super) id: String,
    /// Place of its connection.
    pub(super) connection: usize,
    pub(super) products: Vec<String>,
    pub(super) state: TokenState,
}

/// Everything Finch remembers.
#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    marker: String,
    pub(super) client_id: String,
    client_secret: ClientSecret,
    pub(super) environment: Environment,
    pub(super) job_settings: JobSettings,
    employees: usize,
    entities: usize,
    provider: String,
    customers: Vec<Customer>,
    pub(super) connections: Vec<Connection>,
    tokens: HashMap<String, Token>,
    /// Invitations to connect, and what came of them.
    pub(super) invitations: Invitations,
    issued: u64,
}

impl World {
    /// The world of a scenario, its customers connected at `wall`.
    pub(super) fn new(
        scenario: &Scenario,
        seed: u64,
        marker: String,
        (client_id, client_secret): (String, ClientSecret),
        wall: UnixMillis,
    ) -> Self {
        let mut world = Self {
            seed,
            marker,
            client_id,
            client_secret,
            environment: scenario.environment,
            job_settings: scenario.jobs,
            employees: scenario.employees,
            entities: scenario.entities,
            provider: scenario.provider.clone(),
            customers: scenario.customers.clone(),
            connections: Vec::new(),
            tokens: HashMap::new(),
            invitations: Invitations::default(),
            issued: 0,
        };
        for customer in &scenario.customers {
            let name = customer.name.clone().unwrap_or_else(|| customer.id.clone());
            for provider in &customer.providers {
                let who = (Some(customer.id.clone()), Some(name.clone()), None);
                // A world begins empty, so there is room.
                if let Ok(place) = world.connect(who, provider, None, None, wall) {
                    world.connections[place].status = customer.status;
                    let _ = world.issue(place, customer.products.clone(), customer.token.clone());
                }
            }
        }
        world
    }

    /// Whether these are the application's credentials.
    pub(super) fn knows_client(&self, id: &str, secret: &str) -> bool {
        id == self.client_id && secret == self.client_secret.expose()
    }

    /// A number that was never given before.
    fn next(&mut self) -> String {
        self.issued += 1;
        self.issued.to_string()
    }

    /// An id that was never given before.
    pub(super) fn new_id(&mut self, kind: &str) -> String {
        let number = self.next();
        Seed::of(self.seed, &["id", kind, &number]).uuid()
    }

    /// A new connection. Its id follows from the seed, the customer, the provider and how many went before.
    pub(super) fn connect(
        &mut self,
        (customer_id, customer_name, customer_email): (Option<String>, Option<String>, Option<String>),
        provider: &str,
        authentication: Option<Authentication>,
        employees: Option<usize>,
        wall: UnixMillis,
    ) -> Result<usize, Refusal> {
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(Refusal::because(Reason::BadRequest, "The simulator is full of connections"));
        }
        let known = self.customers.iter().find(|c| Some(&c.id) == customer_id.as_ref());
        let employees = employees.or(known.and_then(|c| c.employees)).unwrap_or(self.employees);
        let entities = known.and_then(|c| c.entities).unwrap_or(self.entities).max(1);
        let authentication =
            authentication.or(known.and_then(|c| c.authentication)).unwrap_or(Authentication::Oauth);
        let owner = match &customer_id {
            Some(customer) => customer.clone(),
            None => format!("#{}", self.next()),
        };
        let same = |c: &&Connection| c.customer_id == customer_id && c.provider == provider;
        let earlier = self.connections.iter().filter(same).count().to_string();
        let mut chance = Seed::of(self.seed, &["connection", &owner, provider, &earlier]);
        let id = chance.uuid();
        let share = |at: usize| employees / entities + usize::from(at < employees % entities);
        self.connections.push(Connection {
            entities: (0..entities).map(|at| Entity::invent(self.seed, &id, at, share(at))).collect(),
            customer_id,
            customer_name,
            customer_email,
            provider: provider.to_owned(),
            authentication,
            status: Status::Connected,
            company_id: chance.uuid(),
            account_id: chance.uuid(),
            synced: wall,
            jobs: Jobs::new(self.seed, &id, self.job_settings),
            benefits: Benefits::invent(self.seed, &id),
            rules: Rules::new(self.seed, &id),
            id,
        });
        Ok(self.connections.len() - 1)
    }

    /// The customer's living connection at this provider, or a new one.
    pub(super) fn connect_again(
        &mut self,
        who: (Option<String>, Option<String>, Option<String>),
        provider: &str,
        authentication: Option<Authentication>,
        wall: UnixMillis,
    ) -> Result<usize, Refusal> {
        let place = self.connections.iter().position(|c| {
            c.customer_id == who.0 && c.provider == provider && c.status != Status::Disconnected
        });
        match place {
            Some(place) => Ok(place),
            None => self.connect(who, provider, authentication, None, wall),
        }
    }

    /// The provider this employer picks when nobody says one.
    pub(super) fn usual_provider(&self, customer_id: &str) -> String {
        let known = self.customers.iter().find(|c| c.id == customer_id);
        known.and_then(|c| c.providers.first()).unwrap_or(&self.provider).clone()
    }

    /// A further token of a connection.
    pub(super) fn issue(
        &mut self,
        connection: usize,
        products: Vec<String>,
        fixed: Option<String>,
    ) -> Result<String, Refusal> {
        if self.tokens.len() >= TOKENS_MAX {
            return Err(Refusal::because(Reason::BadRequest, "The simulator is full of access tokens"));
        }
        let of = self.connections.get(connection).map_or("", |c| c.id.as_str());
        let of_this = self.tokens.values().filter(|t| t.connection == connection).count().to_string();
        let mut chance = Seed::of(self.seed, &["token", of, &of_this]);
        let id = chance.uuid();
        let mut value = fixed.unwrap_or_else(|| chance.uuid());
        if !value.contains(&self.marker) {
            value = format!("{}-{value}", self.marker);
        }
        let products = if products.is_empty() { all_scopes() } else { products };
        self.tokens.insert(value.clone(), Token { id, connection, products, state: TokenState::Live });
        Ok(value)
    }

    /// What a text opens.
    pub(super) fn token(&self, value: &str) -> Option<&Token> {
        self.tokens.get(value)
    }

    /// Every token of a connection with whether it lives.
    pub(super) fn tokens_of(&self, connection: usize) -> Vec<(&str, &Token)> {
        let mut all: Vec<_> = self
            .tokens
            .iter()
            .filter(|(_, token)| token.connection == connection)
            .map(|(value, token)| (value.as_str(), token))
            .collect();
        all.sort_by_key(|(value, _)| *value);
        all
    }

    /// Ends the living tokens of a connection.
    pub(super) fn end_tokens(&mut self, connection: usize, state: TokenState) {
        for token in self.tokens.values_mut().filter(|t| t.connection == connection) {
            if token.state == TokenState::Live {
                token.state = state;
            }
        }
    }

    /// Ends a connection and every token of it, for good.
    pub(super) fn disconnect(&mut self, connection: usize) {
        if let Some(ended) = self.connections.get_mut(connection) {
            ended.status = Status::Disconnected;
            for entity in &mut ended.entities {
                entity.status = Status::Disconnected;
            }
        }
        self.end_tokens(connection, TokenState::Disconnected);
    }
}

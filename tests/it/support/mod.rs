//! A whole world in one process: a simulated Finch, a gateway in front of it, and an app that calls it.
//! Everything binds port 0 and lives in a temporary folder that goes with it.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub mod apps;
pub mod browser;
pub mod canary;
pub mod client;
pub mod collector;
pub mod database;
pub mod fleet;
pub mod hooks;
pub mod keyservice;
pub mod manifests;
pub mod manual;
pub mod metrics;
pub mod page;
pub mod panics;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod redis;
pub mod script;
pub mod socket;
pub mod store;
pub mod tls;

pub use client::{Answer, App};
pub use database::Database;
pub use process::{Ended, Process, until};

use perch::app::{self, Gateway};
use perch::config::{self, Address, Environ};
use perch::engine::Reading;
use perch::sim::{Options, Scenario, Sim};
use perch::types::{AccessToken, ConnectionId, CustomerId, Environment, ProviderId, UnixMillis};
use perch::vault::{NewConnection, Status, kek};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The secret of the simulated application; a canary: it must turn up nowhere.
pub const CLIENT_SECRET: &str = "CANARY-client-secret-5a1d";
/// What every access token of the simulator contains.
pub const TOKEN_MARKER: &str = "CANARY-token-9c3e";

/// Access lines, as they were written.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.keep(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Adds bytes of any kind.
    pub fn keep(&self, bytes: &[u8]) {
        self.0.lock().expect("no test panics in here").extend_from_slice(bytes);
    }

    /// Drops what was kept: a long run has more lines than memory.
    pub fn forget(&self) {
        self.0.lock().expect("no test panics in here").clear();
    }

    /// The bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("no test panics in here").clone()
    }

    /// Each line as JSON.
    pub fn all(&self) -> Vec<Value> {
        let bytes = self.bytes();
        let text = String::from_utf8(bytes).expect("lines are text");
        text.lines().map(|line| serde_json::from_str(line).expect("every line is one JSON object")).collect()
    }
}

/// What a test may set before the world begins.
#[derive(Default)]
pub struct Setup {
    scenario: String,
    settings: String,
    finch: Option<String>,
    connections: Vec<(String, String)>,
    is_on_a_server: bool,
}

impl Setup {
    /// With its vault on a server of PostgreSQL, whatever this run is about.
    pub fn on_a_server(mut self) -> Self {
        self.is_on_a_server = true;
        self
    }

    /// The simulator's scenario, as TOML.
    pub fn scenario(mut self, toml: &str) -> Self {
        self.scenario.push_str(toml);
        self
    }

    /// More of perch's configuration, as TOML with dotted keys (`limits.window = "2s"`).
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings.push_str(toml);
        self.settings.push('\n');
        self
    }

    /// Another Finch than the simulator, by its base URL.
    pub fn finch(mut self, base_url: &str) -> Self {
        self.finch = Some(base_url.to_owned());
        self
    }

    /// A customer whose connection `c-<customer>` is in the vault from the start, with this token.
    pub fn connection(mut self, customer: &str, token: &str) -> Self {
        self.connections.push((customer.to_owned(), token.to_owned()));
        self
    }

    /// Starts it.
    pub async fn start(self) -> World {
        let mut world = self.without_gateway().await;
        world.open().await;
        world
    }

    /// Starts all but the gateway: its folder has a key and settings and no store yet.
    pub async fn without_gateway(self) -> World {
        World::begin(self).await
    }
}

/// The world.
pub struct World {
    pub sim: Arc<Sim>,
    pub finch: SocketAddr,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    pub lines: Lines,
    /// What apps and operators were answered, where a test wants it kept.
    pub heard: Option<Lines>,
    pub dir: TempDir,
    pub database: Database,
    /// What the environment says because of the database.
    own: Vec<(&'static str, String)>,
    pub gateway: Option<Gateway>,
    settings: PathBuf,
    /// The settings that it began with.
    first: String,
    environment: Environ,
    panics: panics::NoPanic,
}

impl World {
    /// A world with nothing special about it.
    pub async fn new() -> World {
        World::with().start().await
    }

    /// A world to be described.
    pub fn with() -> Setup {
        Setup::default()
    }

    async fn begin(setup: Setup) -> World {
        let dir = TempDir::new().expect("a temporary folder");
        let database = match setup.is_on_a_server {
            true => Database::on_a_server().await,
            false => Database::of_this_run(dir.path()).await,
        };
        let mut scenario = setup.scenario;
        if matches!(database, Database::Server(_)) && !scenario.contains("limits") {
            // As short a window as perch's own there.
            scenario.push_str("\n[limits]\nwindow = \"1ms\"\n[limits.ip]\nwindow = \"1ms\"\n");
        }
        let sim = Sim::new(Options {
            client_id: "sim-client".to_owned(),
            client_secret: perch::types::ClientSecret::new(CLIENT_SECRET.to_owned()),
            webhook_secret: perch::types::WebhookSecret::new(hooks::SECRET.to_owned()),
            token_marker: Some(TOKEN_MARKER.to_owned()),
            scenario: Scenario::parse(&scenario, "test.toml").expect("a sound scenario"),
            ..Options::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let finch = listener.local_addr().expect("an address");
        tokio::spawn(Arc::clone(&sim).serve(listener, std::future::pending()));
        let path = |name: &str| dir.path().join(name);
        kek::generate(&path("perch.key")).expect("a key");
        let base_url = setup.finch.unwrap_or_else(|| format!("http://{finch}"));
        let toml = format!(
            "finch.base_url = \"{base_url}\"\nfinch.environment = \"sandbox\"\nlisten.proxy = \"127.0.0.1:0\"\n\
             listen.admin = \"127.0.0.1:0\"\nlisten.names = [\"perch\"]\nvault.store = \"{}\"\nvault.key = \"file:{}\"\n{}",
            database.setting(),
            path("perch.key").display(),
            setup.settings,
        );
        let settings = path("perch.toml");
        std::fs::write(&settings, &toml).expect("a writable folder");
        let own = database.environment(&setup.settings);
        let environment: Environ =
            [("FINCH_CLIENT_ID", "sim-client"), ("FINCH_CLIENT_SECRET", CLIENT_SECRET)]
                .into_iter()
                .chain(hooks::VARIABLES)
                .chain(own.iter().map(|(name, value)| (*name, value.as_str())))
                .collect();
        seal(&settings, &environment, setup.connections).await;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        World {
            sim,
            finch,
            proxy: nowhere,
            admin: nowhere,
            lines: Lines::default(),
            heard: None,
            dir,
            database,
            own,
            gateway: None,
            settings,
            first: toml,
            environment,
            panics: panics::watch(),
        }
    }

    /// Starts a gateway where none runs.
    pub async fn open(&mut self) {
        let gateway = start(&self.settings, &self.environment, &self.lines).await;
        self.admin = tcp(gateway.admin());
        // A door that is a Unix socket has a path instead.
        if let Address::Tcp(at) = gateway.proxy() {
            self.proxy = *at;
        }
        self.gateway = Some(gateway);
    }

    /// Stops the gateway; its lines are written then.
    pub async fn stop(&mut self) -> usize {
        let left = self.gateway.take().expect("it runs").stop().await;
        self.panics.assert();
        left
    }

    /// Stops the gateway and starts another on the same store.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.open().await;
    }

    /// Writes the first settings with these more, in the place of what was there.
    pub fn rewrite(&self, toml: &str) {
        let text = format!("{}\n{toml}\n", self.first);
        // As an editor does it: never half a file.
        let (new, old) = (self.path("perch.toml.new"), &self.settings);
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, old)).expect("a writable folder");
    }

    /// The same, and has the gateway in this process read it.
    pub fn reload(&self, toml: &str) -> Reading {
        self.rewrite(toml);
        let read = config::load(Some(&self.settings), &self.environment);
        self.gateway.as_ref().expect("it runs").reload(read)
    }

    /// The same with the first settings, of which one line is another.
    pub fn replace(&self, line: &str, by: &str) -> Reading {
        assert!(self.first.contains(line), "{line} is not there");
        std::fs::write(&self.settings, self.first.replace(line, by)).expect("a writable folder");
        let read = config::load(Some(&self.settings), &self.environment);
        self.gateway.as_ref().expect("it runs").reload(read)
    }

    /// An app that names nobody.
    pub fn app(&self) -> App {
        App::at(self.proxy).heard_by(self.heard.as_ref())
    }

    /// An app that names this customer in a header.
    pub fn for_customer(&self, customer: &str) -> App {
        self.app().with("perch-customer", customer)
    }

    /// An operator at the admin door.
    pub fn operator(&self) -> App {
        App::at(self.admin).heard_by(self.heard.as_ref())
    }

    /// Straight to the simulator.
    pub fn straight(&self) -> App {
        App::at(self.finch)
    }

    /// What the simulator has seen.
    pub async fn report(&self) -> Value {
        self.straight().get("/_sim/report").await.json()
    }

    /// Connects a customer through perch as an app does: session, log-in, code, exchange. The answer of
    /// the exchange.
    pub async fn connect(&self, customer: &str, provider: &str) -> Value {
        let answer = self.exchange(customer, provider).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The same, with whatever came of the exchange.
    pub async fn exchange(&self, customer: &str, provider: &str) -> Answer {
        let code = self.code(customer, provider).await;
        let body = serde_json::json!({ "client_id": "ignored", "client_secret": "ignored", "code": code });
        self.app().post("/auth/token", &body).await
    }

    /// A fresh authorization code of a customer.
    pub async fn code(&self, customer: &str, provider: &str) -> String {
        let session = serde_json::json!({
            "customer_id": customer,
            "customer_name": customer,
            "products": [
                "company", "directory", "individual", "employment", "payment", "pay_statement", "benefits", "documents",
            ],
            "integration": { "provider": provider },
        });
        let session = self.app().post("/connect/sessions", &session).await;
        assert_eq!(session.status, 201, "{}", session.text());
        self.log_in(&session).await
    }

    /// What the employer does with a connect link.
    pub async fn log_in(&self, session: &Answer) -> String {
        let url = session.json()["connect_url"].as_str().expect("a link").to_owned();
        let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()));
        let code = self.straight().get(&path.expect("a path")).await.json();
        code["code"].as_str().expect("a code").to_owned()
    }

    /// Adds a fault to the simulator.
    pub async fn fault(&self, fault: Value) {
        let answer = self.straight().post("/_sim/faults", &fault).await;
        assert!((200..300).contains(&answer.status), "{}", answer.text());
    }
}

/// Puts connections into the vault before a gateway has it.
async fn seal(settings: &std::path::Path, environment: &Environ, connections: Vec<(String, String)>) {
    if connections.is_empty() {
        return;
    }
    let loaded = config::load(Some(settings), environment).unwrap_or_else(|problems| panic!("{problems}"));
    let vault = app::open_vault(&loaded.config, false).await.unwrap_or_else(|error| panic!("{error}"));
    for (customer, token) in connections {
        let new = NewConnection {
            connection_id: ConnectionId::new(format!("c-{customer}")).expect("an id"),
            customer_id: Some(CustomerId::new(customer).expect("an id")),
            company_id: None,
            provider_id: Some(ProviderId::new("gusto").expect("an id")),
            products: Vec::new(),
            entity_ids: Vec::new(),
            client_type: Environment::Sandbox,
            account_status: None,
            token: AccessToken::new(token),
            status: Status::Active,
            held_reason: None,
        };
        vault.seal(new, UnixMillis(0)).await.expect("a sound connection");
    }
}

async fn start(settings: &std::path::Path, environment: &Environ, lines: &Lines) -> Gateway {
    let loaded = config::load(Some(settings), environment).unwrap_or_else(|problems| panic!("{problems}"));
    Gateway::start(loaded, lines.clone()).await.unwrap_or_else(|error| panic!("{error}"))
}

fn tcp(address: &Address) -> SocketAddr {
    match address {
        Address::Tcp(at) => *at,
        Address::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}

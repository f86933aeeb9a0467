//! A configuration that holds: nothing in it can be wrong any more. Only `load` makes one; tests may write their own.
//! The defaults named here are those of `config/perch.toml`.

pub use super::address::{Address, BaseUrl};
pub use super::ledger::Ledger;
pub use super::postgres_url::PostgresUrl;
pub use super::redis_url::{RedisUrl, Seed};
pub use super::reference::{AwsKey, GcpKey, KeySource, TransitKey};
pub use super::steering::{Circle, LimitMode, Paused, Reload, Rollout};
pub use super::tls::{TlsEnds, TlsError, TlsFiles, TlsStamps};
pub use super::traces::{CollectorAt, Traces};
use crate::types::{
    AdminToken, AppName, ApplicationId, ClientSecret, CustomerId, Environment, KeyToken, Product,
    WebhookSecret,
};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything an operator decides.
#[derive(Debug)]
pub struct Config {
    /// Finch and the application at it.
    pub finch: Finch,
    /// The doors and their bounds.
    pub listen: Listen,
    /// Who may use the admin door.
    pub admin: Admin,
    /// Where connections are kept, and under which key.
    pub vault: Vault,
    /// How much may be sent to Finch, and how long a call waits for its turn.
    pub limits: Limits,
    /// Who may call perch, and what they may do.
    pub apps: Apps,
    /// For whom perch works already.
    pub rollout: Rollout,
    /// Whose calls are stopped.
    pub pause: Paused,
    /// How perch hears of changes to its file.
    pub reload: Reload,
    /// Which calls are merged.
    pub merge: Merge,
    /// What is sent again.
    pub retry: Retry,
    /// What is answered for dead logins.
    pub shield: Shield,
    /// How connections are looked after.
    pub connections: Connections,
    /// What becomes of Finch's webhooks.
    pub webhooks: Webhooks,
    /// The request ledger.
    pub ledger: Ledger,
    /// Which calls are traced, and who is told.
    pub traces: Traces,
    /// How perch stops.
    pub drain: Drain,
    /// What perch logs.
    pub log: Log,
}

/// Finch and the application at it.
#[derive(Debug)]
pub struct Finch {
    /// Where Finch answers; `https://api.tryfinch.com`. Never one of perch's own doors.
    pub base_url: BaseUrl,
    /// The kind of connections this perch works with; `production`.
    pub environment: Environment,
    /// The application's id; from `FINCH_CLIENT_ID`.
    pub client_id: ApplicationId,
    /// The application's secret; from `FINCH_CLIENT_SECRET`.
    pub client_secret: Arc<ClientSecret>,
    /// The key of webhook signatures; none.
    pub webhook_secret: Option<WebhookSecret>,
    /// The one that it replaces, while Finch signs with both; none.
    pub webhook_secret_previous: Option<WebhookSecret>,
    /// A PEM file with one more trust anchor; none. It existed at load.
    pub ca_file: Option<PathBuf>,
    /// Where a customer lands who has renewed a login; none.
    pub redirect_uri: Option<String>,
    /// The longest wait for one answer; 370 s.
    pub timeout: Duration,
    /// The longest wait for a connection, TLS included; 10 s.
    pub connect_timeout: Duration,
}

/// The doors and their bounds.
#[derive(Debug)]
pub struct Listen {
    /// The apps' door; `127.0.0.1:4600`.
    pub proxy: Address,
    /// The operators' door; `127.0.0.1:4601`. Off loopback there is an admin token.
    pub admin: Address,
    /// Finch's door; none. With one there is a webhook secret.
    pub webhooks: Option<Address>,
    /// The orchestrator's door, for probes and metrics alone; none.
    pub probes: Option<Address>,
    /// What the apps' door shows in TLS, and, exactly with mTLS, who vouches for apps; nothing: it speaks in the clear.
    /// The files fitted together at load.
    pub tls: Option<TlsFiles>,
    /// Names that the doors answer to, beside their addresses and `localhost`; none.
    pub names: Vec<String>,
    /// Connections open at once on each door; 4096.
    pub connections_max: usize,
    /// The longest wait for a request head; 10 s.
    pub head_timeout: Duration,
    /// The longest wait for a request body; 60 s.
    pub body_timeout: Duration,
    /// How long an idle connection stays open; 75 s.
    pub idle_timeout: Duration,
    /// How long a client may take not a byte of its answer; 60 s.
    pub write_timeout: Duration,
    /// The largest request body; 16 MiB.
    pub request_bytes_max: usize,
    /// The largest answer looked into; 32 MiB.
    pub inspect_bytes_max: usize,
}

/// Who may use the admin door.
#[derive(Debug)]
pub struct Admin {
    /// What an operator shows there; none, which is only possible on loopback.
    pub token: Option<AdminToken>,
}

/// Where connections are kept, and under which key.
#[derive(Debug)]
pub struct Vault {
    /// The store; `sqlite:perch.db`.
    pub store: Store,
    /// The sealing key; `file:perch.key`. Read by the vault, not at load.
    pub key: KeySource,
    /// The sealing key before, while it is being changed; none.
    pub key_previous: Option<KeySource>,
    /// What perch shows at a key service; none, when the environment says it in the service's own way.
    pub key_token: Option<KeyToken>,
    /// One more trust anchor for a key service; none.
    pub key_ca_file: Option<PathBuf>,
    /// Whether the key file may be readable by its group; no.
    pub key_group_readable: bool,
    /// Where the store's count of changes is remembered outside the store; nowhere.
    pub generation_file: Option<PathBuf>,
    /// How long an opened connection stays in memory; 60 s, zero for not at all.
    pub cache_ttl: Duration,
}

/// Where sealed connections are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// A file of `SQLite`.
    Sqlite(PathBuf),
    /// A server that several gateways share.
    Postgres(Postgres),
}

/// A PostgreSQL server, and whom to believe that it is the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Postgres {
    /// Where it is, and as whom to sign in there.
    pub url: PostgresUrl,
    /// A PEM file with one more trust anchor; none.
    pub ca_file: Option<PathBuf>,
}

/// How much may be sent to Finch, and how long a call waits for its turn.
#[derive(Debug)]
pub struct Limits {
    /// Where spent quota is remembered; memory.
    pub store: LimitStore,
    /// How many perch share the application's quota; 1. More only with a shared store.
    pub replicas: NonZeroU32,
    /// Finch's window; 60 s.
    pub window: Duration,
    /// Added to the window against clocks of different speed; 100 ms.
    pub pad: Duration,
    /// After this long without an answer a call counts as arrived; 5 s. `None`: never before its answer.
    pub arrival_bound: Option<Duration>,
    /// What to do while a shared store is out; share.
    pub on_outage: OnOutage,
    /// How much of each limit is leased for outages, in percent; 50. Between 10 and 90.
    pub share: u32,
    /// This replica's name: 1 to 100 letters, digits and signs. By default its machine's and a digest of its vault and
    /// its door.
    pub member: String,
    /// Names the quota in a shared store: 1 to 64 letters, digits and signs. By default a digest of the application.
    pub namespace: String,
    /// Whether batch calls are spread over the window; yes.
    pub pacing: bool,
    /// Customers with another weight than 1; none.
    pub weights: Weights,
    /// Calls of one window, for each product.
    pub products: ProductLimits,
    /// Calls of one window from this address.
    pub ip: IpLimit,
    /// How long a call may wait.
    pub wait: Waits,
    /// How many calls may wait.
    pub queue: Queue,
    /// Whether the limits hold calls back; enforce.
    pub mode: LimitMode,
}

/// Where spent quota is remembered.
#[derive(Debug)]
pub enum LimitStore {
    /// In this process.
    Memory,
    /// In a store that every replica reaches.
    Redis(RedisUrl),
}

/// Each customer's share next to others': twice the weight, twice the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Weights(BTreeMap<CustomerId, NonZeroU32>);

impl Weights {
    /// Every customer that was given one.
    pub fn all(&self) -> &BTreeMap<CustomerId, NonZeroU32> {
        &self.0
    }
}

impl FromIterator<(CustomerId, NonZeroU32)> for Weights {
    fn from_iter<I: IntoIterator<Item = (CustomerId, NonZeroU32)>>(weights: I) -> Self {
        Self(weights.into_iter().collect())
    }
}

/// What to do while a shared quota store is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOutage {
    /// Spend this replica's part.
    Share,
    /// Refuse calls.
    Refuse,
}

/// Calls of one window, for each product.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProductLimits(BTreeMap<Product, NonZeroU32>);

impl ProductLimits {
    /// The product's limit. A metered product always has one; an unmetered one only when the operator gave it one.
    pub fn of(&self, product: Product) -> Option<NonZeroU32> {
        self.0.get(&product).copied()
    }
}

impl FromIterator<(Product, NonZeroU32)> for ProductLimits {
    fn from_iter<I: IntoIterator<Item = (Product, NonZeroU32)>>(limits: I) -> Self {
        Self(limits.into_iter().collect())
    }
}

/// Calls of one window from this address, whatever they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpLimit {
    /// How many; 800.
    pub requests: NonZeroU32,
    /// In which span; 5 min.
    pub window: Duration,
}

/// How long a call may wait for quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// With a person behind it; 15 s. Not longer than `batch`.
    pub interactive: Duration,
    /// With a job behind it; 10 min.
    pub batch: Duration,
}

/// How many calls may wait at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// For one customer; 200.
    pub per_customer: NonZeroU32,
    /// In all; 10 000.
    pub total: NonZeroU32,
}

/// Who may call perch, and what they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apps {
    /// How an app is known; loopback.
    pub auth: AppAuth,
    /// Whether calls that change something pass; deny.
    pub writes: Writes,
    /// Whether real Finch tokens are passed on; no.
    pub pass_through: bool,
}

/// How an app is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppAuth {
    /// It reaches a door that only this machine can reach.
    Loopback,
    /// It shows its key.
    Key,
    /// Its connection has a certificate. The door has one, too.
    Mtls,
    /// It runs as its own user, at the other end of a Unix socket.
    Uid,
}

impl AppAuth {
    /// Every way.
    pub const ALL: [AppAuth; 4] = [AppAuth::Loopback, AppAuth::Key, AppAuth::Mtls, AppAuth::Uid];

    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            AppAuth::Loopback => "loopback",
            AppAuth::Key => "key",
            AppAuth::Mtls => "mtls",
            AppAuth::Uid => "uid",
        }
    }
}

/// Whether calls that change something at Finch pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// They are refused.
    Deny,
    /// They pass.
    Allow,
}

/// What `merge.warm_up` fetches of a new connection, where it is kept.
pub const WARMED: [Product; 4] =
    [Product::Company, Product::Directory, Product::Individual, Product::Employment];

/// Which calls are merged, and what is made of answers that lack something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// Identical reads under way at once are sent once; yes.
    pub coalesce: bool,
    /// Replicas that share a store of limits share reads and kept answers through it; yes.
    pub across_replicas: bool,
    /// How long an outcome is kept for a resend; 2 min, zero for not at all.
    pub resend_memory: Duration,
    /// To which products calls are gathered while they wait; none.
    pub batch: Vec<Product>,
    /// Of which apps; none stands for all.
    pub batch_apps: Vec<AppName>,
    /// A call with more ids than Finch takes becomes several requests; yes.
    pub split: bool,
    /// How long answers are served from memory, for each product that is; none.
    pub cache: BTreeMap<Product, Duration>,
    /// How much memory they may take, in bytes; 64 MiB. As much again in a shared store.
    pub cache_bytes: usize,
    /// The first data of a new connection is fetched as soon as it is there; no.
    pub warm_up: bool,
    /// Failed items of a batch that are asked for once more; off.
    pub repair: Repair,
    /// What a 202 in place of data becomes; it passes.
    pub not_ready: NotReady,
}

/// Failed items of a batch that are asked for once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// None.
    Off,
    /// Those with a 5xx.
    Failed,
    /// Those, and those with a 202.
    Pending,
}

/// What a 202 in place of data becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotReady {
    /// It stays what it is.
    Pass,
    /// An error that no SDK takes for data.
    Error,
}

/// What is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The most attempts of one call, the first included; 3.
    pub attempts: u32,
    /// How many calls of a hundred may be sent again; 20.
    pub budget: u32,
}

/// What is answered for dead logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shield {
    /// How long after its discovery one is first asked about; 5 min. `None`: its calls are sent.
    pub probe: Option<Duration>,
}

/// How connections are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// In which time each is asked about once; 24 h. `None`: only when a call gives reason.
    pub introspect_every: Option<Duration>,
    /// How long after a disconnect that Finch did not confirm it is tried again; 1 min, and longer each time.
    pub disconnect_retry: Duration,
}

/// What becomes of Finch's webhooks.
#[derive(Debug)]
pub struct Webhooks {
    /// How the app gets them; not at all.
    pub deliver: Option<Delivery>,
    /// How many events are kept; 10 000.
    pub queue: u32,
    /// How long what is settled is kept; 30 days.
    pub keep: Duration,
}

/// How the app gets what Finch tells.
#[derive(Debug)]
pub struct Delivery {
    /// Where.
    pub target: Target,
    /// What messages are signed with; Finch's own signature stays on them without it.
    pub sign_with: Option<WebhookSecret>,
    /// How long the app may take for one; 15 s.
    pub timeout: Duration,
    /// How often one is offered; 7.
    pub attempts: u32,
}

/// An address with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Scheme, host and port. Never one of perch's own doors.
    pub base: BaseUrl,
    /// Path and query.
    pub path: String,
}

/// How perch stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// How long calls under way may take after SIGTERM; 25 s.
    pub grace: Duration,
    /// How much of that perch goes on serving; `None`: as the proxy door needs it.
    pub linger: Option<Duration>,
}

/// How long a Service of Kubernetes, or a load balancer, may go on sending calls to a gateway that stops. Measured
/// endpoints follow within a second or two; five leave room for a busy node.
const LINGER: Duration = Duration::from_secs(5);

impl Drain {
    /// How long perch goes on serving after SIGTERM. Behind a door that only this machine reaches nobody has to hear
    /// of it first: the app of a sidecar has ended before.
    pub fn linger(&self, proxy: &Address) -> Duration {
        match self.linger {
            Some(linger) => linger,
            None if proxy.is_local() => Duration::ZERO,
            None => LINGER.min(self.grace / 2),
        }
    }
}

/// What perch logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least important line that is written; info.
    pub level: Level,
}

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed and a person should know.
    Error,
    /// Something may fail soon.
    Warn,
    /// What happens.
    Info,
    /// Why it happens.
    Debug,
    /// Every step.
    Trace,
}

impl Level {
    /// The word in the configuration, which `tracing` understands too.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        }
    }
}

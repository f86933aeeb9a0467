//! The composition root: from a configuration to running doors, and back to silence.

mod error;
mod essentials;
mod ledger;
mod merge;
mod reload;
mod settings;
mod tasks;
mod traces;

pub use error::StartError;
pub use essentials::essentials;
pub use ledger::scope;

use crate::config::{self, Address, Config, LimitMode, LimitStore, Limits, Loaded, OnOutage, Store};
use crate::doors::admin::AdminDoor;
use crate::doors::proxy::ProxyDoor;
use crate::doors::tls::DoorTls;
use crate::doors::webhooks::WebhookDoor;
use crate::doors::{Bound, Guarded, Names, Patience, Visitors, proof};
use crate::engine::quota::{Member, Quota};
use crate::engine::webhooks::{self, Courier, WebhookRules, Webhooks};
use crate::engine::{Current, Drain, Engine, Gathers, Held, Joins, Life, Outlook, Stage, Written};
use crate::limit::beat::Incarnation;
use crate::limit::{self, IpRule, PerProduct, Rules};
use crate::store::journal::{Journal, Verdict};
use crate::store::redis::Redis;
use crate::store::redis::codec::SCRIPT;
use crate::telemetry::clock::unix_now;
use crate::telemetry::{AccessLog, Metrics, Telemetry};
use crate::types::WebhookSecret;
use crate::upstream::{self, Finch};
use crate::vault::{self, OpenError, Vault, VaultOptions};
use parking_lot::Mutex;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use settings::{settings, webhook_secrets};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long the doors may take to close once nobody is waited for.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// The most connections of the orchestrator: a kubelet and a few scrapers.
const PROBES_MAX: usize = 64;

/// Longest time an attempt can hold a permit beyond the answer's own: connecting and writing.
const ANSWER_MARGIN: Duration = Duration::from_secs(30);

/// What a gateway starts with.
#[derive(Debug)]
pub struct Given {
    config: Config,
    written: config::Written,
}

impl From<Loaded> for Given {
    fn from(loaded: Loaded) -> Self {
        let (config, written) = loaded.apart();
        Self { config, written }
    }
}

/// A configuration that nobody wrote has nothing to show.
impl From<Config> for Given {
    fn from(config: Config) -> Self {
        Self { config, written: config::Written::default() }
    }
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Gateway {
    engine: Arc<Engine>,
    proxy: Address,
    admin: Address,
    webhooks: Option<Address>,
    probes: Option<Address>,
    /// One reading of the configuration at a time.
    reloading: Mutex<()>,
    shutdown: watch::Sender<bool>,
    doors: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Opens everything, then lets calls in. Access lines go to `access_lines`.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start(
        given: impl Into<Given>,
        access_lines: impl Write + Send + 'static,
    ) -> Result<Self, StartError> {
        Self::start_accepting(given, access_lines, false).await
    }

    /// The same, with a say on a store that is older than `vault.generation_file` remembers.
    ///
    /// # Errors
    /// [`StartError`]; nothing listens then.
    pub async fn start_accepting(
        given: impl Into<Given>,
        access_lines: impl Write + Send + 'static,
        accept_rollback: bool,
    ) -> Result<Self, StartError> {
        let Given { mut config, written } = given.into();
        let metrics = Metrics::new()?;
        let tls =
            config.listen.tls.clone().map(|files| {
                DoorTls::new(files, metrics.handshakes.clone(), metrics.ages.clone()).map(Arc::new)
            });
        let tls = tls.transpose()?;
        let proxy = Bound::to(&config.listen.proxy)?;
        let admin = Bound::to(&config.listen.admin)?;
        let hooks = config.listen.webhooks.as_ref().map(Bound::to).transpose()?;
        let probes = config.listen.probes.as_ref().map(Bound::to).transpose()?;
        let vault = open_vault_accepting(&config, true, accept_rollback).await?;
        vault.measure(&metrics.stores);
        let (requests, ledger) = ledger::open(&config, &metrics).await?;
        let traces = traces::start(&mut config, metrics.traces.clone())?;
        let telemetry = Telemetry::new(metrics, AccessLog::to(access_lines)?, ledger, traces)?;
        let finch = Finch::new(finch_settings(&config))?;
        let ca_file = config.finch.ca_file.clone();
        let (shutdown, stopping) = watch::channel(false);
        let (rules, settings) = (rules(&config), settings(&config, None));
        let Limits { store, on_outage, member, namespace, mode, .. } = config.limits;
        let mut passing = None;
        let quota = match store {
            LimitStore::Memory => embedded_quota(&config.vault.store, rules).await?,
            LimitStore::Redis(url) => {
                set_journal_aside(&config.vault.store).await?;
                let redis = Redis::new(url, &namespace, SCRIPT)?.measured(&telemetry.metrics.stores, "quota");
                let incarnation = incarnation()?;
                passing = merge::passing(&config.merge, &redis, incarnation, stopping.clone());
                let member = Member { name: member, incarnation, on_outage: outage(on_outage) };
                Quota::shared(redis, rules, member, stopping.clone())
            }
        };
        let webhooks =
            webhooks_of(config.webhooks, webhook_secrets(&mut config.finch), hooks.is_some(), ca_file)?;
        let news = quota.news();
        let answers = merge::answers(&config.merge, passing);
        quota.observe(mode == LimitMode::Observe);
        if quota.is_observing() {
            warn_of_observing();
        }
        telemetry.metrics.steering.started(unix_now().0 / 1000);
        let engine = Arc::new(Engine {
            quota,
            outlook: Outlook::new(&settings.outlook),
            settings: Current::new(settings),
            written: Written::new(written, unix_now()),
            braked: Notify::new(),
            vault,
            finch,
            telemetry,
            requests,
            joins: Joins::new(config.merge.resend_memory),
            gathers: Gathers::default(),
            answers,
            life: Life::default(),
            webhooks,
            held: Held::default(),
            drain: Drain::default(),
        });
        let listen = &config.listen;
        let patience =
            Patience { head: listen.head_timeout, idle: listen.idle_timeout, write: listen.write_timeout };
        let stages = || engine.drain.stages();
        let conf = Arc::new(ServerConf::default());
        let names = Names::new(config.listen.names.clone());
        let visitors = Visitors::new(names.clone(), config.apps.auth, &engine.vault);
        let door =
            ProxyDoor::new(Arc::clone(&engine), visitors, listen.request_bytes_max, listen.body_timeout);
        let proxy_app = Guarded::new(http_proxy(&conf, door), listen.connections_max, patience, stages())
            .behind(tls.clone());
        let admin_app = Guarded::new(
            AdminDoor::new(Arc::clone(&engine), config.admin.token, names.clone()),
            listen.connections_max,
            patience,
            stages(),
        );
        let addresses = (proxy.address().clone(), admin.address().clone());
        let hooks_address = hooks.as_ref().map(|door| door.address().clone());
        let mut doors = Vec::new();
        if let Some(door) = hooks {
            let app = WebhookDoor::new(Arc::clone(&engine), listen.body_timeout);
            let places = listen.connections_max.min(WebhookDoor::CONNECTIONS_MAX);
            let app = Guarded::new(app, places, patience, stages());
            doors.push(tokio::spawn(door.serve("webhooks", app)));
        }
        let probes_address = probes.as_ref().map(|door| door.address().clone());
        if let Some(door) = probes {
            let app = AdminDoor::for_probes(Arc::clone(&engine), names);
            let app = Guarded::new(app, listen.connections_max.min(PROBES_MAX), patience, stages());
            doors.push(tokio::spawn(door.serve("probes", app)));
        }
        if let Some(tls) = tls {
            doors.push(tokio::spawn(tls.follow(stopping.clone())));
        }
        if engine.webhooks.is_used() {
            doors.push(tokio::spawn(webhooks::run(Arc::clone(&engine), stopping.clone())));
        }
        doors.extend([
            tokio::spawn(proxy.serve("proxy", proxy_app)),
            tokio::spawn(admin.serve("admin", admin_app)),
            tokio::spawn(tasks::watch_vault(Arc::clone(&engine), stopping.clone())),
            tokio::spawn(tasks::hear_news(Arc::clone(&engine), news, stopping.clone())),
            tokio::spawn(tasks::forget_outcomes(Arc::clone(&engine), stopping.clone())),
            tokio::spawn(Arc::clone(&engine).finish_disconnects(stopping.clone())),
        ]);
        doors.push(tokio::spawn(Arc::clone(&engine).ask_round(stopping)));
        tracing::info!(
            proxy = %addresses.0, admin = %addresses.1, webhooks = hooks_address.as_ref().map(tracing::field::display),
            probes = probes_address.as_ref().map(tracing::field::display), "perch listens"
        );
        Ok(Self {
            engine,
            proxy: addresses.0,
            admin: addresses.1,
            webhooks: hooks_address,
            probes: probes_address,
            reloading: Mutex::default(),
            shutdown,
            doors,
        })
    }

    /// Where apps call.
    pub fn proxy(&self) -> &Address {
        &self.proxy
    }

    /// Where operators look.
    pub fn admin(&self) -> &Address {
        &self.admin
    }

    /// Where Finch tells, when it has a door.
    pub fn webhooks(&self) -> Option<&Address> {
        self.webhooks.as_ref()
    }

    /// Where the orchestrator looks, when it has a door.
    pub fn probes(&self) -> Option<&Address> {
        self.probes.as_ref()
    }

    /// How many calls are not answered yet.
    pub fn running(&self) -> usize {
        self.engine.drain.running()
    }

    /// Waits until every call so far is answered and its line written.
    pub async fn settle(&self) {
        self.engine.drain.idle().await;
        self.engine.telemetry.ledger.settle().await;
        self.engine.telemetry.flush();
    }

    /// Stops: it is not ready any more and serves on for a while; then who waits is refused and who was sent is waited
    /// for inside the grace; then the doors close and the last lines are written. Tells how many calls were cut off.
    pub async fn stop(self) -> usize {
        let drain = &self.engine.drain;
        let (grace, linger) = {
            let settings = self.engine.settings.now();
            (settings.grace, settings.linger)
        };
        let end = Instant::now() + grace;
        drain.advance(Stage::Leaving);
        tracing::info!(running = drain.running(), ?linger, "perch stops");
        tokio::time::sleep(linger).await;
        self.engine.close();
        let _ = tokio::time::timeout_at(end, drain.idle()).await;
        drain.advance(Stage::HangingUp);
        self.shutdown.send_replace(true);
        let closed = async {
            for door in self.doors {
                let _ = door.await;
            }
        };
        // Whoever is in the middle of a request's head, or has reached a door that closes, is answered too.
        let _ = tokio::time::timeout_at(end.max(Instant::now() + CLOSE_MAX), closed).await;
        let cut = drain.running();
        let _ = tokio::time::timeout(CLOSE_MAX, self.engine.quota.settle()).await;
        let _ = tokio::time::timeout(CLOSE_MAX, self.engine.vault.leave()).await;
        if !self.engine.telemetry.ledger.settle().await {
            tracing::warn!(
                "the last calls are not in the request ledger: its store did not take them in time"
            );
        }
        if let Some(traces) = &self.engine.telemetry.traces {
            traces.close().await;
        }
        self.engine.telemetry.flush();
        if cut > 0 {
            tracing::warn!(cut, "calls were cut off when the grace ended; raise drain.grace");
        }
        cut
    }
}

/// What becomes of webhooks, as configured: who is believed, and who is told.
fn webhooks_of(
    configured: config::Webhooks,
    secrets: Vec<WebhookSecret>,
    has_door: bool,
    ca_file: Option<PathBuf>,
) -> Result<Webhooks, StartError> {
    let config::Webhooks { deliver, queue, keep } = configured;
    let attempts = deliver.as_ref().map_or(1, |delivery| delivery.attempts);
    let courier = match deliver {
        Some(config::Delivery { target, sign_with, timeout, attempts: _ }) => {
            // The extra trust anchor is for names on the network; it has nothing to say about loopback.
            let ca_file = ca_file.filter(|_| target.base.tls);
            Some(Courier::new(target, sign_with, timeout, ca_file)?)
        }
        None => None,
    };
    let secrets = Current::new(secrets);
    Ok(Webhooks::new(WebhookRules { secrets, has_door, queue, keep, attempts }, courier))
}

fn warn_of_observing() {
    tracing::warn!(
        "limits.mode is \"observe\": calls are counted and sent at once, whatever the limits say; Finch may answer them with 429"
    );
}

/// A number that is larger at every start, and no other replica's: milliseconds, then chance.
fn incarnation() -> Result<Incarnation, StartError> {
    let mut chance = [0; 2];
    getrandom::fill(&mut chance)
        .map_err(|error| StartError::Unavailable(format!("the system gives no random numbers: {error}")))?;
    let millis = u64::try_from(unix_now().0).unwrap_or_default();
    Ok(Incarnation(millis << 16 | u64::from(u16::from_le_bytes(chance))))
}

fn outage(on_outage: OnOutage) -> limit::OnOutage {
    match on_outage {
        OnOutage::Share => limit::OnOutage::Share,
        OnOutage::Refuse => limit::OnOutage::Refuse,
    }
}

/// A quota in this process that knows what earlier runs sent. Open the vault first: it makes sure that no
/// other gateway has the store.
async fn embedded_quota(store: &Store, rules: Rules) -> Result<Arc<Quota>, StartError> {
    let Store::Sqlite(path) = store.clone() else {
        // Said at load too, with the line to change.
        return Err(StartError::Unavailable(
            "a store that several gateways share needs a quota that they share".to_owned(),
        ));
    };
    let keep = Quota::remembers_for(&rules);
    let opened = tokio::task::spawn_blocking(move || Journal::open(&path, keep)).await;
    let stopping = |_| StartError::Unavailable("perch is stopping".to_owned());
    let (journal, history) = opened.map_err(stopping)?.map_err(OpenError::from)?;
    if let Verdict::Unknown(doubt) = history.verdict {
        tracing::warn!("{}; nothing is sent for {:?}", doubt.as_str(), rules.span());
    }
    Ok(Quota::remembering(rules, journal, &history))
}

/// Quota is spent in a shared store: should this gateway ever count by itself again, its journal knows that
/// it does not know.
async fn set_journal_aside(store: &Store) -> Result<(), StartError> {
    // Beside a server no gateway counts alone.
    let Store::Sqlite(path) = store.clone() else { return Ok(()) };
    let done = tokio::task::spawn_blocking(move || Journal::set_aside(&path)).await;
    let stopping = |_| StartError::Unavailable("perch is stopping".to_owned());
    Ok(done.map_err(stopping)?.map_err(OpenError::from)?)
}

/// Opens the vault that a configuration names.
///
/// # Errors
/// The key does not fit, or the store does not open.
pub async fn open_vault(config: &Config, is_gateway: bool) -> Result<Arc<Vault>, StartError> {
    open_vault_accepting(config, is_gateway, false).await
}

/// The same, with a say on a store that is older than `vault.generation_file` remembers.
///
/// # Errors
/// As [`open_vault`].
pub async fn open_vault_accepting(
    config: &Config,
    is_gateway: bool,
    accept_rollback: bool,
) -> Result<Arc<Vault>, StartError> {
    Ok(Vault::open(VaultOptions {
        store: config.vault.store.clone(),
        keys: vault::wrappers(&config.vault).await?,
        application: config.finch.client_id.clone(),
        environment: config.finch.environment,
        cache_ttl: config.vault.cache_ttl,
        is_gateway,
        generation_file: config.vault.generation_file.clone(),
        accept_rollback,
        now: unix_now(),
    })
    .await?)
}

/// The way to Finch that a configuration describes.
pub fn finch_settings(config: &Config) -> upstream::Settings {
    upstream::Settings {
        base: config.finch.base_url.clone(),
        ca_file: config.finch.ca_file.clone(),
        connect_timeout: config.finch.connect_timeout,
        answer_timeout: config.finch.timeout,
    }
}

/// The limits that a configuration sets.
pub fn rules(config: &Config) -> Rules {
    let limits = &config.limits;
    let mut rules = Rules::with_limits(PerProduct::from_fn(|product| limits.products.of(product)));
    rules = Rules {
        window: limits.window,
        pad: limits.pad,
        arrival_bound: limits.arrival_bound,
        answer_max: config.finch.timeout + config.finch.connect_timeout + ANSWER_MARGIN,
        ip: IpRule { requests: limits.ip.requests, window: limits.ip.window },
        pacing: limits.pacing,
        share_percent: limits.share,
        weights: limits.weights.all().clone(),
        queue_max: usize::try_from(limits.queue.total.get()).unwrap_or(usize::MAX),
        queue_per_customer_max: usize::try_from(limits.queue.per_customer.get()).unwrap_or(usize::MAX),
        ..rules
    };
    rules
}

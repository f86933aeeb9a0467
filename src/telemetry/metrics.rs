//! Every metric perch has. The doc of a field is its meaning; labels are closed sets, and no customer,
//! connection or path is ever a label.

mod ages;
mod answers;
mod cache;
mod failures;
mod fields;
mod handshakes;
mod ledger;
mod merges;
mod process;
mod stale;
mod steering;
mod stores;
mod sums;
mod traces;
mod webhooks;

pub use ages::{Ages, Certificate};
pub use answers::{Answers, Uninspected};
pub use cache::{Cached, Looked};
pub use failures::Failures;
pub use fields::Fields;
pub use handshakes::{Handshake, Handshakes};
pub use ledger::Recording;
pub use merges::{Merged, Merges};
pub use process::Process;
pub use stale::Stale;
pub use steering::{Reloaded, Steering};
pub use stores::{ScriptTimes, StoreTimes, Stores};
pub use sums::Alarms;
pub use traces::Traced;
pub use webhooks::{Outcome, Webhooks};

use super::access::AccessLine;
use super::clock::unix_now;
use crate::types::{Priority, Product};
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::time::Duration;

/// Seconds from a cached answer to Finch's own limit of six minutes.
const SECONDS: [f64; 14] =
    [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 180.0, 370.0];

/// The registry and its members. A struct, not statics: two gateways in one process do not share it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Held by whoever copies what others count: two at once would add the same twice.
    copying: Mutex<()>,
    calls: IntCounterVec,
    attempts: IntCounterVec,
    duration: HistogramVec,
    wait: HistogramVec,
    fairness: GaugeVec,
    competing: IntGaugeVec,
    finch_429: IntCounterVec,
    batch_items: IntCounterVec,
    quota_used: IntGaugeVec,
    quota_limit: IntGaugeVec,
    queue_depth: IntGaugeVec,
    holds: IntGaugeVec,
    connections: IntGaugeVec,
    disconnects_pending: IntGauge,
    limiter_mode: IntGaugeVec,
    vault_errors: IntCounterVec,
    /// What was found in good answers.
    pub answers: Answers,
    /// What failed, and what was done about it.
    pub failures: Failures,
    /// How good answers compare with their known shape.
    pub fields: Fields,
    /// Handshakes that failed.
    pub handshakes: Handshakes,
    /// The request ledger.
    pub ledger: Recording,
    /// Calls that needed no exchange of their own.
    pub merges: Merges,
    /// Answers that are kept.
    pub cache: Cached,
    /// What an operator steers while perch runs.
    pub steering: Steering,
    /// What Finch told by webhook.
    pub webhooks: Webhooks,
    /// The process as the system sees it.
    pub process: Process,
    /// How long the store and Redis take.
    pub stores: Stores,
    /// What grows old and is renewed by somebody.
    pub ages: Ages,
    /// Connections whose data is old.
    pub stale: Stale,
    /// What became of spans.
    pub traces: Traced,
    /// Calls refused because what they would spend could not be counted: the quota's journal or the shared
    /// store is out.
    pub no_ledger: IntCounter,
    /// Tokens found in an answer of Finch's and taken out.
    pub redactions: IntCounter,
    /// Calls that carried a real token through, while that is allowed.
    pub passed_through: IntCounter,
    /// Access lines lost because nobody read stdout.
    pub access_lines_dropped: IntCounter,
}

/// What quota looks like now, taken when somebody asks for `/metrics`.
#[derive(Debug, Default)]
pub struct QuotaGauges {
    /// Per product: used, limit.
    pub products: Vec<(Product, u64, u64)>,
    /// The egress IP: used, limit.
    pub ip: Option<(u64, u64)>,
    /// Per product and priority: how many wait.
    pub waiting: Vec<(Product, Priority, u64)>,
    /// Per scope: how many holds are in force.
    pub holds: Vec<(&'static str, u64)>,
    /// Per product: how fairly its customers were served, and how many had to wait for others.
    pub fairness: Vec<(Product, f64, u64)>,
    /// Every way to count quota, and whether it is the one in force.
    pub modes: Vec<(&'static str, bool)>,
}

/// What the registry refused: a programming error that start-up reports.
pub type MetricsError = prometheus::Error;

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake in this file.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let r = &registry;
        let info = gauges(r, "perch_build_info", "The version that runs; always 1", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            calls: counters(r, "perch_calls_total", "Calls answered", &["product", "class"])?,
            attempts: counters(
                r,
                "perch_attempts_total",
                "Attempts at Finch by status, or none",
                &["product", "status"],
            )?,
            duration: register(
                r,
                HistogramVec::new(
                    HistogramOpts::new("perch_call_duration_seconds", "Time of a call by phase")
                        .buckets(SECONDS.to_vec()),
                    &["product", "phase"],
                )?,
            )?,
            wait: register(
                r,
                HistogramVec::new(
                    HistogramOpts::new("perch_wait_seconds", "Wait of an attempt for quota, by priority")
                        .buckets(SECONDS.to_vec()),
                    &["product", "priority"],
                )?,
            )?,
            fairness: register(
                r,
                GaugeVec::new(
                    Opts::new(
                        "perch_fairness_ratio",
                        "Jain's index over what customers got of their fair share lately; 1 is fair",
                    ),
                    &["product"],
                )?,
            )?,
            competing: gauges(
                r,
                "perch_customers_competing",
                "Customers that lately had to wait for quota",
                &["product"],
            )?,
            finch_429: counters(
                r,
                "perch_finch_429_total",
                "Calls Finch refused for a limit; must stay 0",
                &["finch_code"],
            )?,
            batch_items: counters(
                r,
                "perch_batch_items_total",
                "Items of batch answers",
                &["product", "outcome"],
            )?,
            quota_used: gauges(
                r,
                "perch_quota_used",
                "Requests that still count against the limit",
                &["product"],
            )?,
            quota_limit: gauges(r, "perch_quota_limit", "The limit", &["product"])?,
            queue_depth: gauges(r, "perch_queue_depth", "Calls waiting for quota", &["product", "priority"])?,
            holds: gauges(r, "perch_holds", "Scopes that must not be called until a time", &["scope"])?,
            connections: gauges(r, "perch_connections", "Connections in the vault", &["status", "provider"])?,
            disconnects_pending: register(
                r,
                IntGauge::new("perch_disconnects_pending", "Disconnects that Finch did not confirm yet")?,
            )?,
            limiter_mode: gauges(r, "perch_limiter_mode", "1 for the mode in force", &["mode"])?,
            vault_errors: counters(
                r,
                "perch_vault_errors_total",
                "Failures of the vault by kind",
                &["kind"],
            )?,
            answers: Answers::register(r)?,
            failures: Failures::register(r)?,
            fields: Fields::register(r)?,
            handshakes: Handshakes::register(r)?,
            ledger: Recording::register(r)?,
            merges: Merges::register(r)?,
            cache: Cached::register(r)?,
            steering: Steering::register(r)?,
            webhooks: Webhooks::register(r)?,
            process: Process::register(r, unix_now())?,
            stores: Stores::register(r)?,
            ages: Ages::register(r)?,
            stale: Stale::register(r)?,
            traces: Traced::register(r)?,
            no_ledger: counter(
                r,
                "perch_no_ledger_total",
                "Calls refused because spent quota could not be counted",
            )?,
            redactions: counter(
                r,
                "perch_redactions_total",
                "Tokens taken out of answers of Finch's; must stay 0",
            )?,
            passed_through: counter(
                r,
                "perch_passed_through_total",
                "Calls that brought a real token along",
            )?,
            access_lines_dropped: counter(r, "perch_access_lines_dropped_total", "Access lines nobody read")?,
            registry,
            copying: Mutex::new(()),
        };
        // What must stay 0 must be there to be looked at.
        for code in FINCH_429_CODES {
            metrics.finch_429.with_label_values(&[code]).inc_by(0);
        }
        for kind in VaultFault::ALL {
            metrics.vault_errors.with_label_values(&[kind.as_str()]).inc_by(0);
        }
        Ok(metrics)
    }

    pub(super) fn call(&self, line: &AccessLine) {
        let product = line.product;
        self.calls.with_label_values(&[product, line.class.as_str()]).inc();
        let perch = line.total.saturating_sub(line.wait).saturating_sub(line.finch);
        for (phase, span) in
            [("total", line.total), ("wait", line.wait), ("finch", line.finch), ("perch", perch)]
        {
            self.duration.with_label_values(&[product, phase]).observe(span.as_secs_f64());
        }
        if let Some(batch) = line.batch {
            let good = batch.total.saturating_sub(batch.failed).saturating_sub(batch.pending);
            for (outcome, count) in [("ok", good), ("failed", batch.failed), ("pending", batch.pending)] {
                self.batch_items.with_label_values(&[product, outcome]).inc_by(count);
            }
        }
    }

    /// One attempt: its status, or `None` when no answer came.
    pub fn attempt(&self, product: &str, status: Option<u16>) {
        let status = status.map_or_else(|| "none".to_owned(), |s| s.to_string());
        self.attempts.with_label_values(&[product, &status]).inc();
    }

    /// An attempt has waited so long for quota, whether it got it or not.
    pub fn waited(&self, product: Product, priority: Priority, span: Duration) {
        self.wait.with_label_values(&[product.as_str(), priority.as_str()]).observe(span.as_secs_f64());
    }

    /// Finch refused for a limit. An unknown code is counted as such: labels stay bounded.
    pub fn refused_by_finch(&self, finch_code: Option<&str>) {
        let code =
            finch_code.and_then(|c| FINCH_429_CODES.into_iter().find(|k| *k == c)).unwrap_or("unknown_code");
        self.finch_429.with_label_values(&[code]).inc();
    }

    /// The vault failed.
    pub fn vault_fault(&self, kind: VaultFault) {
        self.vault_errors.with_label_values(&[kind.as_str()]).inc();
    }

    /// Takes over what quota looks like now. What has no limit any more is not told any more.
    pub fn set_quota(&self, quota: &QuotaGauges) {
        for gauges in [&self.quota_used, &self.quota_limit, &self.competing] {
            gauges.reset();
        }
        self.fairness.reset();
        for (product, used, limit) in &quota.products {
            self.quota_used.with_label_values(&[product.as_str()]).set(whole(*used));
            self.quota_limit.with_label_values(&[product.as_str()]).set(whole(*limit));
        }
        if let Some((used, limit)) = quota.ip {
            self.quota_used.with_label_values(&["egress-ip"]).set(whole(used));
            self.quota_limit.with_label_values(&["egress-ip"]).set(whole(limit));
        }
        for (product, priority, depth) in &quota.waiting {
            self.queue_depth.with_label_values(&[product.as_str(), priority.as_str()]).set(whole(*depth));
        }
        for (product, index, competing) in &quota.fairness {
            self.fairness.with_label_values(&[product.as_str()]).set(*index);
            self.competing.with_label_values(&[product.as_str()]).set(whole(*competing));
        }
        for (mode, is_on) in &quota.modes {
            self.limiter_mode.with_label_values(&[mode]).set(i64::from(*is_on));
        }
        for (scope, count) in &quota.holds {
            self.holds.with_label_values(&[scope]).set(whole(*count));
        }
    }

    /// Takes over how many connections there are. Providers come from Finch's own list; the caller
    /// bounds them.
    pub fn set_connections(&self, counts: &[(&str, &str, u64)]) {
        self.connections.reset();
        for (status, provider, count) in counts {
            self.connections.with_label_values(&[status, provider]).set(whole(*count));
        }
        let pending = counts.iter().filter(|(status, ..)| *status == "disconnecting").map(|(.., n)| n).sum();
        self.disconnects_pending.set(whole(pending));
    }

    /// The text for Prometheus, after `copy` has taken over what others count; of several at once one after the other.
    ///
    /// # Errors
    /// A metric cannot be written: a mistake in this file.
    pub fn render_after(&self, copy: impl FnOnce(&Self)) -> Result<Vec<u8>, MetricsError> {
        let _one = self.copying.lock();
        copy(self);
        self.render()
    }

    /// The text for Prometheus.
    ///
    /// # Errors
    /// A metric cannot be written: a mistake in this file.
    pub fn render(&self) -> Result<Vec<u8>, MetricsError> {
        let mut out = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

const FINCH_429_CODES: [&str; 7] = [
    "finch_application_rl",
    "finch_api_ip_rl",
    "finch_auth_ip_rl",
    "upstream_rate_limit_exceeded",
    "finch_token_rl",
    "finch_rate_limit_exceeded",
    "unknown_code",
];

/// How the vault can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultFault {
    /// The store does not answer.
    Store,
    /// A sealed token cannot be opened.
    Unreadable,
}

impl VaultFault {
    const ALL: [VaultFault; 2] = [VaultFault::Store, VaultFault::Unreadable];

    const fn as_str(self) -> &'static str {
        match self {
            VaultFault::Store => "store",
            VaultFault::Unreadable => "unreadable",
        }
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, MetricsError> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
    register(r, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, MetricsError> {
    register(r, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
    register(r, IntCounter::new(name, help)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Class;
    use crate::types::{RequestId, UnixMillis};

    #[test]
    fn what_must_stay_zero_is_there_from_the_start() {
        let text =
            String::from_utf8(Metrics::new().expect("a registry").render().expect("text")).expect("text");
        assert!(text.contains("perch_finch_429_total{finch_code=\"finch_application_rl\"} 0"), "{text}");
        assert!(text.contains("perch_build_info{version="), "{text}");
    }

    #[test]
    fn a_call_is_counted_once_and_a_strange_code_adds_no_label() {
        let metrics = Metrics::new().expect("a registry");
        let mut line = AccessLine::begin(RequestId::new("r").expect("an id"), UnixMillis(0));
        line.product = Product::Directory.as_str();
        line.class = Class::Ok;
        metrics.call(&line);
        metrics.refused_by_finch(Some("evil\"} 1\n"));
        let text = String::from_utf8(metrics.render().expect("text")).expect("text");
        assert!(text.contains("perch_calls_total{class=\"ok\",product=\"directory\"} 1"), "{text}");
        assert!(text.contains("perch_finch_429_total{finch_code=\"unknown_code\"} 1"), "{text}");
    }

    #[test]
    fn what_has_no_limit_any_more_is_not_told_and_two_never_copy_at_once() {
        let metrics = Metrics::new().expect("a registry");
        let quota = |products: &[Product]| QuotaGauges {
            products: products.iter().map(|product| (*product, 1, 2)).collect(),
            ip: Some((3, 4)),
            waiting: Vec::new(),
            holds: Vec::new(),
            fairness: products.iter().map(|product| (*product, 1.0, 0)).collect(),
            modes: Vec::new(),
        };
        let render = |products: &[Product]| {
            let copy = |metrics: &Metrics| {
                assert!(metrics.copying.try_lock().is_none(), "another could copy at the same time");
                metrics.set_quota(&quota(products));
            };
            String::from_utf8(metrics.render_after(copy).expect("text")).expect("text")
        };
        let both = render(&[Product::Company, Product::Directory]);
        assert!(both.contains("perch_quota_limit{product=\"company\"} 2"), "{both}");
        let one = render(&[Product::Directory]);
        assert!(!one.contains("company"), "{one}");
        assert!(one.contains("perch_quota_used{product=\"egress-ip\"} 3"), "{one}");
    }
}

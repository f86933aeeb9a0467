//! A real Prometheus watches gateways under a load in which everything happens: what every panel and every rule makes of
//! it. And what is told does not grow with the number of customers.

use crate::dashboards::{BOARDS, alerts, board, metrics_in, queries};
use crate::support::hooks::{DOOR, event};
use crate::support::prometheus::{Prometheus, Target};
use crate::support::redis::RedisServer;
use crate::support::tls::Authority;
use crate::support::{App, World};
use perch::policy::Class;
use perch::telemetry::{AccessLine, AccessLog, Ledger, Metrics, Telemetry};
use perch::types::{CompanyId, ConnectionId, CustomerId, FinchRequestId, Product, RequestId, UnixMillis};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;

const COMPANY: &str = "/employer/company";
const INDIVIDUAL: &str = "/employer/individual";

/// Short windows and small limits, so that calls wait; everything that merges calls is on.
fn settings(redis: &str) -> String {
    format!(
        "limits.store = \"{redis}\"\nlimits.namespace = \"test\"\nlimits.window = \"1s\"\n\
         limits.arrival_bound = \"1s\"\nlimits.ip.window = \"1s\"\nlimits.products.default = 1000\n\
         limits.products.directory = 2\nlimits.products.individual = 2\n\
         merge.batch = true\nmerge.cache = {{ benefits = \"1h\" }}\n{DOOR}"
    )
}

/// As short a window at Finch as perch's.
const FINCH: &str = "[limits]\nwindow = \"1ms\"\n[limits.ip]\nwindow = \"1ms\"\n";

/// A part of a day at work: each kind of answer, wait and failure.
async fn work(world: &World, round: u32) {
    let app = |customer: &str| world.for_customer(customer).with("perch-max-wait", "30");
    let (acme, globex) = (app("acme"), app("globex"));
    // More than the limit allows at once: they wait, of both priorities, and two of them for the same.
    let mut calls = JoinSet::new();
    for n in 0..8 {
        let who = if n % 2 == 0 { &acme } else { &globex };
        let app = who.clone().with("perch-priority", if n < 4 { "interactive" } else { "batch" });
        let path = format!("/employer/directory?limit={}", 40 + 10 * round + n.min(6));
        calls.spawn(async move { app.get(&path).await.status });
    }
    let directory = acme.get(&format!("/employer/directory?limit={}", 30 + round)).await.json();
    let people = directory["individuals"].as_array().expect("people").clone();
    let asking = |ids: &[Value]| {
        let requests: Vec<Value> =
            ids.iter().map(|person| json!({ "individual_id": person["id"] })).collect();
        json!({ "requests": requests })
    };
    for person in people.iter().take(8) {
        let (acme, body) = (acme.clone(), asking(std::slice::from_ref(person)));
        calls.spawn(async move { acme.post(INDIVIDUAL, &body).await.status });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.expect("it ran"), 200);
    }
    world
        .fault(json!({ "operation": "read_individuals", "preset": "partial", "items": [0], "times": 1 }))
        .await;
    let whole = asking(&people[..2.min(people.len())]);
    acme.clone().with("perch-repair", "true").post(INDIVIDUAL, &whole).await;
    // Kept answers: the second is one.
    for _ in 0..2 {
        assert_eq!(acme.get("/employer/benefits").await.status, 200);
    }
    for preset in ["stale", "server_error", "bad_gateway", "app_limit", "not_found"] {
        world.fault(json!({ "operation": "get_company", "preset": preset, "times": 1 })).await;
        acme.get(COMPANY).await;
    }
    world.fault(json!({ "operation": "get_company", "customer": "gone", "preset": "reauth" })).await;
    for _ in 0..3 {
        assert_eq!(app("gone").get(COMPANY).await.class(), "reauthentication_required");
    }
    assert_eq!(acme.get("/employer/nothing").await.status, 404);
    assert_eq!(world.app().get(COMPANY).await.class(), "invalid_request");
    // Nobody can be that patient.
    let hasty = world.for_customer("globex").with("perch-max-wait", "0");
    let mut refused = JoinSet::new();
    for n in 0..6 {
        let (hasty, path) = (hasty.clone(), format!("/employer/directory?limit={}", 80 + n));
        refused.spawn(async move { hasty.get(&path).await.class().to_owned() });
    }
    let classes = refused.join_all().await;
    assert!(classes.iter().any(|class| class == "rate_limited"), "{classes:?}");
    world.tell(&format!("event-{round}"), &event("directory.created", "c-unknown")).await;
}

/// Waits until Prometheus has seen every call so far.
async fn is_seen(prometheus: &Prometheus, world: &World) {
    let samples = world.metrics().await;
    let calls: f64 = samples
        .iter()
        .filter(|(name, _)| name.starts_with("perch_calls_total{"))
        .map(|(_, count)| count)
        .sum();
    let expr = format!("sum(perch_calls_total{{instance=\"{}\"}})", world.admin);
    prometheus.until(&expr, |seen| seen.first().is_some_and(|sum| sum.value >= calls)).await;
}

/// A query as Grafana sends it.
fn filled(expr: &str, pod: &str) -> String {
    let expr = expr.replace("$__rate_interval", "1m").replace("$__range", "1m").replace("$pod", pod);
    ["$job", "$namespace", "$instance"].iter().fold(expr, |expr, name| expr.replace(name, ".*"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_and_every_rule_makes_something_of_a_gateway_at_work() {
    let redis = RedisServer::start().await;
    let world = World::with().scenario(FINCH).settings(&settings(&redis.url())).start().await;
    // Another one whose door speaks TLS and whom Kubernetes would run.
    let dir = TempDir::new().expect("a folder");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    Authority::new().certify("localhost", (2024, 2094)).write(&cert, &key);
    let tls = format!("listen.cert_file = \"{}\"\nlisten.key_file = \"{}\"", cert.display(), key.display());
    let other = World::with().settings(&tls).start().await;
    // And one whose limits only look on.
    let observing = "limits.mode = \"observe\"\nlimits.products.company = 1";
    let observing = World::with().settings(observing).start().await;
    observing.connect("acme", "gusto").await;
    let prometheus = Prometheus::watching(&[
        Target { address: world.admin, labels: &[] },
        Target { address: observing.admin, labels: &[] },
        Target { address: other.admin, labels: &[("namespace", "payroll"), ("pod", "perch-0")] },
    ])
    .await;
    for customer in ["acme", "globex", "gone"] {
        world.connect(customer, "gusto").await;
    }
    // A rate is between two looks: what is worked before the first of them is no rate.
    for round in 0..2 {
        work(&world, round).await;
        for _ in 0..3 {
            assert_eq!(observing.for_customer("acme").get(COMPANY).await.status, 200);
        }
        is_seen(&prometheus, &world).await;
        is_seen(&prometheus, &observing).await;
    }
    world.fault(json!({ "operation": "get_company", "preset": "payment_required", "times": 1 })).await;
    world.for_customer("acme").get(COMPANY).await;
    is_seen(&prometheus, &world).await;

    let mut silent = Vec::new();
    for name in BOARDS {
        for (title, expr) in queries(&board(name)) {
            let found = prometheus.query(&filled(&expr, ".*")).await;
            // What is all well shows zeros: nothing at all, or no number, would be a query that is wrong.
            if found.iter().all(|sample| sample.value.is_nan()) {
                silent.push(format!("{name}, {title}: {expr}: {found:?}"));
            }
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    // The choice of a pod takes those without one away, and all of them means those without as well.
    let replicas = "count(perch_build_info{pod=~\"$pod\"})";
    for (pod, count) in [(".*", 3.0), ("perch-0", 1.0)] {
        assert_eq!(prometheus.query(&filled(replicas, pod)).await[0].value, count, "{pod}");
    }

    // What must fire does: each with the sentence that a person reads.
    for alert in ["PerchFinch429", "PerchApplicationBlocked"] {
        let expr = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        prometheus.until(&expr, |found| !found.is_empty()).await;
    }
    let rules = prometheus.rules().await;
    assert_eq!(rules.len(), alerts().len());
    for rule in &rules {
        let name = rule["name"].as_str().expect("a name");
        assert_eq!(rule["health"], "ok", "{name}: {}", rule["lastError"]);
        for alert in rule["alerts"].as_array().expect("alerts") {
            let said = alert["annotations"].to_string();
            assert!(!said.contains("error expanding") && !said.contains("<no value>"), "{name}: {said}");
        }
        let expr = rule["query"].as_str().expect("a query");
        if prometheus.query(expr).await.is_empty() {
            // Nothing to complain about, and not for want of data.
            for metric in metrics_in(expr) {
                let there = prometheus.query(&format!("count({metric})")).await;
                // Of what is absent there is nothing to look at but that it is not.
                assert!(!there.is_empty(), "{name} can never fire: there is no {metric}");
            }
        }
    }
    check_metrics(&world.operator()).await;
    is_bounded(world.metrics().await.keys(), &["acme", "globex", "gone"]);
}

/// What Prometheus' own checker says of `/metrics`.
async fn check_metrics(operator: &App) {
    let text = operator.get("/metrics").await.text();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: run scripts/setup.sh test");
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let done = promtool.wait_with_output().expect("it ends");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Labels that may stand on a metric: each is a closed set, or bounded where it is made (providers).
const LABELS: [&str; 24] = [
    "class",
    "event",
    "finch_code",
    "found",
    "how",
    "kind",
    "le",
    "mode",
    "op",
    "outcome",
    "phase",
    "priority",
    "product",
    "provider",
    "result",
    "scope",
    "script",
    "state",
    "status",
    "store",
    "version",
    "which",
    "why",
    "would",
];

/// Fails for a label that may not stand there, and for a value that has one of these words in it.
fn is_bounded<'n>(names: impl IntoIterator<Item = &'n String>, ids: &[&str]) {
    for name in names {
        let labels = name.split_once('{').map_or("", |(_, labels)| labels);
        for (label, value) in labels.split("\",").filter_map(|label| label.split_once("=\"")) {
            assert!(LABELS.contains(&label), "{name}: {label} is a new label; is it bounded?");
            assert!(!ids.iter().any(|id| value.contains(id)), "{name}");
        }
    }
}

/// Names and labels of what is told.
fn series(metrics: &Metrics) -> BTreeSet<String> {
    let text = String::from_utf8(metrics.render().expect("text")).expect("text");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// The lines of calls of so many customers, each with ids of its own.
fn record(telemetry: &Telemetry, customers: usize) {
    let all =
        Product::ALL.into_iter().zip([Class::Ok, Class::Partial, Class::RateLimited].into_iter().cycle());
    let all: Vec<_> = all.collect();
    for n in 0..customers {
        let id = |what: &str| format!("{what}-{n:05}");
        let (product, class) = all[n % all.len()];
        let mut line = AccessLine::begin(RequestId::new(id("request")).expect("an id"), UnixMillis(0));
        line.customer = CustomerId::new(id("customer")).ok();
        line.connection_id = ConnectionId::new(id("connection")).ok();
        line.company_id = CompanyId::new(id("company")).ok();
        line.saw(FinchRequestId::new(id("finch")).expect("an id"));
        (line.product, line.class) = (product.as_str(), class);
        line.total = Duration::from_millis(n as u64);
        let old = Duration::from_secs(48 * 60 * 60);
        if let Some(connection) = &line.connection_id {
            telemetry.metrics.stale.note(connection, line.product, old, UnixMillis(0));
        }
        telemetry.metrics.refused_by_finch(Some(&id("code")));
        telemetry.record(line);
    }
    telemetry.metrics.stale.look(UnixMillis(1));
}

#[test]
fn what_is_told_does_not_grow_with_the_number_of_customers() {
    let metrics = Metrics::new().expect("metrics");
    let log = AccessLog::to(std::io::sink()).expect("a log");
    let telemetry = Telemetry::new(metrics, log, Ledger::off(), None).expect("a thread");
    record(&telemetry, 100);
    let few = series(&telemetry.metrics);
    record(&telemetry, 10_000);
    let many = series(&telemetry.metrics);
    let grown: Vec<_> = many.difference(&few).collect();
    assert!(grown.is_empty(), "{grown:?}");
    is_bounded(&many, &["customer-", "connection-", "company-", "request-", "finch-0", "code-"]);
}

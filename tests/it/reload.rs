//! A configuration that is read while perch runs: no call is lost, nothing that is spent is forgotten, and what cannot be
//! used changes nothing.

use crate::support::process::within;
use crate::support::{App, Process, World, until};
use nix::sys::signal::Signal::{SIGHUP, SIGTERM};
use perch::telemetry::metrics::Reloaded;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinHandle;

const SCENARIO: &str = "[[customer]]\nid = \"a\"\n[[customer]]\nid = \"b\"\n[[customer]]\nid = \"c\"\n";
const DIRECTORY: &str = "/employer/directory";
const COMPANY: &str = "/employer/company";
/// Every call is sent by itself, so that what Finch counts is what apps sent.
const ALONE: &str = "merge.coalesce = false\nmerge.resend_memory = \"0s\"\n";

async fn world(settings: &str, limits: &str) -> World {
    let scenario = format!("{SCENARIO}{limits}");
    let world = World::with().scenario(&scenario).settings(&format!("{ALONE}{settings}")).start().await;
    world.import().await;
    world
}

/// Apps that call one after the other until they are told to stop; what they were answered.
struct Load {
    is_over: Arc<AtomicBool>,
    apps: Vec<JoinHandle<Vec<u16>>>,
}

impl Load {
    fn on(world: &World, path: &'static str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let apps = ["a", "b", "c", "a", "b"].map(|customer| {
            let (app, is_over) = (world.for_customer(customer), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    statuses.push(app.get(path).await.status);
                }
                statuses
            })
        });
        Self { is_over, apps: apps.into() }
    }

    async fn end(self) -> Vec<u16> {
        self.is_over.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        for app in self.apps {
            all.extend(app.await.expect("it ran"));
        }
        all
    }
}

/// What `/api/config` tells of the last reading.
async fn last(operator: &App) -> Value {
    operator.get("/api/config").await.json()["last_reload"].clone()
}

fn is_within(report: &Value) -> bool {
    report["products"].as_object().expect("products").values().all(|product| product["within"] == true)
}

/// Every call of the load was served, and Finch counted no more than its limits.
async fn assert_nothing_was_lost(load: Load, world: &World) {
    let statuses = load.end().await;
    assert!(statuses.len() >= 20, "{} calls are no load", statuses.len());
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let report = world.report().await;
    assert!(is_within(&report), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_cost_no_call_and_no_quota_is_forgotten() {
    let finch = "[limits]\nwindow = \"1s\"\n[limits.ip]\nwindow = \"1s\"\n[limits.products]\ncompany = 150\n";
    let world = world("limits.window = \"1s\"\nlimits.ip.window = \"1s\"", finch).await;
    let load = Load::on(&world, COMPANY);
    for n in 0..100 {
        let limit = [100, 150, 50, 120][n % 4];
        let reading = match n % 5 {
            // Unsound: refused as a whole.
            4 => world.reload(&format!("limits.products.company = {limit}\nlimits.products.payment = 0")),
            _ => world
                .reload(&format!("limits.products.company = {limit}\nlimits.wait.batch = \"{}s\"", 60 + n)),
        };
        let expected = if n % 5 == 4 { Reloaded::Refused } else { Reloaded::Changed };
        assert_eq!(reading.outcome, expected, "{reading:?}");
        let done = world.for_customer("c").get(COMPANY).await;
        assert_eq!(done.status, 200, "{}", done.text());
    }
    assert_nothing_was_lost(load, &world).await;
    let counted = |outcome: &str| format!("perch_config_reloads_total{{outcome=\"{outcome}\"}}");
    let samples = world.metrics().await;
    assert_eq!((samples[&counted("changed")], samples[&counted("refused")]), (80.0, 20.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_signals_to_the_program_under_load_cost_no_call() {
    let finch = "[limits]\nwindow = \"1s\"\n[limits.ip]\nwindow = \"1s\"\n[limits.products]\ncompany = 150\n";
    let mut world = World::with()
        .scenario(&format!("{SCENARIO}{finch}"))
        .settings(&format!("{ALONE}limits.window = \"1s\"\nlimits.ip.window = \"1s\"\nreload.watch = false"))
        .without_gateway()
        .await;
    world.import().await;
    world.rewrite("limits.products.company = 100");
    let program: Process = world.serve().await;
    let load = Load::on(&world, COMPANY);
    for n in 0..100 {
        match n % 3 {
            0 => world.rewrite(&format!("limits.products.company = {}", 80 + n % 10)),
            1 => world.rewrite("this is not TOML at all"),
            _ => world.rewrite(&format!("limits.products.company = 90\nlimits.queue.total = {}", 1000 + n)),
        }
        program.signal(SIGHUP);
        // Signals that come together are one: each is waited for.
        let total = async || {
            let samples = world.metrics().await;
            let count = |outcome| samples[&format!("perch_config_reloads_total{{outcome=\"{outcome}\"}}")];
            ["changed", "unchanged", "refused"].map(count).iter().sum::<f64>()
        };
        until("it was read", async || total().await >= f64::from(n + 1)).await;
        let done = world.for_customer("c").get(COMPANY).await;
        assert_eq!(done.status, 200, "{}", done.text());
    }
    assert_nothing_was_lost(load, &world).await;
    let refused = world.metric("perch_config_reloads_total{outcome=\"refused\"}").await;
    assert!((33.0..=34.0).contains(&refused), "{refused}");
    let ended = program.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("is refused as a whole") && ended.err.contains("not TOML"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_spent_stays_spent_and_a_lower_limit_holds_at_once() {
    let world = world("limits.window = \"60s\"\nlimits.products.directory = 10", "").await;
    let app = world.for_customer("a").with("perch-max-wait", "0");
    for _ in 0..5 {
        assert_eq!(app.get(DIRECTORY).await.status, 200);
    }
    let used = "perch_quota_used{product=\"directory\"}";
    assert!((world.metric(used).await - 5.0).abs() < 1e-9);
    // The base text has a limit already: the environment of a test cannot be changed, so the first lines are replaced.
    let lower = |limit: u32| {
        world.replace("limits.products.directory = 10", &format!("limits.products.directory = {limit}"))
    };
    assert_eq!(lower(3).outcome, Reloaded::Changed);
    assert_eq!(app.get(DIRECTORY).await.status, 429, "five are spent of three");
    assert!((world.metric("perch_quota_limit{product=\"directory\"}").await - 3.0).abs() < 1e-9);
    assert_eq!(lower(6).outcome, Reloaded::Changed);
    assert_eq!(app.get(DIRECTORY).await.status, 200, "the sixth of six");
    assert_eq!(app.get(DIRECTORY).await.status, 429);
    assert_eq!(world.report().await["products"]["directory"]["arrivals"], 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_higher_limit_serves_those_who_wait_at_once() {
    let world = world("limits.window = \"60s\"\nlimits.products.directory = 1", "").await;
    assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200);
    let app = world.for_customer("b").with("perch-priority", "batch");
    let waiting = tokio::spawn(async move { app.get(DIRECTORY).await });
    world.metric_becomes("perch_queue_depth{priority=\"batch\",product=\"directory\"}", 1.0).await;
    world.replace("limits.products.directory = 1", "limits.products.directory = 20\nlimits.pacing = false");
    assert_eq!(within("it is served", waiting).await.expect("it ran").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_needs_a_restart_is_named_and_nothing_else_is_taken_over() {
    let world = world("", "").await;
    let reading =
        world.reload("listen.idle_timeout = \"30s\"\npause.customers = [\"a\"]\nlimits.pad = \"1s\"");
    assert_eq!(reading.outcome, Reloaded::Refused);
    let why = reading.why.join("\n");
    assert!(why.contains("`listen.idle_timeout`") && why.contains("`limits.pad`"), "{why}");
    assert!(!why.contains("pause.customers") && why.contains("needs a restart"), "{why}");
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 200, "all of it or nothing");
    assert_eq!(last(&world.operator()).await["outcome"], "refused");
    assert_eq!(world.reload("").outcome, Reloaded::Unchanged);
    let reading = world.reload("pause.customers = [\"a\"]");
    assert_eq!((reading.outcome, reading.changed), (Reloaded::Changed, vec!["pause.customers".to_owned()]));
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_what_is_in_force_who_wrote_it_and_no_secret() {
    let world = world("", "").await;
    let shown = world.operator().get("/api/config").await;
    assert_eq!(shown.status, 200);
    let config = shown.json();
    assert_eq!(config["last_reload"], Value::Null);
    assert!(config["read_at"].is_string(), "{config}");
    let of = |key: &str| config["settings"][key].clone();
    assert_eq!(
        of("finch.client_secret"),
        json!({ "value": "env:FINCH_CLIENT_SECRET", "from": "default", "set": true, "live": true })
    );
    assert_eq!((&of("listen.proxy")["from"], &of("listen.proxy")["live"]), (&json!("file"), &json!(false)));
    assert_eq!(
        (&of("limits.products.company")["value"], &of("rollout.customers")["live"]),
        (&json!(20), &json!(true))
    );
    assert!(!shown.text().contains("CANARY"), "a secret is shown");
    world.reload("retry.attempts = 2");
    let config = world.operator().get("/api/config").await.json();
    assert_eq!(config["last_reload"]["outcome"], "changed");
    assert_eq!(config["last_reload"]["changed"], json!(["retry.attempts"]));
    assert_eq!(config["settings"]["retry.attempts"]["value"], 2);
    assert!(world.metric("perch_config_last_reload_timestamp_seconds").await > 1.7e9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_notices_by_itself_that_its_file_or_a_secret_has_changed() {
    let mut world = World::with()
        .scenario(&format!("{SCENARIO}[limits]\nwindow = \"1s\"\n[limits.ip]\nwindow = \"1s\"\n"))
        .settings(&format!("{ALONE}limits.window = \"1s\"\nlimits.ip.window = \"1s\"\n"))
        .without_gateway()
        .await;
    world.import().await;
    // As Kubernetes mounts a map: the file is a link to a link, and the folder behind it is swapped.
    let map = |name: &str, text: &str| {
        let folder = world.path(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("secret"), text).expect("written");
    };
    map("one", "first-secret-of-an-operator");
    map("two", "other-secret-of-an-operator");
    let folder = world.path("");
    let link = |to: &str| {
        let (new, data) = (folder.join("data.new"), folder.join("data"));
        std::os::unix::fs::symlink(to, &new).and_then(|()| std::fs::rename(&new, data)).expect("a link");
    };
    link("one");
    let secret = format!("finch.webhook_secret = \"file:{}\"", world.path("data/secret").display());
    world.rewrite(&secret);
    let program = world.serve().await;
    world.rewrite(&format!("{secret}\npause.customers = [\"a\"]"));
    until("the file is read", async || world.for_customer("a").get(COMPANY).await.status == 503).await;
    world.rewrite(&format!("{secret}\npause.customers = 7"));
    until("it is refused", async || last(&world.operator()).await["outcome"] == "refused").await;
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 503, "the one before stays in force");
    world.rewrite(&secret);
    until("the file is read", async || world.for_customer("a").get(COMPANY).await.status == 200).await;
    link("two");
    let changed = async || last(&world.operator()).await["changed"] == json!(["finch.webhook_secret"]);
    until("the secret is read", changed).await;
    assert_eq!(program.end_by(SIGTERM).await.code, Some(0));
}

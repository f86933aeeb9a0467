//! Brakes: the calls of a customer, a product or a provider are stopped, and go on, at once and everywhere.

use crate::identity::assert_refused;
use crate::support::{Answer, App, Process, World, process, until};
use nix::sys::signal::Signal::SIGTERM;
use serde_json::{Value, json};

const SCENARIO: &str = "[[customer]]\nid = \"acme\"\nproviders = [\"gusto\"]\n\n\
                        [[customer]]\nid = \"globex\"\nproviders = [\"bamboo_hr\"]\n";
const COMPANY: &str = "/employer/company";
const DIRECTORY: &str = "/employer/directory";

async fn world(settings: &str) -> World {
    let world = World::with().scenario(SCENARIO).settings(settings).start().await;
    world.import().await;
    world
}

/// What the operator is told.
async fn pause(world: &World, scope: &str, name: &str) -> Answer {
    let wanted = json!({ "scope": scope, "name": name, "reason": "wrong data" });
    world.operator().post("/api/pauses", &wanted).await
}

async fn resume(world: &World, scope: &str, name: &str) -> Answer {
    world.operator().post("/api/pauses/resume", &json!({ "scope": scope, "name": name })).await
}

fn assert_paused(answer: &Answer, scope: &str) -> Value {
    let perch = assert_refused(answer, 503, "perch_paused", "perch_unavailable");
    assert_eq!((answer.header("x-should-retry"), answer.header("perch-attempts")), ("false", "0"));
    assert_eq!(perch["scope"], scope);
    perch
}

async fn arrivals(world: &World, product: &str) -> u64 {
    world.report().await["products"][product]["arrivals"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_scope_stops_its_own_calls_and_no_others_until_it_is_resumed() {
    let world = world("merge.coalesce = false\nmerge.resend_memory = \"0s\"").await;
    for (scope, name, stopped, passes) in [
        ("customer", "acme", ("acme", COMPANY), ("globex", COMPANY)),
        ("provider", "bamboo_hr", ("globex", COMPANY), ("acme", COMPANY)),
        ("product", "directory", ("acme", DIRECTORY), ("acme", COMPANY)),
    ] {
        let told = pause(&world, scope, name).await;
        assert_eq!(told.status, 200, "{}", told.text());
        let list = told.json();
        assert_eq!((&list[0]["scope"], &list[0]["name"]), (&json!(scope), &json!(name)));
        assert_eq!((&list[0]["by"], &list[0]["reason"]), (&json!("operator"), &json!("wrong data")));
        assert!(list[0]["since"].is_string(), "{list}");
        let before = world.report().await["requests"].clone();
        let answer = world.for_customer(stopped.0).get(stopped.1).await;
        assert_paused(&answer, scope);
        assert_eq!(world.report().await["requests"], before, "nothing was sent for a paused call");
        assert_eq!(world.for_customer(passes.0).get(passes.1).await.status, 200, "{scope}");
        assert!((world.metric(&format!("perch_paused{{scope=\"{scope}\"}}")).await - 1.0).abs() < 1e-9);
        assert_eq!(resume(&world, scope, name).await.json(), json!([]));
        assert_eq!(world.for_customer(stopped.0).get(stopped.1).await.status, 200, "{scope}");
    }
    assert_eq!(resume(&world, "customer", "acme").await.status, 404, "it is not paused any more");
    let vault = world.vault().await;
    let rows = vault.verify_audit().await.expect("a sound trail").rows;
    assert!(rows >= 6, "three pauses and three ends are written down: {rows}");
    let history = world.operator().get("/api/pauses/history").await.json();
    let told: Vec<_> = history
        .as_array()
        .expect("a list")
        .iter()
        .map(|deed| [&deed["action"], &deed["connection_id"]])
        .collect();
    assert_eq!(told.len(), 6, "{history}");
    assert_eq!(
        told[..2],
        [[&json!("resume"), &json!("product directory")], [&json!("pause"), &json!("product directory")]]
    );
    assert_eq!(told[5], [&json!("pause"), &json!("customer acme")]);
    let said = world.perch(&["pauses", "--history"]).await;
    assert!(said.code == Some(0) && said.out.contains("provider bamboo_hr"), "{}", said.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_ask_finch_about_a_connection_whose_customer_is_paused() {
    let world = world("").await;
    let all = world.operator().get("/api/connections?customer=acme").await.json();
    let id = all[0]["connection_id"].as_str().expect("an id").to_owned();
    assert_eq!(pause(&world, "customer", "acme").await.status, 200);
    let asked = world.operator().post(&format!("/api/connections/{id}/introspect"), &json!({})).await;
    assert_eq!(
        (asked.status, &asked.json()["account_status"]),
        (200, &json!("connected")),
        "{}",
        asked.text()
    );
    assert_paused(&world.for_customer("acme").get("/introspect").await, "customer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_is_told_at_once_and_its_quota_stays_free() {
    let world = world("limits.products.directory = 1\nlimits.window = \"10s\"").await;
    assert_eq!(world.for_customer("globex").get(DIRECTORY).await.status, 200);
    let app = world.for_customer("acme").with("perch-priority", "batch");
    let waiting = tokio::spawn(async move { app.get(DIRECTORY).await });
    world.metric_becomes("perch_queue_depth{priority=\"batch\",product=\"directory\"}", 1.0).await;
    assert_eq!(pause(&world, "customer", "acme").await.status, 200);
    let answer = process::within("the waiting call is told", waiting).await.expect("it ran");
    assert_paused(&answer, "customer");
    assert_eq!(arrivals(&world, "directory").await, 1);
    world.metric_becomes("perch_queue_depth{priority=\"batch\",product=\"directory\"}", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_customer_can_be_connected_and_disconnected() {
    let world = world("").await;
    assert_eq!(pause(&world, "customer", "acme").await.status, 200);
    let again = world.connect("acme", "gusto").await;
    let id = again["connection_id"].as_str().expect("an id").to_owned();
    let as_acme = world.app().with("authorization", &format!("Bearer connection:{id}"));
    assert_paused(&as_acme.get(COMPANY).await, "customer");
    let gone = as_acme.post("/disconnect", &json!({})).await;
    assert_eq!(gone.status, 200, "a disconnect makes things safer: {}", gone.text());
    for product in ["auth", "connect", "disconnect", "nonsense"] {
        let refused = pause(&world, "product", product).await;
        assert_eq!(refused.status, 400, "{product}");
        assert!(refused.text().contains("no product that can be paused"), "{}", refused.text());
    }
    assert_eq!(pause(&world, "customer", " ").await.status, 400);
    assert_eq!(world.operator().post("/api/pauses", &json!({ "name": "acme" })).await.status, 400);
    let page = world.operator().with("origin", "http://evil.example").post("/api/pauses", &json!({})).await;
    assert_eq!(page.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_survives_a_restart_and_the_command_line_ends_it() {
    let mut world = world("").await;
    let told = world.perch(&["pause", "customer", "acme", "--reason", "billing", "-o", "json"]).await;
    assert_eq!(told.code, Some(0), "{}", told.all());
    assert_eq!(told.json(), json!({ "scope": "customer", "name": "acme", "done": "paused" }));
    let told = async || world.operator().get("/api/pauses").await.json();
    until("the running gateway hears of it", async || told().await[0]["name"] == "acme").await;
    assert_paused(&world.for_customer("acme").get(COMPANY).await, "customer");
    world.restart().await;
    assert_paused(&world.for_customer("acme").get(COMPANY).await, "customer");
    let listed = world.perch(&["pauses"]).await;
    assert!(listed.out.contains("customer  acme") && listed.out.contains("billing"), "{}", listed.out);
    let text = world.perch(&["resume", "customer", "acme"]).await;
    assert!(text.code == Some(0) && text.out.contains("goes on"), "{}", text.all());
    let told = async || world.operator().get("/api/pauses").await.json();
    until("the running gateway hears of its end", async || told().await == json!([])).await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
    assert_eq!(world.perch(&["pauses"]).await.out, "nothing is paused\n");
    let again = world.perch(&["resume", "customer", "acme"]).await;
    assert!(again.code == Some(1) && again.err.contains("is not paused"), "{}", again.all());
    let wrong = world.perch(&["pause", "product", "payments"]).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("no product that can be paused"), "{}", wrong.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_configuration_pauses_it_alone_can_resume() {
    let world = world("").await;
    world.reload("pause.customers = [\"acme\"]\npause.products = [\"payment\"]");
    assert_paused(&world.for_customer("acme").get(COMPANY).await, "customer");
    assert_eq!(world.operator().get("/api/pauses").await.json()[0]["by"], "configuration");
    let refused = resume(&world, "customer", "acme").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("pause.customers"), "{}", refused.text());
    let refused = world.perch(&["resume", "customer", "acme"]).await;
    assert!(refused.code == Some(1) && refused.err.contains("pause.customers"), "{}", refused.all());
    // What an operator set is ended all the same, and who asks is told that it is not all.
    for _ in 0..2 {
        assert_eq!(pause(&world, "customer", "acme").await.status, 200);
    }
    let ended = resume(&world, "customer", "acme").await;
    assert_eq!((ended.status, ended.json().as_array().map(Vec::len)), (200, Some(2)), "{}", ended.text());
    assert_eq!(pause(&world, "customer", "acme").await.status, 200);
    let ended = world.perch(&["resume", "customer", "acme"]).await;
    assert!(ended.code == Some(0) && ended.out.contains("pause.customers"), "{}", ended.all());
    world.reload("");
    // The gateway hears of the command within two seconds.
    until("its calls go on", async || world.for_customer("acme").get(COMPANY).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_on_one_server_obey_the_same_pause() {
    let mut world = World::with().on_a_server().scenario(SCENARIO).without_gateway().await;
    world.import().await;
    let mut gateways = Vec::new();
    for member in ["one", "two"] {
        let mut command = world.command(&["serve"]);
        command.env("PERCH_LIMITS__MEMBER", member).env("PERCH_LIMITS__REPLICAS", "2");
        let process = Process::spawn(command, None);
        let (proxy, admin) = process::doors(&process).await;
        gateways.push((process, App::at(proxy).with("perch-customer", "acme"), admin));
    }
    let [(_, first, admin), (_, second, other)] = &gateways[..] else { panic!("two were started") };
    for app in [first, second] {
        until("both serve", async || app.get(COMPANY).await.status == 200).await;
    }
    world.admin = *admin;
    assert_eq!(pause(&world, "customer", "acme").await.status, 200);
    assert_paused(&first.get(COMPANY).await, "customer");
    until("the other one hears of it", async || second.get(COMPANY).await.status == 503).await;
    let ended = json!({ "scope": "customer", "name": "acme" });
    assert_eq!(App::at(*other).post("/api/pauses/resume", &ended).await.status, 200);
    assert_eq!(second.get(COMPANY).await.status, 200);
    until("the first one hears of the end", async || first.get(COMPANY).await.status == 200).await;
    for (process, _, _) in gateways {
        assert_eq!(process.end_by(SIGTERM).await.code, Some(0));
    }
}

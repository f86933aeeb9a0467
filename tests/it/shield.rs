//! Dead logins: answered for here, asked about at intervals, and let through at once when Finch says that they are well.

use crate::support::{Answer, App, World};
use serde_json::{Value, json};

const SCENARIO: &str = r#"
    [[customer]]
    id = "dead"
    status = "reauth"

    [[customer]]
    id = "well"

    [[customer]]
    id = "unset"
    status = "error_no_account_setup"

    [[customer]]
    id = "many"
    entities = 3
"#;
const COMPANY: &str = "/employer/company";
const DIRECTORY: &str = "/employer/directory";
const ACCOUNT: &str = "/sandbox/connections/accounts";

async fn world(settings: &str) -> World {
    let world = World::with().scenario(SCENARIO).settings(settings).start().await;
    world.import().await;
    world
}

/// How often an operation reached Finch.
async fn sent(world: &World, operation: &str) -> u64 {
    let report = world.report().await;
    let by_outcome = report["operations"][operation].as_object().cloned().unwrap_or_default();
    by_outcome.values().filter_map(Value::as_u64).sum()
}

/// An app that holds a customer's token and calls Finch itself.
async fn at_finch(world: &World, customer: &str) -> App {
    let all = world.connections().await;
    let row = all.iter().find(|c| c["customer_id"] == customer).expect("a connection");
    let bearer = format!("Bearer {}", row["access_token"].as_str().expect("a live token"));
    world.straight().with("authorization", &bearer).with("finch-api-version", "2020-09-17")
}

/// Sets the state of a customer's connection at Finch, behind perch's back.
async fn becomes(world: &World, customer: &str, status: &str) {
    let app = at_finch(world, customer).await;
    let answer = app.call("PUT", ACCOUNT, json!({ "connection_status": status }).to_string().into()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Holds an answer against what an app must be told of a dead login. Its member `perch`.
fn assert_dead(answer: &Answer, class: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, answer.class()), (401, class), "{body}");
    let perch = &body["perch"];
    assert_eq!((&perch["class"], &perch["origin"]), (&json!(class), &json!("finch")), "{body}");
    assert_eq!((&perch["retryable"], answer.header("x-should-retry")), (&json!(false), "false"));
    assert_eq!(perch["request_id"], answer.header("perch-request-id"));
    assert!(perch["action"].is_string() && perch["connection_id"].is_string(), "{body}");
    assert!(body["name"].is_string() && body["message"].is_string() && body["code"] == 401, "{body}");
    perch.clone()
}

/// The same for one that was not sent.
fn assert_shielded(answer: &Answer, class: &str) -> Value {
    let perch = assert_dead(answer, class);
    assert_eq!((answer.header("perch-attempts"), &perch["attempts"]), ("0", &json!(0)));
    assert!(perch["since"].is_string(), "{perch}");
    perch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_login_costs_one_request_and_the_customer_gets_a_link() {
    let mut world = world("").await;
    let app = world.for_customer("dead");
    let first = app.get(COMPANY).await;
    let told = assert_dead(&first, "reauthentication_required");
    assert_eq!((first.header("perch-attempts"), &told["since"]), ("1", &Value::Null));
    let url = told["reauth_url"].as_str().expect("a link").to_owned();
    for path in [COMPANY, DIRECTORY, "/employer/payment?start_date=2024-01-01&end_date=2024-01-02"] {
        for _ in 0..10 {
            let answer = app.get(path).await;
            let told = assert_shielded(&answer, "reauthentication_required");
            // What an app looks for in an answer of Finch's it finds here too.
            assert_eq!(
                (answer.json()["name"].as_str(), answer.code().as_str()),
                (Some("authentication_error"), "reauthenticate_user")
            );
            assert_eq!(told["reauth_url"], url.as_str(), "one link for all");
        }
    }
    let writes = app.post("/jobs/automated", &json!({ "type": "data_sync_all" })).await;
    assert_shielded(&writes, "reauthentication_required");
    assert_eq!((sent(&world, "GetCompany").await, sent(&world, "ListDirectory").await), (1, 0));
    assert_eq!((sent(&world, "ReauthenticateSession").await, sent(&world, "Introspect").await), (1, 0));
    assert_eq!(world.for_customer("well").get(COMPANY).await.status, 200, "nobody else is concerned");
    // What tells about the connection, or mends it, is not stopped.
    assert_eq!(app.get("/introspect").await.status, 200);
    let held = world.operator().get("/api/holds").await.json();
    assert_eq!(
        (&held[0]["scope"], &held[0]["class"]),
        (&json!("login"), &json!("reauthentication_required"))
    );
    assert_eq!(held.as_array().map(Vec::len), Some(1), "{held}");
    assert_eq!(world.metric("perch_shielded_calls_total{class=\"reauthentication_required\"}").await, 31.0);
    assert_eq!(world.metric("perch_dead_logins{class=\"reauthentication_required\"}").await, 1.0);
    assert_eq!(world.metric("perch_reauth_links_total{outcome=\"made\"}").await, 1.0);
    // The link works: the customer follows it, the app exchanges the code, and all is well at once.
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()));
    let code = world.straight().get(&path.expect("a path")).await.json()["code"].clone();
    let exchanged = world.app().post("/auth/token", &json!({ "code": code })).await;
    assert_eq!(exchanged.status, 200, "{}", exchanged.text());
    let mended = app.get(COMPANY).await;
    assert_eq!((mended.status, mended.class()), (200, "ok"), "{}", mended.text());
    assert_eq!(world.operator().get("/api/holds").await.json(), json!([]));
    world.stop().await;
    let lines = world.lines.all();
    let shielded = lines.iter().filter(|l| l["refusal"] == "perch_shielded");
    assert_eq!(shielded.filter(|l| l["attempts"] == 0 && l["status"] == 401).count(), 31);
    assert!(
        !String::from_utf8_lossy(&world.lines.bytes()).contains(&url),
        "a link is for the customer alone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn setup_that_is_missing_and_a_connection_that_is_gone_have_their_own_words() {
    let world = world("").await;
    for _ in 0..5 {
        let answer = world.for_customer("unset").get(COMPANY).await;
        assert_eq!(answer.code(), "account_setup_required");
        assert!(assert_dead(&answer, "account_setup_required").get("reauth_url").is_none());
    }
    becomes(&world, "well", "disconnected").await;
    for at in 0..5 {
        let answer = world.for_customer("well").get(DIRECTORY).await;
        let told = assert_dead(&answer, "disconnected");
        assert!(told.get("reauth_url").is_none(), "a new Connect is needed: {told}");
        assert_eq!(answer.header("perch-attempts"), if at == 0 { "1" } else { "0" });
    }
    assert_eq!((sent(&world, "GetCompany").await, sent(&world, "ListDirectory").await), (1, 1));
    assert_eq!(sent(&world, "ReauthenticateSession").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_entities_of_a_connection_fail_apart() {
    let world = world("apps.writes = \"allow\"").await;
    let app = world.for_customer("many");
    let told = app.get("/introspect").await.json();
    let ids: Vec<String> = told["entities"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|e| e["id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(ids.len(), 3);
    let of = |entity: &str| format!("{COMPANY}?entity_ids%5B%5D={entity}");
    // At the employer's, behind perch's back.
    let fault = json!({ "operation": "get_company", "preset": "reauth", "times": 1 });
    world.fault(fault).await;
    assert_dead(&app.get(&of(&ids[0])).await, "reauthentication_required");
    assert_shielded(&app.get(&of(&ids[0])).await, "reauthentication_required");
    assert_shielded(
        &app.get(&format!("{DIRECTORY}?entity_ids[]={}", ids[0])).await,
        "reauthentication_required",
    );
    for entity in &ids[1..] {
        assert_eq!(app.get(&of(entity)).await.status, 200, "the others work");
    }
    let held = world.operator().get("/api/holds").await.json();
    assert_eq!((held.as_array().map(Vec::len), &held[0]["entity_id"]), (Some(1), &json!(ids[0])), "{held}");
    // Finch says that all of them are well, to an app that asks.
    assert_eq!(app.get("/introspect").await.status, 200);
    assert_eq!(app.get(&of(&ids[0])).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_mended_elsewhere_is_noticed_by_a_probe() {
    // So short an interval that each call of a dead login asks.
    let world = world("shield.probe = \"1ms\"").await;
    let app = world.for_customer("dead");
    assert_dead(&app.get(COMPANY).await, "reauthentication_required");
    assert_shielded(&app.get(COMPANY).await, "reauthentication_required");
    let asked = sent(&world, "Introspect").await;
    assert!(asked >= 1, "the call made perch ask");
    becomes(&world, "dead", "connected").await;
    let mended = app.get(COMPANY).await;
    assert_eq!((mended.status, mended.class()), (200, "ok"), "{}", mended.text());
    assert_eq!(sent(&world, "GetCompany").await, 2);
    assert!(world.metric("perch_probes_total{found=\"well\"}").await >= 1.0);
    let known = world.operator().get("/api/holds").await.json();
    assert_eq!(known, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_knows_of_a_dead_login_and_asks_before_it_believes() {
    let mut world = world("").await;
    for customer in ["dead", "well"] {
        becomes(&world, customer, "reauth").await;
        assert_dead(&world.for_customer(customer).get(COMPANY).await, "reauthentication_required");
    }
    world.stop().await;
    becomes(&world, "well", "connected").await;
    world.open().await;
    let asked = sent(&world, "Introspect").await;
    for _ in 0..5 {
        assert_shielded(&world.for_customer("dead").get(COMPANY).await, "reauthentication_required");
    }
    let mended = world.for_customer("well").get(COMPANY).await;
    assert_eq!((mended.status, mended.class()), (200, "ok"), "{}", mended.text());
    assert_eq!(sent(&world, "GetCompany").await, 3, "two at first, one of the mended");
    assert_eq!(sent(&world, "Introspect").await, asked + 2, "once for each");
    // The vault has heard of it: the next start has nothing to ask.
    world.restart().await;
    assert_eq!(world.for_customer("well").get(COMPANY).await.status, 200);
    assert_eq!(sent(&world, "Introspect").await, asked + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_500s_is_unmasked_as_a_dead_login() {
    let world = world("").await;
    let fault = json!({ "operation": "get_company", "customer": "dead", "preset": "server_error" });
    world.fault(fault).await;
    world.fault(json!({ "operation": "get_company", "customer": "well", "preset": "server_error" })).await;
    let app = world.for_customer("dead");
    for _ in 0..2 {
        assert_eq!((app.get(COMPANY).await.class().to_owned()), "finch_error");
    }
    let third = app.get(COMPANY).await;
    let told = third.json();
    assert_eq!((third.status, third.class()), (500, "reauthentication_required"), "{told}");
    assert_eq!((told["name"].as_str(), &told["perch"]["attempts"]), (Some("server_error"), &json!(1)));
    assert!(told["perch"]["reauth_url"].is_string(), "{told}");
    assert_shielded(&app.get(COMPANY).await, "reauthentication_required");
    assert_eq!(sent(&world, "Introspect").await, 1);
    // Where the login is well, the 500s are what they are, and nobody asks again and again.
    let app = world.for_customer("well");
    for _ in 0..8 {
        assert_eq!(app.get(COMPANY).await.class(), "finch_error");
    }
    assert_eq!((sent(&world, "Introspect").await, sent(&world, "GetCompany").await), (2, 11));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_are_told_when_their_login_dies_meanwhile() {
    let limits = "limits.window = \"1s\"\nlimits.products.company = 1\n";
    let scenario = format!("{SCENARIO}[limits]\nwindow = \"1s\"\n[limits.products]\ncompany = 1\n");
    let world = World::with().scenario(&scenario).settings(limits).start().await;
    world.import().await;
    assert_eq!(world.for_customer("well").get(COMPANY).await.status, 200);
    let app = world.for_customer("dead");
    let calls: Vec<_> = (0..6).map(|_| tokio::spawn(ask(app.clone()))).collect();
    for call in calls {
        assert_dead(&call.await.expect("it ran"), "reauthentication_required");
    }
    assert_eq!(sent(&world, "GetCompany").await, 2, "the first of them found out for all");
}

async fn ask(app: App) -> Answer {
    app.get(COMPANY).await
}

/// How a customer's calls go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Shielded,
    Unshielded,
    Straight,
}

#[expect(clippy::print_stdout, reason = "the table is for whoever runs it with --no-capture")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dead_logins_cost_with_and_without_the_shield() {
    const CALLS: u64 = 15;
    let mut table = Vec::new();
    for (what, who, fault) in [
        ("dead login", "dead", Value::Null),
        (
            "hidden reauth",
            "dead",
            json!({ "operation": "get_company", "customer": "dead", "preset": "server_error" }),
        ),
        ("IP penalty", "well", json!({ "operation": "get_company", "preset": "ip_limit" })),
    ] {
        let mut row = Vec::new();
        for how in [How::Shielded, How::Unshielded, How::Straight] {
            let settings = if how == How::Unshielded { "shield.probe = \"off\"" } else { "" };
            let world = world(settings).await;
            if !fault.is_null() {
                world.fault(fault.clone()).await;
            }
            let app = match how {
                How::Shielded | How::Unshielded => world.for_customer(who).with("perch-max-wait", "0"),
                How::Straight => at_finch(&world, who).await,
            };
            let before = world.report().await["requests"].as_u64().expect("a count");
            for _ in 0..CALLS {
                assert_ne!(app.get(COMPANY).await.status, 200);
            }
            let all = world.report().await["requests"].as_u64().expect("a count") - before;
            row.push((sent(&world, "GetCompany").await, all));
        }
        table.push((what, row));
    }
    // Read by people: `cargo nextest run what_dead_logins_cost --no-capture`.
    println!("{CALLS} calls of one customer  product quota spent, all requests at Finch");
    for (what, row) in &table {
        println!(
            "{what:>14}  with the shield {:?}  without {:?}  straight at Finch {:?}",
            row[0], row[1], row[2]
        );
    }
    let spent = |at: usize, how: usize| table[at].1[how].0;
    assert_eq!((spent(0, 0), spent(0, 1)), (1, CALLS));
    assert_eq!((spent(1, 0), spent(1, 1)), (3, CALLS));
    // The hold of the address is not the shield's: it is there in both, and missing without perch.
    assert_eq!((spent(2, 0), spent(2, 1), spent(2, 2)), (1, 1, CALLS));
    // A link and, where it is hidden, a question: neither is paid for by a product's quota.
    assert_eq!((table[0].1[0].1, table[1].1[0].1), (2, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_works_is_served_although_its_connection_is_known_to_be_ill() {
    let world = world("").await;
    let app = world.for_customer("many");
    let told = app.get("/introspect").await.json();
    let ids: Vec<&str> =
        told["entities"].as_array().expect("a list").iter().filter_map(|e| e["id"].as_str()).collect();
    // The login of one entity ended, and Finch calls the connection by its worst entity.
    let mut ill = told.clone();
    ill["connection_status"] = json!({ "status": "reauth", "message": "one of them" });
    ill["entities"][0]["status"] = json!("reauth");
    for entity in [1, 2] {
        ill["entities"][entity]["status"] = json!("connected");
    }
    world.fault(json!({ "operation": "introspect", "status": 200, "body": ill })).await;
    // What perch knows of the whole connection, as it does after an import.
    world
        .fault(json!({ "operation": "get_company", "customer": "many", "preset": "reauth", "times": 1 }))
        .await;
    assert_dead(&app.get(COMPANY).await, "reauthentication_required");
    let of = |entity: &str| format!("{COMPANY}?entity_ids[]={entity}");
    for _ in 0..3 {
        assert_eq!(app.get(&of(ids[1])).await.status, 200, "it works, each time");
        assert_shielded(&app.get(&of(ids[0])).await, "reauthentication_required");
    }
    // Others that are ill are no reason to send what names no entity.
    assert_shielded(&app.get(COMPANY).await, "reauthentication_required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_disconnected_has_no_dead_login_any_more() {
    let world = world("").await;
    let app = world.for_customer("dead");
    assert_dead(&app.get(COMPANY).await, "reauthentication_required");
    assert_eq!(world.metric("perch_dead_logins{class=\"reauthentication_required\"}").await, 1.0);
    assert_eq!(app.post("/disconnect", &json!({})).await.status, 200);
    assert_eq!(world.metric("perch_dead_logins{class=\"reauthentication_required\"}").await, 0.0);
    assert_eq!(world.operator().get("/api/holds").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_with_some_data_shows_that_a_login_works() {
    let world = world("shield.probe = \"1ms\"").await;
    let app = world.for_customer("well");
    let people = app.get(DIRECTORY).await.json();
    let people: Vec<Value> = people["individuals"]
        .as_array()
        .expect("a list")
        .iter()
        .take(2)
        .map(|p| json!({ "individual_id": p["id"] }))
        .collect();
    world.fault(json!({ "operation": "get_company", "preset": "reauth", "times": 1 })).await;
    world.fault(json!({ "operation": "introspect", "preset": "server_error" })).await;
    world.fault(json!({ "operation": "read_individuals", "preset": "partial", "items": [0] })).await;
    assert_dead(&app.get(COMPANY).await, "reauthentication_required");
    // Finch does not say how the login is, so the call itself finds out.
    let found = app.post("/employer/individual", &json!({ "requests": people })).await;
    assert_eq!((found.status, found.class()), (200, "partial"), "{}", found.text());
    assert_eq!(world.operator().get("/api/holds").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_ends_again_gets_a_link_that_nobody_has_followed() {
    let world = world("").await;
    let app = world.for_customer("dead");
    let first = assert_dead(&app.get(COMPANY).await, "reauthentication_required")["reauth_url"].clone();
    becomes(&world, "dead", "connected").await;
    assert_eq!(app.get("/introspect").await.status, 200);
    assert_eq!(app.get(COMPANY).await.status, 200);
    becomes(&world, "dead", "reauth").await;
    let second = assert_dead(&app.get(COMPANY).await, "reauthentication_required")["reauth_url"].clone();
    assert!(first.is_string() && second.is_string(), "{first} {second}");
    assert_ne!(first, second);
}

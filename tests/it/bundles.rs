//! `perch support` and `/api/support`: what is known of a request, a connection or a customer, with a gateway and without.

use crate::support::{CLIENT_SECRET, Database, Ended, TOKEN_MARKER, World, hooks, until};
use serde_json::{Value, json};

const COMPANY: &str = "/employer/company";
/// A word that only a query or a body holds.
const PRIVATE: &str = "CANARY-query-value";

/// Two customers; the first one's call failed once at Finch and was refused once by perch.
async fn world() -> (World, String) {
    let settings =
        format!("{}merge.coalesce = false\nretry.attempts = 1\nlimits.products.default = 1000", hooks::DOOR);
    let world = World::with().settings(&settings).start().await;
    let connected = world.connect("acme-secretly", "gusto").await;
    let id = connected["connection_id"].as_str().expect("an id").to_owned();
    world.connect("globex", "gusto").await;
    world.fault(json!({ "operation": "get_company", "preset": "bad_gateway", "times": 1 })).await;
    let failed = world.for_customer("acme-secretly").get(&format!("{COMPANY}?x={PRIVATE}")).await;
    assert_eq!(failed.status, 502, "{}", failed.text());
    let denied = world
        .for_customer("acme-secretly")
        .post("/employer/benefits", &json!({ "description": PRIVATE }))
        .await;
    assert_eq!(denied.status, 403, "{}", denied.text());
    world.tell("msg-1", &hooks::status(&id, "reauth")).await;
    world.webhooks_are_settled().await;
    world.gateway.as_ref().expect("it runs").settle().await;
    (world, id)
}

/// A command that finds the world's gateway.
async fn beside(world: &World, words: &[&str]) -> Ended {
    let mut command = world.command(words);
    command.env("PERCH_LISTEN__ADMIN", world.admin.to_string());
    world.run(command).await
}

/// The part for Finch has Finch's ids, and nobody's name.
fn assert_fit_for_finch(part: &str, connection: &str, request: &str) {
    for wanted in [connection, request, "sim-client", "sandbox", "gusto", COMPANY, "502"] {
        assert!(part.contains(wanted), "{wanted}: {part}");
    }
    for ours in ["acme-secretly", "perch_", "operator", "limits", "/employer/benefits"] {
        assert!(!part.contains(ours), "{ours}: {part}");
    }
}

fn parts(markdown: &str) -> (&str, &str) {
    markdown.split_once("\n## For us\n").unwrap_or_else(|| panic!("two parts: {markdown}"))
}

/// Where quota is counted in this world.
fn counted(world: &World) -> &'static str {
    match world.database {
        Database::File(_) => "memory",
        Database::Server(_) => "redis",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_made_of_any_id_beside_a_gateway_and_without_one() {
    let (mut world, connection) = world().await;
    let lines = world.lines.all();
    let failed = lines.iter().find(|line| line["status"] == 502).expect("its line");
    let finch_id = failed["finch_request_id"][0].as_str().expect("an id").to_owned();
    let perch_id = failed["request_id"].as_str().expect("an id").to_owned();
    for (id, about) in [
        (connection.as_str(), "connection"),
        ("acme-secretly", "customer"),
        (&finch_id, "finch_request"),
        (&perch_id, "request"),
    ] {
        let told = world.operator().get(&format!("/api/support/{id}")).await;
        assert_eq!((told.status, told.header("content-type")), (200, "application/json"), "{}", told.text());
        let json = told.json();
        assert_eq!((&json["for_us"]["about"], &json["for_us"]["id"]), (&json!(about), &json!(id)));
        assert_fit_for_finch(&json["for_finch"].to_string(), &connection, &finch_id);
        assert_eq!(json["for_us"]["limiter"]["mode"], counted(&world));
        let calls = json["for_us"]["calls"].as_array().expect("calls");
        let call =
            calls.iter().find(|call| call["request_id"] == perch_id.as_str()).expect("the failed call");
        assert!(call["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{call}");
        assert!(!json["for_us"]["deeds"].as_array().expect("deeds").is_empty());
        assert_eq!(json["for_us"]["webhooks"][0]["event_id"], "msg-1");
        let at = json["for_us"]["connections"].as_array().expect("connections");
        assert_eq!(
            (at.len(), &at[0]["connection_id"], &at[0]["finch_says"]),
            (1, &json!(connection), &json!("reauth"))
        );
        // The command line beside the gateway says the same, as a text.
        let told = beside(&world, &["support", id]).await;
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.all());
        let (for_finch, for_us) = parts(&told.out);
        assert_fit_for_finch(for_finch, &connection, &finch_id);
        assert!(
            for_us.contains(&format!("Counted in `{}`", counted(&world)))
                && for_us.contains("msg-1")
                && for_us.contains("acme-secretly"),
            "{for_us}"
        );
    }
    let text = world.operator().get(&format!("/api/support/{connection}?format=markdown")).await;
    assert_eq!(text.header("content-type"), "text/markdown; charset=utf-8");
    let asked =
        world.operator().with("accept", "text/markdown").get(&format!("/api/support/{connection}")).await;
    assert!(
        parts(&asked.text()).0.contains("`GET /introspect`"),
        "asked after the exchange: {}",
        asked.text()
    );
    let of_customer = world.operator().get("/api/support/acme-secretly?format=markdown").await;
    assert!(parts(&of_customer.text()).1.contains("perch_writes_denied"), "{}", of_customer.text());

    // Without a gateway only the limits are not known.
    world.stop().await;
    let told = world.perch(&["support", &finch_id]).await;
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{}", told.all());
    let (for_finch, for_us) = parts(&told.out);
    assert_fit_for_finch(for_finch, &connection, &finch_id);
    assert!(for_us.contains("no gateway was asked") && for_us.contains("wait for quota"), "{for_us}");
    let told = world.perch(&["support", &connection, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&told.out).expect("JSON");
    assert_eq!(
        (&json["for_us"]["limiter"], json["for_us"]["calls"].as_array().map(Vec::len)),
        (&Value::Null, Some(2))
    );
    for secret in [TOKEN_MARKER, CLIENT_SECRET, PRIVATE] {
        assert!(!told.out.contains(secret) && !text.text().contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_nobody_knows_is_said_to_be_unknown() {
    let world = World::with().settings("admin.token = \"env:FINCH_CLIENT_SECRET\"").start().await;
    let operator = world.operator().with("authorization", &format!("Bearer {CLIENT_SECRET}"));
    for (path, status) in [
        ("/api/support/nobody", 404),
        ("/api/support/", 400),
        ("/api/support/%zz", 400),
        ("/api/support/nobody?format=pdf", 400),
        ("/api/usage?month=2026-13", 400),
        ("/api/usage?years=1", 400),
        ("/api/usage", 200),
    ] {
        let told = operator.get(path).await;
        assert_eq!(told.status, status, "{path}: {}", told.text());
        assert_eq!(world.operator().get(path).await.status, 401, "{path}");
        assert_eq!(operator.call("DELETE", path, "".into()).await.status, 405, "{path}");
    }
    for told in [world.perch(&["support", "nobody"]).await, beside(&world, &["support", "nobody"]).await] {
        assert_eq!(told.code, Some(1), "{}", told.all());
        assert!(told.err.contains("knows nobody") && told.out.is_empty(), "{}", told.all());
    }
    assert_eq!(world.perch(&["support", ""]).await.code, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customers_many_calls_are_bounded_and_the_newest_come_first() {
    let world = World::with()
        .connection("acme", "CANARY-token-9c3e")
        .settings("shield.probe = \"off\"")
        .start()
        .await;
    for _ in 0..60 {
        world.for_customer("acme").get("/employer/nothing").await;
    }
    world.for_customer("acme").get(COMPANY).await;
    world.gateway.as_ref().expect("it runs").settle().await;
    until("the ledger has them", async || {
        let told = world.operator().get("/api/support/acme").await.json();
        told["for_us"]["calls"][0]["path"] == COMPANY
    })
    .await;
    let told = world.operator().get("/api/support/acme").await.json();
    let calls = told["for_us"]["calls"].as_array().expect("calls");
    assert!(calls.len() <= 50, "{}", calls.len());
    let times: Vec<&str> = calls.iter().map(|call| call["ts"].as_str().expect("a time")).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
}

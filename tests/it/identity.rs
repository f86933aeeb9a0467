//! Who is meant, and may it: every "no" that perch says before it asks about quota.

use crate::support::{Answer, App, TOKEN_MARKER, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One customer with one connection, one with two, and one with two of the same provider.
const SCENARIO: &str = r#"
    [[customer]]
    id = "single"
    token = "single-7e965183-9332-423c-9259"

    [[customer]]
    id = "several"
    providers = ["gusto", "bamboo_hr"]

    [[customer]]
    id = "twins"
    providers = ["gusto", "gusto"]
"#;
const COMPANY: &str = "/employer/company";

async fn world(settings: &str) -> World {
    let world = World::with().scenario(SCENARIO).settings(settings).start().await;
    world.import().await;
    world
}

/// The connections of a customer, by id.
async fn connections_of(world: &World, customer: &str) -> Vec<String> {
    let all = world.connections().await;
    let own = all.iter().filter(|c| c["customer_id"] == customer);
    own.map(|c| c["connection_id"].as_str().expect("an id").to_owned()).collect()
}

fn bearer(world: &World, token: &str) -> App {
    world.app().with("authorization", &format!("Bearer {token}"))
}

/// Holds an answer against everything that a refusal of perch's own must have. Its member `perch`.
pub fn assert_refused(answer: &Answer, status: u16, finch_code: &str, class: &str) -> Value {
    let body = answer.json();
    let perch = body["perch"].clone();
    let shown = answer.text();
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.class()),
        (status, finch_code, class),
        "{shown}"
    );
    assert_eq!(body["code"], status, "{shown}");
    assert!(body["name"].is_string() && body["message"].as_str().is_some_and(|m| m.len() > 20), "{shown}");
    assert_eq!((perch["class"].as_str(), perch["origin"].as_str()), (Some(class), Some("perch")), "{shown}");
    assert_eq!(perch["request_id"], answer.header("perch-request-id"), "{shown}");
    assert!(perch["action"].is_string() && perch["retryable"].is_boolean(), "{shown}");
    assert!(perch.as_object().is_some_and(|o| o.contains_key("customer")), "{shown}");
    assert_eq!(perch["attempts"], 0, "{shown}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!((answer.header("perch-attempts"), answer.header("finch-request-id")), ("0", ""));
    assert!(!answer.header("perch-request-id").is_empty() && !answer.header("perch-wait-ms").is_empty());
    perch
}

/// The same, for one that stays a refusal however often the call is sent.
fn assert_final(answer: &Answer, status: u16, finch_code: &str, class: &str) -> Value {
    let perch = assert_refused(answer, status, finch_code, class);
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), ("false", ""));
    assert_eq!((&perch["retryable"], perch.get("retry_at")), (&json!(false), None));
    perch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_several_connections_nothing_is_guessed() {
    let world = world("").await;
    let mine = connections_of(&world, "several").await;
    for app in [world.for_customer("several"), bearer(&world, "customer:several")] {
        let perch =
            assert_final(&app.get(COMPANY).await, 400, "perch_connection_ambiguous", "invalid_request");
        let choices = perch["choices"].as_array().expect("choices");
        let ids: BTreeSet<_> = choices.iter().filter_map(|c| c["connection_id"].as_str()).collect();
        assert_eq!(ids, mine.iter().map(String::as_str).collect());
        let providers: BTreeSet<_> = choices.iter().filter_map(|c| c["provider_id"].as_str()).collect();
        assert_eq!(providers, BTreeSet::from(["bamboo_hr", "gusto"]));
        assert_eq!(perch["customer"], "several");
    }
    let twins = world.for_customer("twins").with("perch-connection", "gusto").get(COMPANY).await;
    let perch = assert_final(&twins, 400, "perch_connection_ambiguous", "invalid_request");
    assert_eq!(perch["choices"].as_array().map(Vec::len), Some(2), "{perch}");
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_picked_by_its_id_or_its_provider() {
    let world = world("").await;
    let mine = connections_of(&world, "several").await;
    let mut seen = BTreeSet::new();
    for app in [world.for_customer("several"), bearer(&world, "customer:several")] {
        for pick in [mine[0].as_str(), mine[1].as_str(), "gusto", "bamboo_hr"] {
            let answer = app.clone().with("perch-connection", pick).get(COMPANY).await;
            assert_eq!((answer.status, answer.class()), (200, "ok"), "{pick}: {}", answer.text());
            seen.insert(answer.json()["id"].as_str().expect("an id").to_owned());
        }
    }
    assert_eq!(seen.len(), 2, "two companies behind two connections");
    for twin in connections_of(&world, "twins").await {
        let answer = world.for_customer("twins").with("perch-connection", &twin).get(COMPANY).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    // Without a customer, an id will do; a provider would not say whose.
    let alone = world.app().with("perch-connection", &mine[0]).get(COMPANY).await;
    assert_eq!(alone.status, 200, "{}", alone.text());
    let report = world.report().await;
    assert_eq!(report["suspicious"]["count"], 0, "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pick_that_is_not_the_customers_is_unknown() {
    let world = world("").await;
    let others = connections_of(&world, "twins").await;
    for pick in ["nope", "workday", others[0].as_str()] {
        let answer = world.for_customer("several").with("perch-connection", pick).get(COMPANY).await;
        assert_final(&answer, 404, "perch_unknown_connection", "unknown_customer");
    }
    for app in [world.app().with("perch-connection", "gusto"), bearer(&world, "connection:gusto")] {
        assert_final(&app.get(COMPANY).await, 404, "perch_unknown_connection", "unknown_customer");
    }
    for app in [world.for_customer("nobody"), bearer(&world, "customer:nobody")] {
        let answer = app.get(COMPANY).await;
        let perch = assert_final(&answer, 404, "perch_unknown_customer", "unknown_customer");
        assert_eq!(perch["customer"], "nobody");
        assert!(answer.text().contains("customer nobody has no connection"), "{}", answer.text());
    }
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_names_that_differ_are_refused() {
    let world = world("").await;
    let (mine, others) = (connections_of(&world, "several").await, connections_of(&world, "twins").await);
    let reference = bearer(&world, &format!("connection:{}", mine[0]));
    for app in [
        world.for_customer("several").with("authorization", "Bearer customer:twins"),
        reference.clone().with("perch-customer", "twins"),
        reference.clone().with("perch-connection", &mine[1]),
        reference.clone().with("perch-connection", &others[0]),
    ] {
        assert_final(&app.get(COMPANY).await, 400, "perch_customer_mismatch", "invalid_request");
    }
    for (name, twice) in [("perch-customer", "several"), ("perch-connection", "gusto")] {
        let app = world.for_customer("several").with(name, twice).with("perch-connection", "gusto");
        assert_final(&app.get(COMPANY).await, 400, "perch_duplicate_header", "invalid_request");
    }
    for app in
        [reference.clone().with("perch-customer", "several"), reference.with("perch-connection", &mine[0])]
    {
        assert_eq!(app.get(COMPANY).await.status, 200, "twice the same is no disagreement");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_token_is_refused_unless_an_operator_lets_it_through() {
    let token = format!("{TOKEN_MARKER}-single-7e965183-9332-423c-9259");
    let closed = world("").await;
    for app in [bearer(&closed, &token), bearer(&closed, &token).with("perch-customer", "single")] {
        let answer = app.get(COMPANY).await;
        assert_final(&answer, 400, "perch_raw_token_refused", "invalid_request");
        assert!(!answer.text().contains(TOKEN_MARKER), "{}", answer.text());
    }
    assert_eq!(closed.report().await["requests"], 0, "nothing was sent");
    assert_eq!(closed.metric("perch_passed_through_total").await, 0.0);

    let mut open = world("apps.pass_through = true").await;
    let passed = bearer(&open, &token).get(COMPANY).await;
    assert_eq!((passed.status, passed.class()), (200, "ok"), "{}", passed.text());
    assert_eq!(open.metric("perch_passed_through_total").await, 1.0);
    let by_name = open.for_customer("single").get(COMPANY).await;
    assert_eq!(by_name.bytes, passed.bytes);
    assert_eq!(open.metric("perch_passed_through_total").await, 1.0, "a reference is not counted");
    let report = open.report().await;
    assert_eq!(report["suspicious"]["count"], 0, "{report:#}");
    open.stop().await;
    assert!(!String::from_utf8(open.lines.bytes()).expect("text").contains(TOKEN_MARKER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_to_the_employment_system_wait_for_an_operators_word() {
    let benefit = json!({ "type": "401k", "description": "401(k)", "frequency": "every_paycheck" });
    let denied = world("").await;
    let app = denied.for_customer("single");
    let calls = [
        ("POST", "/employer/benefits"),
        ("DELETE", "/employer/benefits/b/individuals"),
        ("PUT", "/employer/pay-statement-item/rule/r"),
        ("POST", "/forward"),
    ];
    for (method, path) in calls {
        let answer = app.call(method, path, benefit.to_string().into()).await;
        assert_final(&answer, 403, "perch_writes_denied", "caller_refused");
        assert!(answer.text().contains("apps.writes"), "{}", answer.text());
    }
    assert_eq!(denied.report().await["requests"], 0, "nothing was sent");
    assert_eq!(app.get("/employer/benefits").await.status, 200, "a read is no write");

    let allowed = world("apps.writes = \"allow\"").await;
    let answer = allowed.for_customer("single").post("/employer/benefits", &benefit).await;
    assert!((200..300).contains(&answer.status), "{}", answer.text());
    assert_eq!(allowed.report().await["carried_out"]["CreateBenefit"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_providers_need_nobody_and_see_nobody() {
    let world = world("").await;
    let real = format!("{TOKEN_MARKER}-single-7e965183-9332-423c-9259");
    for app in [
        world.app(),
        bearer(&world, "customer:single"),
        bearer(&world, "connection:whatever"),
        bearer(&world, &real),
        world.for_customer("nobody"),
    ] {
        let answer = app.get("/providers").await;
        assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
    }
    let report = world.report().await;
    assert_eq!(report["authorizations"], json!([]), "Finch saw an Authorization");
    assert_eq!(report["suspicious"]["count"], 0, "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_or_method_that_finch_has_not_is_refused_with_the_one_it_has() {
    let world = world("").await;
    let app = world.for_customer("single");
    for (path, meant) in
        [("/employer/directry", "GET /employer/directory"), ("/v1/employer/company", "GET /employer/company")]
    {
        let answer = app.get(path).await;
        assert_final(&answer, 404, "perch_unknown_path", "invalid_request");
        assert!(answer.text().contains(&format!("did you mean {meant}")), "{}", answer.text());
    }
    for (method, path, allow) in [
        ("POST", COMPANY, "GET"),
        ("PATCH", "/employer/benefits/b", "GET, POST"),
        ("DELETE", "/employer/directory", "GET"),
    ] {
        let answer = app.call(method, path, "".into()).await;
        assert_final(&answer, 405, "perch_wrong_method", "invalid_request");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_of_perchs_that_cannot_be_read_is_named() {
    let world = world("").await;
    for (name, shown, value) in [
        ("perch-priority", "Perch-Priority", "urgent"),
        ("perch-priority", "Perch-Priority", "Batch"),
        ("perch-max-wait", "Perch-Max-Wait", "15s"),
        ("perch-max-wait", "Perch-Max-Wait", "-1"),
        ("perch-connection", "Perch-Connection", ""),
    ] {
        let answer = world.for_customer("single").with(name, value).get(COMPANY).await;
        assert_final(&answer, 400, "perch_invalid_header", "invalid_request");
        assert!(answer.text().contains(shown), "{}", answer.text());
    }
    let long = "x".repeat(256);
    for app in [world.for_customer(""), world.for_customer(&long), bearer(&world, "customer:")] {
        assert_final(&app.get(COMPANY).await, 400, "perch_invalid_header", "invalid_request");
    }
    assert_final(&world.app().get(COMPANY).await, 400, "perch_customer_missing", "invalid_request");
    assert_eq!(world.report().await["requests"], 0, "nothing was sent");
    for priority in ["interactive", "batch"] {
        let app = world.for_customer("single").with("perch-priority", priority).with("perch-max-wait", "2.5");
        assert_eq!(app.get(COMPANY).await.status, 200, "{priority}");
    }
}

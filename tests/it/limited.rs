//! Limits as an app meets them: waiting its turn, being told when to come back, and Finch's own 429.

use crate::identity::assert_refused;
use crate::support::{Answer, World};
use perch::types::UnixMillis;
use serde_json::{Value, json};

const SCENARIO: &str = "[[customer]]\nid = \"a\"\n[[customer]]\nid = \"b\"\n[[customer]]\nid = \"c\"\n";
const DIRECTORY: &str = "/employer/directory";
const COMPANY: &str = "/employer/company";

/// A world where the directory may be read once in a window.
async fn once_in(window: &str) -> World {
    let limits = format!("limits.window = \"{window}\"\nlimits.products.directory = 1");
    let scenario = format!("{SCENARIO}[limits]\nwindow = \"{window}\"\n[limits.products]\ndirectory = 1\n");
    let world = World::with().scenario(&scenario).settings(&limits).start().await;
    world.import().await;
    world
}

/// How far from now an error's `retry_at` is, in seconds.
fn seconds_until(perch: &Value, answer: &Answer) -> i64 {
    let at: jiff::Timestamp = perch["retry_at"].as_str().expect("a time").parse().expect("RFC 3339");
    let now: UnixMillis = perch::telemetry::clock::unix_now();
    assert!(!answer.header("perch-request-id").is_empty());
    (at.as_millisecond() - now.0) / 1000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_will_not_wait_is_told_at_once_when_to_come_back() {
    let world = once_in("30s").await;
    assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200);
    let hurried = world.for_customer("b").with("perch-max-wait", "0");
    // An SDK that hangs up after five seconds leaves no time to wait, whatever the app says.
    let of_sdk = world.for_customer("b").with("perch-max-wait", "300").with("x-stainless-lang", "python");
    let of_sdk = of_sdk.with("x-stainless-read-timeout", "5");
    for app in [hurried, of_sdk] {
        let answer = app.get(DIRECTORY).await;
        let perch = assert_refused(&answer, 429, "perch_rate_limited", "rate_limited");
        assert_eq!(answer.json()["name"], "rate_limit_exceeded_error");
        let seconds: i64 = answer.header("retry-after").parse().expect("whole seconds");
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(answer.header("x-should-retry"), "", "the SDK's own habit, at the time told, is right");
        assert_eq!((&perch["scope"], &perch["retryable"]), (&json!("product"), &json!(true)));
        assert!((seconds - seconds_until(&perch, &answer)).abs() <= 2, "{perch}");
        assert_eq!(answer.header("ratelimit-policy"), "\"directory\";q=1;w=30");
        assert!(answer.header("ratelimit").starts_with("\"directory\";r=0;t="), "{answer:?}");
        assert_eq!(perch["customer"], "b");
    }
    assert_eq!(world.report().await["products"]["directory"]["arrivals"], 1);
    assert_eq!(world.for_customer("b").with("perch-max-wait", "0").get(COMPANY).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_beyond_a_minute_is_not_a_matter_for_a_clients_loop() {
    let world = once_in("5m").await;
    assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200);
    let answer = world.for_customer("a").get(DIRECTORY).await;
    let perch = assert_refused(&answer, 429, "perch_rate_limited", "rate_limited");
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("", "false"));
    assert!((200..=310).contains(&seconds_until(&perch, &answer)), "{perch}");
    assert_eq!(perch["retryable"], true, "later, though not at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_served_in_the_order_of_coming() {
    let world = once_in("1s").await;
    assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200);
    let mut calls = Vec::new();
    for (at, customer) in ["b", "c", "a"].into_iter().enumerate() {
        let app = world.for_customer(customer).with("x-stainless-lang", "js");
        calls.push(tokio::spawn(async move { app.get(DIRECTORY).await }));
        let depth = "perch_queue_depth{priority=\"interactive\",product=\"directory\"}";
        world.metric_becomes(depth, at as f64 + 1.0).await;
    }
    let mut waits: Vec<u64> = Vec::new();
    for call in calls {
        let answer = call.await.expect("it ran");
        assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
        waits.push(answer.header("perch-wait-ms").parse().expect("milliseconds"));
    }
    assert!(waits[0] > 0 && waits.is_sorted(), "{waits:?}");
    let (report, all) = (world.report().await, world.connections().await);
    let customer_of = |id: &Value| {
        let found = all.iter().find(|c| c["connection_id"] == *id);
        found.and_then(|c| c["customer_id"].as_str()).expect("a customer").to_owned()
    };
    let recent = report["recent"].as_array().expect("a list").iter();
    let order: Vec<_> =
        recent.filter(|r| r["path"] == DIRECTORY).map(|r| customer_of(&r["connection_id"])).collect();
    assert_eq!(order, ["a", "b", "c", "a"]);
    assert_eq!(report["rate_limited"], json!({}), "{report:#}");
    assert_eq!(report["products"]["directory"]["within"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_of_finchs_holds_its_product_and_no_other() {
    let world = World::with().scenario(SCENARIO).start().await;
    world.import().await;
    world.fault(json!({ "operation": "list_directory", "preset": "app_limit", "times": 1 })).await;
    let answer = world.for_customer("a").with("perch-max-wait", "0").get(DIRECTORY).await;
    let perch = answer.json()["perch"].clone();
    assert_eq!((answer.status, answer.class()), (429, "rate_limited"), "{}", answer.text());
    assert_eq!(answer.json()["finch_code"], "finch_application_rl", "Finch's own members stay");
    assert_eq!((perch["origin"].as_str(), perch["scope"].as_str()), (Some("finch"), Some("product")));
    let seconds: u32 = answer.header("retry-after").parse().expect("whole seconds");
    assert!((1..=60).contains(&seconds) && perch["retry_at"].is_string(), "{perch}");
    let metrics = world.metrics().await;
    assert_eq!(metrics["perch_finch_429_total{finch_code=\"finch_application_rl\"}"], 1.0);
    assert_eq!(metrics["perch_holds{scope=\"product\"}"], 1.0);
    assert_eq!(metrics["perch_holds{scope=\"ip\"}"], 0.0);

    let held = world.for_customer("b").with("perch-max-wait", "0").get(DIRECTORY).await;
    assert_refused(&held, 429, "perch_rate_limited", "rate_limited");
    assert_eq!(world.report().await["products"]["directory"]["arrivals"], 1, "the hold is kept here");
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 200, "another product goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i14_a_429_is_not_shown_to_an_app_whose_patience_allows_another_attempt() {
    let settings = "limits.window = \"2s\"\nlimits.products.directory = 20";
    let world = World::with().scenario(SCENARIO).settings(settings).start().await;
    world.import().await;
    world.fault(json!({ "operation": "list_directory", "preset": "app_limit", "times": 2 })).await;
    let answer = world.for_customer("a").get(DIRECTORY).await;
    assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
    assert_eq!(answer.header("perch-attempts"), "3");
    world.fault(json!({ "operation": "list_directory", "preset": "app_limit", "times": 9 })).await;
    let answer = world.for_customer("a").with("perch-max-wait", "600").get(DIRECTORY).await;
    assert_eq!((answer.status, answer.header("perch-attempts")), (429, "5"), "five are enough");
    let metrics = world.metrics().await;
    assert_eq!(metrics["perch_finch_429_total{finch_code=\"finch_application_rl\"}"], 7.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i15_a_blocked_address_stops_everything() {
    let world = World::with().scenario(SCENARIO).start().await;
    world.import().await;
    world.fault(json!({ "operation": "get_company", "preset": "ip_limit", "times": 1 })).await;
    let first = world.for_customer("a").get(COMPANY).await;
    assert_eq!((first.status, first.class()), (429, "rate_limited"), "{}", first.text());
    assert_eq!((first.header("retry-after"), first.header("x-should-retry")), ("", "false"));
    assert_eq!(first.json()["perch"]["scope"], "ip");
    let before = world.report().await["requests"].clone();
    let app = world.for_customer("b");
    let session = json!({ "customer_id": "b", "customer_name": "b", "products": ["company"] });
    for answer in [
        app.get(COMPANY).await,
        app.get(DIRECTORY).await,
        app.get("/introspect").await,
        world.app().get("/providers").await,
        world.app().post("/connect/sessions", &session).await,
        app.with("perch-priority", "batch").get(COMPANY).await,
    ] {
        let perch = assert_refused(&answer, 429, "perch_rate_limited", "rate_limited");
        assert_eq!(perch["scope"], "ip");
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("", "false"));
        assert!((3500..=3700).contains(&seconds_until(&perch, &answer)), "{perch}");
    }
    assert_eq!(world.report().await["requests"], before, "nothing reached Finch");
    let metrics = world.metrics().await;
    assert_eq!(metrics["perch_holds{scope=\"ip\"}"], 1.0);
    assert_eq!(metrics["perch_finch_429_total{finch_code=\"finch_api_ip_rl\"}"], 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_blocked_for_connecting_goes_on_reading() {
    let world = World::with().scenario(SCENARIO).start().await;
    world.import().await;
    world.fault(json!({ "operation": "create_session", "preset": "auth_ip_limit", "times": 1 })).await;
    let session = json!({ "customer_id": "b", "customer_name": "b", "products": ["company"] });
    let first = world.app().post("/connect/sessions", &session).await;
    assert_eq!((first.status, &first.json()["perch"]["scope"]), (429, &json!("auth")), "{}", first.text());
    assert_eq!(first.header("x-should-retry"), "false");
    let again = world.app().post("/connect/sessions", &session).await;
    assert_refused(&again, 429, "perch_rate_limited", "rate_limited");
    let code = world.app().post("/auth/token", &json!({ "code": "any" })).await;
    assert_refused(&code, 429, "perch_rate_limited", "rate_limited");
    assert_eq!(world.report().await["requests"], 1, "the penalty is not fed");
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttling_provider_slows_no_other_customer() {
    let world = World::with().scenario(SCENARIO).start().await;
    world.import().await;
    world.fault(json!({ "customer": "a", "preset": "provider_limit" })).await;
    let answer = world.for_customer("a").get(DIRECTORY).await;
    assert_eq!((answer.status, answer.class()), (429, "rate_limited"), "{}", answer.text());
    assert_eq!(answer.json()["perch"]["scope"], "provider");
    assert_eq!(world.for_customer("b").with("perch-max-wait", "0").get(DIRECTORY).await.status, 200);
    assert_eq!(world.metric("perch_holds{scope=\"product\"}").await, 0.0);
}

/// While a call waits, its connection is given another token; the call goes out with that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waited_goes_out_with_the_token_of_now() {
    let world = World::with()
        .scenario("limits.window = \"2s\"\nlimits.products.company = 1")
        .settings("limits.window = \"2s\"\nlimits.products.company = 1")
        .start()
        .await;
    let connection = world.connect("acme", "gusto").await["connection_id"].clone();
    let acme = world.for_customer("acme");
    assert_eq!(acme.get("/employer/company").await.status, 200);
    let waiting = tokio::spawn({
        let acme = acme.clone();
        async move { acme.get("/employer/company").await }
    });
    world.metric_becomes("perch_queue_depth{priority=\"interactive\",product=\"company\"}", 1.0).await;
    // A reauthentication makes the first token worthless.
    let session = world
        .app()
        .post("/connect/sessions/reauthenticate", &serde_json::json!({ "connection_id": connection }))
        .await;
    let code = world.log_in(&session).await;
    let body = serde_json::json!({ "client_id": "x", "client_secret": "x", "code": code });
    assert_eq!(world.app().post("/auth/token", &body).await.status, 200);
    let answer = waiting.await.expect("no panic");
    assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
    assert_ne!(answer.header("perch-wait-ms"), "0");
}

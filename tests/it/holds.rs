//! Holds of every scope, with two customers and two products: who is affected, and who is not.

use crate::identity::assert_refused;
use crate::support::redis::RedisServer;
use crate::support::{Answer, World, process};
use serde_json::{Value, json};

const SCENARIO: &str = "[[customer]]\nid = \"a\"\n[[customer]]\nid = \"b\"\n";
const COMPANY: &str = "/employer/company";
const DIRECTORY: &str = "/employer/directory";

async fn world(settings: &str) -> World {
    let world = World::with().scenario(SCENARIO).settings(settings).start().await;
    world.import().await;
    world
}

/// Customer a reads the company under a refusal of Finch's.
async fn refuse(world: &World, preset: &str) -> Answer {
    world.fault(json!({ "operation": "get_company", "preset": preset, "times": 1 })).await;
    world.for_customer("a").with("perch-max-wait", "0").get(COMPANY).await
}

/// What each of two customers gets of each of two products afterwards: served or not.
async fn after(world: &World) -> [[bool; 2]; 2] {
    let mut served = [[false; 2]; 2];
    for (who, customer) in ["a", "b"].into_iter().enumerate() {
        for (what, path) in [COMPANY, DIRECTORY].into_iter().enumerate() {
            let answer = world.for_customer(customer).with("perch-max-wait", "0").get(path).await;
            served[who][what] = answer.status == 200;
        }
    }
    served
}

async fn holds(world: &World) -> Vec<(String, Value)> {
    let all = world.operator().get("/api/holds").await.json();
    let all = all.as_array().expect("a list").iter();
    all.map(|h| (h["scope"].as_str().expect("a word").to_owned(), h.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_products_limit_holds_the_product_for_everybody() {
    let world = world("").await;
    let told = refuse(&world, "app_limit").await;
    assert_eq!((told.status, told.json()["perch"]["scope"].as_str()), (429, Some("product")));
    assert_eq!(after(&world).await, [[false, true], [false, true]]);
    let held = holds(&world).await;
    assert_eq!((held.len(), &held[0].1["product"]), (1, &json!("company")), "{held:?}");
    assert_eq!(world.metric("perch_holds{scope=\"product\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_address_holds_everything() {
    let world = world("").await;
    let told = refuse(&world, "ip_limit").await;
    assert_eq!((told.status, told.header("x-should-retry"), told.header("retry-after")), (429, "false", ""));
    assert_eq!(after(&world).await, [[false, false], [false, false]]);
    assert_eq!(world.app().with("perch-max-wait", "0").get("/providers").await.status, 429, "whoever asks");
    let held = holds(&world).await;
    assert_eq!((held.len(), held[0].0.as_str()), (1, "ip"));
    assert_eq!(world.metric("perch_holds{scope=\"ip\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_connecting_holds_connecting_alone() {
    let world = world("").await;
    let told = refuse(&world, "auth_ip_limit").await;
    assert_eq!((told.status, told.json()["perch"]["scope"].as_str()), (429, Some("auth")));
    assert_eq!(after(&world).await, [[true, true], [true, true]]);
    let session = json!({ "customer_id": "c", "customer_name": "C", "products": ["company"] });
    let app = world.app().with("perch-max-wait", "0");
    assert_eq!(app.post("/connect/sessions", &session).await.status, 429);
    assert_eq!(app.post("/auth/token", &json!({ "code": "x" })).await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_connection_holds_itself_alone() {
    let world = world("").await;
    let told = refuse(&world, "provider_limit").await;
    assert_eq!((told.status, told.json()["perch"]["scope"].as_str()), (429, Some("provider")));
    assert_eq!(told.header("retry-after"), "60");
    assert_eq!(after(&world).await, [[false, false], [true, true]]);
    let refused = world.for_customer("a").with("perch-max-wait", "0").get(DIRECTORY).await;
    let perch = assert_refused(&refused, 429, "perch_provider_limited", "rate_limited");
    assert_eq!((&perch["scope"], perch["retry_at"].is_string()), (&json!("provider"), true));
    let held = holds(&world).await;
    assert_eq!((held.len(), held[0].0.as_str(), held[0].1["until"].is_string()), (1, "connection", true));
    assert_eq!(world.metric("perch_holds{scope=\"connection\"}").await, 1.0);
    assert_eq!(world.report().await["products"]["directory"]["arrivals"], 1, "b's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_wait_for_a_throttled_connection_waits_and_one_goes_first() {
    // Each for itself: none of them shares another one's read.
    let world = world("merge.coalesce = false").await;
    // Finch says how long: a second.
    let fault = json!({
        "operation": "get_company", "preset": "provider_limit", "times": 1, "headers": { "retry-after": "1" },
    });
    world.fault(fault).await;
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 429);
    // Less than a call may take to find out: those behind it are told when it has.
    let app = world.for_customer("a").with("perch-max-wait", "10");
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.get(DIRECTORY).await })
        })
        .collect();
    let mut waits = Vec::new();
    for call in calls {
        let answer = call.await.expect("it ran");
        assert_eq!(answer.status, 200, "{}", answer.text());
        waits.push(answer.header("perch-wait-ms").parse::<u64>().expect("milliseconds"));
    }
    assert!(waits.iter().all(|wait| *wait >= 900), "{waits:?}");
    assert_eq!(holds(&world).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_refresh_quota_holds_forced_refreshes_of_that_connection() {
    let world = world("").await;
    let refresh = json!({ "type": "data_sync_all" });
    let of = |customer: &str| world.for_customer(customer).with("perch-max-wait", "0");
    world.fault(json!({ "operation": "create_automated_job", "preset": "refresh_quota", "times": 1 })).await;
    let spent = of("a").post("/jobs/automated", &refresh).await;
    let told = spent.json();
    assert_eq!((spent.status, told["perch"]["scope"].as_str()), (429, Some("refresh_quota")), "{told}");
    assert_eq!(
        told["perch"]["retry_at"].as_str().map(|t| &t[..16]),
        told["retry_at"].as_str().map(|t| &t[..16]),
        "{told}"
    );
    let before = world.report().await["operations"]["CreateAutomatedJob"].clone();
    let refused = of("a").post("/jobs/automated", &refresh).await;
    let perch = assert_refused(&refused, 429, "perch_refresh_quota_spent", "rate_limited");
    assert_eq!((&perch["scope"], refused.header("x-should-retry")), (&json!("refresh_quota"), "false"));
    assert_eq!(world.report().await["operations"]["CreateAutomatedJob"], before, "it was not sent");
    assert_eq!(of("b").post("/jobs/automated", &refresh).await.status, 201, "another connection has its own");
    assert_eq!(of("a").get("/jobs/automated").await.status, 200, "looking costs nothing");
    assert_eq!(after(&world).await, [[true, true], [true, true]]);
    assert_eq!(world.metric("perch_holds{scope=\"refresh_quota\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpaid_invoices_hold_the_whole_application() {
    let world = world("").await;
    let told = refuse(&world, "payment_required").await;
    assert_eq!((told.status, told.class()), (402, "application_blocked"));
    assert_eq!(after(&world).await, [[false, false], [false, false]]);
    let refused = world.for_customer("b").with("perch-max-wait", "0").get(DIRECTORY).await;
    let body = refused.json();
    assert_eq!((refused.status, refused.code().as_str()), (402, "perch_application_blocked"), "{body}");
    assert_eq!((refused.header("x-should-retry"), &body["perch"]["scope"]), ("false", &json!("application")));
    // As Finch itself says it.
    assert_eq!(
        (&body["name"], &told.json()["name"]),
        (&json!("payment_required"), &json!("payment_required"))
    );
    assert_eq!(
        (&body["perch"]["retryable"], &told.json()["perch"]["retryable"]),
        (&json!(false), &json!(false))
    );
    let before = world.report().await["requests"].clone();
    assert_eq!(world.app().get("/providers").await.status, 200, "nobody's call is not the application's");
    assert_eq!(world.report().await["requests"].as_u64(), before.as_u64().map(|n| n + 1));
    assert_eq!(world.metric("perch_holds{scope=\"application\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_finds_out_the_others_know() {
    let redis = RedisServer::start().await;
    let settings = |member: &str| {
        format!(
            "limits.store = \"{}\"\nlimits.replicas = 2\nlimits.namespace = \"told\"\nlimits.member = \"{member}\"\n\
             limits.window = \"1s\"\nlimits.arrival_bound = \"1s\"\nlimits.ip.window = \"1s\"",
            redis.url()
        )
    };
    let scenario = format!("{SCENARIO}[limits]\nwindow = \"1s\"\n");
    let one = World::with().scenario(&scenario).settings(&settings("one")).start().await;
    one.import().await;
    // Another gateway at the same Finch, with the same connections.
    let two = World::with().settings(&settings("two")).finch(&format!("http://{}", one.finch)).start().await;
    two.import_from(&one).await;
    assert_eq!(two.for_customer("a").get(DIRECTORY).await.status, 200);
    one.fault(json!({ "operation": "get_company", "customer": "a", "preset": "reauth", "times": 1 })).await;
    one.fault(json!({ "operation": "get_company", "customer": "b", "preset": "provider_limit", "times": 1 }))
        .await;
    assert_eq!(one.for_customer("a").get(COMPANY).await.class(), "reauthentication_required");
    assert_eq!(one.for_customer("b").get(COMPANY).await.class(), "rate_limited");
    process::until("the other has heard of both", async || holds(&two).await.len() == 2).await;
    let before = one.report().await["operations"]["GetCompany"].clone();
    let answer = two.for_customer("a").get(COMPANY).await;
    assert_eq!((answer.class(), answer.header("perch-attempts")), ("reauthentication_required", "0"));
    let refused = two.for_customer("b").with("perch-max-wait", "0").get(COMPANY).await;
    assert_refused(&refused, 429, "perch_provider_limited", "rate_limited");
    assert_eq!(one.report().await["operations"]["GetCompany"], before, "nothing was sent for it");
    // And that it is well again.
    assert_eq!(one.for_customer("a").get("/introspect").await.status, 200);
    process::until("the other has heard that too", async || holds(&two).await.len() == 1).await;
    assert_eq!(two.for_customer("a").get(COMPANY).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_goes_first_and_finds_nothing_out_holds_up_nobody() {
    let world = world("").await;
    let fault = json!({
        "operation": "get_company", "preset": "provider_limit", "times": 1, "headers": { "retry-after": "1" },
    });
    world.fault(fault).await;
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 429);
    // It goes first when the hold is over, and hears nothing of the provider's limit.
    world.fault(json!({ "operation": "get_company", "preset": "not_found", "times": 1 })).await;
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 404);
    let next = world.for_customer("a").with("perch-max-wait", "0").get(DIRECTORY).await;
    assert_eq!(next.status, 200, "{}", next.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bill_of_another_application_holds_nobody_here() {
    let world = world("apps.pass_through = true").await;
    world.fault(json!({ "operation": "get_company", "preset": "payment_required", "times": 1 })).await;
    world.fault(json!({ "operation": "list_providers", "preset": "payment_required", "times": 1 })).await;
    let brought = world.app().with("authorization", "Bearer of-another-application");
    assert_eq!(brought.get(COMPANY).await.status, 402);
    assert_eq!(world.app().get("/providers").await.status, 402);
    assert_eq!(holds(&world).await, []);
    assert_eq!(after(&world).await, [[true, true], [true, true]]);
}

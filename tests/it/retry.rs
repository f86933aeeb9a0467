//! What perch sends again by itself: inside a budget, inside the call's patience, each attempt with an admission of its own.

use crate::support::{World, until};
use serde_json::json;

const SCENARIO: &str = "[[customer]]\nid = \"a\"\n[limits.products]\ncompany = 1000\n";
const COMPANY: &str = "/employer/company";

async fn world(settings: &str) -> World {
    let settings = format!("limits.products.company = 1000\n{settings}");
    let world = World::with().scenario(SCENARIO).settings(&settings).start().await;
    world.import().await;
    world
}

async fn arrivals(world: &World) -> u64 {
    world.report().await["products"]["company"]["arrivals"].as_u64().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_everything_fails_retries_run_dry() {
    const CALLS: u64 = 40;
    let world = world("").await;
    world.fault(json!({ "operation": "get_company", "preset": "bad_gateway" })).await;
    for _ in 0..CALLS {
        let answer = world.for_customer("a").get(COMPANY).await;
        assert_eq!((answer.status, answer.class()), (502, "provider_error"));
        assert_eq!(answer.header("x-should-retry"), "false", "perch has done what helps");
    }
    let extra = arrivals(&world).await - CALLS;
    // A fifth of the calls, and the ten that are saved up.
    assert!((10..=CALLS / 5 + 10).contains(&extra), "{extra} retries for {CALLS} calls");
    assert!(world.metric("perch_retries_total{why=\"over_budget\"}").await > 0.0);
    assert_eq!(world.metric("perch_retries_total{why=\"5xx\"}").await, extra as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_passes_is_not_told() {
    let world = world("").await;
    world.fault(json!({ "operation": "get_company", "preset": "bad_gateway", "times": 1 })).await;
    let answer = world.for_customer("a").get(COMPANY).await;
    assert_eq!((answer.status, answer.class(), answer.header("perch-attempts")), (200, "ok", "2"));
    assert!(
        answer.header("ratelimit").contains("r=998;"),
        "an admission each: {}",
        answer.header("ratelimit")
    );
    // Without patience there is none for a second attempt.
    world.fault(json!({ "operation": "get_company", "preset": "bad_gateway", "times": 1 })).await;
    let answer = world.for_customer("a").with("perch-max-wait", "0").get(COMPANY).await;
    assert_eq!((answer.status, answer.header("perch-attempts")), (502, "1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_may_switch_retries_off() {
    for settings in ["retry.attempts = 1", "retry.budget = \"0%\""] {
        let world = world(settings).await;
        world.fault(json!({ "operation": "get_company", "preset": "bad_gateway", "times": 1 })).await;
        let answer = world.for_customer("a").get(COMPANY).await;
        assert_eq!((answer.status, answer.header("perch-attempts")), (502, "1"), "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finchs_wish_to_be_left_alone_for_a_while_is_heeded() {
    let world = world("").await;
    let fault = |after: &str| json!({ "operation": "get_company", "status": 503, "times": 1, "headers": { "retry-after": after } });
    world.fault(fault("3600")).await;
    let answer = world.for_customer("a").get(COMPANY).await;
    assert_eq!(
        (answer.status, answer.header("perch-attempts")),
        (503, "1"),
        "an hour is beyond its patience"
    );
    world.fault(fault("1")).await;
    let answer = world.for_customer("a").get(COMPANY).await;
    assert_eq!((answer.status, answer.header("perch-attempts")), (200, "2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_to_be_sent_again_is_answered_when_perch_stops() {
    let mut world = world("limits.wait.batch = \"1h\"").await;
    let asked = json!({ "operation": "get_company", "status": 503, "headers": { "retry-after": "1800" } });
    world.fault(asked).await;
    let app = world.for_customer("a").with("perch-priority", "batch").with("perch-max-wait", "3000");
    let call = tokio::spawn(async move { app.get(COMPANY).await });
    until("it waits to be sent again", async || world.metric("perch_retries_total{why=\"5xx\"}").await > 0.0)
        .await;
    world.stop().await;
    let answer = call.await.expect("it ran");
    assert_eq!((answer.status, answer.header("perch-attempts")), (503, "1"), "{}", answer.text());
}

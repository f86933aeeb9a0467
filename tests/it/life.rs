//! Connections' lives: codes are spent once, disconnects come to their end, and Finch's newest word holds.

use crate::support::{Answer, App, TOKEN_MARKER, World, until};
use nix::sys::signal::Signal::SIGKILL;
use serde_json::{Value, json};

const FAST: &str = "limits.products.default = 1000\nlimits.window = \"1s\"";

/// A world whose limits do not matter here, and no gateway yet.
async fn quick(settings: &str) -> World {
    let world = World::with().scenario("limits.window = \"1ms\"").settings(FAST).settings(settings);
    world.without_gateway().await
}

async fn spend(app: App, code: &str) -> Answer {
    let answer =
        app.post("/auth/token", &json!({ "client_id": "x", "client_secret": "y", "code": code })).await;
    assert!(!answer.text().contains(TOKEN_MARKER), "{}", answer.text());
    answer
}

fn reference(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
    answer.json()["access_token"].as_str().expect("a reference").to_owned()
}

/// How often an operation reached Finch.
async fn sent(world: &World, operation: &str) -> u64 {
    let report = world.report().await;
    let by_outcome = report["operations"][operation].as_object().cloned().unwrap_or_default();
    by_outcome.values().filter_map(Value::as_u64).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_a_code_that_is_done_is_answered_without_finch_after_a_restart_too() {
    let mut world = quick("").await;
    world.open().await;
    let code = world.code("acme", "gusto").await;
    let first = spend(world.app(), &code).await;
    let again = spend(world.app(), &code).await;
    assert_eq!(reference(&first), reference(&again));
    for member in ["connection_id", "customer_id", "company_id", "provider_id", "client_type", "token_type"] {
        assert_eq!(first.json()[member], again.json()[member], "{member}");
    }
    world.restart().await;
    assert_eq!(reference(&spend(world.app(), &code).await), reference(&first));
    assert_eq!(sent(&world, "CreateAccessToken").await, 1);
    // The check of the first time is made each time.
    let other = spend(world.for_customer("globex"), &code).await;
    assert_eq!((other.status, other.code().as_str()), (403, "perch_exchange_customer_mismatch"));
    assert_eq!(sent(&world, "CreateAccessToken").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_the_same_code_twice_at_once_is_one_exchange() {
    let mut world = quick("").await;
    world.open().await;
    let code = world.code("acme", "gusto").await;
    world.fault(json!({ "operation": "create_access_token", "delay": "300ms" })).await;
    let (one, two) = tokio::join!(spend(world.app(), &code), spend(world.app(), &code));
    assert_eq!(reference(&one), reference(&two));
    assert_eq!(sent(&world, "CreateAccessToken").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_what_finch_did_not_carry_out_may_be_sent_again() {
    let mut world = quick("").await;
    world.open().await;
    let code = world.code("acme", "gusto").await;
    world.fault(json!({ "operation": "create_access_token", "status": 500, "times": 1 })).await;
    assert_eq!(spend(world.app(), &code).await.class(), "finch_error");
    reference(&spend(world.app(), &code).await);
    assert_eq!(sent(&world, "CreateAccessToken").await, 2);
}

/// Where the gateway is killed, what becomes of the code, and how often it is sent to Finch in all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_a_gateway_killed_at_any_point_of_an_exchange_loses_no_token_silently() {
    let mut world = quick("").await;
    let cases = [
        // Finch never carried it out.
        (
            json!({ "operation": "create_access_token", "stall": true, "times": 1 }),
            "CreateAccessToken",
            true,
            2,
        ),
        // Finch spent the code, and its answer found nobody.
        (
            json!({ "operation": "create_access_token", "delay": "60s", "times": 1 }),
            "CreateAccessToken",
            false,
            2,
        ),
        // The token was sealed; only the question whose it is was under way.
        (json!({ "operation": "introspect", "delay": "60s", "times": 1 }), "Introspect", true, 1),
    ];
    for (at, (fault, operation, is_kept, times)) in cases.into_iter().enumerate() {
        let perch = world.serve().await;
        let code = world.code(&format!("customer-{at}"), "gusto").await;
        let (before, exchanged) = (sent(&world, operation).await, sent(&world, "CreateAccessToken").await);
        world.fault(fault.clone()).await;
        let (app, spent) = (world.app(), code.clone());
        let call = tokio::spawn(async move {
            let body = json!({ "client_id": "x", "client_secret": "y", "code": spent }).to_string();
            app.try_call("POST", "/auth/token", body.into()).await
        });
        until("Finch has it", async || sent(&world, operation).await > before).await;
        perch.end_by(SIGKILL).await;
        assert!(call.await.expect("it ran").is_err(), "{fault}: nobody was left to answer");
        let perch = world.serve().await;
        let first = spend(world.app(), &code).await;
        match is_kept {
            true => {
                let bearer = format!("Bearer {}", reference(&first));
                let company = world.app().with("authorization", &bearer).get("/employer/company").await;
                assert_eq!((company.status, company.class()), (200, "ok"), "{fault}: {}", company.text());
            }
            false => {
                for answer in [first, spend(world.app(), &code).await] {
                    assert_eq!(
                        (answer.status, answer.code().as_str(), answer.class()),
                        (502, "perch_exchange_outcome_unknown", "perch_unavailable"),
                        "{}",
                        answer.text()
                    );
                    assert_eq!(answer.header("x-should-retry"), "false");
                }
            }
        }
        assert_eq!(sent(&world, "CreateAccessToken").await - exchanged, times, "{fault}");
        drop(perch);
    }
}

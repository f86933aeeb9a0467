//! What a gateway has said it has, it has: killed at once after an answer, again and again.

use crate::attacks::report::{scale, tell};
use crate::support::{Process, World};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};

/// How often it is killed, in `make attack` ten times as often; each round adds a connection to one store.
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_connection_is_lost_when_it_is_killed() {
    let settings = "limits.products.default = 1000\nlimits.window = \"1s\"";
    let mut world =
        World::with().scenario("limits.window = \"1ms\"").settings(settings).without_gateway().await;
    let rounds = ROUNDS * scale().min(10);
    for round in 0..rounds {
        let perch = world.serve().await;
        world.connect(&format!("customer-{round}"), "gusto").await;
        let killed = perch.end_by(SIGKILL).await;
        assert_eq!(killed.code, None, "it did not end by itself: {}", killed.err);
        if round % (rounds / 4) == rounds / 4 - 1 {
            assert_all_open(&world, round + 1).await;
        }
    }
    let perch: Process = world.serve().await;
    for round in 0..rounds {
        let company = world.for_customer(&format!("customer-{round}")).get("/employer/company").await;
        assert_eq!((company.status, company.class()), (200, "ok"), "round {round}: {}", company.text());
    }
    assert_eq!(world.report().await["suspicious"]["count"], 0);
    let ended = perch.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let seen = format!("{rounds} kills, {rounds} of {rounds} connections served");
    tell("S08", "process", "every acknowledged write is there", &seen, true);
}

/// Beside no gateway at all: every connection is listed, and its token opens.
async fn assert_all_open(world: &World, count: usize) {
    let listed = world.perch(&["connections", "list", "-o", "json"]).await.json();
    let listed = listed.as_array().expect("a list").clone();
    assert_eq!(listed.len(), count);
    for facts in listed {
        let id = facts["connection_id"].as_str().expect("an id");
        let shown = world.perch(&["connections", "show", id]).await;
        assert_eq!(shown.code, Some(0), "{id}: {}", shown.err);
    }
}

/// The one an exchange replaces is as safe as a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_replaced_another_is_the_one_found_after_a_crash() {
    let settings = "limits.products.default = 1000\nlimits.window = \"1s\"";
    let mut world =
        World::with().scenario("limits.window = \"1ms\"").settings(settings).without_gateway().await;
    let perch = world.serve().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    let body = serde_json::json!({ "connection_id": connection });
    let session = world.app().post("/connect/sessions/reauthenticate", &body).await;
    let code = world.log_in(&session).await;
    let again = serde_json::json!({ "client_id": "x", "client_secret": "x", "code": code });
    let again = world.app().post("/auth/token", &again).await;
    assert_eq!(again.json()["connection_id"], connection, "{}", again.text());
    perch.end_by(SIGKILL).await;
    let perch = world.serve().await;
    let company = world.for_customer("acme").get("/employer/company").await;
    // Finch knows the older token no more.
    assert_eq!((company.status, company.class()), (200, "ok"), "{}", company.text());
    drop(perch);
}

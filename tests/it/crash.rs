//! What a gateway has said it has, it has: killed at once after an answer, again and again.

use crate::attacks::report::{scale, tell};
use crate::support::{Process, World};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

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

/// Who was told that something is kept, by what it was.
#[derive(Default)]
struct Journal {
    paused: Vec<String>,
    connected: Vec<String>,
}

/// Killed in the middle of writes, at a moment that a seed chooses: whatever was acknowledged is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_when_it_is_killed_while_others_are_under_way() {
    const WRITERS: usize = 4;
    let rounds = 5 * scale().min(8);
    let settings = "limits.products.default = 1000\nlimits.window = \"1s\"";
    let mut world =
        World::with().scenario("limits.window = \"1ms\"").settings(settings).without_gateway().await;
    let journal = Arc::new(Mutex::new(Journal::default()));
    let mut seed = 0x9E37_79B9_u32;
    for round in 0..rounds {
        let perch = world.serve().await;
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let name = format!("r{round}-w{writer}");
            // Codes are fetched before: what is killed is the exchange.
            let code = if writer % 2 == 0 { Some(world.code(&name, "gusto").await) } else { None };
            let (app, operator, journal) = (world.app(), world.operator(), Arc::clone(&journal));
            writers.spawn(async move {
                if let Some(code) = code {
                    let body = json!({ "client_id": "x", "client_secret": "x", "code": code });
                    let told = app.try_call("POST", "/auth/token", body.to_string().into()).await;
                    if told.is_ok_and(|told| told.status == 200) {
                        journal.lock().expect("nobody panics in here").connected.push(name.clone());
                    }
                }
                // Until it is gone; a thousand pauses is the most.
                for nth in 0..(1000 / (rounds * WRITERS)) {
                    let name = format!("{name}-{nth}");
                    let body = json!({ "scope": "customer", "name": name, "reason": "x" });
                    match operator.try_call("POST", "/api/pauses", body.to_string().into()).await {
                        Ok(told) if told.status == 200 => {
                            journal.lock().expect("nobody panics in here").paused.push(name);
                        }
                        Ok(told) => panic!("{}", told.text()),
                        Err(_) => return,
                    }
                }
            });
        }
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let moment = Duration::from_millis(u64::from(seed >> 16) % 51);
        let _ = timeout(moment, std::future::pending::<()>()).await;
        assert_eq!(perch.end_by(SIGKILL).await.code, None);
        while let Some(writer) = writers.join_next().await {
            writer.expect("no panic");
        }
    }
    let perch = world.serve().await;
    let Journal { paused, connected } = std::mem::take(&mut *journal.lock().expect("nobody panics in here"));
    assert!(!paused.is_empty() || !connected.is_empty(), "nothing was acknowledged before any kill");
    let there = world.operator().get("/api/pauses").await.json();
    let there: Vec<&str> =
        there.as_array().into_iter().flatten().filter_map(|p| p["name"].as_str()).collect();
    let lost: Vec<&String> = paused.iter().filter(|name| !there.contains(&name.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for name in &connected {
        let listed = world.perch(&["connections", "list", "-o", "json"]).await.json();
        let is_there = |row: &Value| row["customer_id"] == name.as_str();
        assert!(listed.as_array().is_some_and(|rows| rows.iter().any(is_there)), "{name} is lost");
        let company = world.for_customer(name).get("/employer/company").await;
        assert_eq!(company.status, 200, "{name}: {}", company.text());
    }
    assert_eq!(perch.end_by(SIGTERM).await.code, Some(0));
    let seen = format!(
        "{rounds} kills among writes, {} pauses and {} connections acknowledged and there",
        paused.len(),
        connected.len()
    );
    tell("S08", "writers", "every acknowledged write is there", &seen, true);
}

//! Quota of several gateways together: Finch never refuses, whatever is killed.

use crate::support::fleet::Fleet;
use crate::support::{App, World, process};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::interval;

/// Three seconds instead of Finch's minute.
const WINDOW: &str = "limits.window = \"3s\"";
/// The same for perch. A start that knows nothing counts most of the egress IP's limit as spent: that
/// shall not last longer than all the rest.
const SETTINGS: &str = "limits.arrival_bound = \"1s\"\nlimits.ip.requests = 4000\nlimits.ip.window = \"3s\"\n\
                        merge.coalesce = false";
/// Calls under way at any time: twice what Finch takes in a window.
const WORKERS: usize = 40;
/// What Finch takes.
const LIMIT: u64 = 20;

/// The processes under test need the machine more than those who look at them.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i17_finch_never_refuses_while_the_store_and_a_gateway_are_killed_and_come_back() {
    let scenario = format!("{WINDOW}\n[[customer]]\nid = \"whale\"\n[[customer]]\nid = \"acme\"");
    let settings = format!("{WINDOW}\n{SETTINGS}");
    let world = World::with().scenario(&scenario).settings(&settings).without_gateway().await;
    let mut fleet = Fleet::start(world, 3).await;
    let mut load = JoinSet::new();
    for worker in 0..WORKERS {
        let customer = if worker % 4 == 0 { "acme" } else { "whale" };
        load.spawn(ask_for_ever(fleet.door(worker % 3), customer));
    }

    more_arrives(&fleet, 2 * LIMIT).await;
    // It has forgotten a whole window, and everybody goes on asking.
    fleet.redis.kill().await;
    fleet.redis.start_again().await;
    more_arrives(&fleet, LIMIT).await;
    fleet.redis.kill().await;
    fleet.mode_becomes("degraded").await;
    // All that the store had granted has arrived long before a lease may be spent.
    more_arrives(&fleet, LIMIT / 4).await;
    // This one has spent something, and takes with it how much.
    fleet.kill(2).await;
    fleet.redis.start_again().await;
    fleet.serve(2).await;
    fleet.mode_becomes("redis").await;
    more_arrives(&fleet, 2 * LIMIT).await;
    fleet.kill(0).await;
    fleet.serve(0).await;
    more_arrives(&fleet, 2 * LIMIT).await;

    load.shutdown().await;
    let report = fleet.world.report().await;
    let logs: String = (0..3).map(|number| fleet.log(number)).collect();
    let directory = &report["products"]["directory"];
    assert_eq!(
        (&directory["refused"], &directory["within"]),
        (&json!(0), &json!(true)),
        "{directory}\n{logs}"
    );
    let ends = report["operations"]["ListDirectory"].as_object().expect("a list");
    assert_eq!(ends.keys().collect::<Vec<_>>(), ["200"], "{logs}");
    assert_eq!(report["rate_limited"], json!({}), "{logs}");
    assert_eq!(report["suspicious"]["count"], 0);
}

/// Waits until this many calls more have arrived at Finch.
async fn more_arrives(fleet: &Fleet, count: u64) {
    let mut pace = interval(LOOK_EVERY);
    let before = arrived(fleet).await;
    let is_so = async || {
        pace.tick().await;
        arrived(fleet).await >= before + count
    };
    process::until("more arrives at Finch", is_so).await;
}

/// How many calls have arrived at Finch.
async fn arrived(fleet: &Fleet) -> u64 {
    let arrivals = fleet.world.straight().get("/_sim/arrivals").await.json();
    arrivals["products"]["directory"]["arrivals"].as_u64().unwrap_or_default()
}

/// A batch worker: calls again as soon as it is answered, and knocks until its gateway is back.
async fn ask_for_ever(door: impl Fn() -> SocketAddr, customer: &'static str) {
    let mut pace = interval(LOOK_EVERY);
    loop {
        pace.tick().await;
        let app = App::at(door()).with("perch-customer", customer).with("perch-priority", "batch");
        let _ = app.try_call("GET", "/employer/directory", "".into()).await;
    }
}

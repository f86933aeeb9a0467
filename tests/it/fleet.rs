//! Quota of several gateways together: Finch never refuses, whatever is killed.

use crate::support::fleet::Fleet;
use crate::support::{App, World, process};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Three seconds instead of Finch's minute; every other number is Finch's own.
const WINDOW: &str = "limits.window = \"3s\"";
/// Calls under way at any time: twice what Finch takes in a window.
const WORKERS: usize = 40;
/// What Finch takes.
const LIMIT: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finch_never_refuses_while_the_store_and_a_gateway_are_killed_and_come_back() {
    let scenario = format!(
        "{WINDOW}\n[[customer]]\nid = \"whale\"\ntoken = \"t-0\"\n[[customer]]\nid = \"acme\"\ntoken = \"t-1\""
    );
    let settings = format!("{WINDOW}\nlimits.arrival_bound = \"1s\"");
    let world = World::with().scenario(&scenario).settings(&settings).without_gateway().await;
    let line = |(at, customer)| {
        json!({
            "customer_id": customer, "connection_id": format!("c-{at}"), "access_token": format!("t-{at}"),
            "provider_id": "gusto",
        })
        .to_string()
    };
    let connections: Vec<String> = ["whale", "acme"].into_iter().enumerate().map(line).collect();
    let mut fleet = Fleet::start(world, 3, &connections.join("\n")).await;
    let mut load = JoinSet::new();
    for worker in 0..WORKERS {
        let customer = if worker % 4 == 0 { "acme" } else { "whale" };
        load.spawn(ask_for_ever(fleet.door(worker % 3), customer));
    }
    let sent_is_beyond = async |fleet: &Fleet, count: u64| {
        process::until("more arrives at Finch", async || seen(fleet).await.0 > count).await;
    };

    sent_is_beyond(&fleet, 2 * LIMIT).await;
    fleet.redis.kill().await;
    fleet.mode_becomes("degraded").await;
    // What was granted before has arrived by the time that a lease is spent.
    let (before, _) = seen(&fleet).await;
    sent_is_beyond(&fleet, before + LIMIT / 2).await;
    // It has spent some of its lease, and nobody else knows how much.
    fleet.kill(2).await;
    fleet.redis.start_again().await;
    fleet.serve(2).await;
    fleet.mode_becomes("redis").await;
    let (before, _) = seen(&fleet).await;
    sent_is_beyond(&fleet, before + 2 * LIMIT).await;
    fleet.kill(0).await;
    fleet.serve(0).await;
    let (before, _) = seen(&fleet).await;
    sent_is_beyond(&fleet, before + 2 * LIMIT).await;

    load.shutdown().await;
    let report = fleet.world.report().await;
    let logs: String = (0..3).map(|number| fleet.log(number)).collect();
    let directory = &report["products"]["directory"];
    assert_eq!(
        (&directory["refused"], &directory["within"]),
        (&json!(0), &json!(true)),
        "{directory}\n{logs}"
    );
    assert_eq!(report["rate_limited"], json!({}), "{logs}");
    assert_eq!(report["suspicious"]["count"], 0);
}

/// How many calls have arrived at Finch, and how many of them it refused.
async fn seen(fleet: &Fleet) -> (u64, u64) {
    let directory = fleet.world.report().await["products"]["directory"].clone();
    let number = |name: &str| directory.get(name).and_then(Value::as_u64).unwrap_or_default();
    (number("arrivals"), number("refused"))
}

/// A batch worker: calls again as soon as it is answered, and knocks until its gateway is back.
async fn ask_for_ever(door: impl Fn() -> SocketAddr, customer: &'static str) {
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        pace.tick().await;
        if TcpStream::connect(door()).await.is_err() {
            continue;
        }
        let app = App::at(door()).with("perch-customer", customer).with("perch-priority", "batch");
        let _ = app.try_call("GET", "/employer/directory", "".into()).await;
    }
}

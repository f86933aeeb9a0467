//! A ledger that cannot be written: calls go on, what waits is bounded, what is lost is counted, and what is at fault is
//! found out.

use crate::support::World;
use serde_json::Value;

const WRITTEN: &str = "perch_ledger_written_total";
const DROPPED: &str = "perch_ledger_dropped_total";
const QUEUE: &str = "perch_ledger_queue";

async fn count(world: &World, metric: &str) -> usize {
    world.metric(metric).await as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_is_out_calls_go_on_so_many_wait_and_the_rest_is_counted() {
    // Unknown paths need no Finch, and are lines like any other.
    let world = World::with().settings("ledger.queue = 10\nledger.flush = \"1ms\"").start().await;
    world.app().get("/before").await;
    world.metric_becomes(WRITTEN, 1.0).await;
    let shut = world.database.lock_ledger().await;
    for n in 0..60 {
        let answer = world.app().get(&format!("/meanwhile/{n}")).await;
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
    // The writer holds what it tries to write, ten wait, the rest is lost: the newest.
    let dropped = count(&world, DROPPED).await;
    assert!(dropped > 0, "nothing was dropped: the queue has no bound");
    assert_eq!(count(&world, QUEUE).await, 60 - dropped);
    drop(shut);
    world.metric_becomes(QUEUE, 0.0).await;
    assert_eq!(count(&world, DROPPED).await, dropped, "what waited was written");
    assert_eq!(count(&world, WRITTEN).await, 61 - dropped);
    world.app().get("/after").await;
    world.gateway.as_ref().expect("it runs").settle().await;
    let calls = super::found(&world, "").await;
    assert_eq!(calls.len(), 62 - dropped);
    let lines = world.lines.all();
    let (first, last) = (&lines[0]["request_id"], &lines[61]["request_id"]);
    assert_eq!((&calls[calls.len() - 1]["request_id"], &calls[0]["request_id"]), (first, last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_the_store_will_not_take_is_dropped_and_the_others_are_kept() {
    let world = World::new().await;
    world.app().get("/before").await;
    world.metric_becomes(WRITTEN, 1.0).await;
    world.database.refuse_in_ledger("poison").await;
    let customers = ["good", "poison", "better", "poison", "best"];
    for customer in customers {
        world.for_customer(customer).get("/employer/company").await;
    }
    world.metric_becomes(DROPPED, 2.0).await;
    world.gateway.as_ref().expect("it runs").settle().await;
    let calls = super::found(&world, "").await;
    let kept: Vec<&Value> = calls.iter().filter_map(|call| call.get("customer")).collect();
    assert_eq!(kept, ["best", "better", "good"]);
    assert_eq!((count(&world, WRITTEN).await, count(&world, QUEUE).await), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_stops_although_its_ledger_is_out() {
    let mut world = World::new().await;
    world.app().get("/before").await;
    world.metric_becomes(WRITTEN, 1.0).await;
    let shut = world.database.lock_ledger().await;
    world.app().get("/meanwhile").await;
    assert_eq!(world.stop().await, 0);
    drop(shut);
    world.open().await;
    assert!(super::found(&world, "").await.len() <= 2);
}

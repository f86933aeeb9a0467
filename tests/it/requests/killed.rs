//! A gateway that is killed under load: of the calls that had ended, it loses no more than those of its last flush.

use crate::support::World;
use nix::sys::signal::Signal::SIGKILL;
use perch::store::requests::{Recorded, Requests, Search};
use perch::telemetry::clock::unix_now;
use perch::types::UnixMillis;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The flush of this test, the longest there may be: what is lost is as much as can be.
const FLUSH: Duration = Duration::from_millis(500);

/// What a client saw: perch's id of the call, and when it had the whole answer.
type Seen = Vec<(String, UnixMillis)>;

async fn all(world: &World) -> Vec<Recorded> {
    let ledger = Requests::look(&world.config().vault.store, perch::app::scope(&world.config()))
        .await
        .expect("it answers")
        .expect("a ledger");
    let (mut search, mut all) = (Search { limit: 1000, ..Search::default() }, Vec::new());
    loop {
        let found = ledger.search(&search).await.expect("it answers");
        assert_eq!(found.unreadable, 0, "a killed process leaves whole rows");
        all.extend(found.calls);
        match found.next {
            Some(next) => search.before = Some(next),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_no_more_than_the_last_flush() {
    let settings = format!("ledger.flush = \"{}ms\"", FLUSH.as_millis());
    let mut world = World::with().settings(&settings).without_gateway().await;
    let mut gateway = world.serve().await;
    let (seen, stop) = (Arc::new(Mutex::new(Seen::new())), Arc::new(AtomicBool::new(false)));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (app, seen, stop) = (world.app(), Arc::clone(&seen), Arc::clone(&stop));
        clients.spawn(async move {
            // Unknown paths: many calls, no quota.
            while !stop.load(Ordering::Relaxed) {
                let Ok(answer) = app.try_call("GET", "/load", bytes::Bytes::new()).await else { return };
                let id = answer.header("perch-request-id").to_owned();
                seen.lock().expect("no test panics in here").push((id, unix_now()));
            }
        });
    }
    // It runs until the ledger has been written a few times under this load; then it dies between two writes, or in one.
    let before_marker = {
        world.metric_becomes_at_least("perch_ledger_written_total", 200.0).await;
        let before = seen.lock().expect("no test panics in here").clone();
        let marker = world.app().get("/marker").await.header("perch-request-id").to_owned();
        crate::support::until("the marker is found", async || {
            world.operator().get(&format!("/api/requests/{marker}")).await.status == 200
        })
        .await;
        before
    };
    gateway.stop(SIGKILL);
    stop.store(true, Ordering::Relaxed);
    clients.join_all().await;

    let kept = all(&world).await;
    let names: BTreeSet<&str> = kept.iter().map(|call| call.request_id.as_str()).collect();
    assert_eq!(names.len(), kept.len(), "none is there twice");
    let seen = seen.lock().expect("no test panics in here").clone();
    assert!(
        before_marker.len() >= 100 && seen.len() > before_marker.len(),
        "{} {}",
        before_marker.len(),
        seen.len()
    );
    // What a client had before the marker was sent is older than something that was found.
    let lost = |(id, _): &&(String, UnixMillis)| !names.contains(id.as_str());
    assert_eq!(before_marker.iter().filter(lost).count(), 0);
    // By the ledger's own times: what had ended a flush before the last call it knows is in it.
    let last = kept.iter().map(Recorded::ended).max().expect("calls");
    let old = seen.iter().filter(|(_, had)| had.plus(FLUSH) <= last);
    assert_eq!(old.clone().filter(lost).count(), 0);
    assert!(old.count() > 0, "nothing is old enough to show anything");

    // The next gateway goes on with the same ledger.
    let _gateway = world.serve().await;
    let id = seen[0].0.clone();
    assert_eq!(world.operator().get(&format!("/api/requests/{id}")).await.status, 200);
}

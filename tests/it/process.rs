//! The gateway as a process: it starts, answers, and stops as it is told.

use crate::support::{World, until};
use nix::sys::signal::Signal::{SIGINT, SIGTERM};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_answers_its_operators_and_carries_calls() {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    for (path, text) in [("/livez", "ok\n"), ("/readyz", "ok\nlimiter: memory\n")] {
        let answer = world.operator().get(path).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, text), "{path}");
    }
    world.connect("acme", "gusto").await;
    let company = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((company.status, company.class()), (200, "ok"), "{}", company.text());
    let metrics = world.operator().get("/metrics").await.text();
    assert!(metrics.contains("perch_calls_total{class=\"ok\",product=\"company\"} 1"), "{metrics}");
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_stops_it_and_no_line_is_lost() {
    for signal in [SIGTERM, SIGINT] {
        let mut world = World::with().without_gateway().await;
        let perch = world.serve().await;
        for n in 0..200 {
            assert_eq!(world.for_customer(&format!("nobody-{n}")).get("/employer/company").await.status, 404);
        }
        let ended = perch.end_by(signal).await;
        assert_eq!(ended.code, Some(0), "{signal}: {}", ended.err);
        let lines = ended.lines();
        assert_eq!(lines.len(), 200, "{signal}");
        assert!(lines.iter().all(|line| line["class"] == "unknown_customer"));
        assert!(ended.err.contains("perch stops"), "{}", ended.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_is_answered_before_it_stops() {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    world.fault(json!({ "operation": "get_company", "delay": "1s" })).await;
    let app = world.for_customer("acme");
    let call = tokio::spawn(async move { app.get("/employer/company").await });
    until("Finch has the call", async || world.report().await["operations"]["GetCompany"] != json!(null))
        .await;
    let ended = perch.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(call.await.expect("it was answered").status, 200);
    let lines = ended.lines();
    let line = lines.last().expect("a line");
    assert_eq!((&line["path"], &line["status"]), (&json!("/employer/company"), &json!(200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let mut world = World::with().settings("drain.grace = \"10m\"").without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    world.fault(json!({ "operation": "get_company", "stall": true })).await;
    let app = world.for_customer("acme");
    let call = tokio::spawn(async move { app.try_call("GET", "/employer/company", "".into()).await });
    until("Finch has the call", async || world.report().await["operations"]["GetCompany"] != json!(null))
        .await;
    perch.signal(SIGTERM);
    assert!(perch.err.says("perch stops").await, "{}", perch.err.text());
    until("it is not ready any more", async || world.operator().get("/readyz").await.text() == "stopping\n")
        .await;
    let ended = perch.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(ended.err.contains("stopped at once by a second signal"), "{}", ended.err);
    assert!(call.await.expect("it ran").is_err(), "nobody is left to answer it");
}

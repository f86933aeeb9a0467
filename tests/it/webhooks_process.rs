//! Webhooks and the real program: killed between its answer to Finch and the app's, and what it says meanwhile.

use crate::support::canary::{Artefacts, find};
use crate::support::hooks::{OWN, PREVIOUS, SECRET, event, seconds, send, told};
use crate::support::raw::{Act, RawFinch};
use crate::support::{App, Process, World, until};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use serde_json::Value;

/// What a body holds that no log may.
const MARK: &str = "CANARY-of-a-body-7f21";

/// Finch's door at a gateway that is a process: where it says that it listens.
fn door(gateway: &Process) -> App {
    let log = gateway.err.text();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut told = lines.filter_map(|line| line["webhooks"].as_str()?.parse().ok());
    App::at(told.next().unwrap_or_else(|| panic!("no door in {log}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finch_was_told_is_kept_is_delivered_by_the_next_run_and_stands_in_no_log() {
    let app = RawFinch::start().await;
    let settings = told(&app.url());
    let mut world = World::with()
        .settings(&settings)
        .settings("webhooks.sign_with = \"env:APP_WEBHOOK\"\nlog.level = \"trace\"")
        .without_gateway()
        .await;
    app.next([Act::Hang]);
    let first = world.serve().await;
    let mut body = event("payment.created", "c");
    body["data"]["payment_id"] = MARK.into();
    let body = body.to_string();
    let kept = send(door(&first), "msg_1", seconds(), body.as_bytes()).await;
    assert_eq!(kept.status, 200, "{}", kept.text());
    let refused = send(door(&first), "msg_2", seconds() - 400, body.as_bytes()).await;
    assert_eq!((refused.status, refused.text().as_str()), (401, "not believed\n"));
    app.arrived(1).await;
    let killed = first.end_by(SIGKILL).await;
    assert_eq!(killed.code, None, "it did not end by itself: {}", killed.err);

    let second = world.serve().await;
    app.arrived(2).await;
    until("it is noted", async || world.webhook("msg_1").await["state"] == "done").await;
    let request = app.requests()[1].clone();
    assert!(
        request.ends_with(&body) && request.to_lowercase().contains("finch-event-id: msg_1"),
        "{request}"
    );
    let again = send(door(&second), "msg_1", seconds(), body.as_bytes()).await;
    assert_eq!(again.status, 200, "it is known");
    let ended = second.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(app.requests().len(), 2, "at least once, and no more than that");

    let said = Artefacts::from([
        ("the first run".to_owned(), killed.all().into_bytes()),
        ("the second run".to_owned(), ended.all().into_bytes()),
    ]);
    assert!(killed.err.contains("msg_1") && ended.err.contains("msg_1"), "an event is named: {}", ended.err);
    assert_eq!(find(&said, &[MARK, SECRET, PREVIOUS, OWN]), Vec::<String>::new());
    assert_eq!(find(&world.files(), &[SECRET, PREVIOUS, OWN]), Vec::<String>::new());
}

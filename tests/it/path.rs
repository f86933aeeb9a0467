//! The main job, end to end: an app names its customer and never sees a token.

use crate::support::{CLIENT_SECRET, TOKEN_MARKER, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_is_connected_and_read_without_a_token_in_sight() {
    let mut world = World::new().await;
    let exchanged = world.connect("acme", "gusto").await;
    let connection = exchanged["connection_id"].as_str().expect("an id").to_owned();
    assert_eq!(exchanged["access_token"], format!("connection:{connection}"));
    assert_eq!(exchanged["customer_id"], "acme");

    let by_header = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((by_header.status, by_header.class()), (200, "ok"), "{}", by_header.text());
    let by_reference = world.app().with("authorization", &format!("Bearer connection:{connection}"));
    let by_reference = by_reference.get("/employer/company").await;
    assert_eq!(by_reference.bytes, by_header.bytes);
    let by_bearer = world.app().with("authorization", "Bearer customer:acme").get("/employer/company").await;
    assert_eq!(by_bearer.bytes, by_header.bytes);

    for name in ["finch-request-id", "perch-request-id", "perch-class", "perch-attempts", "perch-wait-ms"] {
        assert!(!by_header.header(name).is_empty(), "{name} is missing");
    }
    assert_eq!(by_header.header("ratelimit-policy"), "\"company\";q=20;w=60");
    assert!(
        by_bearer.header("ratelimit").starts_with("\"company\";r=17;t="),
        "{}",
        by_bearer.header("ratelimit")
    );

    let report = world.report().await;
    assert_eq!(report["suspicious"]["count"], 0, "{report:#}");
    world.stop().await;
    let lines = world.lines.all();
    let line = lines.last().expect("a line");
    assert_eq!(line["customer"], "acme");
    assert_eq!(line["connection_id"], connection);
    assert_eq!(line["path"], "/employer/company");
    assert_eq!(line["finch_request_id"][0], by_bearer.header("finch-request-id"));
    assert!(line["company_id"].is_string(), "{line}");
    assert_eq!(lines.len(), 5, "one line per call");
    let text = String::from_utf8(world.lines.bytes()).expect("text");
    assert!(!text.contains(TOKEN_MARKER) && !text.contains(CLIENT_SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_for_nobody_is_refused_before_finch() {
    let world = World::new().await;
    for (app, status, code) in [
        (world.app(), 400, "perch_customer_missing"),
        (world.for_customer("nobody"), 404, "perch_unknown_customer"),
        (world.app().with("authorization", "Bearer connection:nope"), 404, "perch_unknown_connection"),
        (
            world.app().with("authorization", "Bearer 7e965183-9332-423c-9259-3edafb332ad2"),
            400,
            "perch_raw_token_refused",
        ),
        (world.for_customer("a").with("perch-customer", "b"), 400, "perch_duplicate_header"),
        (world.for_customer("a").with("authorization", "Bearer customer:b"), 400, "perch_customer_mismatch"),
        (world.for_customer("a").with("perch-max-wait", "soon"), 400, "perch_invalid_header"),
    ] {
        let answer = app.get("/employer/company").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
        assert_eq!(answer.json()["perch"]["origin"], "perch");
        assert!(!answer.header("perch-request-id").is_empty());
    }
    assert_eq!(world.report().await["recent"], json!([]), "nothing was sent");
}

//! Good answers that lack something: failed items, items to come, no data yet, old data, half a directory.

use crate::support::client::{Answer, App};
use crate::support::raw::{Act, RawFinch, answer, say};
use crate::support::{Setup, World};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

const INDIVIDUAL: &str = "/employer/individual";
const DIRECTORY: &str = "/employer/directory";

/// A world whose Finch is the simulator, with one customer.
async fn simulated(setup: Setup) -> World {
    let world = setup.start().await;
    world.connect("acme", "gusto").await;
    world
}

/// A world whose Finch says what it is told to, with one customer.
async fn told(setup: Setup) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    (setup.connection("acme", "CANARY-token").finch(&finch.url()).start().await, finch)
}

fn acme(world: &World) -> App {
    world.for_customer("acme")
}

/// A request for the first people of the directory, and whoever is named.
async fn people(world: &World, count: usize, others: &[&str]) -> Value {
    let directory = acme(world).get(DIRECTORY).await.json();
    let mut ids: Vec<Value> = directory["individuals"].as_array().expect("people")[..count]
        .iter()
        .map(|p| p["id"].clone())
        .collect();
    ids.extend(others.iter().map(|id| json!(id)));
    json!({ "requests": ids.iter().map(|id| json!({ "individual_id": id })).collect::<Vec<_>>() })
}

/// What the log says of an answered call.
async fn line_of(world: &mut World, answer: &Answer) -> Value {
    if world.gateway.is_some() {
        world.stop().await;
    }
    let id = answer.header("perch-request-id");
    world.lines.all().into_iter().find(|line| line["request_id"] == id).expect("a line")
}

fn outcome(answer: &Answer) -> (u16, &str, &str, &str, &str) {
    let header = |name| answer.header(name);
    (answer.status, answer.class(), header("perch-batch"), header("perch-repaired"), header("perch-attempts"))
}

async fn repairs(world: &World, product: &str, outcome: &str) -> f64 {
    world.metric(&format!("perch_batch_repairs_total{{outcome=\"{outcome}\",product=\"{product}\"}}")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_items_are_told_in_header_log_and_metrics() {
    let mut world = simulated(World::with()).await;
    let straight = acme(&world).post(INDIVIDUAL, &people(&world, 3, &[]).await).await;
    assert_eq!(outcome(&straight), (200, "ok", "total=3, failed=0, pending=0", "", "1"));
    let item = json!({ "operation": "read_individuals", "preset": "partial", "items": [0, 1, 2], "item_status": 500, "times": 1 });
    world.fault(item).await;
    let all_failed = acme(&world).post(INDIVIDUAL, &people(&world, 3, &["nobody"]).await).await;
    assert_eq!(outcome(&all_failed), (200, "partial", "total=4, failed=4, pending=0", "", "1"));
    let items = |outcome| format!("perch_batch_items_total{{outcome=\"{outcome}\",product=\"individual\"}}");
    world.metric_becomes(&items("failed"), 4.0).await;
    world.metric_becomes(&items("ok"), 3.0).await;
    let line = line_of(&mut world, &all_failed).await;
    assert_eq!(
        line["batch"],
        json!({ "total": 4, "failed": 4, "pending": 0, "codes": { "500": 3, "404": 1 } })
    );
    assert_eq!(line["last_update"], "partial_error");
    assert_eq!(
        line_of(&mut world, &straight).await["batch"],
        json!({ "total": 3, "failed": 0, "pending": 0 })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forwarded_request_and_a_job_are_batches_too() {
    let world = simulated(World::with().settings("apps.writes = \"allow\"")).await;
    let forward =
        async |route: &str| acme(&world).post("/forward", &json!({ "method": "GET", "route": route })).await;
    let failed = forward("/status/503").await;
    assert_eq!(outcome(&failed), (200, "partial", "total=1, failed=1, pending=0", "", "1"));
    assert_eq!(outcome(&forward("/people").await), (200, "ok", "total=1, failed=0, pending=0", "", "1"));

    let (world, finch) = told(World::with()).await;
    let body = r#"{"job_id":"j","status":"complete","body":[{"individual_id":"a","code":200,"message":"m"},{"individual_id":"b","code":404,"message":"m"}]}"#;
    finch.next([answer("200 OK", "", body)]);
    let job = acme(&world).get("/jobs/manual/j").await;
    assert_eq!(outcome(&job), (200, "partial", "total=2, failed=1, pending=0", "", "1"));
    assert_eq!(job.text(), body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_items_are_asked_for_once_more_when_the_call_wants_it() {
    let mut world = simulated(World::with()).await;
    let request = people(&world, 4, &["nobody"]).await;
    let whole = acme(&world).post(INDIVIDUAL, &request).await;
    let fault = json!({ "operation": "read_individuals", "preset": "partial", "items": [0, 3], "times": 1 });
    for (repair, after) in [
        ("true", (200, "partial", "total=5, failed=1, pending=0", "2", "2")),
        ("pending", (200, "partial", "total=5, failed=1, pending=0", "2", "2")),
        ("false", (200, "partial", "total=5, failed=3, pending=0", "", "1")),
    ] {
        world.fault(fault.clone()).await;
        let answer = acme(&world).with("perch-repair", repair).post(INDIVIDUAL, &request).await;
        assert_eq!(outcome(&answer), after, "{repair}");
        assert_eq!(answer.bytes == whole.bytes, repair != "false", "{repair}: {}", answer.text());
    }
    world.fault(fault).await;
    let unasked = acme(&world).post(INDIVIDUAL, &request).await;
    assert_eq!(outcome(&unasked), (200, "partial", "total=5, failed=3, pending=0", "", "1"));
    assert_eq!(repairs(&world, "individual", "better").await, 2.0);
    // What fails every time is asked for twice at most, and stands as it came.
    world.fault(json!({ "operation": "read_individuals", "preset": "partial", "items": [0] })).await;
    let hopeless = acme(&world).with("perch-repair", "true").post(INDIVIDUAL, &request).await;
    assert_eq!(outcome(&hopeless), (200, "partial", "total=5, failed=2, pending=0", "", "2"));
    let refused = acme(&world).with("perch-repair", "yes").post(INDIVIDUAL, &request).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "perch_invalid_header"));
    let line = line_of(&mut world, &hopeless).await;
    assert_eq!(
        (line["attempts"].as_u64(), line["finch_request_id"].as_array().map(Vec::len)),
        (Some(2), Some(2))
    );
    assert!(line.get("repaired").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_that_are_not_ready_are_asked_for_when_that_is_wanted() {
    let world = simulated(World::with().settings("merge.repair = \"failed\"")).await;
    let request = people(&world, 2, &[]).await;
    let fault = json!({ "operation": "read_employments", "preset": "item_202", "items": [1], "times": 1 });
    for (header, after) in [
        (None, (200, "partial", "total=2, failed=0, pending=1", "", "1")),
        (Some("pending"), (200, "ok", "total=2, failed=0, pending=0", "1", "2")),
    ] {
        world.fault(fault.clone()).await;
        let app = header.map_or(acme(&world), |value| acme(&world).with("perch-repair", value));
        assert_eq!(outcome(&app.post("/employer/employment", &request).await), after, "{header:?}");
    }
}

const HEAD: &str = "Content-Type: application/json\r\nETag: \"e1\"\r\nFinch-Data-Retrieved: 2026-11-23T12:00:00Z\r\n\
    Finch-Last-Attempted-Update-Result: partial_error\r\nFinch-Request-Id: ";
const FIRST: &str = r#"{ "responses":[ {"individual_id":"a","code":500,"body":{}} ,{"individual_id":"b","code":200,"body":{"n":1.0}},
  {"individual_id":"a","code":502.0}], "x":1e1}"#;
const REQUEST: &str = r#"{"requests":[{"individual_id":"a", "y":1},{"individual_id":"b"},{"individual_id":"a", "y":1}],"options":{"include":["ssn"]}}"#;

fn said(id: &str, body: &str) -> Act {
    answer("200 OK", &format!("{HEAD}{id}\r\n"), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_better_item_takes_its_place_and_every_other_byte_stays() {
    let (mut world, finch) = told(World::with()).await;
    let app = acme(&world).with("perch-repair", "true");
    finch.next([said("f1", FIRST)]);
    let older = "Finch-Data-Retrieved: 2026-11-20T12:00:00Z\r\nFinch-Request-Id: f2\r\n";
    finch.next([answer(
        "200 OK",
        older,
        r#"[{"individual_id":"b","code":200,"body":7},{"individual_id":"a", "code":200.0}]"#,
    )]);
    let merged = app.call("POST", INDIVIDUAL, REQUEST.into()).await;
    let new = r#"{"individual_id":"a", "code":200.0}"#;
    let expected = FIRST
        .replace(r#"{"individual_id":"a","code":500,"body":{}}"#, new)
        .replace(r#"{"individual_id":"a","code":502.0}"#, new);
    assert_eq!(merged.text(), expected);
    assert_eq!(outcome(&merged), (200, "ok", "total=3, failed=0, pending=0", "2", "2"));
    // The older of the two answers speaks for both, and what named the first body is gone.
    let header = |name| merged.header(name);
    assert_eq!(
        (header("finch-data-retrieved"), header("finch-last-attempted-update-result"), header("etag")),
        ("2026-11-20T12:00:00Z", "", "")
    );
    assert_eq!(header("finch-request-id"), "f1");
    let second = finch.requests()[1].clone();
    let (head, body) = second.split_once("\r\n\r\n").expect("a body");
    assert_eq!(
        body,
        r#"{"requests":[{"individual_id":"a", "y":1},{"individual_id":"a", "y":1}],"options":{"include":["ssn"]}}"#
    );
    assert!(
        head.contains("Bearer CANARY-token") && !head.to_ascii_lowercase().contains("perch-repair"),
        "{head}"
    );
    let line = line_of(&mut world, &merged).await;
    assert_eq!((&line["finch_request_id"], &line["repaired"]), (&json!(["f1", "f2"]), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enrolments_are_asked_for_by_query() {
    let (world, finch) = told(World::with()).await;
    let path = "/employer/benefits/b1/individuals";
    let failed = r#"[{"individual_id":"a","code":200},{"individual_id":"c","code":500}]"#;
    finch.next([answer("207 Multi-Status", "", failed)]);
    finch.next([answer("207 Multi-Status", "", r#"[{"individual_id":"c","code":200}]"#)]);
    let app = acme(&world).with("perch-repair", "true");
    let merged = app.get(&format!("{path}?entity_ids%5B%5D=e&individual_ids=a%2Cc")).await;
    assert_eq!(outcome(&merged), (207, "ok", "total=2, failed=0, pending=0", "1", "2"));
    assert_eq!(merged.text(), failed.replace("500", "200"));
    let line = finch.requests()[1].lines().next().expect("a request line").to_owned();
    assert_eq!(line, format!("GET {path}?entity_ids%5B%5D=e&individual_ids=c HTTP/1.1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_the_second_request_the_first_answer_stands() {
    let (mut world, finch) =
        told(World::with().settings("limits.products.individual = 1000\nshield.probe = \"off\"")).await;
    let app = acme(&world).with("perch-repair", "true");
    let limited =
        r#"{"code":429,"name":"rate_limit_exceeded_error","finch_code":"upstream_rate_limit_exceeded"}"#;
    let better = r#"[{"individual_id":"a","code":200}]"#;
    for (acts, outcome_of_repair) in [
        (vec![answer("500 Internal Server Error", "", "{\"code\":500}")], "failed"),
        (vec![answer("401 Unauthorized", "", "Unauthorized")], "failed"),
        (vec![answer("302 Found", "Location: http://127.0.0.1:1/\r\n", "")], "failed"),
        (vec![Act::Close], "failed"),
        (vec![say("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n[{"), Act::Close], "failed"),
        (vec![answer("202 Accepted", "", "")], "same"),
        (vec![answer("200 OK", "Content-Encoding: gzip\r\n", better)], "same"),
        (vec![answer("200 OK", "", "{\"responses\":[{\"individual_id\":\"a\",\"code\":500}]}")], "same"),
        (vec![answer("200 OK", "", &better[1..])], "same"),
        (vec![answer("200 OK", "", "[{\"individual_id\":\"c\",\"code\":200}]")], "same"),
        // It holds the connection for as long as it says.
        (vec![answer("429 Too Many Requests", "Retry-After: 1\r\n", limited)], "failed"),
    ] {
        let before = repairs(&world, "individual", outcome_of_repair).await;
        finch.next([said("f1", FIRST)]);
        finch.next(acts);
        let answer = app.call("POST", INDIVIDUAL, REQUEST.into()).await;
        assert_eq!((answer.text().as_str(), answer.header("etag")), (FIRST, "\"e1\""));
        assert_eq!(outcome(&answer), (200, "partial", "total=3, failed=2, pending=0", "", "2"));
        assert_eq!(repairs(&world, "individual", outcome_of_repair).await, before + 1.0);
    }
    // An answer that cannot be looked into is not asked for again.
    let sent = finch.requests().len();
    finch.next([answer("200 OK", "Content-Encoding: gzip\r\n", FIRST)]);
    let encoded = app.call("POST", INDIVIDUAL, REQUEST.into()).await;
    assert_eq!((encoded.text().as_str(), outcome(&encoded)), (FIRST, (200, "ok", "", "", "1")));
    assert_eq!(finch.requests().len(), sent + 1);
    assert_eq!(
        world.metric("perch_uninspected_answers_total{product=\"individual\",why=\"encoded\"}").await,
        1.0
    );
    assert_eq!(line_of(&mut world, &encoded).await["uninspected"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_waits_no_longer_than_its_call_would() {
    let (world, finch) = told(World::with().settings("limits.products.individual = 1")).await;
    finch.next([said("f1", FIRST)]);
    let app = acme(&world).with("perch-repair", "true").with("perch-max-wait", "0");
    let answer = app.call("POST", INDIVIDUAL, REQUEST.into()).await;
    assert_eq!((answer.text().as_str(), answer.header("perch-attempts")), (FIRST, "1"));
    assert_eq!((finch.requests().len(), repairs(&world, "individual", "unsent").await), (1, 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_gone_meanwhile_is_not_asked_again() {
    let (mut world, finch) = told(World::with()).await;
    let gate = Arc::new(Notify::new());
    finch.next([Act::Wait(Arc::clone(&gate)), said("f1", FIRST)]);
    let app = acme(&world).with("perch-repair", "true");
    let call = tokio::spawn(async move { app.call("POST", INDIVIDUAL, REQUEST.into()).await });
    finch.arrived(1).await;
    finch.next([answer("200 OK", "", "{\"status\":\"success\"}")]);
    assert_eq!(acme(&world).post("/disconnect", &json!({})).await.status, 200);
    gate.notify_one();
    let answer = call.await.expect("an answer");
    assert_eq!((answer.text().as_str(), answer.header("perch-attempts")), (FIRST, "1"));
    assert_eq!(finch.requests().len(), 2);
    let line = line_of(&mut world, &answer).await;
    assert_eq!((&line["customer"], &line["connection_id"]), (&json!("acme"), &json!("c-acme")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_202_passes_as_it_is_or_becomes_an_error_that_nobody_repeats() {
    for (settings, is_error) in [("", false), ("merge.not_ready = \"error\"", true)] {
        let mut world = simulated(World::with().settings(settings)).await;
        let mut refused = Vec::new();
        for preset in ["accepted", "accepted_json"] {
            world.fault(json!({ "operation": "get_company", "preset": preset, "times": 1 })).await;
            let answer = acme(&world).get("/employer/company").await;
            assert_eq!(answer.class(), "not_ready");
            assert!(!answer.header("finch-request-id").is_empty());
            if is_error {
                assert_eq!((answer.status, answer.code().as_str()), (503, "perch_not_ready"));
                assert_eq!(answer.header("x-should-retry"), "false");
                assert_eq!(answer.header("content-type"), "application/json");
                let body = answer.json();
                assert_eq!(
                    (&body["perch"]["origin"], &body["perch"]["class"]),
                    (&json!("perch"), &json!("not_ready"))
                );
                assert_eq!(body["perch"]["finch_request_id"], answer.header("finch-request-id"));
                refused.push(answer);
                continue;
            }
            assert_eq!(answer.status, 202);
            assert_eq!(answer.header("transfer-encoding"), "");
            match preset {
                "accepted" => assert_eq!((answer.bytes.len(), answer.header("content-type")), (0, "")),
                _ => assert_eq!(
                    (answer.header("content-type"), answer.json()["code"].as_u64()),
                    ("application/json", Some(202))
                ),
            }
        }
        // A job that is queued already is what was asked for.
        let job = json!({ "type": "data_sync_all" });
        let _ = acme(&world).post("/jobs/automated", &job).await;
        let queued = acme(&world).post("/jobs/automated", &job).await;
        assert_eq!((queued.status, queued.class()), (202, "ok"), "{}", queued.text());
        for answer in refused {
            let line = line_of(&mut world, &answer).await;
            assert_eq!((&line["refusal"], &line["status"]), (&json!("perch_not_ready"), &json!(503)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_data_is_told_in_log_and_metrics() {
    let mut world = simulated(World::with()).await;
    let fresh = acme(&world).get("/employer/company").await;
    world.fault(json!({ "operation": "get_company", "preset": "stale", "times": 1 })).await;
    let stale = acme(&world).get("/employer/company").await;
    assert_eq!((stale.status, stale.class()), (200, "ok"));
    assert_eq!(world.metric("perch_stale_answers_total{product=\"company\",result=\"error\"}").await, 1.0);
    assert_eq!(world.metric("perch_data_age_seconds_count{product=\"company\"}").await, 2.0);
    assert_eq!(world.metric("perch_data_age_seconds_bucket{product=\"company\",le=\"300\"}").await, 1.0);
    let line = line_of(&mut world, &stale).await;
    assert_eq!(line["last_update"], "error");
    assert!(line["data_age_s"].as_u64().is_some_and(|age| age >= 3 * 24 * 3_600), "{line}");
    let line = line_of(&mut world, &fresh).await;
    assert_eq!(line["last_update"], "success");
    assert!(line["data_age_s"].as_u64().is_some_and(|age| age < 300), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_cut_at_a_page_nobody_asked_for_is_noticed() {
    let mut world = simulated(World::with().scenario("employees = 130\n")).await;
    let cut = acme(&world).get(DIRECTORY).await;
    let paged = acme(&world).get(&format!("{DIRECTORY}?limit=10")).await;
    assert_eq!(cut.json()["individuals"].as_array().map(Vec::len), Some(100));
    assert_eq!(world.metric("perch_directory_cut_total").await, 1.0);
    assert_eq!(line_of(&mut world, &cut).await["paging"], json!({ "count": 130, "returned": 100 }));
    assert!(line_of(&mut world, &paged).await.get("paging").is_none());
}

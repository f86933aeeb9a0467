//! Traces: what a collector gets of calls, what Finch gets of traces, and what a collector that is out costs.

use crate::support::canary::{Artefacts, find};
use crate::support::collector::{Collector, SILENCE, hex, text};
use crate::support::raw::{RawFinch, answer};
use crate::support::tls::Authority;
use crate::support::{App, CLIENT_SECRET, TOKEN_MARKER, World, until};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;
use std::sync::Arc;

const TOKEN: &str = "CANARY-token-9c3e-acme";
const COMPANY: &str = "/employer/company";
/// A word that only a query or a body holds.
const PRIVATE: &str = "CANARY-query-value";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

async fn world(collector: &str, settings: &str) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    let settings = format!(
        "traces.endpoint = \"{collector}\"\nmerge.coalesce = false\nlimits.products.company = 1000\n{settings}"
    );
    (World::with().connection("acme", TOKEN).settings(&settings).finch(&finch.url()).start().await, finch)
}

/// An app that traces its call; `flags` tell whether it keeps the trace.
fn tracing(world: &World, flags: &str) -> App {
    world
        .for_customer("acme")
        .with("traceparent", &format!("00-{TRACE}-{SPAN}-{flags}"))
        .with("tracestate", "rojo=1")
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind() == kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_a_tree_of_spans_in_the_trace_of_its_app() {
    let collector = Collector::start(None).await;
    let (mut world, finch) = world(&collector.url(), "").await;
    finch.next([answer("503 Service Unavailable", "Finch-Request-Id: f-1\r\n", "{}")]);
    finch.next([answer("200 OK", "Content-Type: application/json\r\nFinch-Request-Id: f-2\r\n", "{}")]);
    let told = tracing(&world, "01").get(COMPANY).await;
    assert_eq!((told.status, told.header("perch-attempts")), (200, "2"));
    // What waits is sent before perch is gone.
    world.stop().await;
    let spans = collector.spans();
    let [call] = of_kind(&spans, SpanKind::Server)[..] else { panic!("one call: {spans:?}") };
    assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!((call.name.as_str(), call.trace_state.as_str()), ("GET /employer/company", "rojo=1"));
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.route", COMPANY),
        ("http.response.status_code", "200"),
        ("url.scheme", "http"),
        ("perch.request_id", told.header("perch-request-id")),
        ("perch.product", "company"),
        ("perch.class", "ok"),
        ("perch.attempts", "2"),
        ("perch.customer_id", "acme"),
        ("perch.connection_id", "c-acme"),
        ("error.type", ""),
    ] {
        assert_eq!(text(call, key), value, "{key}");
    }
    for part in spans.iter().filter(|span| span.span_id != call.span_id) {
        assert_eq!((&part.trace_id, &part.parent_span_id), (&call.trace_id, &call.span_id), "{part:?}");
        let inside = call.start_time_unix_nano <= part.start_time_unix_nano
            && part.start_time_unix_nano <= part.end_time_unix_nano
            && part.end_time_unix_nano <= call.end_time_unix_nano;
        assert!(inside, "{part:?} in {call:?}");
    }
    let attempts: Vec<&Span> =
        of_kind(&spans, SpanKind::Client).into_iter().filter(|s| s.name.starts_with("GET")).collect();
    let facts: Vec<[String; 4]> = attempts
        .iter()
        .map(|s| {
            ["http.response.status_code", "finch.request_id", "error.type", "http.request.resend_count"]
                .map(|key| text(s, key))
        })
        .collect();
    assert_eq!(facts, [["503", "f-1", "503", ""], ["200", "f-2", "", "1"]]);
    assert!(attempts[0].end_time_unix_nano <= attempts[1].start_time_unix_nano);
    assert!(attempts.iter().all(|s| text(s, "server.address") == "127.0.0.1"));
    assert!(spans.iter().any(|s| s.name == "look up connection" && !text(s, "db.system.name").is_empty()));
    let wait = spans.iter().find(|s| s.name == "wait for quota").expect("it asked for quota");
    assert_eq!((wait.kind(), text(wait, "perch.limiter.limit")), (SpanKind::Internal, "1000".to_owned()));
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    assert_eq!(ids.len(), spans.len(), "no two spans have one id");
    // The log leads to the trace.
    assert_eq!(world.lines.all().last().expect("a line")["trace_id"], TRACE);
    let export = &collector.exports()[0];
    assert_eq!(
        (export.path.as_str(), &export.headers["content-type"]),
        ("/v1/traces", &"application/x-protobuf".parse().expect("a value"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_decides_for_its_own_trace_and_nonsense_begins_a_new_one() {
    let collector = Collector::start(None).await;
    let (mut world, _finch) = world(&collector.url(), "traces.sample = \"0%\"").await;
    // Kept by nobody: one that the app does not keep, one that begins here.
    assert_eq!(tracing(&world, "00").get(COMPANY).await.status, 200);
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
    let bad = world.for_customer("acme").with("traceparent", &format!("00-{TRACE}-{SPAN}-1"));
    assert_eq!(bad.get(COMPANY).await.status, 200);
    assert_eq!(tracing(&world, "01").get(COMPANY).await.status, 200);
    world.stop().await;
    let calls = collector.spans();
    assert_eq!(of_kind(&calls, SpanKind::Server).len(), 1);
    assert!(calls.iter().all(|span| hex(&span.trace_id) == TRACE));
    let ids: Vec<String> = world
        .lines
        .all()
        .iter()
        .map(|line| line["trace_id"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!((ids[0].as_str(), ids[3].as_str()), (TRACE, TRACE));
    assert!(
        ids[1] != TRACE && ids[2] != TRACE && ids[1] != ids[2] && ids.iter().all(|id| id.len() == 32),
        "{ids:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finch_hears_of_a_trace_only_when_an_operator_says_so() {
    let collector = Collector::start(None).await;
    for propagates in [false, true] {
        let before = collector.spans().len();
        let (mut world, finch) = world(&collector.url(), &format!("traces.propagate = {propagates}")).await;
        assert_eq!(tracing(&world, "01").get(COMPANY).await.status, 200);
        world.stop().await;
        let request = finch.requests()[0].to_ascii_lowercase();
        if !propagates {
            assert!(!request.contains("trace") && !request.contains(TRACE), "{request}");
            continue;
        }
        let spans = collector.spans().split_off(before);
        let attempt =
            spans.iter().find(|span| span.name.starts_with("GET") && span.kind() == SpanKind::Client);
        let parent =
            format!("traceparent: 00-{TRACE}-{}-01\r\n", hex(&attempt.expect("it was sent").span_id));
        assert!(
            request.contains(&parent) && request.contains("tracestate: rojo=1\r\n"),
            "{parent}: {request}"
        );
    }
    // Without traces nothing of the app's passes either.
    let finch = RawFinch::start().await;
    let world = World::with().connection("acme", TOKEN).finch(&finch.url()).start().await;
    assert_eq!(tracing(&world, "01").get(COMPANY).await.status, 200);
    assert!(!finch.requests()[0].to_ascii_lowercase().contains("trace"));
    assert!(world.metric("perch_traces_total{outcome=\"sent\"}").await < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finch_hears_of_the_trace_when_it_is_asked_about_a_token_too() {
    let collector = Collector::start(None).await;
    let (mut world, finch) = world(&collector.url(), "traces.propagate = true").await;
    let json = "Content-Type: application/json\r\n";
    let token = format!("{TOKEN_MARKER}-new");
    let exchanged = json!({ "access_token": token, "connection_id": "c-new", "customer_id": "new" });
    finch.next([answer("200 OK", json, &exchanged.to_string())]);
    finch.next([answer("200 OK", json, &json!({ "connection_id": "c-new" }).to_string())]);
    let code = json!({ "client_id": "x", "client_secret": "y", "code": "any" });
    let app = world.app().with("traceparent", &format!("00-{TRACE}-{SPAN}-01"));
    let told = app.post("/auth/token", &code).await;
    assert_eq!(told.status, 200, "{}", told.text());
    world.stop().await;
    let requests = finch.requests();
    assert!(requests[1].starts_with("GET /introspect "), "{requests:?}");
    let attempts: Vec<String> = of_kind(&collector.spans(), SpanKind::Client)
        .into_iter()
        .filter(|span| !span.name.starts_with("look up"))
        .map(|span| format!("traceparent: 00-{TRACE}-{}-01\r\n", hex(&span.span_id)))
        .collect();
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    for (request, parent) in requests.iter().zip(attempts) {
        assert!(request.to_ascii_lowercase().contains(&parent), "{parent}: {request}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_out_costs_spans_and_no_call() {
    // Somebody listens there who never answers.
    let collector = Collector::start(None).await;
    collector.answer(SILENCE);
    let (mut world, _finch) = world(&collector.url(), "").await;
    let app = world.for_customer("acme");
    // A batch is on its way, the queue fills behind it, and the rest finds no room.
    let dropped = "perch_traces_total{outcome=\"dropped\"}";
    until("spans are dropped", async || {
        for _ in 0..50 {
            assert_eq!(app.get(COMPANY).await.status, 200);
        }
        world.metric(dropped).await > 0.0
    })
    .await;
    assert_eq!(app.get(COMPANY).await.status, 200);
    // Stopping does not wait for it either.
    world.stop().await;
    assert_eq!(world.lines.all().len() % 50, 1, "every call has its line");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_does_not_take_is_counted() {
    let collector = Collector::start(None).await;
    collector.answer(400);
    let (world, _finch) = world(&collector.url(), "").await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
    let failed = "perch_traces_total{outcome=\"failed\"}";
    until("it was refused", async || world.metric(failed).await > 0.0).await;
    let count = collector.spans().len() as f64;
    assert!((world.metric(failed).await - count).abs() < 1e-9, "each span once");
    assert_eq!(collector.exports().len(), 1, "what is refused is not offered again");
    // A collector that is busy is asked again.
    collector.answer(503);
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
    collector.arrived(2).await;
    collector.answer(200);
    until("it was taken", async || world.metric("perch_traces_total{outcome=\"sent\"}").await > 0.0).await;
    let exports = collector.exports();
    assert_eq!(exports[1].body, exports[2].body, "the same batch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_elsewhere_is_reached_over_tls_with_the_header_it_asks_for() {
    let authority = Authority::new();
    let collector = Collector::start(Some(authority.certify("localhost", (2020, 2100)))).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (anchor, key) = (folder.path().join("ca.pem"), folder.path().join("key"));
    std::fs::write(&anchor, &authority.pem).expect("written");
    std::fs::write(&key, "CANARY-collector-key\n").expect("written");
    let settings = format!(
        "finch.ca_file = \"{}\"\ntraces.headers = {{ api-key = \"file:{}\" }}\ntraces.service_name = \"payroll\"",
        anchor.display(),
        key.display()
    );
    let (mut world, _finch) = world(&collector.url(), &settings).await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
    world.stop().await;
    let export = &collector.exports()[0];
    assert_eq!(export.headers["api-key"], "CANARY-collector-key");
    let names = &export.request.resource_spans[0].resource.as_ref().expect("a resource").attributes;
    assert!(names.iter().any(|name| format!("{name:?}").contains("payroll")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_body_or_query_is_in_any_span() {
    let collector = Collector::start(None).await;
    let settings =
        format!("traces.endpoint = \"{}\"\nretry.attempts = 1\nshield.probe = \"off\"", collector.url());
    let mut world = World::with()
        .scenario("employees = 2\n[[customer]]\nid = \"acme\"\n")
        .settings(&settings)
        .start()
        .await;
    let reference =
        world.connect("acme", "gusto").await["access_token"].as_str().expect("a reference").to_owned();
    let app = world.for_customer("acme");
    let headers = json!({ "finch-request-id": "{authorization}", "finch-echo": "{authorization}" });
    for status in [200, 401, 500] {
        let body = json!({ "message": "{authorization}", "name": PRIVATE, "finch_code": "{authorization}" });
        world.fault(json!({ "operation": "get_company", "status": status, "body": body, "headers": headers, "times": 1 })).await;
        app.get(&format!("{COMPANY}?x={PRIVATE}")).await;
    }
    let asked = json!({ "requests": [{ "individual_id": PRIVATE }] });
    app.post("/employer/individual", &asked).await;
    app.get(&format!("/employer/benefits/{PRIVATE}")).await;
    app.get(&format!("/{PRIVATE}")).await;
    world.app().with("authorization", &format!("Bearer {reference}")).get("/introspect").await;
    world.app().with("authorization", "Bearer CANARY-token-9c3e-brought").get(COMPANY).await;
    world.stop().await;
    let sent: Artefacts = collector
        .exports()
        .iter()
        .enumerate()
        .map(|(n, export)| (format!("export {n}"), export.body.to_vec()))
        .collect();
    assert!(!sent.is_empty());
    assert_eq!(find(&sent, &[TOKEN_MARKER, CLIENT_SECRET, PRIVATE]), Vec::<String>::new());
    assert!(of_kind(&collector.spans(), SpanKind::Server).len() >= 9);
}

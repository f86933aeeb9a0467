//! What becomes a span, and what never does.

use super::otlp;
use super::queue::{BATCH, Queue, SPANS_MAX};
use super::span::{Kind, Place, Span, Value, When, spans};
use super::{Rules, Traces};
use crate::policy::Class;
use crate::policy::trace::{Context, Parent, SpanId, TRACEPARENT, TraceId};
use crate::telemetry::AccessLine;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::timeline::{Awaited, Did, Limiter, STEPS_MAX};
use crate::types::{ConnectionId, CustomerId, FinchRequestId, Product, RequestId, UnixMillis};
use http::{HeaderMap, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use std::time::Duration;
use tokio::time::{Instant, advance};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// A time of day, in nanoseconds.
const NOON: u64 = 1_700_000_000_000_000_000;
const MS: u64 = 1_000_000;

fn place() -> Place {
    Place { scheme: "http", database: "sqlite", finch_host: "api.tryfinch.com".to_owned(), finch_port: 443 }
}

fn fresh() -> (TraceId, SpanId) {
    (TraceId::new([7; 16]).expect("an id"), SpanId::new([9; 8]).expect("an id"))
}

fn parent() -> Option<Parent> {
    Parent::read(&HeaderMap::from_iter([(
        http::HeaderName::from_static(TRACEPARENT),
        HeaderValue::from_static(PARENT),
    )]))
}

/// A call that looked up, waited, was sent twice and took 100 ms.
async fn line(parent: Option<Parent>, percent: u32) -> (AccessLine, When) {
    let mut line = AccessLine::begin(RequestId::new("r-1").expect("an id"), UnixMillis(0));
    line.trace = Some(Context::of_call(parent, fresh(), percent));
    line.product = Product::Directory.as_str();
    (line.method, line.path, line.status) = ("GET", "/employer/directory", 200);
    (line.class, line.attempts) = (Class::Ok, 2);
    line.customer = Some(CustomerId::new("acme").expect("an id"));
    line.connection_id = Some(ConnectionId::new("c-acme").expect("an id"));
    let mut step = async |ms, did| {
        let began = Instant::now();
        advance(Duration::from_millis(ms)).await;
        line.timeline.note(began, did);
    };
    let limiter = Some(Limiter { limiter: "memory", used: 20, limit: 20 });
    let id = |id: &str| Some(FinchRequestId::new(id).expect("an id"));
    let product = Product::Directory;
    step(5, Did::LookUp { is_answered: true }).await;
    step(20, Did::Wait { what: Awaited::Quota, is_over: true, limiter }).await;
    step(30, Did::Attempt { product, status: Some(503), failed: None, finch_request_id: id("f-1") }).await;
    step(40, Did::Attempt { product, status: Some(200), failed: None, finch_request_id: id("f-2") }).await;
    line.total = Duration::from_millis(100);
    let when = When { ended: NOON, began_ago: line.timeline.came().elapsed() };
    (line, when)
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
}

fn text(span: &Span, key: &str) -> String {
    match attribute(span, key) {
        Some(Value::Text(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_becomes_a_tree_of_its_steps() {
    let (line, when) = line(parent(), 100).await;
    let all = spans(&line, when, &place());
    let names: Vec<(&str, Kind)> = all.iter().map(|span| (span.name.as_str(), span.kind)).collect();
    let route = "GET /employer/directory";
    assert_eq!(
        names,
        [
            (route, Kind::Server),
            ("look up connection", Kind::Client),
            ("wait for quota", Kind::Internal),
            (route, Kind::Client),
            (route, Kind::Client),
        ]
    );
    let (call, parts) = all.split_first().expect("its own span");
    let parent = parent().expect("one");
    assert_eq!(
        (call.trace_id, call.parent, call.is_parent_remote),
        (parent.trace_id, Some(parent.span_id), true)
    );
    assert_eq!((call.began, call.ended), (NOON - 100 * MS, NOON));
    for (at, part) in parts.iter().enumerate() {
        assert_eq!(
            (part.trace_id, part.parent, part.is_parent_remote),
            (call.trace_id, Some(call.span_id), false)
        );
        assert_eq!(part.span_id, call.span_id.of_step(at));
        assert!(call.began <= part.began && part.began <= part.ended && part.ended <= call.ended, "{part:?}");
    }
    // The engine began 95 ms before the end, the door 5 ms before the engine.
    let ends: Vec<u64> = parts.iter().map(|part| (NOON - part.ended) / MS).collect();
    assert_eq!(ends, [90, 70, 40, 0]);
    assert_eq!(
        (text(call, "http.request.method"), text(call, "http.route")),
        ("GET".into(), "/employer/directory".into())
    );
    assert_eq!((text(call, "perch.customer_id"), text(call, "perch.class")), ("acme".into(), "ok".into()));
    assert_eq!((attribute(call, "error.type"), call.error), (None, None));
    assert_eq!(text(&parts[0], "db.system.name"), "sqlite");
    assert_eq!(
        (text(&parts[1], "perch.limiter.mode"), attribute(&parts[1], "perch.limiter.used")),
        ("memory".into(), Some(&Value::Whole(20)))
    );
    assert_eq!(
        (text(&parts[2], "error.type"), text(&parts[2], "finch.request_id")),
        ("503".into(), "f-1".into())
    );
    assert_eq!((attribute(&parts[2], "http.request.resend_count"), parts[2].error), (None, Some("")));
    assert_eq!(
        (attribute(&parts[3], "http.request.resend_count"), parts[3].error),
        (Some(&Value::Whole(1)), None)
    );
}

#[tokio::test(start_paused = true)]
async fn what_failed_says_so_where_it_failed() {
    let (mut line, when) = line(None, 100).await;
    let began = Instant::now();
    let unanswered = Did::Attempt {
        product: Product::Directory,
        status: None,
        failed: Some("no answer in time"),
        finch_request_id: None,
    };
    line.timeline.note(began, unanswered);
    line.timeline.note(began, Did::LookUp { is_answered: false });
    let (product, finch_request_id) = (Product::Introspect, None);
    line.timeline.note(began, Did::Attempt { product, status: Some(401), failed: None, finch_request_id });
    (line.status, line.class) = (504, Class::FinchUnreachable);
    let all = spans(&line, when, &place());
    assert_eq!((text(&all[0], "error.type"), all[0].error), ("finch_unreachable".into(), Some("")));
    assert_eq!(
        (text(&all[5], "error.type"), all[5].error),
        ("finch_unreachable".into(), Some("no answer in time"))
    );
    assert_eq!((text(&all[6], "error.type"), all[6].error), ("vault_unanswered".into(), Some("")));
    // What perch asked on the call's behalf is named as what it was.
    assert_eq!((all[7].name.as_str(), text(&all[7], "error.type")), ("GET /introspect", "401".into()));
    // The client's mistake is no failure of the server.
    (line.status, line.class) = (422, Class::InvalidRequest);
    let call = &spans(&line, when, &place())[0];
    assert_eq!((text(call, "error.type"), call.error), ("invalid_request".into(), None));
    // A path that is none of Finch's, and a method that is none.
    (line.method, line.path) = ("OTHER", "");
    let call = &spans(&line, when, &place())[0];
    assert_eq!((call.name.as_str(), text(call, "http.request.method")), ("HTTP", "_OTHER".into()));
    assert_eq!(attribute(call, "http.route"), None);
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_is_not_kept_has_no_spans() {
    for (percent, count) in [(0, 0), (100, 5)] {
        let (mut line, when) = line(None, percent).await;
        assert_eq!(spans(&line, when, &place()).len(), count);
        line.trace = None;
        assert_eq!(spans(&line, when, &place()), []);
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_that_disagree_do_not_carry_a_part_outside_its_whole() {
    let (mut line, mut when) = line(None, 100).await;
    // Measured apart, the whole can be shorter than what it is made of.
    line.total = Duration::from_millis(10);
    when.began_ago = Duration::from_millis(50);
    for part in spans(&line, when, &place()) {
        assert!(part.began >= NOON - 50 * MS && part.began <= part.ended && part.ended <= NOON, "{part:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn opentelemetrys_own_types_read_what_is_sent() {
    let (line, when) = line(parent(), 100).await;
    let all = spans(&line, when, &place());
    let sent = otlp::request(&all, "payroll");
    let read = ExportTraceServiceRequest::decode(sent.as_slice()).expect("OTLP");
    // Nothing was left over: what it was read into writes the same bytes.
    assert_eq!(read.encode_to_vec(), sent);
    let [resource] = read.resource_spans.as_slice() else { panic!("one resource") };
    let known = &resource.resource.as_ref().expect("a resource").attributes;
    let name = known.iter().find(|attribute| attribute.key == "service.name").and_then(|a| a.value.clone());
    assert_eq!(name.and_then(|v| v.value), Some(any_value::Value::StringValue("payroll".to_owned())));
    let [scope] = resource.scope_spans.as_slice() else { panic!("one scope") };
    assert_eq!(scope.scope.as_ref().expect("a scope").name, "perch");
    assert_eq!(scope.spans.len(), all.len());
    for (wire, span) in scope.spans.iter().zip(&all) {
        assert_eq!(
            (wire.trace_id.as_slice(), wire.span_id.as_slice()),
            (&span.trace_id.bytes()[..], &span.span_id.bytes()[..])
        );
        assert_eq!((wire.start_time_unix_nano, wire.end_time_unix_nano), (span.began, span.ended));
        assert_eq!((&wire.name, wire.attributes.len()), (&span.name, span.attributes.len()));
        assert_eq!(wire.kind as u8, [1, 2, 3][span.kind as usize]);
        let failed = wire.status.as_ref().map(|status| status.code());
        assert_eq!(failed, span.error.map(|_| StatusCode::Error));
    }
    let remote = scope.spans.iter().map(|span| span.flags & 0x200 != 0).collect::<Vec<_>>();
    assert_eq!(remote, [true, false, false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted_and_a_call_is_never_halved() {
    let (line, when) = line(None, 100).await;
    let five = || spans(&line, when, &place());
    let queue = Queue::default();
    let calls = SPANS_MAX / 5;
    assert!((0..calls).all(|_| queue.add(five()) == 0));
    assert_eq!(queue.add(five()), 5);
    assert_eq!(queue.len(), calls * 5);
    assert_eq!((queue.take().len(), queue.len()), (BATCH, calls * 5 - BATCH));
    assert_eq!(queue.add(five()), 0);
}

#[tokio::test]
async fn what_finch_is_told_of_a_step_is_the_span_that_the_collector_gets_or_nothing() {
    let traces = Traces {
        rules: Rules { place: place(), sample_percent: 100, propagates: true },
        queue: std::sync::Arc::default(),
        counts: Metrics::new().expect("metrics").traces,
        stop: tokio::sync::watch::channel(false).0,
        sender: std::sync::Mutex::new(None),
    };
    let mut line = AccessLine::begin(RequestId::new("r").expect("an id"), UnixMillis(0));
    line.trace = Some(Context::of_call(parent(), fresh(), 100));
    let mut told = Vec::new();
    for _ in 0..STEPS_MAX + 2 {
        told.push(traces.propagated(&line).map(|headers| headers[TRACEPARENT].clone()));
        line.timeline.note(Instant::now(), Did::Share);
    }
    let (kept, beyond) = told.split_at(STEPS_MAX);
    assert_eq!(beyond, [None, None]);
    let when = When { ended: NOON, began_ago: Duration::ZERO };
    let steps = spans(&line, when, &place()).split_off(1);
    assert_eq!(steps.len(), STEPS_MAX);
    for (told, span) in kept.iter().zip(steps) {
        let told = told.as_ref().and_then(|told| told.to_str().ok()).expect("Finch is told");
        assert!(told.contains(&format!("-{}-", span.span_id)), "{told}");
    }
}

//! Spans on the wire: OTLP's request, in protobuf. These are the fields of `opentelemetry/proto/collector/trace/v1` and of
//! what it is made of that perch fills; the tests read them with the types that OpenTelemetry itself makes.

use super::span::{Kind, Span, Value};
use prost::Message;

/// Where a trace's flags say whether its parent is known to be another program's (`SpanFlags`).
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;
const SAMPLED: u32 = 1;

#[derive(Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<WireSpan>,
}

#[derive(Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Message)]
struct WireSpan {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Message)]
struct AnyValue {
    #[prost(oneof = "OneValue", tags = "1, 2, 3")]
    value: Option<OneValue>,
}

#[derive(prost::Oneof)]
enum OneValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Flag(bool),
    #[prost(int64, tag = "3")]
    Whole(i64),
}

#[derive(Message)]
struct ExportAnswer {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
}

/// A request that exports these spans, in the name of this service.
pub(super) fn request(spans: &[Span], service: &str) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [("service.name", service), ("service.version", version)]
        .map(|(key, value)| attribute(key, &Value::Text(value.to_owned())));
    let scope = Scope { name: "perch".to_owned(), version: version.to_owned() };
    ExportRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource.into() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans: spans.iter().map(on_wire).collect() }],
        }],
    }
    .encode_to_vec()
}

/// How many spans of a request that was answered well the collector did not take. An answer that is none rejects nothing.
pub(super) fn rejected(answer: &[u8]) -> u64 {
    let answer = ExportAnswer::decode(answer).unwrap_or_default();
    answer.partial_success.and_then(|part| u64::try_from(part.rejected_spans).ok()).unwrap_or_default()
}

fn on_wire(span: &Span) -> WireSpan {
    let remote = if span.is_parent_remote { IS_REMOTE } else { 0 };
    WireSpan {
        trace_id: span.trace_id.bytes().into(),
        span_id: span.span_id.bytes().into(),
        trace_state: span.state.clone(),
        parent_span_id: span.parent.map(|id| id.bytes().into()).unwrap_or_default(),
        name: span.name.clone(),
        kind: match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: span.began,
        end_time_unix_nano: span.ended,
        attributes: span.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        // STATUS_CODE_ERROR; a span that did not fail has no status.
        status: span.error.map(|why| Status { message: why.to_owned(), code: 2 }),
        flags: HAS_IS_REMOTE | remote | SAMPLED,
    }
}

fn attribute(key: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => OneValue::Text(text.clone()),
        Value::Whole(n) => OneValue::Whole(*n),
        Value::Flag(flag) => OneValue::Flag(*flag),
    };
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

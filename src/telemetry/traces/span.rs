//! What a finished call is to a tracing system: one span for the call, one for each thing it waited for, asked or sent.
//! Made from the access line and its timeline, after the call: no span holds what those do not.
//!
//! Names follow OpenTelemetry's semantic conventions for HTTP and databases where these have one. `url.path` and the
//! query stay out, as they do in the log: ids and names may stand there.

use crate::policy::Class;
use crate::policy::trace::{Context, SpanId, TraceId};
use crate::telemetry::AccessLine;
use crate::telemetry::timeline::{Awaited, Did, Step};
use crate::types::Product;
use std::time::Duration;

/// What perch asks on a call's behalf.
const INTROSPECT: &str = "/introspect";

/// What a gateway is, the same for all of its spans.
#[derive(Debug, Clone)]
pub struct Place {
    /// How apps reach it: `http` or `https`.
    pub scheme: &'static str,
    /// What keeps its vault: `sqlite` or `postgresql`.
    pub database: &'static str,
    /// Finch's host.
    pub finch_host: String,
    /// Finch's port.
    pub finch_port: u16,
}

/// When a call was, on the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// Its end, in nanoseconds since 1970.
    pub ended: u64,
    /// How long before that the engine began it: what the timeline counts from.
    pub began_ago: Duration,
}

/// Who is at the other end of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody: it is perch's own doing.
    Internal,
    /// Somebody who asked perch.
    Server,
    /// Somebody whom perch asked.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Whole(i64),
    /// Yes or no.
    Flag(bool),
}

/// One span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// Whether that is another program's.
    pub is_parent_remote: bool,
    /// `tracestate`, for the call's own span.
    pub state: String,
    /// What was done.
    pub name: String,
    /// Who is at its other end.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// The same.
    pub ended: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, when it did; empty when the attributes say it all.
    pub error: Option<&'static str>,
}

/// The spans of a finished call, its own first. None when its trace is not kept.
pub fn spans(line: &AccessLine, when: When, place: &Place) -> Vec<Span> {
    let Some(context) = line.trace.as_ref().filter(|context| context.is_sampled) else { return Vec::new() };
    let call = of_call(line, context, when, place);
    let (began, ended) = (call.began, call.ended);
    let zero = when.ended.saturating_sub(nanos(when.began_ago));
    let mut spans = vec![call];
    let mut attempts = 0;
    for (at, step) in line.timeline.steps().iter().enumerate() {
        let (name, kind, attributes, error) = of_step(step, line, place, &mut attempts);
        // Rounding must not carry a part outside its whole.
        let from = zero.saturating_add(nanos(step.at)).clamp(began, ended);
        let to = zero.saturating_add(nanos(step.at + step.lasted)).clamp(from, ended);
        spans.push(Span {
            trace_id: context.trace_id,
            span_id: context.span_id.of_step(at),
            parent: Some(context.span_id),
            is_parent_remote: false,
            state: String::new(),
            name,
            kind,
            began: from,
            ended: to,
            attributes,
            error,
        });
    }
    spans
}

fn of_call(line: &AccessLine, context: &Context, when: When, place: &Place) -> Span {
    let method = if line.method == "OTHER" { "_OTHER" } else { line.method };
    // A name has few values: "HTTP" stands for a method that is none (semantic conventions, HTTP, "Name").
    let verb = if line.method == "OTHER" { "HTTP" } else { line.method };
    let name = if line.path.is_empty() { verb.to_owned() } else { format!("{verb} {}", line.path) };
    let mut known = Known::default();
    known.text("http.request.method", method);
    known.some("http.route", Some(line.path).filter(|path| !path.is_empty()));
    known.text("url.scheme", place.scheme);
    known.whole("http.response.status_code", u64::from(line.status));
    known.some("error.type", is_failure(line.class).then(|| line.class.as_str()));
    known.whole("http.request.body.size", line.bytes_in);
    known.whole("http.response.body.size", line.bytes_out);
    known.text("perch.request_id", line.request_id.as_str());
    known.text("perch.product", line.product);
    known.text("perch.class", line.class.as_str());
    known.whole("perch.attempts", u64::from(line.attempts));
    known.whole("perch.wait_ms", u64::try_from(line.wait.as_millis()).unwrap_or(u64::MAX));
    known.some("perch.refusal", line.refusal);
    known.some("perch.app", line.app.as_ref().map(|app| app.as_str()));
    known.some("perch.by", line.by);
    known.some("perch.customer_id", line.customer.as_ref().map(|id| id.as_str()));
    known.some("perch.connection_id", line.connection_id.as_ref().map(|id| id.as_str()));
    known.some("perch.company_id", line.company_id.as_ref().map(|id| id.as_str()));
    known.some("perch.provider", line.provider.as_ref().map(|id| id.as_str()));
    known.some("perch.cache", line.cache);
    known.some("perch.resend_of", line.resend_of.as_ref().map(|id| id.as_str()));
    known.some("perch.carried_by", line.carried_by.as_ref().map(|id| id.as_str()));
    if line.client_gone {
        known.flag("perch.client_gone", true);
    }
    Span {
        trace_id: context.trace_id,
        span_id: context.span_id,
        parent: context.parent,
        is_parent_remote: context.parent.is_some(),
        state: context.state.as_str().to_owned(),
        name,
        kind: Kind::Server,
        began: when.ended.saturating_sub(nanos(line.total.max(when.began_ago))),
        ended: when.ended,
        attributes: known.0,
        // A server's span has failed when the server has: with a 5xx (semantic conventions, HTTP, "Status").
        error: (line.status >= 500).then_some(""),
    }
}

type Part = (String, Kind, Vec<(&'static str, Value)>, Option<&'static str>);

fn of_step(step: &Step, line: &AccessLine, place: &Place, attempts: &mut u64) -> Part {
    let mut known = Known::default();
    match &step.did {
        Did::LookUp { is_answered } => {
            known.text("db.system.name", place.database);
            known.some("error.type", (!is_answered).then_some("vault_unanswered"));
            ("look up connection".to_owned(), Kind::Client, known.0, (!is_answered).then_some(""))
        }
        Did::Wait { what, is_over, limiter } => {
            let what = match what {
                Awaited::Quota => "quota",
                Awaited::Hold => "hold",
                Awaited::Twin => "twin",
            };
            known.text("perch.wait.for", what);
            known.flag("perch.wait.is_over", *is_over);
            if let Some(limiter) = limiter {
                known.text("perch.limiter.mode", limiter.limiter);
                known.whole("perch.limiter.used", u64::from(limiter.used));
                known.whole("perch.limiter.limit", u64::from(limiter.limit));
            }
            known.text("perch.product", line.product);
            (format!("wait for {what}"), Kind::Internal, known.0, None)
        }
        Did::Share => {
            known.some("perch.carried_by", line.carried_by.as_ref().map(|id| id.as_str()));
            ("share attempt".to_owned(), Kind::Internal, known.0, None)
        }
        Did::Attempt { product, status, failed, finch_request_id } => {
            let resends = std::mem::replace(attempts, *attempts + 1);
            let is_question = *product == Product::Introspect && line.product != product.as_str();
            let (method, path) = if is_question { ("GET", INTROSPECT) } else { (line.method, line.path) };
            known.text("http.request.method", method);
            known.text("url.template", path);
            known.text("server.address", &place.finch_host);
            known.whole("server.port", u64::from(place.finch_port));
            if let Some(status) = status {
                known.whole("http.response.status_code", u64::from(*status));
            }
            let is_bad = status.is_none_or(|status| status >= 400);
            let kind_of_error = match status {
                Some(status) => status.to_string(),
                None => Class::FinchUnreachable.as_str().to_owned(),
            };
            known.some("error.type", is_bad.then_some(kind_of_error.as_str()));
            if resends > 0 {
                known.whole("http.request.resend_count", resends);
            }
            known.text("perch.product", product.as_str());
            known.some("finch.request_id", finch_request_id.as_ref().map(|id| id.as_str()));
            let name = format!("{method} {path}");
            (name, Kind::Client, known.0, is_bad.then_some(failed.unwrap_or_default()))
        }
    }
}

/// Whether a class tells of something that somebody has to mend, or wait out.
const fn is_failure(class: Class) -> bool {
    !matches!(class, Class::Ok | Class::Partial | Class::NotReady)
}

#[derive(Default)]
struct Known(Vec<(&'static str, Value)>);

impl Known {
    fn text(&mut self, key: &'static str, value: &str) {
        self.0.push((key, Value::Text(value.to_owned())));
    }

    fn some(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn whole(&mut self, key: &'static str, value: u64) {
        self.0.push((key, Value::Whole(i64::try_from(value).unwrap_or(i64::MAX))));
    }

    fn flag(&mut self, key: &'static str, value: bool) {
        self.0.push((key, Value::Flag(value)));
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

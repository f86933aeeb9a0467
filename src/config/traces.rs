//! The section of traces: which collector is told, of how many calls, and whether Finch is.

use super::problem::{Check, Complaint, shown};
use super::reader::Reader;
use super::reference::{reference, resolve};
use super::sound::{BaseUrl, Target};
use super::value::{Setting, flag, kind, percent};
use super::webhooks::target;
use crate::types::CollectorKey;
use http::{HeaderName, HeaderValue};

/// The most headers that a collector asks for.
const HEADERS_MAX: usize = 8;
/// The longest name of a service.
const NAME_BYTES_MAX: usize = 255;
/// Where OTLP's traces go, behind the address of a collector.
const TRACES: &str = "/v1/traces";
/// What perch sets itself.
const OWN_HEADERS: [&str; 5] = ["content-length", "content-type", "host", "transfer-encoding", "user-agent"];

/// What is told of calls, and to whom.
#[derive(Debug)]
pub struct Traces {
    /// The collector; none. Never one of perch's own doors.
    pub collector: Option<CollectorAt>,
    /// How many of a hundred traces that begin here are kept; 100.
    pub sample: u32,
    /// Whether Finch gets `traceparent`; no.
    pub propagate: bool,
    /// In whose name spans are sent; `perch`.
    pub service_name: String,
}

/// A collector of traces.
#[derive(Debug)]
pub struct CollectorAt {
    /// Where it is.
    pub base: BaseUrl,
    /// Where it takes traces.
    pub path: String,
    /// Headers that it asks for; each can stand in a request.
    pub headers: Vec<(HeaderName, CollectorKey)>,
}

pub(super) fn traces(r: &mut Reader<'_>) -> Option<Traces> {
    let env = r.env;
    let target = r.get_unless_empty("traces.endpoint", endpoint);
    let sample = r.get("traces.sample", |s| percent(s, 0, 100));
    let propagate = r.get("traces.propagate", flag);
    let headers = r.get("traces.headers", |s| {
        headers(s, |s| resolve(&reference(s)?, env).map(|mut t| std::mem::take(&mut *t)))
    });
    let service_name = r.get("traces.service_name", service_name);
    let (target, headers) = (target?, headers?);
    Some(Traces {
        collector: target.map(|Target { base, path }| CollectorAt { base, path, headers }),
        sample: sample?,
        propagate: propagate?,
        service_name: service_name?,
    })
}

/// Reads `http://127.0.0.1:4318`, as `OTEL_EXPORTER_OTLP_ENDPOINT` is written: the path of traces is added.
pub(super) fn endpoint(s: &Setting) -> Check<Target> {
    let Target { base, path } =
        target(s).map_err(|complaint| match complaint.what.contains("in the clear") {
            true => Complaint::new(
                "is http:// to another machine; whose calls were made when would travel in the clear",
            )
            .hint("write https://, or run a collector on this machine"),
            false => complaint,
        })?;
    if path.contains('?') {
        return Err(Complaint::new("has a query, which a collector does not").hint("write the address alone"));
    }
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(TRACES).unwrap_or(path);
    Ok(Target { base, path: format!("{path}{TRACES}") })
}

/// Reads `{ "api-key" = "env:COLLECTOR_KEY" }`.
fn headers(s: &Setting, read: impl Fn(&Setting) -> Check<String>) -> Check<Vec<(HeaderName, CollectorKey)>> {
    let Some(table) = s.value.as_table() else {
        let complaint = Complaint::new(format!("is {}; a table is needed", kind(&s.value)));
        return Err(complaint.hint("write { api-key = \"env:NAME\" }"));
    };
    if table.len() > HEADERS_MAX {
        return Err(Complaint::new(format!("has {} headers; {HEADERS_MAX} is the most", table.len())));
    }
    let header = |(name, value): (&String, &toml::Value)| {
        let of = |what: &str| Complaint::new(format!("of \"{}\" {what}", shown(name)));
        let known = HeaderName::try_from(name.as_str()).map_err(|_| of("names no header"))?;
        if OWN_HEADERS.contains(&known.as_str()) {
            return Err(of("sets a header that perch sets itself"));
        }
        let value = read(&Setting { value: value.clone(), place: s.place.clone() })
            .map_err(|complaint| Complaint { what: of(&complaint.what).what, ..complaint })?;
        match HeaderValue::from_str(&value) {
            Ok(_) if value.is_ascii() => Ok((known, CollectorKey::new(value))),
            Ok(_) | Err(_) => Err(of("refers to a text that cannot stand in a header")),
        }
    };
    table.iter().map(header).collect()
}

fn service_name(s: &Setting) -> Check<String> {
    let text = s.text()?;
    let is_plain = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    match is_plain {
        true => Ok(text.to_owned()),
        false => Err(Complaint::new("is no name of a service").hint("write perch, or a name of your own")),
    }
}

/// A trace that nobody gets is passed on to nobody either, and secrets are for somebody.
pub(super) fn traces_have_a_collector(r: &mut Reader<'_>) {
    if !r.is_empty("traces.endpoint") {
        return;
    }
    if r.again("traces.propagate", flag) == Some(true) {
        let complaint = Complaint::new("is true, and there is no `traces.endpoint`: no trace is begun");
        r.complain("traces.propagate", complaint.hint("set traces.endpoint, or write false"));
    }
    if r.again("traces.headers", |s| Ok(s.value.as_table().is_some_and(|table| !table.is_empty())))
        == Some(true)
    {
        let complaint = Complaint::new("is set, and there is no `traces.endpoint` to send it to");
        r.complain("traces.headers", complaint.hint("set traces.endpoint, or write {}"));
    }
}

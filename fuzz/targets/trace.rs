//! `traceparent` and `tracestate`: what is taken over is lawful, and what goes out again means the same.

use super::input;
use http::HeaderMap;
use perch::policy::trace::{Context, Parent, SpanId, TraceId};

/// Header lines.
pub fn target(data: &[u8]) {
    let headers = input::headers(data.split(|byte| *byte == b'\n'));
    let fresh = (TraceId::new([1; 16]).expect("not zero"), SpanId::new([2; 8]).expect("not zero"));
    let Some(parent) = Parent::read(&headers) else { return };
    let text = String::from_utf8_lossy(headers["traceparent"].as_bytes()).into_owned();
    let fields: Vec<&str> = text.split('-').collect();
    let is_hex = |text: &str, digits| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    assert_eq!(headers.get_all("traceparent").iter().count(), 1);
    assert!(fields.len() == 4 || (fields.len() > 4 && fields[0] != "00"), "{text}");
    assert!([2, 32, 16, 2].iter().zip(&fields).all(|(digits, field)| is_hex(field, *digits)), "{text}");
    assert_ne!(fields[0], "ff");
    assert_eq!(
        (parent.trace_id.to_string().as_str(), parent.span_id.to_string().as_str()),
        (fields[1], fields[2])
    );
    assert!(fields[1].bytes().any(|b| b != b'0') && fields[2].bytes().any(|b| b != b'0'));
    let flags = u8::from_str_radix(fields[3], 16).expect("hexadecimal");
    assert_eq!(parent.is_sampled, flags & 1 == 1);
    let state = parent.state.as_str().to_owned();
    assert!(
        state.len() <= 512
            && state.split(',').count() <= 32
            && state.bytes().all(|b| (b' '..0x7f).contains(&b))
    );
    let context = Context::of_call(Some(parent.clone()), fresh, 100);
    assert_eq!(context.trace_id, parent.trace_id);
    let mut out = HeaderMap::new();
    out.insert("traceparent", context.traceparent(0).parse().expect("a header"));
    out.insert("tracestate", state.parse().expect("a header"));
    let again = Parent::read(&out).expect("what goes out is lawful");
    assert_eq!(
        (again.trace_id, again.is_sampled, again.state),
        (parent.trace_id, parent.is_sampled, parent.state)
    );
    assert_ne!(again.span_id, parent.span_id);
}

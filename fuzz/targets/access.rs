//! The access line: one line, one JSON object, whatever stands in its texts, and each text is read back as it was.

use super::input::Input;
use perch::policy::Class;
use perch::telemetry::AccessLine;
use perch::types::{ConnectionId, CustomerId, FinchRequestId, RequestId, UnixMillis};
use serde_json::Value;
use std::time::Duration;

/// Decisions.
pub fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let request_id = RequestId::new("r-1").expect("an id");
    let mut line = AccessLine::begin(request_id, UnixMillis(input.number().cast_signed()));
    line.customer = CustomerId::new(input.text(255)).ok();
    line.connection_id = ConnectionId::new(input.text(255)).ok();
    line.finch_code = Some(input.text(80));
    line.class = input.pick(&Class::ALL);
    (line.wait, line.total) =
        (Duration::from_micros(input.number()), Duration::new(input.number(), 999_999_999));
    (line.bytes_in, line.bytes_out) = (input.number(), input.number());
    let ids: Vec<FinchRequestId> =
        (0..input.below(24)).filter_map(|_| FinchRequestId::new(input.text(255)).ok()).collect();
    ids.iter().for_each(|id| line.saw(id.clone()));
    let bytes = serde_json::to_vec(&line).expect("a line serialises");
    assert!(!bytes.iter().any(|byte| *byte < b' '), "a raw control character");
    let read: Value = serde_json::from_slice(&bytes).expect("JSON");
    let text = |name: &str| read[name].as_str();
    assert_eq!(text("customer"), line.customer.as_ref().map(CustomerId::as_str));
    assert_eq!(text("connection_id"), line.connection_id.as_ref().map(ConnectionId::as_str));
    assert_eq!(text("finch_code"), line.finch_code.as_deref());
    assert_eq!(text("class"), Some(line.class.as_str()));
    assert_eq!(
        (read["bytes_in"].as_u64(), read["bytes_out"].as_u64()),
        (Some(line.bytes_in), Some(line.bytes_out))
    );
    let shown: Vec<&str> =
        read["finch_request_id"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(shown, ids.iter().take(16).map(FinchRequestId::as_str).collect::<Vec<_>>());
}

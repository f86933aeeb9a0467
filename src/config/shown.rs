//! A configuration as programs read it: every key with its value as written and who wrote it. Secrets are references.

use super::{Origin, Place};
use serde_json::{Map, Value, json};

/// Every key: `{"limits.window": {"value": "60s", "from": "default"}, …}`.
pub fn as_json(origins: &[Origin]) -> Map<String, Value> {
    origins.iter().map(|origin| (origin.key.clone(), setting(origin))).collect()
}

fn setting(origin: &Origin) -> Value {
    let from = match &origin.place {
        Place::Default { .. } => "default",
        Place::File(_) | Place::Line { .. } => "file",
        Place::Variable(_) => "environment",
    };
    let mut setting = json!({ "value": origin.value, "from": from });
    if !origin.place.is_default() {
        setting["place"] = json!(origin.place);
    }
    if origin.is_reference {
        setting["set"] = true.into();
    }
    setting
}

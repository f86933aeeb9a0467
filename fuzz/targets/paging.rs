//! Whether a directory was cut: by what it says, and by another reading of it.

use super::input::parts;
use perch::policy::paging::{cut, names_page};
use serde_json::Value;

/// The query, the answer.
pub fn target(data: &[u8]) {
    let [query, body] = parts(data);
    let query = String::from_utf8_lossy(query);
    let names: Vec<&str> = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()).collect();
    assert_eq!(names_page(Some(&query)), names.contains(&"limit") || names.contains(&"offset"));
    let found = cut(body);
    if let Some(found) = found {
        assert!(found.count > found.returned);
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let Some(people) = value["individuals"].as_array() else { return };
    let number = |name: &str| value["paging"][name].as_u64();
    if let (Some(count), Some(offset)) = (number("count"), number("offset")) {
        // Beyond this a number is not exact as a float.
        if count < 1 << 53 && offset < 1 << 53 {
            let is_cut = count > offset + people.len() as u64;
            assert!(found.is_none() || is_cut, "{found:?}");
        }
    }
}

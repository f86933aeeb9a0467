//! What a fault makes of a whole answer: failed items, old dates, reflected headers.

use super::answer::{Answer, Body};
use super::fault::{Item, ItemReason};
use super::refusal::{Reason, plain};
use http::HeaderMap;
use serde_json::{Value, json};
use std::time::Duration;

/// How old data is after syncs have failed for a while.
const STALE: Duration = Duration::from_secs(3 * 24 * 3600);

/// Lets items of a batch fail. An answer without items stays as it is.
pub(super) fn fail_items(answer: &mut Answer, wanted: &[Item], reason: ItemReason) {
    let Body::Json(body) = &mut answer.body else { return };
    let list = match body {
        Value::Array(list) => Some(list),
        Value::Object(object) => object.get_mut("responses").and_then(Value::as_array_mut),
        _ => None,
    };
    let Some(list) = list else { return };
    let mut failed = false;
    for (at, item) in list.iter_mut().enumerate() {
        let Some(object) = item.as_object() else { continue };
        let Some((key, id)) =
            ["individual_id", "payment_id"].iter().find_map(|k| Some((*k, object.get(*k)?.clone())))
        else {
            continue;
        };
        let chosen = |w: &Item| match w {
            Item::At(place) => *place == at,
            Item::Named(name) => id == name.as_str(),
        };
        if object.contains_key("code") && wanted.iter().any(chosen) {
            let (code, error) = match reason {
                ItemReason::Listed(reason) => (reason.status(), reason.body(None)),
                ItemReason::Status(status) => (status, plain(status)),
            };
            *item = json!({ key: id, "code": code, "body": error });
            failed |= reason != ItemReason::Listed(Reason::DataSyncInProgress);
        }
    }
    if let (true, Some(fresh)) = (failed, &mut answer.freshness) {
        fresh.result = "partial_error";
    }
}

/// Makes the data old and the last attempt a failure.
pub(super) fn age(answer: &mut Answer) {
    if let Some(fresh) = &mut answer.freshness {
        let old = i64::try_from(STALE.as_millis()).unwrap_or_default();
        fresh.retrieved.0 = fresh.retrieved.0.saturating_sub(old);
        fresh.result = "error";
    }
}

/// Puts the request's headers where `{name}` stands for them; nothing when the request has none.
pub(super) fn reflect(text: &str, headers: &HeaderMap) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        match after.split_once('}') {
            // Only what can be a header name is a placeholder: JSON keeps its braces.
            Some((name, behind)) if http::HeaderName::try_from(name).is_ok() => {
                let value = headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
                out.push_str(&value.unwrap_or_default());
                rest = behind;
            }
            _ => {
                out.push('{');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The same in every text of a JSON body.
pub(super) fn reflect_json(value: &mut Value, headers: &HeaderMap) {
    match value {
        Value::String(text) => *text = reflect(text, headers),
        Value::Array(list) => list.iter_mut().for_each(|v| reflect_json(v, headers)),
        Value::Object(object) => object.values_mut().for_each(|v| reflect_json(v, headers)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Answer {
        Answer::ok(json!({ "responses": [
            { "individual_id": "a", "code": 200, "body": {} },
            { "individual_id": "b", "code": 200, "body": {} },
            { "individual_id": "c", "code": 200, "body": {} },
        ]}))
    }

    #[test]
    fn items_fail_by_place_and_by_id() {
        let mut answer = batch();
        let wanted = [Item::At(0), Item::Named("c".to_owned())];
        fail_items(&mut answer, &wanted, ItemReason::Listed(Reason::ServerError));
        let Body::Json(body) = answer.body else { panic!("json") };
        let codes: Vec<_> =
            body["responses"].as_array().expect("list").iter().map(|i| i["code"].clone()).collect();
        assert_eq!(codes, [500, 200, 500]);
        assert_eq!(body["responses"][2]["body"]["name"], "server_error");
        assert_eq!(body["responses"][2]["individual_id"], "c");
    }

    #[test]
    fn a_header_is_reflected_and_json_braces_are_left() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer x".parse().expect("a value"));
        assert_eq!(reflect("{\"a\":\"{authorization}\"} {none}!", &headers), "{\"a\":\"Bearer x\"} !");
    }
}

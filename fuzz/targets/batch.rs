//! A good answer with many items: how they are counted, which are asked for once more, and how the better ones take
//! their places.

use super::input::{endpoint, parts};
use perch::finch::endpoints::{Endpoint, Operation};
use perch::policy::batch::{Ask, Repair, Sent, inspect, merge, plan};
use serde_json::Value;
use serde_json::value::RawValue;

/// `METHOD PATH QUERY`, the request's body, the answer, the answer to the second request.
pub fn target(data: &[u8]) {
    let [line, asked, first, second] = parts(data);
    let line = String::from_utf8_lossy(line);
    let endpoint = endpoint(&line);
    counted(endpoint, first);
    for repair in [Repair::Failed, Repair::Pending] {
        let sent = Sent { query: line.split(' ').nth(2), body: asked };
        let Some(plan) = plan(endpoint, repair, sent, first) else { continue };
        match &plan.ask {
            Ask::Body(body) => narrowed(asked, body),
            Ask::Query(query) => {
                let lists = query.split('&').filter(|pair| pair.starts_with("individual_ids"));
                assert_eq!(lists.count(), 1, "{query}");
                assert!(query.bytes().all(|byte| byte.is_ascii_graphic()) || sent.query.is_some());
            }
        }
        let Some(merged) = merge(&plan, first, second) else { continue };
        let (before, after) = (inspect(endpoint, first), inspect(endpoint, &merged.body));
        let (before, after) = (before.expect("it was planned for"), after.expect("its shape stays"));
        assert_eq!(before.total, after.total);
        assert!(after.failed + after.pending <= before.failed + before.pending, "it became worse");
        assert!((1..=before.failed + before.pending).contains(&merged.repaired));
        if let (Some(old), Some(new), Some(others)) = (items(first), items(&merged.body), items(second)) {
            let others: Vec<&str> = others.into_iter().map(RawValue::get).collect();
            let replaced = old.iter().zip(&new).filter(|(old, new)| old.get() != new.get());
            assert!(replaced.clone().all(|(_, new)| others.contains(&new.get())), "from nowhere");
            assert!(replaced.count() as u64 <= merged.repaired);
        }
    }
}

/// The count, by another reading.
fn counted(endpoint: &Endpoint, body: &[u8]) {
    let report = inspect(endpoint, body);
    if let Some(report) = report {
        assert!(report.failed + report.pending <= report.total);
        assert_eq!(report.codes.counts().map(|(_, count)| count).sum::<u64>(), report.failed);
        assert_eq!(report.is_whole(), report.failed + report.pending == 0);
        let shown = format!("total={}, failed={}, pending={}", report.total, report.failed, report.pending);
        assert_eq!(report.to_string(), shown);
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    if endpoint.batch.is_none() || matches!(endpoint.operation, Operation::Forward | Operation::GetManualJob)
    {
        return;
    }
    let list = value.as_array().or_else(|| value.get("responses")?.as_array());
    let Some(list) = list else { return };
    let codes: Option<Vec<f64>> = list.iter().map(|item| item.get("code")?.as_f64()).collect();
    let Some(codes) = codes else { return };
    let report = report.expect("a list of items");
    let good = codes.iter().filter(|code| (200.0..300.0).contains(*code) && **code != 202.0).count() as u64;
    let pending = codes.iter().filter(|code| **code == 202.0).count() as u64;
    assert_eq!(
        (report.total, report.pending, report.total - report.failed - report.pending),
        (codes.len() as u64, pending, good)
    );
}

/// A second request asks for nothing that the first did not, in its own bytes.
fn narrowed(asked: &[u8], body: &[u8]) {
    let list = |bytes| {
        let object: Value = serde_json::from_slice(bytes).ok()?;
        object.get("requests")?.as_array().cloned()
    };
    let Some(all) = list(asked) else { return };
    let rest = list(body).expect("a list");
    assert!(!rest.is_empty() && rest.len() <= all.len() && rest.iter().all(|entry| all.contains(entry)));
}

fn items(body: &[u8]) -> Option<Vec<&RawValue>> {
    if let Ok(list) = serde_json::from_slice(body) {
        return Some(list);
    }
    // A member that stands twice is read as the last one, which this reader refuses.
    #[derive(serde::Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        responses: Vec<&'a RawValue>,
    }
    serde_json::from_slice::<Wrapped<'_>>(body).ok().map(|wrapped| wrapped.responses)
}

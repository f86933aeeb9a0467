//! What became of the items of a batch, read from a good answer without touching it.
//!
//! Only an item's own `code` tells data from error (Finch batch-error guide); bodies are skipped unread.

use crate::finch::endpoints::Batch;
use serde::Deserialize;

/// How many items an answer holds, and how many are not data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct BatchReport {
    /// All items.
    pub total: u64,
    /// Items whose code is an error.
    pub failed: u64,
    /// Items that are not ready yet (202).
    pub pending: u64,
}

impl BatchReport {
    /// Whether every item is data.
    pub const fn is_whole(&self) -> bool {
        self.failed == 0 && self.pending == 0
    }
}

/// The value of `Perch-Batch`.
impl std::fmt::Display for BatchReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "total={}, failed={}, pending={}", self.total, self.failed, self.pending)
    }
}

#[derive(Deserialize)]
struct Item {
    // Finch writes it as an integer or as a float (Finch API reference).
    code: Option<f64>,
}

#[derive(Deserialize)]
struct Wrapped {
    responses: Vec<Item>,
}

/// Counts the items of an answer. `None` when it has no such shape: a benefit write may answer
/// with a job instead of items.
pub fn inspect(batch: &Batch, body: &[u8]) -> Option<BatchReport> {
    let items = match batch.wrapped {
        true => serde_json::from_slice::<Wrapped>(body).ok()?.responses,
        false => serde_json::from_slice::<Vec<Item>>(body).ok()?,
    };
    let mut report = BatchReport::default();
    for item in items {
        report.total += 1;
        match item.code {
            Some(202.0) => report.pending += 1,
            Some(code) if !(200.0..300.0).contains(&code) => report.failed += 1,
            // An item without a code is plain data, as the sandbox answers.
            Some(_) | None => {}
        }
    }
    Some(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRAPPED: Batch = Batch { key: "payment_id", wrapped: true, items_max: None };
    const BARE: Batch = Batch { key: "individual_id", wrapped: false, items_max: None };

    #[test]
    fn items_are_counted_by_their_own_code() {
        let body = br#"{"responses":[{"payment_id":"1","code":200,"body":{"code":999}},
            {"payment_id":"2","code":202.0,"body":{}},{"payment_id":"3","code":404,"body":{}},{"payment_id":"4"}]}"#;
        let report = inspect(&WRAPPED, body).expect("items");
        assert_eq!(report, BatchReport { total: 4, failed: 1, pending: 1 });
        assert_eq!(report.to_string(), "total=4, failed=1, pending=1");
        let bare = inspect(&BARE, br#"[{"individual_id":"1","code":201,"body":{}}]"#).expect("items");
        assert!(bare.is_whole() && bare.total == 1);
    }

    #[test]
    fn an_answer_of_another_shape_is_left_alone() {
        for body in [&br#"{"job_id":"j"}"#[..], b"", b"[1,2]", b"\xff", br#"{"responses":7}"#] {
            assert_eq!(inspect(&WRAPPED, body), None);
        }
        assert_eq!(inspect(&BARE, br#"{"job_id":"j"}"#), None);
    }
}

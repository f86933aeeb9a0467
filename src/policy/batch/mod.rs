//! What became of the items of a batch, read from a good answer without touching it.
//!
//! Only an item's own `code` tells data from error (Finch batch-error guide); bodies are skipped unread. An item
//! that has no code is data, unless its body is an error as older endpoints write it.

mod codes;
mod items;
mod repair;

pub use codes::Codes;
pub use repair::{Ask, Merged, Plan, Repair, Sent, merge, plan};
pub(super) use repair::{Placed, placed};

use crate::finch::endpoints::{Endpoint, Operation};
use items::{Shape, Standing};
use serde::Serialize;

/// How many items an answer holds, and how many are not data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BatchReport {
    /// All items.
    pub total: u64,
    /// Items whose code is an error.
    pub failed: u64,
    /// Items that are not ready yet (202).
    pub pending: u64,
    /// Which errors the failed ones have.
    #[serde(skip_serializing_if = "Codes::is_empty")]
    pub codes: Codes,
}

impl BatchReport {
    /// Whether every item is data.
    pub const fn is_whole(&self) -> bool {
        self.failed == 0 && self.pending == 0
    }

    /// Whether any item is data.
    pub const fn has_good(&self) -> bool {
        self.failed.saturating_add(self.pending) < self.total
    }

    fn count(&mut self, standing: Standing) {
        self.total += 1;
        match standing {
            Standing::Good => {}
            Standing::Pending => self.pending += 1,
            Standing::Failed(code) => {
                self.failed += 1;
                self.codes.count(code);
            }
        }
    }
}

/// The value of `Perch-Batch`.
impl std::fmt::Display for BatchReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "total={}, failed={}, pending={}", self.total, self.failed, self.pending)
    }
}

/// Counts the items of a good answer. `None` when the endpoint has none, or the answer another shape: a
/// benefit write may answer with a job instead of items.
///
/// Both shapes of a batch are read at every endpoint that has one, since Finch's older and newer forms differ.
/// A forwarded request is a batch of one: its `statusCode` is the provider's (Finch API reference). A
/// deduction job lists what became of each person in `body`.
pub fn inspect(endpoint: &Endpoint, body: &[u8]) -> Option<BatchReport> {
    let shape = match (endpoint.operation, endpoint.batch) {
        (Operation::Forward, _) => Shape::Forward,
        (Operation::GetManualJob, _) => Shape::Job,
        (_, Some(_)) => Shape::Batch,
        (_, None) => return None,
    };
    items::tally(shape, body)
}

#[cfg(test)]
mod tests;

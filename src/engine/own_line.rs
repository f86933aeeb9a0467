//! The lines of requests that perch sends by itself and not for a call: they are evidence as others are.

use super::Engine;
use crate::policy::Class;
use crate::policy::shield::Health;
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::telemetry::timeline::Did;
use crate::types::{ConnectionId, Product, RequestId};
use std::time::Duration;

/// The line of a request that perch sends by itself, and not for a call.
pub(super) fn own_line(
    connection: &ConnectionId,
    product: Product,
    (method, path): (&'static str, &'static str),
) -> AccessLine {
    let id = uuid::Uuid::now_v7().simple().to_string();
    let id = RequestId::new(id).expect("thirty-two hex digits are an id");
    let mut line = AccessLine::begin(id, unix_now());
    (line.by, line.product, line.method, line.path) = (Some("perch"), product.as_str(), method, path);
    line.connection_id = Some(connection.clone());
    line.class = Class::FinchUnreachable;
    line
}

impl Engine {
    /// Leaves the line of a question, when it was sent.
    pub(super) fn record_question(&self, mut line: AccessLine, found: Health, total: Duration) {
        let answered = line.timeline.steps().iter().rev().find_map(|step| match &step.did {
            Did::Attempt { status, .. } => Some(*status),
            _ => None,
        });
        let Some(status) = answered else { return };
        line.attempts = 1;
        line.total = total;
        line.status = status.unwrap_or_default();
        line.class = match (status, found) {
            (None, _) => Class::FinchUnreachable,
            (Some(200..300), _) => Class::Ok,
            (Some(_), Health::Ill(ailment)) => ailment.class(),
            (Some(_), Health::Well | Health::Unknown) => Class::FinchError,
        };
        self.telemetry.record(line);
    }
}

//! Good answers that were looked into are shown to the watch for drift on their way to the app.

use super::Engine;
use crate::finch::endpoints::Endpoint;
use crate::telemetry::AccessLine;
use bytes::Bytes;

impl Engine {
    /// The same body, after the watch has seen it.
    pub(super) fn watched(&self, endpoint: &Endpoint, status: u16, body: Bytes, line: &AccessLine) -> Bytes {
        if !line.uninspected {
            self.telemetry.drift.offer(endpoint, line.provider.as_ref(), status, &body);
        }
        body
    }
}

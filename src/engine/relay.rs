//! An answer too large to be held: it passes in pieces, and a secret in it is still taken out.

use super::holding::Share;
use crate::policy::redact::{Secrets, Strainer};
use crate::telemetry::Telemetry;
use crate::upstream::{ReadError, Rest};
use bytes::Bytes;
use std::sync::Arc;

/// The body on its way.
#[derive(Debug)]
pub struct Relay {
    first: Option<Vec<u8>>,
    /// What the first piece holds of memory.
    share: Option<Share>,
    rest: Option<Box<Rest>>,
    strainer: Strainer,
    telemetry: Arc<Telemetry>,
}

impl Relay {
    pub(super) fn new(
        (first, share): (Vec<u8>, Share),
        rest: Box<Rest>,
        secrets: Secrets,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        Self {
            first: Some(first),
            share: Some(share),
            rest: Some(rest),
            strainer: Strainer::new(secrets),
            telemetry,
        }
    }

    /// Whether it passes in pieces only because others held too much; told before the first of them.
    pub(super) fn is_crowded_out(&self) -> bool {
        self.share.as_ref().is_some_and(Share::is_short)
    }

    /// The next piece, which may be empty; `None` at the end.
    ///
    /// # Errors
    /// The body did not come to its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        let piece = match self.first.take() {
            Some(first) => Some(first.into()),
            None => {
                self.share = None;
                rest.next().await?
            }
        };
        let Some(piece) = piece else {
            self.rest = None;
            return Ok(Some(self.strainer.finish().into()));
        };
        let (passed, is_found) = self.strainer.pass(&piece);
        if is_found {
            self.telemetry.redacted();
        }
        Ok(Some(passed.into()))
    }
}

//! A good answer: what is in it, told beside it; its body crosses as it came.

use super::Engine;
use super::call::{Answer, AnswerBody};
use super::relay::Relay;
use super::reply::{code, put};
use crate::finch::endpoints::Endpoint;
use crate::finch::error::FinchError;
use crate::finch::headers::PERCH_BATCH;
use crate::policy::redact::Secrets;
use crate::policy::{Class, batch, class};
use crate::telemetry::AccessLine;
use crate::upstream;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use std::sync::Arc;

impl Engine {
    /// Makes the app's answer out of a good one of Finch's.
    pub(super) fn good(
        &self,
        endpoint: &Endpoint,
        status: u16,
        mut headers: HeaderMap,
        body: Vec<u8>,
        rest: Option<(Box<upstream::Rest>, Secrets)>,
        line: &mut AccessLine,
    ) -> Answer {
        line.class = class::of_answer(endpoint, status, &FinchError::default());
        // An encoded body was not asked for, and cannot be looked into.
        line.uninspected = rest.is_some() || headers.contains_key(CONTENT_ENCODING);
        if rest.is_none()
            && let Some(report) = batch::inspect(endpoint, &body)
        {
            line.batch = Some(report);
            put(&mut headers, PERCH_BATCH, &report.to_string());
            if line.class == Class::Ok && !report.is_whole() {
                line.class = Class::Partial;
            }
        }
        let body = match rest {
            None => AnswerBody::Whole(body.into()),
            Some((rest, secrets)) => {
                let telemetry = Arc::clone(&self.telemetry);
                AnswerBody::Streamed(Box::new(Relay::new(body, rest, secrets, telemetry)))
            }
        };
        Answer { status: code(status), headers, body, closes: false }
    }
}

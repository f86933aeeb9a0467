//! A good answer: what is in it, told beside it; its body crosses as it came.

use super::Engine;
use super::call::{self, Answer, AnswerBody, Caller};
use super::holding::Share;
use super::relay::Relay;
use super::reply::{advise, code, put};
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::error::FinchError;
use crate::finch::headers::{PERCH_BATCH, PERCH_REPAIRED};
use crate::policy::freshness::Freshness;
use crate::policy::redact::Secrets;
use crate::policy::{Class, Refusal, batch, class, paging};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::telemetry::metrics::Uninspected;
use crate::upstream;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;

impl Engine {
    /// Makes the app's answer out of a good one of Finch's.
    pub(super) fn good(
        &self,
        endpoint: &Endpoint,
        caller: &Caller,
        (status, mut headers, body, share): (u16, HeaderMap, Vec<u8>, Share),
        rest: Option<(Box<upstream::Rest>, Secrets)>,
        line: &mut AccessLine,
    ) -> Answer {
        line.class = class::of_answer(endpoint, status, &FinchError::default());
        self.note_freshness(&headers, line);
        if line.class == Class::NotReady && self.settings.now().refuses_unready {
            return not_ready(&headers, line);
        }
        // An encoded body was not asked for, and cannot be looked into.
        line.uninspected = rest.is_some() || headers.contains_key(CONTENT_ENCODING);
        if line.uninspected {
            let why = match (&rest, share.is_short()) {
                (None, _) => Uninspected::Encoded,
                (Some(_), false) => Uninspected::TooLarge,
                (Some(_), true) => Uninspected::Crowded,
            };
            self.telemetry.metrics.answers.uninspected(line.product, why);
        } else {
            if let Some(report) = batch::inspect(endpoint, &body) {
                line.batch = Some(report);
                put(&mut headers, PERCH_BATCH, &report.to_string());
                if line.class == Class::Ok && !report.is_whole() {
                    line.class = Class::Partial;
                }
            }
            if endpoint.operation == Operation::ListDirectory && !caller.names_page {
                self.note_cut(&body, line);
            }
        }
        if let Some(repaired) = line.repaired {
            put(&mut headers, PERCH_REPAIRED, &repaired.to_string());
        }
        let body = match rest {
            None => AnswerBody::Whole(self.watched(endpoint, status, share.keep(body), line)),
            Some((rest, secrets)) => {
                let telemetry = Arc::clone(&self.telemetry);
                AnswerBody::Streamed(Box::new(Relay::new((body, share), rest, secrets, telemetry)))
            }
        };
        Answer { status: code(status), headers, body, closes: false }
    }

    /// Stale data comes with a 200; only its dates tell.
    pub(super) fn note_freshness(&self, headers: &HeaderMap, line: &mut AccessLine) {
        let fresh = Freshness::read(headers);
        line.data_age = fresh.age(unix_now());
        line.last_update = fresh.last_update.map(|last| last.as_str());
        let answers = &self.telemetry.metrics.answers;
        if let Some(age) = line.data_age {
            answers.age.with_label_values(&[line.product]).observe(age.as_secs_f64());
            if let Some(connection) = &line.connection_id {
                self.telemetry.metrics.stale.note(connection, line.product, age, unix_now());
            }
        }
        if let Some(last) = fresh.last_update.filter(|last| last.is_stale()) {
            answers.stale.with_label_values(&[line.product, last.as_str()]).inc();
        }
    }

    fn note_cut(&self, body: &[u8], line: &mut AccessLine) {
        line.cut = paging::cut(body);
        if let Some(cut) = line.cut
            && self.telemetry.metrics.answers.directory_cut(unix_now())
        {
            tracing::warn!(
                request.id = %line.request_id,
                "an app asked for a directory without `limit` and got {} of {} people: Finch's default page became 100; \
                 ask with limit and offset",
                cut.returned,
                cut.count
            );
        }
    }
}

/// A 202 as an error, where an operator wants that: SDKs take every 2xx for data.
fn not_ready(from_finch: &HeaderMap, line: &mut AccessLine) -> Answer {
    let problem = Refusal::NotReady.problem();
    line.refusal = Some(problem.finch_code);
    let body = problem.to_body(call::evidence(line, unix_now()));
    let is_of_finch = |name: &str| name.starts_with("finch-");
    let mut headers: HeaderMap = from_finch
        .iter()
        .filter(|(name, _)| is_of_finch(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    advise(&mut headers, problem.resend);
    Answer {
        status: code(problem.status),
        headers,
        body: AnswerBody::Whole(body.into()),
        closes: problem.closes,
    }
}

//! A call with more ids than Finch takes in one request: several requests, one after the other, and one answer.
//!
//! Their items stand in the order of the call; the dates are those of the oldest part, and Finch's ids are all there. When
//! a part brings no data, that is the answer: half a list would look like a whole one.

use super::Engine;
use super::call::{Answer, AnswerBody, Call, Caller, Client, Ended};
use super::reply::put;
use crate::finch::endpoints::Endpoint;
use crate::finch::headers::{FINCH_REQUEST_ID, PERCH_BATCH, PERCH_REPAIRED};
use crate::policy::{Class, Refusal, batch, freshness, merge};
use crate::telemetry::AccessLine;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, ETAG};

/// How much larger than one answer that is looked into the whole may be.
const ANSWERS_MAX: usize = 4;

/// What the parts have brought so far.
struct Whole {
    headers: HeaderMap,
    bodies: Vec<Bytes>,
    bytes: usize,
    repaired: Option<u64>,
}

impl Engine {
    /// Carries a call out, in parts when it asks for more than Finch gives at once.
    pub(super) async fn carry_whole(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Answer, Ended> {
        let is_plain = self.settings.now().splits && !call.headers.contains_key(CONTENT_ENCODING);
        let parts = is_plain.then(|| merge::parts(endpoint, &call.body)).flatten();
        let Some(parts) = parts else {
            return self.carry_out(call, endpoint, caller, (client, line)).await;
        };
        let (mut whole, mut asked_for): (Option<Whole>, Option<_>) = (None, None);
        for part in parts {
            if client.has_left() {
                return Err(Ended::Abandoned);
            }
            if whole.is_some() {
                // It may wait for quota again, and whoever waits for it must know.
                caller.sent.waits();
            }
            let part = call.asking(part);
            (line.batch, line.repaired) = (None, None);
            let answer = self.carry_out(&part, endpoint, caller, (&mut *client, &mut *line)).await?;
            let whose = (line.customer.clone(), line.connection_id.clone());
            if asked_for.get_or_insert_with(|| whose.clone()) != &whose {
                // Each part alone would be right; together they would be nobody's data.
                return Err(Refusal::BadAnswer(
                    "the connection was replaced between the parts of an over-size call; send the call again",
                )
                .into());
            }
            let is_data = matches!(line.class, Class::Ok | Class::Partial) && answer.status.is_success();
            let (true, AnswerBody::Whole(body)) = (is_data, &answer.body) else {
                return match answer.body {
                    AnswerBody::Streamed(relay) if relay.is_crowded_out() => Err(Refusal::NoRoom.into()),
                    AnswerBody::Streamed(_) => Err(too_large().into()),
                    AnswerBody::Whole(_) => Ok(answer),
                };
            };
            // Later parts may wait for quota: nothing that others need is held meanwhile.
            let body = Bytes::copy_from_slice(body);
            let sofar = match whole.take() {
                Some(sofar) => sofar.and(answer.headers, body, line.repaired),
                None => Whole::of(answer.headers, body, line.repaired),
            };
            if sofar.bytes > self.settings.now().inspect_bytes_max.saturating_mul(ANSWERS_MAX) {
                return Err(too_large().into());
            }
            whole = Some(sofar);
        }
        // There is no over-size call without parts.
        let whole = whole.ok_or(Refusal::Fault)?;
        Ok(self.join_parts(endpoint, whole, line)?)
    }

    fn join_parts(
        &self,
        endpoint: &Endpoint,
        whole: Whole,
        line: &mut AccessLine,
    ) -> Result<Answer, Refusal> {
        let Whole { mut headers, bodies, repaired, .. } = whole;
        let body = merge::joined(&bodies)
            .ok_or(Refusal::BadAnswer("the parts of an over-size call have no lists that could be joined"))?;
        line.repaired = repaired;
        if let Some(repaired) = repaired {
            put(&mut headers, PERCH_REPAIRED, &repaired.to_string());
        }
        line.batch = batch::inspect(endpoint, &body);
        line.class = Class::Ok;
        if let Some(report) = line.batch {
            put(&mut headers, PERCH_BATCH, &report.to_string());
            if !report.is_whole() {
                line.class = Class::Partial;
            }
        }
        let body = AnswerBody::Whole(body.into());
        let mut answer = Answer { status: http::StatusCode::OK, headers, body, closes: false };
        self.sign(&mut answer, line);
        Ok(answer)
    }
}

impl Whole {
    fn of(mut headers: HeaderMap, body: Bytes, repaired: Option<u64>) -> Self {
        // It names the body that came.
        headers.remove(ETAG);
        let bytes = body.len();
        Self { headers, bodies: vec![body], bytes, repaired }
    }

    fn and(mut self, headers: HeaderMap, body: Bytes, repaired: Option<u64>) -> Self {
        freshness::keep_worse(&mut self.headers, &headers);
        for id in headers.get_all(FINCH_REQUEST_ID) {
            self.headers.append(FINCH_REQUEST_ID, id.clone());
        }
        self.bytes += body.len();
        self.bodies.push(body);
        self.repaired = match (self.repaired, repaired) {
            (None, None) => None,
            (known, more) => Some(known.unwrap_or_default() + more.unwrap_or_default()),
        };
        self
    }
}

fn too_large() -> Refusal {
    Refusal::BadAnswer(
        "the answer to an over-size call is larger than perch holds; ask for fewer ids at a time",
    )
}

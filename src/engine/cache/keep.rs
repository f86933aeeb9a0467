//! What becomes of the answer of a call that was sent: kept here, passed on, or neither.

use super::*;

impl Engine {
    /// Keeps the answer of a call that was sent, and passes it on.
    pub(super) async fn keep(
        &self,
        sought: &Sought,
        endpoint: &Endpoint,
        reading: Option<Reading>,
        ended: Result<Answer, Ended>,
        line: &AccessLine,
    ) -> Result<Answer, Ended> {
        let end = async |reading: Option<Reading>| {
            if let Some(reading) = reading {
                reading.fail(line.attempts > 0).await;
            }
        };
        let mut answer = match ended {
            // The customer's connection may have become another one while it waited: then it is not what the name says.
            Ok(answer) if line.connection_id.as_ref() != Some(&sought.connection) => {
                end(reading).await;
                return Ok(answer);
            }
            Ok(answer) => answer,
            Err(why) => {
                end(reading).await;
                return Err(why);
            }
        };
        let AnswerBody::Whole(body) = &answer.body else {
            end(reading).await;
            return Ok(answer);
        };
        let fresh = Freshness::read(&answer.headers);
        let status = answer.status.as_u16();
        let facts = Facts { status, class: line.class, is_whole: !line.uninspected, fresh: &fresh };
        let span =
            sought.lifetime.and_then(|lifetime| cache::span(facts, lifetime)).filter(|_| sought.wishes.keeps);
        if span.is_none() && !(reading.is_some() && sought.wishes.keeps && cache::may_tell(facts)) {
            end(reading).await;
            return Ok(answer);
        }
        // A copy that is wiped when the last who reads it has read it.
        let body = match span {
            Some(_) => Bytes::from_owner(Zeroizing::new(body.to_vec())),
            None => body.clone(),
        };
        let record = Record {
            status,
            class: line.class,
            headers: without_own(&answer.headers),
            finch_request_id: line.finch_request_id.clone(),
            version: sought.version,
            at: unix_now(),
            body: body.clone(),
        };
        if let Some(reading) = &reading {
            reading.pass(&record, span).await;
        }
        if let Some(span) = span {
            let (batch, cut) = tallied(endpoint, &body);
            let epoch = reading.as_ref().and_then(|reading| reading.epoch().map(str::to_owned));
            let came = (Duration::ZERO, self.quota.now());
            self.shelve(sought, Arc::new(Kept { record, batch, cut, epoch, came }), span);
            answer.body = AnswerBody::Whole(body);
        }
        Ok(answer)
    }
}

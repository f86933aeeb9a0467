//! What the ledger keeps of a call: the facts of its access line and the steps of its life. It owns them, so that they can
//! be written later and read by another process, also one of another version.

use crate::telemetry::AccessLine;
use crate::telemetry::timeline::{Awaited, Did, Step};
use crate::types::{
    AppName, CompanyId, ConnectionId, CustomerId, FinchRequestId, ProviderId, RequestId, UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest text that is kept of what Finch calls an error.
const WORD_BYTES_MAX: usize = 255;

/// One call. Its fields are the access line's; words that this version does not know are kept as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its number in the ledger: larger for calls written later.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seq: i64,
    /// When it came in.
    pub ts: UnixMillis,
    /// perch's id of it.
    pub request_id: RequestId,
    /// Finch's ids, one per attempt that was answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finch_request_id: Vec<FinchRequestId>,
    /// The app, when apps are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// `operator` or `perch`, when it was no app's call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Whom it was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerId>,
    /// Through which connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<ConnectionId>,
    /// Finch's company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company_id: Option<CompanyId>,
    /// The employment system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderId>,
    /// What it counted against, or `unknown`.
    pub product: String,
    /// The method, when it is one of HTTP's.
    pub method: String,
    /// The path's template; never the path itself.
    pub path: String,
    /// What the app got.
    pub status: u16,
    /// What became of it.
    pub class: String,
    /// perch's code of the refusal, when it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Finch's own code, when it sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finch_code: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
    /// Waited for quota, in milliseconds.
    pub wait_ms: u64,
    /// Waited for Finch, in milliseconds.
    pub finch_ms: u64,
    /// All of it, in milliseconds.
    pub total_ms: u64,
    /// The body that came.
    pub bytes_in: u64,
    /// The body that went.
    pub bytes_out: u64,
    /// The items of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<RecordedBatch>,
    /// How many items of a batch a second request made better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<u64>,
    /// How old the data was, in seconds, where Finch says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_age_s: Option<u64>,
    /// How the last attempt to renew the data ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_update: Option<String>,
    /// A directory of which only a part was answered although no page was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paging: Option<RecordedCut>,
    /// Whether the body was too large to be looked into.
    #[serde(default, skip_serializing_if = "is_false")]
    pub uninspected: bool,
    /// How the answer was had, when not by an exchange of its own; as in the access line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// perch's id of the exchange whose outcome a call that was sent again took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resend_of: Option<RequestId>,
    /// perch's id of the call whose request asked for this one's ids, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_by: Option<RequestId>,
    /// Which trace it is a part of, where there were traces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Whether the client had left before its answer.
    #[serde(default, skip_serializing_if = "is_false")]
    pub client_gone: bool,
    /// What happened, step by step, in the order in which the steps ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RecordedStep>,
}

/// The items of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedBatch {
    /// All items.
    pub total: u64,
    /// Items whose code is an error.
    pub failed: u64,
    /// Items that are not ready yet.
    pub pending: u64,
    /// Which errors the failed ones had, and how often.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub codes: BTreeMap<String, u64>,
}

/// How much of a directory was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCut {
    /// How many there are in all.
    pub count: u64,
    /// How many of them the answer held.
    pub returned: u64,
}

/// One step of a call's life. `did` says which; the other fields are there where they belong to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedStep {
    /// When it began, in milliseconds from the call's coming in.
    pub at_ms: u64,
    /// How long it took, in milliseconds.
    pub lasted_ms: u64,
    /// `look_up`, `wait`, `share` or `attempt`.
    pub did: String,
    /// Of a look-up: whether the vault answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_answered: Option<bool>,
    /// Of a wait: what for; `quota`, `hold` or `twin`.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub awaited: Option<String>,
    /// Of a wait: whether it got that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_over: Option<bool>,
    /// Of a wait for quota: where quota was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limiter: Option<String>,
    /// Of a wait for quota: how many permits were busy at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u32>,
    /// Of a wait for quota: of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Of an attempt: what it counted against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Of an attempt: Finch's status, when an answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Of an attempt: why no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Of an attempt: Finch's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finch_request_id: Option<FinchRequestId>,
}

impl Recorded {
    /// What is kept of a finished call. It has no number yet.
    pub fn of(line: AccessLine) -> Self {
        let text = |word: Option<&'static str>| word.map(str::to_owned);
        Self {
            seq: 0,
            ts: line.ts,
            request_id: line.request_id,
            finch_request_id: line.finch_request_id,
            app: line.app,
            by: text(line.by),
            customer: line.customer,
            connection_id: line.connection_id,
            company_id: line.company_id,
            provider: line.provider,
            product: line.product.to_owned(),
            method: line.method.to_owned(),
            path: line.path.to_owned(),
            status: line.status,
            class: line.class.as_str().to_owned(),
            refusal: text(line.refusal),
            finch_code: line.finch_code.map(bounded),
            attempts: line.attempts,
            wait_ms: millis(line.wait),
            finch_ms: millis(line.finch),
            total_ms: millis(line.total),
            bytes_in: line.bytes_in,
            bytes_out: line.bytes_out,
            batch: line.batch.map(|report| RecordedBatch {
                total: report.total,
                failed: report.failed,
                pending: report.pending,
                codes: report.codes.counts().map(|(code, count)| (code.into_owned(), count)).collect(),
            }),
            repaired: line.repaired,
            data_age_s: line.data_age.map(|age| age.as_secs()),
            last_update: text(line.last_update),
            paging: line.cut.map(|cut| RecordedCut { count: cut.count, returned: cut.returned }),
            uninspected: line.uninspected,
            cache: text(line.cache),
            resend_of: line.resend_of,
            carried_by: line.carried_by,
            trace_id: line.trace.map(|trace| trace.trace_id.to_string()),
            client_gone: line.client_gone,
            steps: line.timeline.steps().iter().map(RecordedStep::of).collect(),
        }
    }

    /// When it had ended.
    pub fn ended(&self) -> UnixMillis {
        self.ts.plus(Duration::from_millis(self.total_ms))
    }
}

impl RecordedStep {
    fn of(step: &Step) -> Self {
        let step_of = |did: &str| Self {
            at_ms: millis(step.at),
            lasted_ms: millis(step.lasted),
            did: did.to_owned(),
            ..Self::default()
        };
        match &step.did {
            Did::LookUp { is_answered } => Self { is_answered: Some(*is_answered), ..step_of("look_up") },
            Did::Wait { what, is_over, limiter } => Self {
                awaited: Some(
                    match what {
                        Awaited::Quota => "quota",
                        Awaited::Hold => "hold",
                        Awaited::Twin => "twin",
                    }
                    .to_owned(),
                ),
                is_over: Some(*is_over),
                limiter: limiter.map(|it| it.limiter.to_owned()),
                used: limiter.map(|it| it.used),
                limit: limiter.map(|it| it.limit),
                ..step_of("wait")
            },
            Did::Share => step_of("share"),
            Did::Attempt { product, status, failed, finch_request_id } => Self {
                product: Some(product.as_str().to_owned()),
                status: *status,
                failed: failed.map(str::to_owned),
                finch_request_id: finch_request_id.clone(),
                ..step_of("attempt")
            },
        }
    }
}

/// No more of a text than is kept.
fn bounded(mut text: String) -> String {
    let end = (0..=WORD_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(truth: &bool) -> bool {
    !truth
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Class;
    use crate::policy::batch::BatchReport;
    use crate::policy::paging::Cut;
    use crate::policy::trace::{Context, SpanId, TraceId};
    use crate::telemetry::timeline::Limiter;
    use crate::types::Product;
    use tokio::time::Instant;

    fn trace() -> Context {
        let fresh = (TraceId::new([7; 16]).unwrap(), SpanId::new([8; 8]).unwrap());
        Context::of_call(None, fresh, 100)
    }

    fn full() -> AccessLine {
        let mut line = AccessLine::begin(RequestId::new("r1").unwrap(), UnixMillis(1_700_000_000_123));
        line.saw(FinchRequestId::new("f1").unwrap());
        line.customer = Some(CustomerId::new("acmé \"1\"").unwrap());
        line.connection_id = Some(ConnectionId::new("c1").unwrap());
        line.by = Some("operator");
        line.class = Class::Partial;
        line.finch_code = Some("é".repeat(200));
        line.total = Duration::from_millis(1_500);
        line.batch = Some(BatchReport { total: 3, failed: 1, ..BatchReport::default() });
        line.cut = Some(Cut { count: 9, returned: 2 });
        line.data_age = Some(Duration::from_secs(60));
        line.trace = Some(trace());
        let now = Instant::now();
        let limiter = Some(Limiter { limiter: "memory", used: 3, limit: 20 });
        line.timeline.note(now, Did::LookUp { is_answered: true });
        line.timeline.note(now, Did::Wait { what: Awaited::Quota, is_over: true, limiter });
        line.timeline.note(now, Did::Share);
        let finch_request_id = Some(FinchRequestId::new("f1").unwrap());
        let (product, status) = (Product::Directory, Some(200));
        line.timeline.note(now, Did::Attempt { product, status, failed: None, finch_request_id });
        line
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_written_is_read_again_and_says_what_the_access_line_said() {
        let line = full();
        let told = serde_json::to_value(&line).unwrap();
        let steps = serde_json::to_value(line.timeline.steps()).unwrap();
        let kept = Recorded::of(line);
        let json = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Recorded>(&json).unwrap(), kept);
        let kept: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(kept["steps"], steps);
        for (name, value) in kept.as_object().unwrap() {
            match name.as_str() {
                "steps" => {}
                // Finch's word is bounded.
                "finch_code" => assert_eq!(value.as_str().unwrap(), "é".repeat(127)),
                _ => assert_eq!(*value, told[name], "{name}"),
            }
        }
        for (name, value) in told.as_object().unwrap() {
            let is_left_out = ["target"].contains(&name.as_str()) || value.is_null();
            assert_eq!(kept.get(name).is_none(), is_left_out, "{name}");
        }
    }

    #[test]
    fn words_of_a_later_version_are_kept_as_they_are() {
        let mut json = serde_json::to_value(Recorded::of(full())).unwrap();
        json["class"] = "brand_new".into();
        json["something"] = 7.into();
        json["steps"][0]["did"] = "dance".into();
        let read: Recorded = serde_json::from_value(json).unwrap();
        assert_eq!((read.class.as_str(), read.steps[0].did.as_str()), ("brand_new", "dance"));
    }
}

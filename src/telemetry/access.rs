//! The access line: one JSON object per call on stdout. Never a token, a body, a name, an address or
//! a query value. The type has no field that could hold one.

use super::Timeline;
use crate::policy::Class;
use crate::policy::batch::BatchReport;
use crate::policy::paging::Cut;
use crate::policy::trace::Context;
use crate::types::{
    AppName, CompanyId, ConnectionId, CustomerId, FinchRequestId, ProviderId, RequestId, UnixMillis,
};
use serde::{Serialize, Serializer};
use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// The most attempts of one call whose ids are kept.
pub const FINCH_REQUEST_IDS_MAX: usize = 16;

/// Everything worth knowing of a finished call.
#[derive(Debug, Clone, Serialize)]
pub struct AccessLine {
    /// When the call came in.
    pub ts: UnixMillis,
    /// Tells this line from others in the same stream.
    pub target: &'static str,
    /// perch's id of the call.
    pub request_id: RequestId,
    /// Finch's ids, one per attempt that was answered.
    pub finch_request_id: Vec<FinchRequestId>,
    /// The app, when apps are told apart.
    pub app: Option<AppName>,
    /// `operator` or `perch`, when it was no app's call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'static str>,
    /// Whom it was for.
    pub customer: Option<CustomerId>,
    /// Through which connection.
    pub connection_id: Option<ConnectionId>,
    /// Finch's company.
    pub company_id: Option<CompanyId>,
    /// The employment system.
    pub provider: Option<ProviderId>,
    /// What it counts against, or `unknown`.
    pub product: &'static str,
    /// The method, when it is one of HTTP's.
    pub method: &'static str,
    /// The path's template; never the path itself.
    pub path: &'static str,
    /// What the app got.
    pub status: u16,
    /// What became of it.
    #[serde(serialize_with = "class")]
    pub class: Class,
    /// perch's code of the refusal, when it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// Finch's own code, when it sent one perch knows the shape of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finch_code: Option<String>,
    /// How often it was sent.
    pub attempts: u32,
    /// Waited for quota.
    #[serde(rename = "wait_ms", serialize_with = "millis")]
    pub wait: Duration,
    /// Waited for Finch.
    #[serde(rename = "finch_ms", serialize_with = "millis")]
    pub finch: Duration,
    /// All of it.
    #[serde(rename = "total_ms", serialize_with = "millis")]
    pub total: Duration,
    /// The body that came.
    pub bytes_in: u64,
    /// The body that went.
    pub bytes_out: u64,
    /// The items of a batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchReport>,
    /// How many items of a batch a second request made better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repaired: Option<u64>,
    /// How old the data was, where Finch says so.
    #[serde(rename = "data_age_s", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub data_age: Option<Duration>,
    /// How the last attempt to renew the data ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update: Option<&'static str>,
    /// A directory of which only a part was answered although no page was asked for.
    #[serde(rename = "paging", skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// perch's id of the exchange whose outcome a call that was sent again took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resend_of: Option<RequestId>,
    /// perch's id of the call whose request asked for this one's ids, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried_by: Option<RequestId>,
    /// How many of the attempts were other calls': the app is told all, the log counts each once.
    #[serde(skip)]
    pub carried: u32,
    /// `coalesced` when the answer is that of an identical read, `batched` when it is a part of another call's; `hit`,
    /// `shared`, `miss` or `bypass` where answers are kept; `journal` for a code that was exchanged before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'static str>,
    /// Whether the body was too large to be looked into.
    #[serde(skip_serializing_if = "is_false")]
    pub uninspected: bool,
    /// Which trace it is a part of, where there are traces.
    #[serde(rename = "trace_id", skip_serializing_if = "Option::is_none")]
    pub trace: Option<Context>,
    /// What happened, step by step.
    #[serde(skip)]
    pub timeline: Timeline,
    /// Whether the client had left before its answer.
    #[serde(skip_serializing_if = "is_false")]
    pub client_gone: bool,
}

impl AccessLine {
    /// The line of a call of which nothing is known yet.
    pub fn begin(request_id: RequestId, ts: UnixMillis) -> Self {
        Self {
            ts,
            target: "perch.access",
            request_id,
            finch_request_id: Vec::new(),
            app: None,
            by: None,
            customer: None,
            connection_id: None,
            company_id: None,
            provider: None,
            product: super::UNKNOWN_PRODUCT,
            method: "OTHER",
            path: "",
            status: 0,
            class: Class::PerchUnavailable,
            refusal: None,
            finch_code: None,
            attempts: 0,
            wait: Duration::ZERO,
            finch: Duration::ZERO,
            total: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            batch: None,
            repaired: None,
            data_age: None,
            last_update: None,
            cut: None,
            resend_of: None,
            carried_by: None,
            carried: 0,
            cache: None,
            uninspected: false,
            trace: None,
            timeline: Timeline::begin(),
            client_gone: false,
        }
    }

    /// Keeps Finch's id of an attempt, up to a bound.
    pub fn saw(&mut self, id: FinchRequestId) {
        if self.finch_request_id.len() < FINCH_REQUEST_IDS_MAX {
            self.finch_request_id.push(id);
        }
    }
}

fn class<S: Serializer>(class: &Class, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(class.as_str())
}

fn millis<S: Serializer>(span: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn seconds<S: Serializer>(span: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    span.map(|span| span.as_secs()).serialize(s)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}

/// How many lines may wait for a reader of stdout that has stopped reading.
const QUEUE_LINES_MAX: usize = 16_384;

/// How long stopping waits for that reader.
const FLUSH_MAX: Duration = Duration::from_secs(2);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Writes access lines on a thread of its own, so that a full pipe never holds a call up.
#[derive(Debug)]
pub struct AccessLog {
    lines: SyncSender<Message>,
}

impl AccessLog {
    /// Starts the writer. It ends when the log is dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn to(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (lines, queue) = sync_channel(QUEUE_LINES_MAX);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_all(&queue, out))?;
        Ok(Self { lines })
    }

    /// Queues a line. `false` when the queue is full and the line is lost.
    #[must_use]
    pub fn write(&self, line: &AccessLine) -> bool {
        // Every field serialises: ids are text, numbers are finite.
        let mut bytes = serde_json::to_vec(line).unwrap_or_default();
        bytes.push(b'\n');
        self.lines.try_send(Message::Line(bytes)).is_ok()
    }

    /// Waits until all that was queued is written, a moment at most: a reader that has stopped reading
    /// must not keep perch from stopping.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        let until = Instant::now() + FLUSH_MAX;
        let mut message = Message::Flush(done);
        loop {
            match self.lines.try_send(message) {
                Ok(()) => {
                    let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
                    return;
                }
                Err(TrySendError::Full(back)) if Instant::now() < until => {
                    message = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return,
            }
        }
    }
}

fn write_all(queue: &Receiver<Message>, mut out: impl Write) {
    while let Ok(message) = queue.recv() {
        // A reader that is gone is no reason to stop serving.
        match message {
            Message::Line(bytes) => {
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_the_ids_hold() {
        let mut line = AccessLine::begin(RequestId::new("r1").expect("an id"), UnixMillis(0));
        line.customer = Some(CustomerId::new("a\u{2028}\"b\u{1b}".replace('\u{1b}', "x")).expect("an id"));
        line.wait = Duration::from_micros(1_999);
        line.batch = Some(BatchReport { total: 3, failed: 1, ..BatchReport::default() });
        let json = serde_json::to_string(&line).expect("JSON");
        assert_eq!(json.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["target"], "perch.access");
        assert_eq!(value["wait_ms"], 1);
        assert_eq!(value["batch"]["failed"], 1);
        assert_eq!(value["class"], "perch_unavailable");
        assert!(value.get("client_gone").is_none());
    }

    #[test]
    fn attempts_beyond_the_bound_are_counted_but_not_kept() {
        let mut line = AccessLine::begin(RequestId::new("r1").expect("an id"), UnixMillis(0));
        for i in 0..100 {
            line.saw(FinchRequestId::new(format!("f{i}")).expect("an id"));
        }
        assert_eq!(line.finch_request_id.len(), FINCH_REQUEST_IDS_MAX);
    }
}

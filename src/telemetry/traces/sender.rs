//! The way to the collector: batches, one after the other, each a few times at most.

use super::otlp;
use super::queue::{BATCH, Queue};
use super::span::Span;
use crate::config::BaseUrl;
use crate::telemetry::metrics::Traced;
use crate::types::CollectorKey;
use crate::upstream::{self, Attempt, Finch, RootsError, SendError};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long a batch that is not full waits for more.
const EVERY: Duration = Duration::from_secs(5);
/// How long a connection to the collector may take to open.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often a batch is offered, while the collector says "later" or nothing.
const OFFERS_MAX: u32 = 3;
/// The pause before the second offer; the next is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// While the collector is out, an operator is told so this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Where the collector is, and what it wants to see.
#[derive(Debug)]
pub struct Collector {
    /// Scheme, host and port.
    pub base: BaseUrl,
    /// The path of its traces.
    pub path: String,
    /// Headers that it asks for, with their secrets.
    pub headers: Vec<(HeaderName, CollectorKey)>,
    /// In whose name spans are sent: `service.name`.
    pub service: String,
    /// One more trust anchor.
    pub ca_file: Option<PathBuf>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It was taken, but for this many spans.
    Taken { rejected: u64 },
    /// It may be taken later.
    Later(&'static str),
    /// It will not be taken.
    Refused(u16),
}

/// Sends what waits.
pub(super) struct Sender {
    way: Finch,
    path: String,
    headers: HeaderMap,
    service: String,
    queue: Arc<Queue>,
    counts: Traced,
    told: Option<Instant>,
}

impl Sender {
    pub(super) fn new(collector: Collector, queue: Arc<Queue>, counts: Traced) -> Result<Self, RootsError> {
        let Collector { base, path, headers: secrets, service, ca_file } = collector;
        let mut headers = HeaderMap::new();
        for (name, secret) in secrets {
            // The configuration took only what can stand in a header.
            if let Ok(mut value) = HeaderValue::from_str(secret.expose()) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("perch/", env!("CARGO_PKG_VERSION"))));
        let ca_file = ca_file.filter(|_| base.tls);
        let way = Finch::new(upstream::Settings {
            base,
            ca_file,
            connect_timeout: CONNECT_MAX,
            answer_timeout: ANSWER_MAX,
        })?;
        Ok(Self { way, path, headers, service, queue, counts, told: None })
    }

    /// Sends until perch stops, and then what is left.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        while !*stopping.borrow() {
            tokio::select! {
                () = self.queue.is_due.notified() => {}
                () = sleep(EVERY) => {}
                // Also when nobody is left who could say so.
                _ = stopping.wait_for(|stop| *stop) => break,
            }
            self.send_all(&mut stopping).await;
        }
        self.send_all(&mut stopping).await;
    }

    async fn send_all(&mut self, stopping: &mut watch::Receiver<bool>) {
        loop {
            let spans = self.queue.take();
            if spans.is_empty() {
                return;
            }
            let is_full = spans.len() == BATCH;
            self.send(&spans, stopping).await;
            // Less than a batch waits for more, unless these are the last.
            if !is_full && !*stopping.borrow() {
                return;
            }
        }
    }

    async fn send(&mut self, spans: &[Span], stopping: &mut watch::Receiver<bool>) {
        let body = Bytes::from(otlp::request(spans, &self.service));
        let count = spans.len() as u64;
        let mut pause = PAUSE;
        let mut offers = 0;
        let why = loop {
            offers += 1;
            match self.offer(body.clone()).await {
                Told::Taken { rejected } => {
                    let rejected = rejected.min(count);
                    self.counts.sent(count - rejected);
                    self.counts.failed(rejected);
                    self.told = None;
                    return;
                }
                Told::Refused(status) => break format!("it answered {status}"),
                Told::Later(why) if offers == OFFERS_MAX || *stopping.borrow() => break why.to_owned(),
                Told::Later(_) => {}
            }
            let _ = timeout(pause, stopping.wait_for(|stop| *stop)).await;
            pause *= 2;
        };
        self.counts.failed(count);
        if self.told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told = Some(Instant::now());
            tracing::warn!(
                why,
                spans = count,
                "the collector of traces took nothing; calls go on without it"
            );
        }
    }

    async fn offer(&self, body: Bytes) -> Told {
        let headers = self.headers.clone();
        let attempt = Attempt { method: "POST", target: self.path.clone(), headers, body };
        let exchange = async {
            let answer = match self.offer_once(&attempt).await {
                // A kept connection that the collector had closed.
                Err(SendError::Broken { stale: true, .. }) => self.offer_once(&attempt).await?,
                sent => sent?,
            };
            let status = answer.status;
            let body = answer.rest.read(ANSWER_BYTES_MAX).await;
            let body = match &body {
                Ok(upstream::Body::Whole(body)) => body.as_slice(),
                Ok(_) | Err(_) => &[],
            };
            Ok::<_, SendError>(read(status, body))
        };
        match timeout(CONNECT_MAX + ANSWER_MAX, exchange).await {
            Ok(Ok(told)) => told,
            Ok(Err(error)) => Told::Later(error.why()),
            Err(_) => Told::Later(SendError::TimedOut.why()),
        }
    }

    async fn offer_once(&self, attempt: &Attempt) -> Result<upstream::Answer, SendError> {
        self.way.connect().await?.send(attempt).await
    }
}

/// What an answer means (OTLP specification, "OTLP/HTTP Response").
fn read(status: u16, body: &[u8]) -> Told {
    match status {
        200..=299 => Told::Taken { rejected: otlp::rejected(body) },
        429 | 502 | 503 | 504 => Told::Later("it is busy"),
        _ => Told::Refused(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_what_otlp_says() {
        assert_eq!(read(200, b""), Told::Taken { rejected: 0 });
        // partial_success { rejected_spans: 3 }
        assert_eq!(read(200, &[0x0a, 0x02, 0x08, 0x03]), Told::Taken { rejected: 3 });
        assert_eq!(read(200, b"{}"), Told::Taken { rejected: 0 });
        for status in [429, 502, 503, 504] {
            assert!(matches!(read(status, b""), Told::Later(_)), "{status}");
        }
        for status in [301, 400, 401, 404, 500] {
            assert_eq!(read(status, b""), Told::Refused(status));
        }
    }
}

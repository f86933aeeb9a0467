//! OpenTelemetry traces: what became of calls, for a collector that speaks OTLP over HTTP. A collector that is slow or
//! out costs spans, which are counted, and never a call.

mod otlp;
mod queue;
mod sender;
pub mod span;
#[cfg(test)]
mod tests;

pub use sender::Collector;
pub use span::{Place, When, spans};

use super::AccessLine;
use super::clock::unix_nanos;
use super::metrics::Traced;
use super::timeline::STEPS_MAX;
use crate::policy::trace::{Context, Parent, SpanId, TRACEPARENT, TRACESTATE, TraceId};
use crate::upstream::RootsError;
use http::{HeaderMap, HeaderName, HeaderValue};
use queue::Queue;
use sender::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long stopping waits for the collector.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Which calls are traced, and who is told.
#[derive(Debug)]
pub struct Rules {
    /// What is the same for all spans.
    pub place: Place,
    /// How many of a hundred traces that begin here are kept.
    pub sample_percent: u32,
    /// Whether Finch gets `traceparent`.
    pub propagates: bool,
}

/// Makes spans and has them sent.
#[derive(Debug)]
pub struct Traces {
    rules: Rules,
    queue: Arc<Queue>,
    counts: Traced,
    stop: watch::Sender<bool>,
    sender: Mutex<Option<JoinHandle<()>>>,
}

impl Traces {
    /// Starts to send, on the runtime that this is called on.
    ///
    /// # Errors
    /// A trust anchor cannot be read.
    pub fn start(rules: Rules, collector: Collector, counts: Traced) -> Result<Self, RootsError> {
        let queue = Arc::new(Queue::default());
        let (stop, stopping) = watch::channel(false);
        let sender = Sender::new(collector, Arc::clone(&queue), counts.clone())?;
        let sender = Mutex::new(Some(tokio::spawn(sender.run(stopping))));
        Ok(Self { rules, queue, counts, stop, sender })
    }

    /// The part of a trace that a call with these headers is. `None`: the system gives no random numbers.
    pub fn begin(&self, headers: &HeaderMap) -> Option<Context> {
        let mut chance = [0; 24];
        getrandom::fill(&mut chance).ok()?;
        let (trace, span) = chance.split_at(16);
        let fresh = (TraceId::new(trace.try_into().ok()?)?, SpanId::new(span.try_into().ok()?)?);
        Some(Context::of_call(Parent::read(headers), fresh, self.rules.sample_percent))
    }

    /// What the next step of a call tells Finch of its trace; nothing unless that is wished for.
    pub fn propagated(&self, line: &AccessLine) -> Option<HeaderMap> {
        let context = line.trace.as_ref().filter(|_| self.rules.propagates)?;
        let step = line.timeline.steps().len();
        // A step that is not kept becomes no span: nothing would be behind its id, and others would have the same.
        if step >= STEPS_MAX {
            return None;
        }
        let parent = HeaderValue::try_from(context.traceparent(step)).ok()?;
        let state = HeaderValue::from_str(context.state.as_str()).ok()?;
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static(TRACEPARENT), parent)]);
        if !state.is_empty() {
            headers.insert(TRACESTATE, state);
        }
        Some(headers)
    }

    /// Takes a call that ends now.
    pub(super) fn record(&self, line: &AccessLine) {
        let when = When { ended: unix_nanos(), began_ago: line.timeline.came().elapsed() };
        let spans = spans(line, when, &self.rules.place);
        if !spans.is_empty() {
            self.counts.dropped(self.queue.add(spans));
        }
    }

    /// Sends what still waits, for a moment at most; call it last.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut sender) = sender else { return };
        if tokio::time::timeout(FLUSH_MAX, &mut sender).await.is_err() {
            sender.abort();
            let lost = self.queue.len();
            tracing::warn!(lost, "the collector of traces does not answer; what waited for it is lost");
        }
    }
}

//! The watch for drift: samples of good answers are compared with their known shape on a thread of their own, beside the
//! calls and never before them. What comes out are counts and names of fields, never a value.

use super::metrics::Fields;
use crate::finch::endpoints::Endpoint;
use crate::finch::shape::{self, Shape};
use crate::policy::drift::{Book, News, Pace, Snapshot, Tally, inspect, is_worth_a_look};
use crate::types::{Moment, Product, ProviderId};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

/// Answers that wait to be compared, each of up to a mebibyte. More are dropped, and counted.
const SAMPLES_MAX: usize = 8;

/// What a provider is called where none is known: the call named no connection.
const UNKNOWN_PROVIDER: &str = "unknown";

/// The watch.
#[derive(Debug)]
pub struct Drift {
    began: Instant,
    pace: Mutex<Pace>,
    samples: SyncSender<Sample>,
    book: Arc<Mutex<Book>>,
    fields: Fields,
}

/// One answer to be compared.
struct Sample {
    product: Product,
    provider: Box<str>,
    shape: &'static Shape,
    body: Bytes,
}

impl Drift {
    /// Starts the watch, which counts into these metrics. It ends when it is dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(fields: Fields) -> std::io::Result<Self> {
        let (samples, queue) = sync_channel(SAMPLES_MAX);
        let (book, counters) = (Arc::<Mutex<Book>>::default(), fields.clone());
        let its_book = Arc::clone(&book);
        let thread = std::thread::Builder::new().name("drift".to_owned());
        thread.spawn(move || compare_all(&queue, &its_book, &counters))?;
        Ok(Self { began: Instant::now(), pace: Mutex::default(), samples, book, fields })
    }

    /// Shows a good answer, whole and not encoded. Few are taken, and the call never waits for one.
    pub fn offer(&self, endpoint: &Endpoint, provider: Option<&ProviderId>, status: u16, body: &Bytes) {
        let Some(shape) = shape::of(endpoint.operation) else { return };
        if !is_worth_a_look(status, body.len()) {
            return;
        }
        let product = endpoint.product;
        let provider = provider.map_or(UNKNOWN_PROVIDER, ProviderId::as_str);
        let now = Moment::at(self.began.elapsed());
        let Some(provider) = self.pace.lock().admits(product, provider, now).map(Box::from) else { return };
        let sample = Sample { product, provider, shape, body: body.clone() };
        if self.samples.try_send(sample).is_err() {
            self.fields.dropped.inc();
        }
    }

    /// How answers compare with their known shapes so far.
    pub fn snapshot(&self) -> Snapshot {
        let snapshot = self.book.lock().snapshot();
        Snapshot { dropped: self.fields.dropped.get(), ..snapshot }
    }
}

fn compare_all(queue: &Receiver<Sample>, book: &Mutex<Book>, fields: &Fields) {
    while let Ok(Sample { product, provider, shape, body }) = queue.recv() {
        // What is not JSON is told of elsewhere, if at all: the app gets it as it is.
        let Some(tally) = inspect(shape, &body) else { continue };
        drop(body);
        count(fields, product, &provider, &tally);
        for news in book.lock().add(product, &provider, tally) {
            tell(product, &provider, &news);
        }
        // Last, so that who sees the sample counted sees all of it.
        fields.samples.with_label_values(&[product.as_str()]).inc();
    }
}

fn count(fields: &Fields, product: Product, provider: &str, tally: &Tally) {
    let mut outcomes = BTreeMap::from([("unknown_field", tally.unknown.values().sum())]);
    for seen in tally.fields.values() {
        *outcomes.entry("value").or_default() += seen.values;
        *outcomes.entry("null").or_default() += seen.nulls;
        *outcomes.entry("unknown_enum").or_default() += seen.unknown_words;
        *outcomes.entry("type").or_default() += seen.surprises.values().sum::<u64>();
    }
    for (outcome, times) in outcomes {
        fields.outcomes.with_label_values(&[product.as_str(), provider, outcome]).inc_by(times);
    }
}

fn tell(product: Product, provider: &str, news: &News) {
    let product = product.as_str();
    match news {
        News::Field(field) => {
            tracing::info!(
                product,
                provider,
                field,
                "an answer of Finch's has a field that perch does not know"
            );
        }
        News::Word(field) => {
            tracing::info!(
                product,
                provider,
                field,
                "a field of an answer of Finch's holds a word that perch does not know"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finch::Method;
    use crate::finch::endpoints::find;
    use crate::telemetry::Metrics;

    fn watch() -> (Metrics, Drift) {
        let metrics = Metrics::new().expect("a registry");
        let drift = Drift::start(metrics.fields.clone()).expect("a thread");
        (metrics, drift)
    }

    fn company() -> &'static Endpoint {
        find(Method::Get, "/employer/company").expect("a row of the table")
    }

    fn wait_for(metrics: &Metrics, samples: u64) {
        let until = Instant::now() + std::time::Duration::from_secs(60);
        while metrics.fields.samples.with_label_values(&["company"]).get() < samples {
            assert!(Instant::now() < until, "the sample is not compared");
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_answer_that_is_offered_is_counted_and_its_values_are_nowhere() {
        let (metrics, drift) = watch();
        let gusto = ProviderId::new("gusto").expect("an id");
        let body = Bytes::from_static(
            br#"{"id":"CANARY1","ein":null,"founded":"CANARY2","entity":{"type":"CANARY3"},"legal_name":{"CANARY4":1}}"#,
        );
        drift.offer(company(), Some(&gusto), 200, &body);
        drift.offer(company(), Some(&gusto), 200, &body);
        drift.offer(company(), None, 200, &body);
        wait_for(&metrics, 2);
        let text = String::from_utf8(metrics.render().expect("text")).expect("text");
        for (outcome, times) in
            [("value", 2), ("null", 1), ("unknown_field", 1), ("unknown_enum", 1), ("type", 1)]
        {
            let line = format!(
                "perch_fields_total{{outcome=\"{outcome}\",product=\"company\",provider=\"gusto\"}} {times}"
            );
            assert!(text.contains(&line), "{line} in {text}");
        }
        let snapshot = drift.snapshot();
        let providers: Vec<_> = snapshot.sources.iter().map(|source| source.provider.as_str()).collect();
        assert_eq!((providers, snapshot.dropped), (vec!["gusto", "unknown"], 0));
        let told = serde_json::to_string(&snapshot).expect("JSON");
        assert!(told.contains("founded") && !told.contains("CANARY") && !text.contains("CANARY"), "{told}");
    }

    #[test]
    fn what_has_no_known_shape_is_not_looked_into() {
        let (_metrics, drift) = watch();
        let providers = find(Method::Get, "/providers").expect("a row of the table");
        drift.offer(providers, None, 200, &Bytes::from_static(b"[]"));
        drift.offer(company(), None, 202, &Bytes::from_static(b"{}"));
        assert!(drift.pace.lock().admits(Product::Company, UNKNOWN_PROVIDER, Moment::ZERO).is_some());
        assert!(drift.snapshot().sources.is_empty());
    }
}

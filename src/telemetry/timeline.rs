//! What happened in a call's life, step by step: the one source of the ledger's timeline, of the support bundle and of
//! traces. Filled while the call runs, read when it has ended; it holds no more than the access line may.

use crate::types::{FinchRequestId, Product};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;

/// The most steps of one call that are kept; the first ones tell how it went wrong.
pub const STEPS_MAX: usize = 64;

/// The steps of one call, in the order in which they ended.
#[derive(Debug, Clone)]
pub struct Timeline {
    came: Instant,
    steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// When it began, from the call's coming in.
    #[serde(rename = "at_ms", serialize_with = "millis")]
    pub at: Duration,
    /// How long it took.
    #[serde(rename = "lasted_ms", serialize_with = "millis")]
    pub lasted: Duration,
    /// What it was.
    #[serde(flatten)]
    pub did: Did,
}

/// What a step was.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum Did {
    /// The vault was asked whose connection is meant: its cache, or its store.
    LookUp {
        /// Whether it answered; a connection that is not there is an answer.
        is_answered: bool,
    },
    /// It waited.
    Wait {
        /// What for.
        #[serde(rename = "for")]
        what: Awaited,
        /// Whether it got that; else its patience ended, its client left, or perch stopped.
        is_over: bool,
        /// How the product's limit stood when the wait ended, where that was known.
        #[serde(flatten)]
        limiter: Option<Limiter>,
    },
    /// Another call's request asked for what it wanted, too.
    Share,
    /// It was sent to Finch.
    Attempt {
        /// What it counted against.
        #[serde(serialize_with = "word")]
        product: Product,
        /// Finch's status; none when no answer came.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// Why no answer came.
        #[serde(skip_serializing_if = "Option::is_none")]
        failed: Option<&'static str>,
        /// Finch's id of the attempt.
        #[serde(skip_serializing_if = "Option::is_none")]
        finch_request_id: Option<FinchRequestId>,
    },
}

/// What a call waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaited {
    /// A permit.
    Quota,
    /// The end of a hold, or what another call was sent to find out about it.
    Hold,
    /// The outcome of an identical call.
    Twin,
}

/// How the limit of a product stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limiter {
    /// Where quota was counted: `memory`, `redis` or `degraded`.
    pub limiter: &'static str,
    /// How many permits were busy.
    pub used: u32,
    /// Of how many.
    pub limit: u32,
}

impl Timeline {
    /// The timeline of a call that comes in now.
    pub fn begin() -> Self {
        Self { came: Instant::now(), steps: Vec::new() }
    }

    /// When the call came in.
    pub fn came(&self) -> Instant {
        self.came
    }

    /// The steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Keeps a step that began then and ends now, up to [`STEPS_MAX`].
    pub fn note(&mut self, began: Instant, did: Did) {
        if self.steps.len() < STEPS_MAX {
            let (at, lasted) = (began.saturating_duration_since(self.came), began.elapsed());
            self.steps.push(Step { at, lasted, did });
        }
    }

    /// Forgets Finch's ids of attempts that are not to be kept.
    pub fn forget_ids(&mut self, is_unfit: impl Fn(&FinchRequestId) -> bool) {
        for step in &mut self.steps {
            if let Did::Attempt { finch_request_id, .. } = &mut step.did
                && finch_request_id.as_ref().is_some_and(&is_unfit)
            {
                *finch_request_id = None;
            }
        }
    }

    /// The last attempt lasts until now: its body has come.
    pub fn extend_attempt(&mut self) {
        let now = self.came.elapsed();
        if let Some(step) = self.steps.iter_mut().rev().find(|step| matches!(step.did, Did::Attempt { .. })) {
            step.lasted = now.saturating_sub(step.at);
        }
    }
}

fn millis<S: serde::Serializer>(span: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn word<S: serde::Serializer>(product: &Product, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(product.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steps_say_when_they_began_and_how_long_they_took() {
        let mut timeline = Timeline::begin();
        tokio::time::advance(Duration::from_secs(1)).await;
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(2)).await;
        timeline.note(began, attempt(Some(200)));
        tokio::time::advance(Duration::from_secs(3)).await;
        timeline.extend_attempt();
        let [step] = timeline.steps() else { panic!("one step") };
        assert_eq!((step.at, step.lasted), (Duration::from_secs(1), Duration::from_secs(5)));
        let json = serde_json::to_value(step).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "at_ms": 1000, "lasted_ms": 5000, "did": "attempt", "product": "directory", "status": 200
            })
        );
    }

    #[test]
    fn a_wait_says_what_for_and_how_the_limit_stood() {
        let limiter = Some(Limiter { limiter: "memory", used: 20, limit: 20 });
        let wait = Did::Wait { what: Awaited::Quota, is_over: false, limiter };
        assert_eq!(
            serde_json::to_value(&wait).expect("JSON"),
            serde_json::json!({
                "did": "wait", "for": "quota", "is_over": false, "limiter": "memory", "used": 20, "limit": 20
            })
        );
        let wait = Did::Wait { what: Awaited::Twin, is_over: true, limiter: None };
        assert_eq!(
            serde_json::to_value(&wait).expect("JSON"),
            serde_json::json!({ "did": "wait", "for": "twin", "is_over": true })
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_goes_on_and_on_keeps_its_first_steps() {
        let mut timeline = Timeline::begin();
        for status in 0..1_000 {
            timeline.note(Instant::now(), attempt(Some(status)));
        }
        assert_eq!(timeline.steps().len(), STEPS_MAX);
        assert!(matches!(timeline.steps()[0].did, Did::Attempt { status: Some(0), .. }));
    }

    fn attempt(status: Option<u16>) -> Did {
        Did::Attempt { product: Product::Directory, status, failed: None, finch_request_id: None }
    }
}

//! Spans that wait for the collector: so many, and not one more. Whoever adds never waits.

use super::span::Span;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// The most spans that wait, a few megabytes.
pub(super) const SPANS_MAX: usize = 2048;
/// How many are sent at once.
pub(super) const BATCH: usize = 512;

/// The spans that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Span>>,
    /// A whole batch waits.
    pub(super) is_due: Notify,
}

impl Queue {
    /// Adds the spans of one call, all or none: half a call tells a wrong story. Tells how many found no room.
    pub(super) fn add(&self, spans: Vec<Span>) -> u64 {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() + spans.len() > SPANS_MAX {
            return spans.len() as u64;
        }
        waiting.extend(spans);
        if waiting.len() >= BATCH {
            self.is_due.notify_one();
        }
        0
    }

    /// Takes the oldest, a batch at most.
    pub(super) fn take(&self) -> Vec<Span> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.len().min(BATCH);
        waiting.drain(..count).collect()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

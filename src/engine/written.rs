//! The configuration in force as it was written, and how the last reading of it ended: what operators are shown.

use crate::config;
use crate::telemetry::metrics::Reloaded;
use crate::types::UnixMillis;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Map, Value};

/// The most reasons that are kept of a reading that was refused.
const REASONS_MAX: usize = 20;

/// The configuration in force as it was written.
#[derive(Debug)]
pub struct Written(Mutex<State>);

#[derive(Debug)]
struct State {
    written: config::Written,
    read_at: UnixMillis,
    last: Option<Reading>,
}

/// How a reading of the configuration ended while perch ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// When.
    pub at: UnixMillis,
    /// How.
    pub outcome: Reloaded,
    /// The keys that were changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}

/// What operators are shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// When the configuration in force was read.
    pub read_at: UnixMillis,
    /// How the last reading ended while perch ran; none was there yet without it.
    pub last_reload: Option<Reading>,
    /// Every key, its value as written, who wrote it, and whether it can be changed while perch runs. Secrets are
    /// references.
    pub settings: Map<String, Value>,
}

impl Written {
    /// What perch starts with.
    pub fn new(written: config::Written, now: UnixMillis) -> Self {
        Self(Mutex::new(State { written, read_at: now, last: None }))
    }

    /// What a newer one changes. `counts_alone`: quota is counted in this process.
    pub fn changes(&self, next: &config::Written, counts_alone: bool) -> config::Changes {
        self.0.lock().written.changes(next, counts_alone)
    }

    /// A reading has ended; with `next` that is in force now.
    pub fn note(&self, mut reading: Reading, next: Option<config::Written>) {
        reading.why.truncate(REASONS_MAX);
        let mut state = self.0.lock();
        if let Some(next) = next {
            state.written = next;
            state.read_at = reading.at;
        }
        state.last = Some(reading);
    }

    /// What operators are shown.
    pub fn shown(&self, counts_alone: bool) -> Shown {
        let state = self.0.lock();
        let mut settings = config::as_json(&state.written.origins);
        for (key, setting) in &mut settings {
            setting["live"] = config::is_live(key, counts_alone).into();
        }
        Shown { read_at: state.read_at, last_reload: state.last.clone(), settings }
    }
}

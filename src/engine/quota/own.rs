//! The ledger in this process.

use crate::limit::{Admission, Ask, Ledger, Rules};
use crate::types::Moment;
use std::sync::{Mutex, PoisonError};

/// A ledger behind a lock.
#[derive(Debug)]
pub(super) struct Own {
    ledger: Mutex<Ledger>,
}

impl Own {
    pub(super) fn new(rules: Rules) -> Self {
        Self { ledger: Mutex::new(Ledger::new(rules)) }
    }

    pub(super) fn ask(&self, ask: &Ask, now: Moment) -> Admission {
        self.with(|ledger| ledger.ask(ask, now))
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Ledger) -> T) -> T {
        // The ledger has no state between two of its calls that a panic could leave half done
        // and that would not mend itself: a lost permit runs out, a lost ticket expires.
        act(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! The request ledger: how long it is kept, and how it is written.

use super::problem::{Check, Complaint};
use super::reader::Reader;
use super::value::{Setting, duration, whole};
use std::time::Duration;

/// The longest a call may wait to be written: within a second of its end it is to be found.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// How the request ledger is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// How long a call is kept; 30 days. `None`: there is no ledger.
    pub keep: Option<Duration>,
    /// How long a call that ended waits to be written together with others; 250 ms.
    pub flush: Duration,
    /// Calls that may wait to be written while the store is out; 20 000.
    pub queue: u32,
    /// Calls that are kept at most; 10 000 000.
    pub rows: u32,
}

/// Reads the section.
pub(super) fn ledger(r: &mut Reader<'_>) -> Option<Ledger> {
    let keep = r.get("ledger.keep", |s| match s.text() {
        Ok("off") => Ok(None),
        _ => duration(s).map(Some),
    });
    let flush = r.get("ledger.flush", flush);
    let queue = r.get("ledger.queue", |s| whole(s, 10, 1_000_000));
    let rows = r.get("ledger.rows", |s| whole(s, 100, 100_000_000));
    Some(Ledger { keep: keep?, flush: flush?, queue: queue?, rows: rows? })
}

fn flush(s: &Setting) -> Check<Duration> {
    match duration(s)? {
        span if span > FLUSH_MAX => {
            Err(Complaint::new("is longer than 500ms: a call would not be found within a second of its end")
                .hint(format!("write {}", s.written("250ms"))))
        }
        span => Ok(span),
    }
}

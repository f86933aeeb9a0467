//! The only place that reads the wall clock.

use crate::types::UnixMillis;
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock now, for records that people read; never for a decision about quota.
pub fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The same in nanoseconds, as tracing systems count.
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

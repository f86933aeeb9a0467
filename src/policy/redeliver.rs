//! When an event that the app did not take is offered again, and whether its first signature still serves.

use crate::types::UnixMillis;
use std::time::Duration;

/// The wait after the first failure, after the second, and so on; the last one repeats.
const WAITS: [Duration; 6] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
];

/// Finch's SDKs refuse a timestamp that is five minutes old; the last minute is for the way and for clocks.
const FRESH_FOR: Duration = Duration::from_secs(4 * 60);

/// What becomes of an event that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is offered again at this time.
    At(UnixMillis),
    /// It is kept for an operator, who may have it offered again.
    Dead,
}

/// After `made` attempts that failed, of which `most` are allowed.
pub fn after_failure(made: u32, most: u32, now: UnixMillis) -> Next {
    if made >= most {
        return Next::Dead;
    }
    let step = usize::try_from(made.saturating_sub(1)).unwrap_or(usize::MAX).min(WAITS.len() - 1);
    Next::At(now.plus(WAITS[step]))
}

/// Whether an app that checks Finch's own signature with an SDK would still believe a message of this time.
pub fn is_fresh(sent_at: UnixMillis, now: UnixMillis) -> bool {
    now.0.abs_diff(sent_at.0) <= FRESH_FOR.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    #[test]
    fn each_failure_makes_the_next_wait_longer_until_the_last_attempt() {
        for (made, most, expected) in [
            (1, 7, Some(5)),
            (2, 7, Some(30)),
            (3, 7, Some(120)),
            (4, 7, Some(600)),
            (5, 7, Some(3_600)),
            (6, 7, Some(21_600)),
            (7, 7, None),
            (8, 7, None),
            (1, 1, None),
            (0, 7, Some(5)),
            (9, 20, Some(21_600)),
            (u32::MAX - 1, u32::MAX, Some(21_600)),
        ] {
            let next = expected.map_or(Next::Dead, |s| Next::At(NOW.plus(Duration::from_secs(s))));
            assert_eq!(after_failure(made, most, NOW), next, "{made} of {most}");
        }
    }

    #[test]
    fn a_signature_serves_for_four_minutes() {
        let ago = |seconds: i64| UnixMillis(NOW.0 - seconds * 1000);
        for (seconds, fresh) in [(0, true), (240, true), (241, false), (-240, true), (-300, false)] {
            assert_eq!(is_fresh(ago(seconds), NOW), fresh, "{seconds}");
        }
        assert!(!is_fresh(UnixMillis(i64::MIN), UnixMillis(i64::MAX)));
    }
}

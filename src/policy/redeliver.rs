//! When an event that the app did not take is offered again, and whether its first signature still serves.

use crate::types::UnixMillis;
use std::time::Duration;

/// How much of a wait chance may add: events that failed together do not all come back together.
const SPREAD: f64 = 0.2;

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

/// After `made` attempts that failed, of which `most` are allowed. `jitter`, from 0 to 1, says how much longer than its
/// step the wait is; never shorter, so that an app that is down has the whole step to come back.
pub fn after_failure(made: u32, most: u32, now: UnixMillis, jitter: f64) -> Next {
    if made >= most {
        return Next::Dead;
    }
    let step = usize::try_from(made.saturating_sub(1)).unwrap_or(usize::MAX).min(WAITS.len() - 1);
    let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
    Next::At(now.plus(WAITS[step].mul_f64(1.0 + SPREAD * jitter)))
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
            assert_eq!(after_failure(made, most, NOW, 0.0), next, "{made} of {most}");
        }
    }

    #[test]
    fn chance_lengthens_a_wait_by_a_fifth_at_most_and_never_shortens_it() {
        for (jitter, waited) in [
            (0.0, 30_000),
            (0.5, 33_000),
            (1.0, 36_000),
            (7.0, 36_000),
            (-1.0, 30_000),
            (f64::NAN, 30_000),
            (f64::INFINITY, 30_000),
        ] {
            let next = Next::At(NOW.plus(Duration::from_millis(waited)));
            assert_eq!(after_failure(2, 7, NOW, jitter), next, "{jitter}");
        }
        assert_eq!(after_failure(7, 7, NOW, 1.0), Next::Dead);
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

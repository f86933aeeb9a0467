//! What a 429 teaches: somebody else uses the application, or Finch counts otherwise than it says.
//! A product that was refused is careful for a while, and trusts again step by step.

use crate::types::Moment;
use std::time::Duration;

/// Added to the window at each refusal.
const PAD_STEP: Duration = Duration::from_millis(250);
/// The most that is added.
const PAD_MAX: Duration = Duration::from_secs(1);
/// Taken off again for each [`PAD_CLEAN`] without a refusal.
const PAD_TRUST: Duration = Duration::from_millis(100);
const PAD_CLEAN: Duration = Duration::from_secs(10 * 60);
/// A second refusal within this time makes the limit smaller by one.
const SECOND_WITHIN: Duration = Duration::from_secs(10 * 60);
/// The limit grows by one again for each such time without a refusal.
const CLEAN: Duration = Duration::from_secs(2 * 60);

/// What is remembered of one product's refusals.
#[derive(Debug, Clone, Default)]
pub(super) struct Foreign {
    last: Option<Moment>,
    /// By how much the limit was smaller at the last refusal.
    deficit: u32,
    /// What was added to the window at the last refusal.
    pad: Duration,
}

impl Foreign {
    /// Finch refused for this limit.
    pub(super) fn refused(&mut self, limit: u32, now: Moment) {
        let is_second = self.last.is_some_and(|last| now.since(last) <= SECOND_WITHIN);
        let floor = (limit / 4).max(1);
        self.deficit = (self.deficit(now) + u32::from(is_second)).min(limit.saturating_sub(floor));
        self.pad = (self.pad(now) + PAD_STEP).min(PAD_MAX);
        self.last = Some(now);
    }

    /// By how much the limit is smaller now.
    pub(super) fn deficit(&self, now: Moment) -> u32 {
        let clean = self.last.map_or(0, |last| now.since(last).as_micros() / CLEAN.as_micros());
        self.deficit.saturating_sub(u32::try_from(clean).unwrap_or(u32::MAX))
    }

    /// When the limit grows next; `None` when it is whole.
    pub(super) fn grows_at(&self, now: Moment) -> Option<Moment> {
        let last = self.last.filter(|_| self.deficit(now) > 0)?;
        let clean = now.since(last).as_micros() / CLEAN.as_micros() + 1;
        Some(last + CLEAN.saturating_mul(u32::try_from(clean).unwrap_or(u32::MAX)))
    }

    /// What is added to the window now.
    pub(super) fn pad(&self, now: Moment) -> Duration {
        let clean = self.last.map_or(0, |last| now.since(last).as_micros() / PAD_CLEAN.as_micros());
        self.pad.saturating_sub(PAD_TRUST.saturating_mul(u32::try_from(clean).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    #[test]
    fn one_refusal_widens_the_window_and_a_second_one_lowers_the_limit() {
        let mut foreign = Foreign::default();
        foreign.refused(20, at(0));
        assert_eq!((foreign.deficit(at(0)), foreign.pad(at(0)).as_millis()), (0, 250));
        foreign.refused(20, at(600));
        assert_eq!((foreign.deficit(at(600)), foreign.pad(at(600)).as_millis()), (1, 400));
    }

    #[test]
    fn i14_the_limit_is_whole_again_two_minutes_later_for_each_permit_lost() {
        let mut foreign = Foreign::default();
        (0..5).for_each(|n| foreign.refused(20, at(n)));
        assert_eq!(foreign.deficit(at(4)), 4);
        for (secs, deficit) in [(4 + 119, 4), (4 + 120, 3), (4 + 479, 1), (4 + 480, 0), (90_000, 0)] {
            assert_eq!(foreign.deficit(at(secs)), deficit, "{secs} s");
        }
        assert_eq!(foreign.pad(at(90_000)), Duration::ZERO);
    }

    #[test]
    fn neither_grows_without_end() {
        for (limit, lowest) in [(20, 5), (12, 3), (4, 1), (1, 1)] {
            let mut foreign = Foreign::default();
            (0..100).for_each(|_| foreign.refused(limit, at(1)));
            assert_eq!(limit - foreign.deficit(at(1)), lowest);
            assert_eq!(foreign.pad(at(1)), PAD_MAX);
        }
    }
}

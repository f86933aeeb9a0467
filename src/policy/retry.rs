//! Whether perch itself sends a call again, and when.
//!
//! Finch publishes no numbers ("Finch error guide"), so this is the careful reading of what it does say:
//! quota is tiny, a write may have been carried out, and a 500 is not cured within seconds. What perch
//! has tried again, its clients are told not to: see [`super::resend`].

use crate::finch::endpoints::Effect;
use std::time::Duration;

/// The first pause is anywhere up to this; each further one up to twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// No pause is longer, unless Finch asks for it.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// How an attempt ended that did not bring what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection, so not a byte was written.
    NotSent,
    /// A kept connection turned out to be closed: nothing about Finch, probably nothing arrived.
    Stale,
    /// The exchange broke, or took too long, after the request was written.
    Cut,
    /// Finch answered with this status.
    Status(u16),
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The attempt is the answer.
    Settle,
    /// A new attempt, with an admission of its own, after this pause.
    Again {
        /// How long to wait first.
        after: Duration,
    },
}

/// What the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// Whether the call changes anything.
    pub effect: Effect,
    /// How the attempt ended.
    pub failure: Failure,
    /// How often the call was sent again already.
    pub retries: u32,
    /// The most attempts of one call, the first included.
    pub attempts_max: u32,
    /// What is left of the call's patience. An attempt begins inside it or not at all.
    pub left: Duration,
    /// What Finch asked for, when it did.
    pub retry_after: Option<Duration>,
    /// Chance, from 0 to below 1.
    pub jitter: f64,
}

/// The matrix. Limits (429) are not its matter: a product's is waited for by the ledger, the others hold
/// their scope.
pub fn verdict(facts: &Facts) -> Verdict {
    let retries_max = retries_max(facts.effect, facts.failure).min(facts.attempts_max.saturating_sub(1));
    if facts.retries >= retries_max {
        return Verdict::Settle;
    }
    let after = pause(facts.failure, facts.retries, facts.jitter).max(facts.retry_after.unwrap_or_default());
    // A connection that was closed before costs no time, so no patience either.
    match facts.failure == Failure::Stale || after < facts.left {
        true => Verdict::Again { after },
        false => Verdict::Settle,
    }
}

/// How often a call that ended so may be sent again.
const fn retries_max(effect: Effect, failure: Failure) -> u32 {
    match (failure, effect) {
        // Nobody has seen it.
        (Failure::NotSent, Effect::Reads | Effect::Writes) => 2,
        // It may have been carried out.
        (Failure::Stale | Failure::Cut | Failure::Status(_), Effect::Writes) => 0,
        // 408: Finch saw its client leave.
        (Failure::Stale | Failure::Cut | Failure::Status(408), Effect::Reads) => 1,
        (Failure::Status(502..=504), Effect::Reads) => 2,
        // 500 above all: "try again after a few hours" (Finch error guide).
        (Failure::Status(_), Effect::Reads) => 0,
    }
}

/// Full jitter: callers who failed together do not come back together.
fn pause(failure: Failure, retries: u32, jitter: f64) -> Duration {
    if failure == Failure::Stale {
        return Duration::ZERO;
    }
    let most = PAUSE_FIRST.saturating_mul(1 << retries.min(8)).min(PAUSE_MAX);
    most.mul_f64(if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 })
}

/// Thousandths of a retry.
const WHOLE: u32 = 1_000;
/// Retries that are saved up at most, and those there are at the start.
const SAVED_MAX: u32 = 10 * WHOLE;

/// How much of the traffic may be retries. When everything fails, sending everything again makes it worse;
/// then this runs dry, and failures are answered as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    percent: u32,
    saved: u32,
}

impl Budget {
    /// A budget of this share of the calls.
    pub const fn new(percent: u32) -> Self {
        Self { percent, saved: if percent == 0 { 0 } else { SAVED_MAX } }
    }

    /// The same with another share; what was saved stays.
    #[must_use]
    pub const fn of(self, percent: u32) -> Self {
        Self { percent, saved: if percent == 0 { 0 } else { self.saved } }
    }

    /// A call came.
    pub const fn earn(&mut self) {
        let saved = self.saved.saturating_add(self.percent.saturating_mul(WHOLE / 100));
        self.saved = if saved < SAVED_MAX || self.percent == 0 { saved } else { SAVED_MAX };
    }

    /// Takes one retry out; `false` when there is none.
    #[must_use]
    pub const fn spend(&mut self) -> bool {
        match self.saved.checked_sub(WHOLE) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn facts(effect: Effect, failure: Failure, retries: u32) -> Facts {
        let (attempts_max, left, retry_after, jitter) = (9, MINUTE, None, 0.5);
        Facts { effect, failure, retries, attempts_max, left, retry_after, jitter }
    }

    /// How often a call is sent when every attempt ends the same way.
    fn sent(effect: Effect, failure: Failure) -> u32 {
        (0..20).find(|n| verdict(&facts(effect, failure, *n)) == Verdict::Settle).expect("it ends") + 1
    }

    #[test]
    fn the_matrix_row_by_row() {
        for (failure, reads, writes) in [
            (Failure::NotSent, 3, 3),
            (Failure::Stale, 2, 1),
            (Failure::Cut, 2, 1),
            (Failure::Status(400), 1, 1),
            (Failure::Status(401), 1, 1),
            (Failure::Status(402), 1, 1),
            (Failure::Status(408), 2, 1),
            (Failure::Status(422), 1, 1),
            (Failure::Status(429), 1, 1),
            (Failure::Status(500), 1, 1),
            (Failure::Status(501), 1, 1),
            (Failure::Status(502), 3, 1),
            (Failure::Status(503), 3, 1),
            (Failure::Status(504), 3, 1),
            (Failure::Status(505), 1, 1),
        ] {
            assert_eq!(sent(Effect::Reads, failure), reads, "{failure:?}, read");
            assert_eq!(sent(Effect::Writes, failure), writes, "{failure:?}, write");
        }
    }

    #[test]
    fn an_attempt_begins_inside_the_calls_patience_or_not_at_all() {
        let facts = facts(Effect::Reads, Failure::Status(503), 0);
        assert_eq!(verdict(&facts), Verdict::Again { after: PAUSE_FIRST / 2 });
        assert_eq!(verdict(&Facts { left: PAUSE_FIRST / 2, ..facts }), Verdict::Settle);
        let asked = Some(Duration::from_secs(20));
        let after = Duration::from_secs(20);
        assert_eq!(verdict(&Facts { retry_after: asked, ..facts }), Verdict::Again { after });
        assert_eq!(verdict(&Facts { retry_after: Some(MINUTE), ..facts }), Verdict::Settle);
        assert_eq!(verdict(&Facts { attempts_max: 1, ..facts }), Verdict::Settle);
        assert_eq!(verdict(&Facts { attempts_max: 0, ..facts }), Verdict::Settle);
    }

    #[test]
    fn a_closed_kept_connection_costs_no_pause() {
        let facts = Facts { jitter: 1.0, left: Duration::ZERO, ..facts(Effect::Reads, Failure::Stale, 0) };
        assert_eq!(verdict(&facts), Verdict::Again { after: Duration::ZERO });
    }

    #[test]
    fn without_a_share_nothing_is_sent_again() {
        let mut budget = Budget::new(0);
        for _ in 0..1_000 {
            budget.earn();
        }
        assert!(!budget.spend());
    }

    proptest! {
        #[test]
        fn retries_stay_a_share_of_the_calls(percent in 1_u32..=100, fails in prop::collection::vec(0_usize..4, 1..500)) {
            let mut budget = Budget::new(percent);
            let (mut calls, mut retries) = (0_usize, 0_usize);
            for wanted in fails {
                calls += 1;
                budget.earn();
                retries += (0..wanted).filter(|_| budget.spend()).count();
                prop_assert!(retries * 100 <= calls * percent as usize + 10 * 100);
            }
        }

        #[test]
        fn a_pause_is_never_longer_than_its_bound(retries in 0_u32..1_000, jitter in any::<f64>()) {
            prop_assert!(pause(Failure::Cut, retries, jitter) <= PAUSE_MAX);
        }
    }
}

//! What a journal tells after a restart, and whether that is all there was.

use super::super::boot::Stamp;
use crate::limit::Scope;
use crate::types::{Priority, Product, UnixMillis};
use std::time::Duration;

/// What was sent before this run, as far as it still matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The number of this run: greater than that of every run whose permits are listed.
    pub run: u64,
    /// Whether the rest is all there was.
    pub verdict: Verdict,
    /// The permits that may still count at Finch, oldest run first.
    pub permits: Vec<Spent>,
    /// The holds that last, and for how long.
    pub holds: Vec<(Scope, Duration)>,
}

/// A permit of an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Which run granted it.
    pub run: u64,
    /// Its number in that run.
    pub ticket: u64,
    /// What it counts against, next to the egress IP.
    pub product: Product,
    /// How urgent its call was.
    pub priority: Priority,
    /// How long ago it was granted or, if that came later, last extended.
    pub granted: Duration,
    /// How long ago its answer came; `None` when the journal was not told.
    pub arrived: Option<Duration>,
}

impl Spent {
    /// How long ago the request counts as arrived at Finch, when one without an answer does so
    /// `unanswered` after its grant; `None` while it may still be on its way.
    pub fn age(&self, unanswered: Duration) -> Option<Duration> {
        let bound = self.granted.checked_sub(unanswered);
        self.arrived.max(bound)
    }
}

/// Whether the journal knows all that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Known,
    /// Something may have been sent that no row tells of: sit out one window.
    Unknown(Doubt),
}

/// Why history is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The last requests were sent in another boot of the machine, or on another machine, not long ago.
    AnotherBoot,
    /// The clock stands before the last request.
    ClockWentBack,
    /// The rows are not what perch writes, or quota was spent without a journal.
    Untold,
}

impl Doubt {
    /// Half a sentence for the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Doubt::AnotherBoot => "the last requests were sent before the machine started anew, or elsewhere",
            Doubt::ClockWentBack => "the clock was set back behind the last request",
            Doubt::Untold => "requests were sent that the journal does not tell of",
        }
    }
}

/// What an opened journal says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// The epoch that the rows' steady times belong to.
    pub(super) epoch: String,
    /// When, by the wall clock, something may last have been sent that no row tells of.
    pub(super) untold: Option<UnixMillis>,
    /// The newest permit: the latest steady time, and the latest wall time.
    pub(super) newest: Option<Stamp>,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// Whether the rows' steady times can be measured against now.
    pub(super) is_measurable: bool,
    /// What to write down as untold, so that the next start still knows.
    pub(super) untold: Option<UnixMillis>,
}

/// Rows hold whole milliseconds, rounded up: a permit may seem to be granted that much after now.
const ROUNDING: Duration = Duration::from_millis(1);

/// Judges an account; `None` is that of a brand-new journal, before which nothing was sent. Something
/// untold matters for `horizon`, twice as long as a permit does: two boots' wall clocks may differ.
pub(super) fn judge(account: Option<&Account>, epoch: &str, now: Stamp, horizon: Duration) -> Judgement {
    let Some(Account { epoch: then, untold, newest }) = account else {
        return Judgement { verdict: Verdict::Known, is_measurable: true, untold: None };
    };
    // What cannot be measured is as good as untold.
    let (is_measurable, doubt, unmeasured) = match newest {
        None => (then == epoch, Doubt::Untold, None),
        Some(newest) if then != epoch => (false, Doubt::AnotherBoot, Some(newest.wall)),
        Some(newest) if newest.steady > now.steady + ROUNDING => {
            (false, Doubt::ClockWentBack, Some(now.wall))
        }
        Some(_) => (true, Doubt::Untold, None),
    };
    let last = unmeasured.max(*untold).filter(|last| {
        let is_future = *last > now.wall;
        is_future || last.plus(horizon) > now.wall
    });
    match last {
        None => Judgement { verdict: Verdict::Known, is_measurable, untold: None },
        Some(last) => Judgement {
            verdict: Verdict::Unknown(if unmeasured == Some(last) { doubt } else { Doubt::Untold }),
            is_measurable,
            // A time in the future would be believed until it comes.
            untold: Some(last.min(now.wall)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HORIZON: Duration = Duration::from_secs(600);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn wall(secs: i64) -> UnixMillis {
        UnixMillis(1_700_000_000_000 + secs * 1000)
    }

    fn stamp(steady: u64, at: i64) -> Stamp {
        Stamp { steady: secs(steady), wall: wall(at) }
    }

    #[test]
    fn history_is_known_only_when_every_request_is_told_of_or_long_past() {
        use Doubt::*;
        use Verdict::*;
        let now = stamp(5_000, 0);
        // Epoch, untold, newest; the verdict, whether rows can be measured, what stays untold.
        let (here, there) = ("boot a", "boot b");
        let cases = [
            (here, None, None, Known, true, None),
            (here, None, Some(stamp(4_999, -1)), Known, true, None),
            (here, None, Some(stamp(5_000, 0)), Known, true, None),
            (here, None, Some(Stamp { steady: secs(5_000) + ROUNDING, wall: wall(0) }), Known, true, None),
            // The wall clock does not matter inside one boot.
            (here, None, Some(stamp(4_000, 90)), Known, true, None),
            (here, None, Some(stamp(5_001, -9_000)), Unknown(ClockWentBack), false, Some(wall(0))),
            (there, None, None, Known, false, None),
            (there, None, Some(stamp(10, -599)), Unknown(AnotherBoot), false, Some(wall(-599))),
            (there, None, Some(stamp(10, -600)), Known, false, None),
            (there, None, Some(stamp(10, 1)), Unknown(AnotherBoot), false, Some(wall(0))),
            (there, None, Some(stamp(10, 86_400)), Unknown(AnotherBoot), false, Some(wall(0))),
            // What one start did not know, the next does not know either.
            (here, Some(wall(-599)), None, Unknown(Untold), true, Some(wall(-599))),
            (here, Some(wall(-599)), Some(stamp(4_999, -1)), Unknown(Untold), true, Some(wall(-599))),
            (here, Some(wall(-600)), Some(stamp(4_999, -1)), Known, true, None),
            (here, Some(wall(3_600)), None, Unknown(Untold), true, Some(wall(0))),
            (here, Some(UnixMillis(i64::MAX)), None, Unknown(Untold), true, Some(wall(0))),
            (there, Some(wall(-9)), Some(stamp(10, -20)), Unknown(Untold), false, Some(wall(-9))),
            (there, Some(wall(-20)), Some(stamp(10, -9)), Unknown(AnotherBoot), false, Some(wall(-9))),
        ];
        for (epoch, untold, newest, verdict, is_measurable, stays) in cases {
            let account = Account { epoch: epoch.to_owned(), untold, newest };
            let judged = judge(Some(&account), here, now, HORIZON);
            assert_eq!(judged, Judgement { verdict, is_measurable, untold: stays }, "{account:?}");
        }
        let fresh = judge(None, here, now, HORIZON);
        assert_eq!(fresh, Judgement { verdict: Known, is_measurable: true, untold: None });
    }

    #[test]
    fn a_permit_without_an_answer_is_as_old_as_the_bound_makes_it() {
        let spent = |granted, arrived: Option<u64>| Spent {
            run: 1,
            ticket: 1,
            product: Product::Directory,
            priority: Priority::Batch,
            granted: secs(granted),
            arrived: arrived.map(secs),
        };
        assert_eq!(spent(20, None).age(secs(6)), Some(secs(14)));
        assert_eq!(spent(6, None).age(secs(6)), Some(secs(0)));
        assert_eq!(spent(5, None).age(secs(6)), None, "still on its way");
        assert_eq!(spent(5, Some(3)).age(secs(6)), Some(secs(3)));
        assert_eq!(spent(20, Some(3)).age(secs(6)), Some(secs(14)), "never later than the bound");
    }
}

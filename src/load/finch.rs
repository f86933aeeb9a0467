//! Finch's limits as they may be counted. It sees arrivals and nothing else: no permit, no ledger,
//! so that it can judge them.

use crate::types::Moment;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// The window of a product's limit ("Rate limits" guide).
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The window of the limit of one address.
const IP_WINDOW: Duration = Duration::from_secs(5 * 60);

/// For how long an address that went beyond it is refused.
const IP_PENALTY: Duration = Duration::from_secs(60 * 60);

/// A way to count. The guide says "rolling", and describes a bucket that its first request starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// Every request of the last 60 s.
    Rolling,
    /// The requests since the first one of the bucket, which lives for 60 s.
    Anchored,
    /// The requests of the minute on the clock.
    Calendar,
    /// The minute on the clock, and the part of the minute before that a window would still cover.
    Weighted,
}

impl Counting {
    /// All of them.
    pub const ALL: [Counting; 4] =
        [Counting::Rolling, Counting::Anchored, Counting::Calendar, Counting::Weighted];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Counting::Rolling => "rolling",
            Counting::Anchored => "anchored",
            Counting::Calendar => "calendar",
            Counting::Weighted => "weighted",
        }
    }
}

/// How Finch is set up for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FinchRules {
    /// The product's limit for one window.
    pub(super) limit: NonZeroU32,
    /// How it counts.
    pub(super) counting: Counting,
    /// Whether a request that it refuses counts too.
    pub(super) rejected_count: bool,
    /// Whether a 429 says when to come back.
    pub(super) tells_when: bool,
    /// The limit of the address for five minutes, if there is one.
    pub(super) ip_limit: Option<u32>,
}

/// What Finch says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is counted and served.
    Accepted,
    /// 429 `finch_application_rl`: the product's limit.
    ProductLimited {
        /// `Retry-After`, when it says so.
        retry_after: Option<Duration>,
    },
    /// 429 `finch_api_ip_rl`: the address's limit, and its penalty.
    IpLimited,
}

/// Finch's counters for one application and one product.
#[derive(Debug)]
pub(super) struct Finch {
    rules: FinchRules,
    /// What counts, latest last: bounded by the longest window.
    counted: VecDeque<Moment>,
    anchor: Option<Moment>,
    in_bucket: u32,
    in_previous: u32,
    minute: u64,
    of_address: VecDeque<Moment>,
    penalty_ends: Moment,
}

impl Finch {
    /// Nothing counted yet.
    pub(super) fn new(rules: FinchRules) -> Self {
        Self {
            rules,
            counted: VecDeque::new(),
            anchor: None,
            in_bucket: 0,
            in_previous: 0,
            minute: 0,
            of_address: VecDeque::new(),
            penalty_ends: Moment::ZERO,
        }
    }

    /// A request of this application, from this address unless it is a stranger's, is here. `now`
    /// never goes back.
    pub(super) fn arrives(&mut self, is_stranger: bool, now: Moment) -> Verdict {
        if !is_stranger && self.is_over_address_limit(now) {
            return Verdict::IpLimited;
        }
        let is_accepted = self.used(now) < f64::from(self.rules.limit.get());
        if is_accepted || self.rules.rejected_count {
            self.count(now);
        }
        match is_accepted {
            true => Verdict::Accepted,
            false => {
                Verdict::ProductLimited { retry_after: self.rules.tells_when.then(|| self.frees_in(now)) }
            }
        }
    }

    fn is_over_address_limit(&mut self, now: Moment) -> bool {
        let Some(limit) = self.rules.ip_limit else { return false };
        while self.of_address.front().is_some_and(|&at| at + IP_WINDOW <= now) {
            self.of_address.pop_front();
        }
        self.of_address.push_back(now);
        if self.of_address.len() > limit as usize {
            self.of_address.clear();
            self.penalty_ends = now + IP_PENALTY;
        }
        now < self.penalty_ends
    }

    /// How much of the limit is used just before a request at `now`.
    fn used(&mut self, now: Moment) -> f64 {
        match self.rules.counting {
            Counting::Rolling => {
                while self.counted.front().is_some_and(|&at| at + WINDOW <= now) {
                    self.counted.pop_front();
                }
                f64::from(u32::try_from(self.counted.len()).unwrap_or(u32::MAX))
            }
            Counting::Anchored => {
                if self.anchor.is_none_or(|anchor| anchor + WINDOW <= now) {
                    (self.anchor, self.in_bucket) = (None, 0);
                }
                f64::from(self.in_bucket)
            }
            Counting::Calendar | Counting::Weighted => {
                let minute = now.since_origin().as_secs() / WINDOW.as_secs();
                if minute != self.minute {
                    self.in_previous = if minute == self.minute + 1 { self.in_bucket } else { 0 };
                    (self.minute, self.in_bucket) = (minute, 0);
                }
                let of_previous = match self.rules.counting {
                    Counting::Weighted => f64::from(self.in_previous) * (1.0 - self.part_of_minute(now)),
                    Counting::Rolling | Counting::Anchored | Counting::Calendar => 0.0,
                };
                f64::from(self.in_bucket) + of_previous
            }
        }
    }

    fn part_of_minute(&self, now: Moment) -> f64 {
        let start = Moment::at(WINDOW * u32::try_from(self.minute).unwrap_or(u32::MAX));
        now.since(start).as_secs_f64() / WINDOW.as_secs_f64()
    }

    fn count(&mut self, now: Moment) {
        match self.rules.counting {
            Counting::Rolling => self.counted.push_back(now),
            Counting::Anchored => {
                self.anchor.get_or_insert(now);
                self.in_bucket += 1;
            }
            Counting::Calendar | Counting::Weighted => self.in_bucket += 1,
        }
    }

    /// When the counter has room again, rounded up to seconds as `Retry-After` is.
    fn frees_in(&self, now: Moment) -> Duration {
        let free = match self.rules.counting {
            Counting::Rolling => self.counted.front().map_or(now, |&at| at + WINDOW),
            Counting::Anchored => self.anchor.map_or(now, |at| at + WINDOW),
            Counting::Calendar | Counting::Weighted => {
                Moment::at(WINDOW * u32::try_from(self.minute + 1).unwrap_or(u32::MAX))
            }
        };
        Duration::from_secs(free.since(now).as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finch(counting: Counting, rejected_count: bool) -> Finch {
        let limit = NonZeroU32::new(3).expect("not zero");
        Finch::new(FinchRules { limit, counting, rejected_count, tells_when: true, ip_limit: None })
    }

    /// Which of the requests at these seconds are accepted.
    fn accepted(counting: Counting, rejected_count: bool, at: &[u64]) -> Vec<u64> {
        let mut finch = finch(counting, rejected_count);
        let is_good =
            |&at: &u64| finch.arrives(false, Moment::at(Duration::from_secs(at))) == Verdict::Accepted;
        at.iter().copied().filter(is_good).collect()
    }

    #[test]
    fn each_rule_counts_its_own_way() {
        let at = [50, 55, 58, 59, 61, 62, 110, 111, 119, 121, 122];
        for (counting, good) in [
            (Counting::Rolling, vec![50, 55, 58, 110, 119, 121]),
            (Counting::Anchored, vec![50, 55, 58, 110, 111, 119]),
            (Counting::Calendar, vec![50, 55, 58, 61, 62, 110, 121, 122]),
            (Counting::Weighted, vec![50, 55, 58, 61, 110, 111, 121]),
        ] {
            assert_eq!(accepted(counting, false, &at), good, "{counting:?}");
        }
    }

    #[test]
    fn requests_that_are_refused_may_count_too() {
        let at = [0, 1, 2, 3, 60, 61, 62, 123];
        assert_eq!(accepted(Counting::Rolling, false, &at), [0, 1, 2, 60, 61, 62, 123]);
        assert_eq!(accepted(Counting::Rolling, true, &at), [0, 1, 2, 123]);
    }

    #[test]
    fn an_address_beyond_its_limit_is_refused_for_an_hour() {
        let limit = NonZeroU32::new(100).expect("not zero");
        let rules = FinchRules {
            limit,
            counting: Counting::Rolling,
            rejected_count: false,
            tells_when: false,
            ip_limit: Some(2),
        };
        let mut finch = Finch::new(rules);
        let verdicts =
            [0, 1, 2, 3601, 3602].map(|at| finch.arrives(false, Moment::at(Duration::from_secs(at))));
        let (good, bad) = (Verdict::Accepted, Verdict::IpLimited);
        assert_eq!(verdicts, [good, good, bad, bad, good]);
    }
}

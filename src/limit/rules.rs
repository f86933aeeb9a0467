//! What the operator says about Finch's limits.

use super::PerProduct;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many requests may leave one address, whatever they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRule {
    /// The most requests in any window. Finch punishes the 1001st with an hour of refusals, so the
    /// default stays well away from it: 800.
    pub requests: NonZeroU32,
    /// The window; Finch says five minutes.
    pub window: Duration,
}

/// The limits and the assumptions they rest on. Numbers are configuration: Finch changes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Finch's rolling window for one product.
    pub window: Duration,
    /// Added to every window, because two clocks never run at quite the same rate (100 ppm of
    /// 60 s is 6 ms) and a comparison on Finch's side may round.
    pub pad: Duration,
    /// The longest a request is on its way to Finch. An unanswered one counts as arrived this long
    /// after it was sent, so a slow answer does not keep its permit. `None` assumes nothing about
    /// the network: a permit then stays busy until the answer.
    pub arrival_bound: Option<Duration>,
    /// After this long without an answer none will come, so that a lost call cannot keep a permit
    /// for ever. At least the timeout of an attempt, connecting included.
    pub answer_max: Duration,
    /// The limit of each product; `None` where it counts against the egress IP alone.
    pub limits: PerProduct<Option<NonZeroU32>>,
    /// The limit of the egress IP.
    pub ip: IpRule,
    /// The most calls that may wait at once.
    pub queue_max: usize,
    /// The most calls that may wait at once for one customer; calls that name none share one such
    /// bound.
    pub queue_per_customer_max: usize,
}

impl Rules {
    /// These limits, and the defaults for everything else.
    pub fn with_limits(limits: PerProduct<Option<NonZeroU32>>) -> Self {
        Self {
            window: Duration::from_secs(60),
            pad: Duration::from_millis(100),
            arrival_bound: Some(Duration::from_secs(5)),
            // Finch takes up to six minutes, perch waits 370 s, and connecting takes its time.
            answer_max: Duration::from_secs(400),
            limits,
            ip: IpRule { requests: NonZeroU32::MIN.saturating_add(799), window: Duration::from_secs(5 * 60) },
            queue_max: 10_000,
            queue_per_customer_max: 200,
        }
    }

    /// How long after its sending an unanswered request counts as arrived.
    pub(super) fn unanswered(&self) -> Duration {
        self.arrival_bound.unwrap_or(self.answer_max)
    }
}

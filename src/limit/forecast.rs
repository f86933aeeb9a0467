//! How long a job of many calls takes under a limit: what the ledger does, as arithmetic. It assumes that enough calls
//! wait at any time, that nobody else calls, and that nothing fails.
//!
//! A limit of L is L permits, and each is busy while its request is under way and for a window after: one *round*. Calls
//! that are not paced go L at a time, round after round. Paced ones begin with half of the permits at once, spread the rest
//! over the first round, and keep nine tenths of an even distance from then on. The load simulator runs the ledger itself
//! and confirms it.

use super::Rules;
use crate::types::Product;
use std::num::NonZeroU32;
use std::time::Duration;

/// How fast calls may follow each other under one limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    limit: u64,
    /// A permit's window with its pad, in seconds.
    span: f64,
    /// From a permit to the answer, in seconds: as long is a permit busy beyond its window.
    flight: f64,
    /// From a permit to the answer, for the last call.
    answer: f64,
    is_paced: bool,
}

/// What a batch call waits for longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The limit of this product.
    Product(Product),
    /// The limit of the egress IP, for all products together.
    EgressIp,
}

/// How long a whole job takes, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// From the first call to the last answer.
    pub takes: Duration,
    /// What decides that; `None` where there is nothing to do, or no limit for it.
    pub bound: Option<Bound>,
}

impl Pace {
    /// That of batch calls for a product under these rules; `answer` is how long Finch takes. `None` where the product
    /// has no limit of its own.
    pub fn of_product(rules: &Rules, product: Product, answer: Duration) -> Option<Self> {
        let limit = rules.limits[product]?;
        Some(Self::new(limit, rules.span(), rules.pacing, rules, answer))
    }

    /// That of all batch calls from one address: a twentieth of its permits is not for them.
    pub fn of_address(rules: &Rules, answer: Duration) -> Self {
        let all = rules.ip.requests.get();
        let limit = NonZeroU32::new(all - all / 20).unwrap_or(NonZeroU32::MIN);
        Self::new(limit, rules.ip.window + rules.pad, false, rules, answer)
    }

    /// The same with another limit.
    pub fn with_limit(self, limit: NonZeroU32) -> Self {
        Self { limit: limit.get().into(), ..self }
    }

    fn new(limit: NonZeroU32, span: Duration, is_paced: bool, rules: &Rules, answer: Duration) -> Self {
        let answer_s = answer.as_secs_f64();
        Self {
            limit: limit.get().into(),
            span: span.as_secs_f64(),
            // A permit counts as arrived after the bound, answered or not.
            flight: answer.min(rules.flight()).as_secs_f64(),
            answer: answer_s,
            is_paced,
        }
    }

    /// From the first call to the last answer of so many calls.
    pub fn takes(&self, calls: u64) -> Duration {
        match calls.checked_sub(1) {
            None => Duration::ZERO,
            Some(last) => seconds(self.sent_at(last) + self.answer),
        }
    }

    /// The smallest limit under which so many calls take no longer than `within`, other things equal. `None`: not even
    /// one that lets all go at once.
    pub fn limit_for(&self, calls: u64, within: Duration) -> Option<NonZeroU32> {
        let fits = |limit: u32| {
            NonZeroU32::new(limit).is_some_and(|limit| self.with_limit(limit).takes(calls) <= within)
        };
        // Half of the permits go at once, so twice as many as calls are more than enough.
        smallest(u32::try_from(calls.saturating_mul(2)).unwrap_or(u32::MAX).max(1), fits)
    }

    /// When the call with this number, from zero on, is sent: seconds after the first.
    fn sent_at(&self, number: u64) -> f64 {
        let (round, place) = (number / self.limit, number % self.limit);
        let round_time = self.span + self.flight;
        let began = real(round) * round_time;
        if !self.is_paced {
            return began;
        }
        // Pacing begins once half of the permits are busy.
        let at_once = self.limit.div_ceil(2);
        let (even, later) = (self.span / real(self.limit), place.saturating_sub(at_once - 1));
        // The rest lasts until the first permit comes back, with two even distances at most.
        let rest = (round_time / real(self.limit - at_once + 1)).clamp(0.9 * even, 2.0 * even);
        let spread = real(later) * rest;
        match round {
            0 => spread,
            _ => began + spread.max(0.9 * even * real(place)),
        }
    }

    /// How many calls were sent by then.
    fn sent_by(&self, at: f64) -> u64 {
        let (mut sent, mut not_yet) = (0, 1_u64 << 40);
        while not_yet - sent > 1 {
            let middle = sent + (not_yet - sent) / 2;
            match self.sent_at(middle - 1) <= at {
                true => sent = middle,
                false => not_yet = middle,
            }
        }
        sent
    }
}

/// How long so many batch calls for each product take together, all of them at the same time from one address.
pub fn forecast(rules: &Rules, calls: &[(Product, u64)], answer: Duration) -> Forecast {
    let mut longest = Forecast { takes: Duration::ZERO, bound: None };
    for &(product, calls) in calls.iter().filter(|(_, calls)| *calls > 0) {
        let (takes, bound) = match Pace::of_product(rules, product, answer) {
            Some(pace) => (pace.takes(calls), Some(Bound::Product(product))),
            None => (answer, None),
        };
        if takes > longest.takes {
            longest = Forecast { takes, bound };
        }
    }
    let by_address = of_address(rules, calls, answer);
    match by_address > longest.takes {
        true => Forecast { takes: by_address, bound: Some(Bound::EgressIp) },
        false => longest,
    }
}

/// The smallest limit of the address under which the calls take no longer than `within`, the products' limits being what
/// they are. `None`: they take longer whatever the address may send.
pub fn address_limit_for(
    rules: &Rules,
    calls: &[(Product, u64)],
    answer: Duration,
    within: Duration,
) -> Option<NonZeroU32> {
    let fits = |limit: u32| {
        let Some(requests) = NonZeroU32::new(limit) else { return false };
        let mut rules = rules.clone();
        rules.ip.requests = requests;
        forecast(&rules, calls, answer).takes <= within
    };
    smallest(u32::MAX, fits)
}

/// The smallest limit that `fits`, when `most` does.
fn smallest(most: u32, fits: impl Fn(u32) -> bool) -> Option<NonZeroU32> {
    let (mut below, mut enough) = (0, most);
    if !fits(most) {
        return None;
    }
    while enough - below > 1 {
        let middle = below + (enough - below) / 2;
        match fits(middle) {
            true => enough = middle,
            false => below = middle,
        }
    }
    NonZeroU32::new(enough)
}

/// How long they take under the limit of the address, whose rounds begin as the products' limits let the calls go.
fn of_address(rules: &Rules, calls: &[(Product, u64)], answer: Duration) -> Duration {
    let pace = Pace::of_address(rules, answer);
    let all: u64 = calls.iter().map(|(_, calls)| calls).sum();
    let Some(last) = all.checked_sub(1) else { return Duration::ZERO };
    let (round, place) = (last / pace.limit, last % pace.limit);
    let within = |at: f64| -> u64 {
        let of = |&(product, calls): &(Product, u64)| match Pace::of_product(rules, product, answer) {
            Some(pace) => pace.sent_by(at).min(calls),
            None => calls,
        };
        calls.iter().map(of).sum()
    };
    // Within a round they go as fast as the products' limits let them.
    let (mut early, mut late) = (0.0, pace.span);
    if within(early) <= place {
        for _ in 0..50 {
            let middle = (early + late) / 2.0;
            match within(middle) > place {
                true => late = middle,
                false => early = middle,
            }
        }
    } else {
        late = 0.0;
    }
    match round {
        0 => Duration::ZERO,
        _ => seconds(real(round) * (pace.span + pace.flight) + late + pace.answer),
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// Counts here stay far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn real(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::PerProduct;
    use super::*;
    use proptest::prelude::*;

    const ANSWER: Duration = Duration::from_millis(500);

    fn rules(limit: u32, ip: u32, pacing: bool) -> Rules {
        let limit = NonZeroU32::new(limit);
        let mut rules =
            Rules::with_limits(PerProduct::from_fn(|product| limit.filter(|_| product.is_metered())));
        rules.ip.requests = NonZeroU32::new(ip).unwrap();
        rules.pacing = pacing;
        rules
    }

    fn takes(limit: u32, calls: u64, pacing: bool) -> f64 {
        let pace = Pace::of_product(&rules(limit, 800, pacing), Product::Directory, ANSWER).unwrap();
        pace.takes(calls).as_secs_f64()
    }

    #[test]
    fn without_pacing_a_limit_of_calls_goes_at_once_and_the_next_a_round_later() {
        for (calls, expected) in
            [(0, 0.0), (1, 0.5), (20, 0.5), (21, 61.1), (40, 61.1), (41, 121.7), (50, 121.7)]
        {
            assert!(
                (takes(20, calls, false) - expected).abs() < 1e-6,
                "{calls}: {}",
                takes(20, calls, false)
            );
        }
    }

    #[test]
    fn with_pacing_half_goes_at_once_and_the_rest_is_spread() {
        for (calls, least, most) in [
            (1, 0.5, 0.5),
            (10, 0.5, 0.5),
            (11, 5.0, 7.0),
            (20, 50.0, 60.0),
            (21, 60.0, 62.0),
            (50, 140.0, 152.0),
        ] {
            let takes = takes(20, calls, true);
            assert!((least..=most).contains(&takes), "{calls} calls take {takes}");
        }
    }

    #[test]
    fn a_job_takes_as_long_as_its_slowest_product_or_its_address() {
        let calls = [(Product::Directory, 50), (Product::Payment, 70), (Product::Introspect, 10)];
        let told = forecast(&rules(20, 800, true), &calls, ANSWER);
        assert_eq!(told.bound, Some(Bound::Product(Product::Payment)));
        let alone = Pace::of_product(&rules(20, 800, true), Product::Payment, ANSWER).unwrap();
        assert_eq!(told.takes, alone.takes(70));
        // Two rounds of five minutes for 20 calls each before the rest can go.
        let told = forecast(&rules(1000, 21, true), &[(Product::Directory, 50)], ANSWER);
        assert_eq!(told.bound, Some(Bound::EgressIp));
        assert!((601.0..620.0).contains(&told.takes.as_secs_f64()), "{told:?}");
        let unmetered = forecast(&rules(20, 800, true), &[(Product::Introspect, 3)], ANSWER);
        assert_eq!(unmetered, Forecast { takes: ANSWER, bound: None });
        assert_eq!(forecast(&rules(20, 800, true), &[], ANSWER).takes, Duration::ZERO);
    }

    #[test]
    fn the_limit_to_ask_for_is_the_smallest_that_does() {
        let pace = Pace::of_product(&rules(20, 800, true), Product::Directory, ANSWER).unwrap();
        for (calls, within) in [(50, 60), (50, 150), (1000, 600), (100_000, 3600), (1, 1)] {
            let within = Duration::from_secs(within);
            let limit = pace.limit_for(calls, within).unwrap();
            assert!(pace.with_limit(limit).takes(calls) <= within, "{calls} in {within:?}: {limit}");
            if let Some(less) = NonZeroU32::new(limit.get() - 1) {
                assert!(
                    pace.with_limit(less).takes(calls) > within,
                    "{calls} in {within:?}: {limit} is too many"
                );
            }
        }
        assert_eq!(pace.limit_for(1, Duration::from_millis(400)), None, "Finch itself takes longer");
    }

    proptest! {
        #[test]
        fn more_calls_never_take_less_and_a_round_is_never_overdrawn(
            limit in 1_u32..500, calls in 1_u64..20_000, pacing in any::<bool>()
        ) {
            let pace = Pace::of_product(&rules(limit, 800, pacing), Product::Directory, ANSWER).unwrap();
            prop_assert!(pace.takes(calls + 1) >= pace.takes(calls));
            // As many calls as the limit lie a round apart.
            let apart = pace.sent_at(calls + u64::from(limit)) - pace.sent_at(calls);
            prop_assert!(apart > 60.1, "{apart}");
            prop_assert_eq!(pace.sent_by(pace.sent_at(calls)), pace.sent_by(pace.sent_at(calls) + 1e-9));
        }

        #[test]
        fn nothing_overflows(limit in 1_u32.., calls in any::<u64>(), answer in any::<u32>()) {
            let rules = rules(limit, limit, true);
            let answer = Duration::from_secs(answer.into());
            let _ = forecast(&rules, &[(Product::Directory, calls / 4), (Product::Jobs, calls / 4)], answer);
            let pace = Pace::of_product(&rules, Product::Directory, answer).unwrap();
            let _ = pace.limit_for(calls, answer);
        }
    }
}

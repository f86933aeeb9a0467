//! Chance that can be repeated: a seed and a stream give the same draws for ever, and streams do not
//! disturb each other, so that two limiters meet the same arrivals.

use std::f64::consts::TAU;
use std::time::Duration;

/// One stream of draws (`SplitMix64`).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    /// The stream of this name under this seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut chance = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        chance.bits();
        chance
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly from 0 to 1, never 1.
    pub(super) fn unit(&mut self) -> f64 {
        let high = u32::try_from(self.bits() >> 32).unwrap_or(u32::MAX);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }

    /// Whether something of this probability happens.
    pub(super) fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Evenly between the two.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// The time to the next of events that come on their own, `mean` apart.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Log-normal around `median`; one value in a hundred is beyond `p99`.
    pub(super) fn lognormal(&mut self, median: f64, p99: f64) -> f64 {
        /// Where a standard normal has 99 %.
        const Z99: f64 = 2.326_347_9;
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (TAU * self.unit()).cos();
        median * ((p99 / median).ln() / Z99 * normal).exp()
    }

    /// One of `weights.len()` places, by weight; 0 when there is none.
    pub(super) fn place(&mut self, weights: &[f64]) -> usize {
        let mut rest = self.unit() * weights.iter().sum::<f64>();
        for (place, weight) in weights.iter().enumerate() {
            rest -= weight;
            if rest < 0.0 {
                return place;
            }
        }
        weights.len().saturating_sub(1)
    }
}

/// Seconds as a span; nothing when negative.
pub(super) fn secs(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_itself_and_differs_from_others() {
        let draw = |seed, stream| {
            let mut chance = Chance::new(seed, stream);
            [chance.bits(), chance.bits(), chance.bits()]
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn distributions_have_the_shape_they_name() {
        let mut chance = Chance::new(7, 7);
        let mut draws: Vec<f64> = (0..20_000).map(|_| chance.lognormal(0.4, 3.2)).collect();
        draws.sort_by(f64::total_cmp);
        assert!((draws[10_000] - 0.4).abs() < 0.02, "median {}", draws[10_000]);
        assert!((draws[19_800] - 3.2).abs() < 0.4, "p99 {}", draws[19_800]);
        let mean = (0..20_000).map(|_| chance.exponential(5.0)).sum::<f64>() / 20_000.0;
        assert!((mean - 5.0).abs() < 0.2, "mean {mean}");
        let heavy = (0..9_000).filter(|_| chance.place(&[2.0, 1.0]) == 0).count();
        assert!((5_800..6_200).contains(&heavy), "{heavy} of 9000 at twice the weight");
    }
}

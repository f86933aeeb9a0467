//! What lies between a replica and Finch, and between a replica and the store. Assumed, not
//! measured: three networks that span what a limiter must survive.

use super::chance::{Chance, secs};
use std::time::Duration;

/// A network between the replicas and Finch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// The same region, nothing lost but a segment now and then.
    Low,
    /// The public internet on an ordinary day.
    Real,
    /// Another continent over a lossy line, with an edge that stalls.
    Bad,
}

/// The figures of a network: seconds, and probabilities per request.
struct Line {
    /// One way, half the time at most.
    one_way: f64,
    /// One way, in 99 of 100.
    one_way_p99: f64,
    /// A connection must be opened first: two round trips.
    cold: f64,
    /// Opening it loses a SYN: one second more, then three.
    syn_lost: f64,
    /// A segment of the request is lost: 200 to 300 ms more.
    segment_lost: f64,
    /// The sending process is throttled: up to 100 ms.
    throttled: f64,
    /// Finch's edge holds the request back before it counts it.
    stalled: f64,
    /// For how long at most.
    stall_max: f64,
}

impl Profile {
    /// All of them, from good to bad.
    pub const ALL: [Profile; 3] = [Profile::Low, Profile::Real, Profile::Bad];

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::Low => "low",
            Profile::Real => "real",
            Profile::Bad => "bad",
        }
    }

    const fn line(self) -> Line {
        match self {
            Profile::Low => Line {
                one_way: 0.008,
                one_way_p99: 0.015,
                cold: 0.05,
                syn_lost: 0.0,
                segment_lost: 0.0002,
                throttled: 0.01,
                stalled: 0.0,
                stall_max: 0.0,
            },
            Profile::Real => Line {
                one_way: 0.035,
                one_way_p99: 0.090,
                cold: 0.15,
                syn_lost: 0.003,
                segment_lost: 0.001,
                throttled: 0.02,
                stalled: 0.0003,
                stall_max: 2.0,
            },
            Profile::Bad => Line {
                one_way: 0.090,
                one_way_p99: 0.350,
                cold: 0.30,
                syn_lost: 0.02,
                segment_lost: 0.02,
                throttled: 0.05,
                stalled: 0.01,
                stall_max: 5.03,
            },
        }
    }

    /// From the permit to a connection that is ready.
    pub(super) fn connect(self, chance: &mut Chance) -> Duration {
        let line = self.line();
        let mut delay = 0.0;
        if chance.happens(line.throttled) {
            delay += chance.between(0.0, 0.1);
        }
        if chance.happens(line.cold) {
            delay += 4.0 * chance.lognormal(line.one_way, line.one_way_p99);
            for more in [1.0, 2.0] {
                if !chance.happens(line.syn_lost) {
                    break;
                }
                delay += more;
            }
        }
        secs(delay)
    }

    /// From the first byte to the moment Finch counts the request.
    pub(super) fn reach(self, chance: &mut Chance) -> Duration {
        let line = self.line();
        let mut delay = chance.lognormal(line.one_way, line.one_way_p99);
        if chance.happens(line.segment_lost) {
            delay += chance.between(0.2, 0.3);
        }
        if chance.happens(line.stalled) {
            delay += chance.between(0.0, line.stall_max);
        }
        secs(delay)
    }

    /// From Finch's answer to its headers at the replica.
    pub(super) fn back(self, chance: &mut Chance) -> Duration {
        let line = self.line();
        let mut delay = chance.lognormal(line.one_way, line.one_way_p99);
        if chance.happens(line.segment_lost) {
            delay += chance.between(0.2, 0.3);
        }
        secs(delay)
    }
}

/// How long Finch works on a request it accepted: half within .4 s, 99 % within 3.2 s, and one in
/// two hundred asks an employment system live for 5 to 25 s.
pub(super) fn service(chance: &mut Chance) -> Duration {
    match chance.happens(0.005) {
        true => secs(chance.between(5.0, 25.0)),
        false => secs(chance.lognormal(0.4, 3.2)),
    }
}

/// How long Finch takes to say 429.
pub(super) fn rejection(chance: &mut Chance) -> Duration {
    secs(chance.between(0.005, 0.030))
}

/// One way between a replica and the store: .4 ms, with a spike of up to 30 ms in one of 500 and
/// one beyond the call's timeout in one of 20 000.
pub(super) fn to_store(chance: &mut Chance) -> Duration {
    let spike = chance.unit();
    secs(match spike {
        s if s < 0.000_05 => chance.between(0.1, 0.3),
        s if s < 0.002 => chance.between(0.002, 0.03),
        _ => chance.lognormal(0.000_4, 0.001),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of requests that take longer than `limit` from the permit to Finch's count.
    fn late(profile: Profile, limit: f64) -> f64 {
        let mut chance = Chance::new(3, 3);
        let late = (0..100_000)
            .filter(|_| profile.connect(&mut chance) + profile.reach(&mut chance) > secs(limit))
            .count();
        f64::from(u32::try_from(late).unwrap()) / 1000.0
    }

    #[test]
    fn each_network_is_worse_than_the_one_before_where_it_hurts() {
        for limit in [0.25, 0.5, 1.0] {
            let shares = Profile::ALL.map(|p| late(p, limit));
            assert!(shares[0] <= shares[1] && shares[1] < shares[2], "beyond {limit} s: {shares:?} %");
        }
    }

    #[test]
    fn service_has_a_long_tail() {
        let mut chance = Chance::new(3, 4);
        let mean = (0..50_000).map(|_| service(&mut chance).as_secs_f64()).sum::<f64>() / 50_000.0;
        assert!((0.60..0.76).contains(&mean), "mean {mean} s");
    }
}

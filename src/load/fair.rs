//! How fairly customers were served.

use super::measure::real;

/// What one customer wanted and got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Customer {
    /// Calls that it made.
    pub(super) asked: u64,
    /// Calls that were served.
    pub(super) served: u64,
    /// Whether it would have made more, had more been served.
    pub(super) is_insatiable: bool,
}

/// Jain's index over the served part of everybody's max-min-fair share: 1 when all got the same
/// part, 1/n when one got everything.
pub(super) fn jain(customers: &[Customer]) -> f64 {
    let demands: Vec<f64> =
        customers.iter().map(|c| if c.is_insatiable { f64::INFINITY } else { real(c.asked) }).collect();
    let all = customers.iter().map(|c| real(c.served)).sum();
    let level = water_level(&demands, all);
    let parts = customers.iter().zip(&demands).filter_map(|(customer, demand)| {
        let share = demand.min(level);
        (share > 0.0).then(|| real(customer.served) / share)
    });
    let (count, sum, squares) =
        parts.fold((0.0, 0.0, 0.0), |(n, sum, squares), x| (n + 1.0, sum + x, squares + x * x));
    if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 }
}

/// The level at which `capacity` is used up when everybody takes the smaller of it and what they
/// want.
fn water_level(demands: &[f64], capacity: f64) -> f64 {
    let mut sorted = demands.to_vec();
    sorted.sort_by(f64::total_cmp);
    let mut rest = capacity;
    for (place, demand) in sorted.iter().enumerate() {
        let level = rest / real((sorted.len() - place) as u64);
        if *demand > level {
            return level;
        }
        rest -= demand;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(asked: u64, served: u64) -> Customer {
        Customer { asked, served, is_insatiable: false }
    }

    fn whale(served: u64) -> Customer {
        Customer { asked: 0, served, is_insatiable: true }
    }

    #[test]
    fn all_that_the_small_ones_want_and_the_rest_in_halves_is_fair() {
        let fair = jain(&[customer(5, 5), customer(3, 3), whale(46), whale(46)]);
        assert!((fair - 1.0).abs() < 1e-9, "{fair}");
    }

    #[test]
    fn who_takes_everything_is_not_fair() {
        let unfair = jain(&[customer(50, 0), customer(50, 0), whale(100), whale(0)]);
        assert!((unfair - 0.25).abs() < 1e-9, "{unfair}");
    }
}

//! How fairly customers were served: Jain's index over what each got of its max-min-fair share, and the tally of the last
//! minutes that it is computed from. One number says it without naming anybody.

use super::PerProduct;
use crate::types::{CustomerId, Moment, Product};
use std::collections::HashMap;
use std::mem;
use std::num::NonZeroU32;
use std::time::Duration;

/// The tally has two halves of this length; the older one is dropped when the newer is full, so that it covers the last
/// five to ten minutes. A window of Finch's is one.
const HALF: Duration = Duration::from_secs(5 * 60);

/// Customers of one product that are told apart in one half. Those that come later are not in the tally.
const CUSTOMERS_MAX: usize = 1_000;

/// What one customer wanted and got.
#[derive(Debug, Clone, Copy)]
pub struct Customer {
    /// Calls that it made.
    pub asked: u64,
    /// Calls that were served.
    pub served: u64,
    /// Its share next to others'.
    pub weight: u32,
    /// Whether it would have made more, had more been served.
    pub is_insatiable: bool,
}

impl Default for Customer {
    fn default() -> Self {
        Self { asked: 0, served: 0, weight: 1, is_insatiable: false }
    }
}

/// Jain's index over the served part of everybody's max-min-fair share: 1 when all got the same
/// part, 1/n when one got everything.
pub fn jain(customers: &[Customer]) -> f64 {
    let all = customers.iter().map(|c| real(c.served)).sum();
    let level = water_level(customers, all);
    let parts = customers.iter().filter_map(|customer| {
        let share = demand(customer).min(level * f64::from(customer.weight));
        (share > 0.0).then(|| real(customer.served) / share)
    });
    let (count, sum, squares) =
        parts.fold((0.0, 0.0, 0.0), |(n, sum, squares), x| (n + 1.0, sum + x, squares + x * x));
    if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 }
}

/// The level at which `capacity` is used up when everybody takes the smaller of what they want and the level times
/// their weight.
fn water_level(customers: &[Customer], capacity: f64) -> f64 {
    let by_weight = |c: &Customer| demand(c) / f64::from(c.weight.max(1));
    let mut sorted: Vec<&Customer> = customers.iter().collect();
    sorted.sort_by(|a, b| by_weight(a).total_cmp(&by_weight(b)));
    let mut rest = capacity;
    let mut weights: f64 = sorted.iter().map(|c| f64::from(c.weight.max(1))).sum();
    for customer in sorted {
        let level = rest / weights;
        if by_weight(customer) > level {
            return level;
        }
        rest -= demand(customer);
        weights -= f64::from(customer.weight.max(1));
    }
    f64::INFINITY
}

fn demand(customer: &Customer) -> f64 {
    if customer.is_insatiable { f64::INFINITY } else { real(customer.asked) }
}

/// Counts here stay far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn real(count: u64) -> f64 {
    count as f64
}

/// How an ask ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was admitted.
    pub is_served: bool,
    /// Whether there was nothing free for it at once.
    pub has_waited: bool,
}

/// How the customers of a product fared in the last minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Jain's index; 1 when nobody asked.
    pub index: f64,
    /// Customers that had to wait for others, or were refused.
    pub competing: u64,
}

/// The tally.
#[derive(Debug)]
pub struct Fairness {
    halves: [Half; 2],
    began: Moment,
}

type Half = PerProduct<HashMap<CustomerId, Tally>>;

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    customer: Customer,
    has_waited: bool,
}

impl Default for Fairness {
    fn default() -> Self {
        Self { halves: [half(), half()], began: Moment::ZERO }
    }
}

fn half() -> Half {
    PerProduct::from_fn(|_| HashMap::new())
}

impl Fairness {
    /// A customer asked, and this came of it.
    pub fn note(
        &mut self,
        product: Product,
        (customer, weight): (&CustomerId, NonZeroU32),
        outcome: Outcome,
        now: Moment,
    ) {
        self.turn(now);
        let tallies = &mut self.halves[0][product];
        if !tallies.contains_key(customer) {
            if tallies.len() >= CUSTOMERS_MAX {
                return;
            }
            tallies.insert(customer.clone(), Tally::default());
        }
        if let Some(tally) = tallies.get_mut(customer) {
            tally.customer.asked += 1;
            tally.customer.served += u64::from(outcome.is_served);
            tally.customer.weight = weight.get();
            tally.has_waited |= outcome.has_waited || !outcome.is_served;
        }
    }

    /// How the product's customers fared.
    pub fn standing(&mut self, product: Product, now: Moment) -> Standing {
        self.turn(now);
        let [newer, older] = &self.halves;
        let mut all = newer[product].clone();
        for (name, before) in &older[product] {
            let tally = all.entry(name.clone()).or_insert(Tally {
                customer: Customer { weight: before.customer.weight, ..Customer::default() },
                has_waited: false,
            });
            tally.customer.asked += before.customer.asked;
            tally.customer.served += before.customer.served;
            tally.has_waited |= before.has_waited;
        }
        let customers: Vec<Customer> = all.values().map(|tally| tally.customer).collect();
        let competing = all.values().filter(|tally| tally.has_waited).count() as u64;
        Standing { index: jain(&customers), competing }
    }

    fn turn(&mut self, now: Moment) {
        let age = now.since(self.began);
        if age < HALF {
            return;
        }
        let newer = mem::replace(&mut self.halves[0], half());
        // What ended longer ago than a half is too old for either.
        self.halves[1] = if age < HALF * 2 { newer } else { half() };
        self.began = if age < HALF * 2 { self.began + HALF } else { now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Outcome = Outcome { is_served: true, has_waited: false };
    const WAITED: Outcome = Outcome { is_served: true, has_waited: true };
    const REFUSED: Outcome = Outcome { is_served: false, has_waited: true };

    fn customer(asked: u64, served: u64) -> Customer {
        Customer { asked, served, ..Customer::default() }
    }

    fn whale(served: u64) -> Customer {
        Customer { served, is_insatiable: true, ..Customer::default() }
    }

    fn named(name: &str) -> CustomerId {
        CustomerId::new(name).expect("an id")
    }

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn is(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9
    }

    #[test]
    fn all_that_the_small_ones_want_and_the_rest_in_halves_is_fair() {
        let fair = jain(&[customer(5, 5), customer(3, 3), whale(46), whale(46)]);
        assert!(is(fair, 1.0), "{fair}");
    }

    #[test]
    fn who_takes_everything_is_not_fair() {
        let unfair = jain(&[customer(50, 0), customer(50, 0), whale(100), whale(0)]);
        assert!(is(unfair, 0.25), "{unfair}");
    }

    #[test]
    fn a_customer_of_double_weight_may_have_double_the_permits() {
        let heavy = |served| Customer { weight: 2, ..customer(100, served) };
        let [fair, equal] = [40, 30].map(|served| jain(&[heavy(served), customer(100, 60 - served)]));
        assert!(is(fair, 1.0), "{fair}");
        assert!(equal < 0.95, "{equal}");
    }

    #[test]
    fn nobody_is_fair_to_nobody() {
        assert!(is(jain(&[]), 1.0));
        let standing = Fairness::default().standing(Product::Directory, at(1));
        assert_eq!((standing.index.to_bits(), standing.competing), (1.0_f64.to_bits(), 0));
    }

    #[test]
    fn who_was_refused_beside_one_who_was_served_shows_for_ten_minutes_at_most() {
        let mut fairness = Fairness::default();
        let one = NonZeroU32::MIN;
        for _ in 0..10 {
            fairness.note(Product::Directory, (&named("a"), one), WAITED, at(10));
            fairness.note(Product::Directory, (&named("b"), one), REFUSED, at(10));
            fairness.note(Product::Company, (&named("c"), one), SERVED, at(10));
        }
        for now in [10, 299, 300, 599] {
            let unfair = fairness.standing(Product::Directory, at(now));
            assert!(is(unfair.index, 0.5) && unfair.competing == 2, "{now}: {unfair:?}");
        }
        assert_eq!(fairness.standing(Product::Company, at(599)).competing, 0, "nobody was in its way");
        assert!(is(fairness.standing(Product::Directory, at(600)).index, 1.0));
        fairness.note(Product::Directory, (&named("a"), one), REFUSED, at(700));
        fairness.note(Product::Directory, (&named("b"), one), SERVED, at(700));
        assert!(is(fairness.standing(Product::Directory, at(5_000)).index, 1.0), "a long silence");
    }

    #[test]
    fn customers_beyond_the_bound_are_not_kept() {
        let mut fairness = Fairness::default();
        for n in 0..10_000 {
            let name = named(&format!("customer-{n}"));
            fairness.note(Product::Directory, (&name, NonZeroU32::MIN), WAITED, at(1));
        }
        assert_eq!(fairness.halves[0][Product::Directory].len(), CUSTOMERS_MAX);
        assert_eq!(fairness.standing(Product::Directory, at(1)).competing, CUSTOMERS_MAX as u64);
    }
}

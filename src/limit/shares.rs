//! Divides whole permits by demand.

/// Demand beyond this counts as this, so that products of two numbers stay exact in a double.
pub(super) const DEMAND_MAX: u32 = 1_000_000;

/// The part of `whole` for the one at `place` among these demands: everybody gets the whole permits
/// that demand gives, and those left over go one each to the largest remainders, the earlier place
/// first among equals. Nobody in demand: all count the same.
pub(super) fn share(whole: u32, demands: &[u32], place: usize) -> u32 {
    let is_idle = demands.iter().all(|&demand| demand == 0);
    let demand = |at: usize| if is_idle { 1 } else { u64::from(demands[at].min(DEMAND_MAX)) };
    let total: u64 = (0..demands.len()).map(demand).sum();
    let Some(total) = std::num::NonZeroU64::new(total) else { return 0 };
    let split = |at: usize| (u64::from(whole) * demand(at) / total, u64::from(whole) * demand(at) % total);
    let given: u64 = (0..demands.len()).map(|at| split(at).0).sum();
    let (mine, remainder) = split(place);
    let is_ahead = |at: usize| split(at).1 > remainder || (split(at).1 == remainder && at < place);
    let ahead = (0..demands.len()).filter(|&at| is_ahead(at)).count() as u64;
    let share = mine + u64::from(ahead < u64::from(whole) - given);
    u32::try_from(share).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(whole: u32, demands: &[u32]) -> Vec<u32> {
        (0..demands.len()).map(|place| share(whole, demands, place)).collect()
    }

    #[test]
    fn what_is_left_goes_to_the_largest_remainders() {
        assert_eq!(shares(10, &[0, 0, 0]), [4, 3, 3]);
        assert_eq!(shares(10, &[1, 1, 4]), [2, 2, 6], "1.67, 1.67 and 6.67: equals in order");
        assert_eq!(shares(10, &[7, 0, 3]), [7, 0, 3]);
        assert_eq!(shares(1, &[5, 6]), [0, 1]);
        assert_eq!(shares(0, &[5, 6]), [0, 0]);
    }

    #[test]
    fn nothing_is_lost_and_nothing_is_made() {
        for whole in 0..40 {
            for demands in [&[1, 2, 3][..], &[u32::MAX, 1], &[0], &[9, 9, 9, 9, 1], &[0, 3]] {
                assert_eq!(shares(whole, demands).iter().sum::<u32>(), whole, "{whole} by {demands:?}");
            }
        }
    }
}

//! How others count: the part of a limiter that says now, or in how long.

use super::finch::WINDOW;
use crate::types::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Between two looks at a counter that cannot say when it has room.
const POLL: Duration = Duration::from_millis(500);

/// A counter of sendings.
#[derive(Debug)]
pub(super) enum Counter {
    /// Counts nothing.
    None,
    /// One number for each minute on the clock.
    Fixed { limit: u32, minute: u64, count: u32 },
    /// Two of them, the earlier one weighted with what a window still covers of it.
    Sliding { limit: u32, minute: u64, count: u32, previous: u32 },
    /// The generic cell rate algorithm.
    Gcra { every: Duration, burst: Duration, due: Moment },
    /// The moments of sending, each kept for `span`.
    Log { limit: usize, span: Duration, sent: VecDeque<Moment> },
}

impl Counter {
    pub(super) fn fixed(limit: u32) -> Self {
        Counter::Fixed { limit, minute: 0, count: 0 }
    }

    pub(super) fn sliding(limit: u32) -> Self {
        Counter::Sliding { limit, minute: 0, count: 0, previous: 0 }
    }

    pub(super) fn gcra(limit: u32, burst: u32) -> Self {
        let every = WINDOW / limit;
        Counter::Gcra { every, burst: every * (burst - 1), due: Moment::ZERO }
    }

    pub(super) fn log(limit: u32, margin: Duration) -> Self {
        Counter::Log { limit: limit as usize, span: WINDOW + margin, sent: VecDeque::new() }
    }

    /// Takes one, or says in how long to ask again.
    pub(super) fn take(&mut self, now: Moment) -> Result<(), Duration> {
        let this_minute = now.since_origin().as_secs() / WINDOW.as_secs();
        let next = Moment::at(WINDOW * u32::try_from(this_minute + 1).unwrap_or(u32::MAX));
        match self {
            Counter::None => Ok(()),
            Counter::Fixed { limit, minute, count } => {
                if *minute != this_minute {
                    (*minute, *count) = (this_minute, 0);
                }
                if *count >= *limit {
                    return Err(next.since(now));
                }
                *count += 1;
                Ok(())
            }
            Counter::Sliding { limit, minute, count, previous } => {
                if *minute != this_minute {
                    *previous = if *minute + 1 == this_minute { *count } else { 0 };
                    (*minute, *count) = (this_minute, 0);
                }
                let left = next.since(now).as_secs_f64() / WINDOW.as_secs_f64();
                if f64::from(*previous) * left + f64::from(*count) >= f64::from(*limit) {
                    return Err(POLL);
                }
                *count += 1;
                Ok(())
            }
            Counter::Gcra { every, burst, due } => {
                let early = now + *burst;
                if early < *due {
                    return Err(due.since(early));
                }
                *due = now.max(*due) + *every;
                Ok(())
            }
            Counter::Log { limit, span, sent } => {
                while sent.front().is_some_and(|&at| at + *span <= now) {
                    sent.pop_front();
                }
                match sent.front() {
                    Some(&first) if sent.len() >= *limit => Err((first + *span).since(now)),
                    _ => {
                        sent.push_back(now);
                        Ok(())
                    }
                }
            }
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        match self {
            Counter::None => {}
            Counter::Fixed { count, .. } => *count = 0,
            Counter::Sliding { count, previous, .. } => (*count, *previous) = (0, 0),
            Counter::Gcra { due, .. } => *due = Moment::ZERO,
            Counter::Log { sent, .. } => sent.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the asks at these seconds are let through by a limit of 3 (GCRA: one in 20 s).
    fn taken(mut counter: Counter, at: &[u64]) -> Vec<u64> {
        let mut take = |&at: &u64| counter.take(Moment::at(Duration::from_secs(at))).is_ok();
        at.iter().copied().filter(|at| take(at)).collect()
    }

    #[test]
    fn each_counter_counts_its_own_way() {
        let at = [50, 51, 52, 53, 60, 61, 80, 110, 111, 112];
        for (counter, good) in [
            (Counter::None, at.to_vec()),
            (Counter::fixed(3), vec![50, 51, 52, 60, 61, 80]),
            (Counter::sliding(3), vec![50, 51, 52, 61, 110, 111]),
            (Counter::gcra(3, 3), vec![50, 51, 52, 80, 110, 111]),
            (Counter::gcra(3, 1), vec![50, 80, 110]),
            (Counter::log(3, Duration::ZERO), vec![50, 51, 52, 110, 111, 112]),
            (Counter::log(3, Duration::from_secs(1)), vec![50, 51, 52, 111, 112]),
        ] {
            let name = format!("{counter:?}");
            assert_eq!(taken(counter, &at), good, "{name}");
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let mut log = Counter::log(1, Duration::ZERO);
        assert_eq!(log.take(Moment::ZERO), Ok(()));
        assert_eq!(log.take(Moment::at(Duration::from_secs(20))), Err(Duration::from_secs(40)));
        log.forget();
        assert_eq!(log.take(Moment::at(Duration::from_secs(20))), Ok(()));
    }
}

//! The permits of one counter at Finch.

use super::Ticket;
use crate::types::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Stamps, sorted. A stamp is the latest moment at which a request can have been counted at Finch;
/// it is busy for a span after that. A request in flight has a stamp in the future, which its
/// answer brings back to the present.
#[derive(Debug, Clone, Default)]
pub(super) struct Bucket(VecDeque<(Moment, Ticket)>);

impl Bucket {
    /// How many stamps are kept; those that have cooled are among them until they are dropped.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many stamps are busy.
    pub(super) fn busy(&self, span: Duration, now: Moment) -> usize {
        self.0.len() - self.cooled(span, now)
    }

    fn cooled(&self, span: Duration, now: Moment) -> usize {
        self.0.partition_point(|&(at, _)| at + span <= now)
    }

    /// When the permit after `ahead` others can be had under this limit, if every request in flight
    /// is answered now and those ahead are answered as soon as they are sent: never later than it
    /// really is. Nothing that has cooled may be left.
    pub(super) fn nth_free(&self, ahead: usize, cap: usize, span: Duration, now: Moment) -> Moment {
        if cap == 0 {
            return now + span;
        }
        let (rounds, place) = (ahead / cap, ahead % cap);
        let later = span.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        let first = match (place + self.0.len()).checked_sub(cap) {
            None => now,
            Some(busy) => self.0.get(busy).map_or(now, |&(at, _)| at.min(now) + span),
        };
        first + later
    }

    /// When the first busy permit comes back, under the same assumption.
    pub(super) fn next_return(&self, span: Duration, now: Moment) -> Option<Moment> {
        let &(at, _) = self.0.get(self.cooled(span, now))?;
        Some(at.min(now) + span)
    }

    pub(super) fn add(&mut self, at: Moment, ticket: Ticket) {
        let place = self.0.partition_point(|&stamp| stamp < (at, ticket));
        self.0.insert(place, (at, ticket));
    }

    /// Takes the stamp out. `false` when it has cooled and gone.
    pub(super) fn remove(&mut self, at: Moment, ticket: Ticket) -> bool {
        let Ok(place) = self.0.binary_search(&(at, ticket)) else { return false };
        self.0.remove(place);
        true
    }

    /// Whether the stamp is still there.
    pub(super) fn has(&self, at: Moment, ticket: Ticket) -> bool {
        self.0.binary_search(&(at, ticket)).is_ok()
    }

    /// Forgets the oldest stamp, cooled or not, and says whose it was.
    pub(super) fn pop_oldest(&mut self) -> Option<Ticket> {
        self.0.pop_front().map(|(_, ticket)| ticket)
    }

    /// Forgets one cooled stamp and says whose it was.
    pub(super) fn pop_cooled(&mut self, span: Duration, now: Moment) -> Option<Ticket> {
        let &(at, ticket) = self.0.front()?;
        if at + span > now {
            return None;
        }
        self.0.pop_front();
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::beat::Incarnation;

    const SPAN: Duration = Duration::from_secs(60);

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn ticket(number: u64) -> Ticket {
        Ticket::new(Incarnation(1), number)
    }

    #[test]
    fn the_nth_place_counts_free_permits_then_returns_then_whole_rounds() {
        let mut bucket = Bucket::default();
        bucket.add(at(10), ticket(1));
        bucket.add(at(4), ticket(0));
        for (ahead, free_at) in [(0, 20), (1, 64), (2, 70), (3, 80), (4, 124), (7, 184)] {
            assert_eq!(bucket.nth_free(ahead, 3, SPAN, at(20)), at(free_at), "{ahead} ahead");
        }
    }

    #[test]
    fn a_request_in_flight_is_taken_to_be_answered_now() {
        let mut bucket = Bucket::default();
        bucket.add(at(400), ticket(0));
        bucket.add(at(5), ticket(1));
        assert_eq!(bucket.nth_free(0, 2, SPAN, at(30)), at(65));
        assert_eq!(bucket.nth_free(1, 2, SPAN, at(30)), at(90));
    }

    #[test]
    fn more_stamps_than_the_limit_must_cool_before_one_is_free() {
        let mut bucket = Bucket::default();
        (1..=4).for_each(|n| bucket.add(at(n), ticket(n)));
        assert_eq!(bucket.nth_free(0, 2, SPAN, at(10)), at(63), "three must have cooled");
        assert_eq!(bucket.nth_free(0, 0, SPAN, at(10)), at(70), "no permit at all: look again");
    }

    #[test]
    fn a_stamp_is_busy_to_the_last_instant_of_its_span_and_then_forgotten() {
        let mut bucket = Bucket::default();
        bucket.add(at(5), ticket(7));
        assert_eq!(bucket.busy(SPAN, Moment::at(Duration::from_millis(64_999))), 1);
        assert_eq!(bucket.pop_cooled(SPAN, at(64)), None);
        assert_eq!(bucket.busy(SPAN, at(65)), 0);
        assert_eq!(bucket.pop_cooled(SPAN, at(65)), Some(ticket(7)));
        assert!(!bucket.remove(at(5), ticket(7)));
    }
}

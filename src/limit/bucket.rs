//! The permits of one counter at Finch.

use super::Ticket;
use crate::types::Moment;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// At most `cap` stamps, sorted. A stamp is the latest moment at which a request can have been
/// counted at Finch; it is busy until `span` after that. A request in flight has a stamp in the
/// future, which its answer brings back to the present.
#[derive(Debug)]
pub(super) struct Bucket {
    cap: NonZeroU32,
    span: Duration,
    stamps: VecDeque<(Moment, Ticket)>,
}

impl Bucket {
    pub(super) fn new(cap: NonZeroU32, span: Duration) -> Self {
        Self { cap, span, stamps: VecDeque::new() }
    }

    pub(super) fn cap(&self) -> NonZeroU32 {
        self.cap
    }

    fn cap_len(&self) -> usize {
        usize::try_from(self.cap.get()).unwrap_or(usize::MAX)
    }

    /// How many stamps at the front have cooled.
    fn cooled(&self, now: Moment) -> usize {
        self.stamps.partition_point(|&(at, _)| at + self.span <= now)
    }

    pub(super) fn busy(&self, now: Moment) -> usize {
        self.stamps.len() - self.cooled(now)
    }

    pub(super) fn free(&self, now: Moment) -> usize {
        self.cap_len().saturating_sub(self.busy(now))
    }

    /// When the permit after `ahead` others can be had, if every request in flight is answered now
    /// and those ahead are answered as soon as they are sent: never later than it really is.
    pub(super) fn nth_free(&self, ahead: usize, now: Moment) -> Moment {
        let (rounds, place) = (ahead / self.cap_len(), ahead % self.cap_len());
        let later = self.span.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        let first = match place.checked_sub(self.free(now)) {
            None => now,
            Some(busy) => self.return_of(busy, now).unwrap_or(now),
        };
        first + later
    }

    /// When the first busy permit comes back, under the same assumption.
    pub(super) fn next_return(&self, now: Moment) -> Option<Moment> {
        self.return_of(0, now)
    }

    fn return_of(&self, busy: usize, now: Moment) -> Option<Moment> {
        let &(at, _) = self.stamps.get(self.cooled(now) + busy)?;
        Some(at.min(now) + self.span)
    }

    pub(super) fn add(&mut self, at: Moment, ticket: Ticket) {
        let place = self.stamps.partition_point(|&stamp| stamp < (at, ticket));
        self.stamps.insert(place, (at, ticket));
    }

    /// Takes the stamp out. `false` when it has cooled and gone.
    pub(super) fn remove(&mut self, at: Moment, ticket: Ticket) -> bool {
        let Ok(place) = self.stamps.binary_search(&(at, ticket)) else { return false };
        self.stamps.remove(place);
        true
    }

    /// Forgets one cooled stamp and says whose it was.
    pub(super) fn pop_cooled(&mut self, now: Moment) -> Option<Ticket> {
        let &(at, ticket) = self.stamps.front()?;
        if at + self.span > now {
            return None;
        }
        self.stamps.pop_front();
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::at(Duration::from_secs(secs))
    }

    fn bucket(cap: u32) -> Bucket {
        Bucket::new(NonZeroU32::new(cap).expect("not zero"), Duration::from_secs(60))
    }

    #[test]
    fn the_nth_place_counts_free_permits_then_returns_then_whole_rounds() {
        let mut bucket = bucket(3);
        bucket.add(at(10), Ticket(1));
        bucket.add(at(4), Ticket(0));
        for (ahead, free_at) in [(0, 20), (1, 64), (2, 70), (3, 80), (4, 124), (7, 184)] {
            assert_eq!(bucket.nth_free(ahead, at(20)), at(free_at), "{ahead} ahead");
        }
    }

    #[test]
    fn a_request_in_flight_is_taken_to_be_answered_now() {
        let mut bucket = bucket(2);
        bucket.add(at(400), Ticket(0));
        bucket.add(at(5), Ticket(1));
        assert_eq!(bucket.nth_free(0, at(30)), at(65));
        assert_eq!(bucket.nth_free(1, at(30)), at(90));
    }

    #[test]
    fn a_stamp_is_busy_to_the_last_instant_of_its_span_and_then_forgotten() {
        let mut bucket = bucket(1);
        bucket.add(at(5), Ticket(7));
        assert_eq!(bucket.busy(Moment::at(Duration::from_millis(64_999))), 1);
        assert_eq!(bucket.pop_cooled(at(64)), None);
        assert_eq!((bucket.busy(at(65)), bucket.free(at(65))), (0, 1));
        assert_eq!(bucket.pop_cooled(at(65)), Some(Ticket(7)));
        assert!(!bucket.remove(at(5), Ticket(7)));
    }
}

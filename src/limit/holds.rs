//! Holds beyond the ledger's: on the whole application, on one connection, on a connection's refresh quota.
//!
//! When a hold's time is over it is not known that all is well again. So one call goes first, as a
//! probe, and the others wait for what it finds: a provider that throttles one connection is not met by all
//! who waited for it at once.

use super::notice::Subject;
use crate::types::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// The most subjects held at once; beyond it the one that ends first is forgotten.
const SUBJECTS_MAX: usize = 10_000;
/// The first hold, when Finch does not say how long ("back off in minutes" for a provider's limit).
const SPAN_FIRST: Duration = Duration::from_secs(60);
/// A hold that is repeated at each probe grows up to this.
const SPAN_MAX: Duration = Duration::from_secs(15 * 60);
/// A refresh quota whose end Finch did not tell: it is an hour's, begun some time ago.
const REFRESH_SPAN: Duration = Duration::from_secs(10 * 60);
/// What Finch says is believed up to here.
const TOLD_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the others wait for a probe; then another goes.
const PROBE_SPAN: Duration = Duration::from_secs(30);
/// A hold that ended this long ago, and that nobody has asked about, says nothing any more.
const STALE: Duration = Duration::from_secs(30 * 60);

/// Whether a call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Nothing holds it.
    Free,
    /// The hold's time is over: this call finds out whether its reason is.
    Probe,
    /// Not before this has passed.
    Held(Duration),
    /// Another call finds it out, which may take this long.
    Tried(Duration),
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    until: Moment,
    /// How often a probe found the reason still there.
    strikes: u32,
    /// While a probe is under way.
    probe_until: Moment,
}

/// Every hold beyond the ledger's.
#[derive(Debug, Default)]
pub struct Holds {
    held: HashMap<Subject, Hold>,
}

impl Holds {
    /// Holds a subject for this long. A hold is only ever made longer.
    pub fn hold(&mut self, subject: Subject, span: Duration, now: Moment) {
        self.make_room(&subject, now);
        let until = now + span.min(TOLD_MAX);
        let hold = self.held.entry(subject).or_insert(Hold { until, strikes: 0, probe_until: Moment::ZERO });
        hold.until = hold.until.max(until);
    }

    /// Finch, or the provider, refused a call of this subject. Answers how long it is held now: what Finch
    /// told, or a span that grows while probes fail.
    pub fn refused(&mut self, subject: Subject, told: Option<Duration>, now: Moment) -> Duration {
        // A refusal inside the hold is of a call that was sent before it: no further strike.
        let strikes = match self.held.get(&subject) {
            Some(hold) if now < hold.until => hold.strikes,
            Some(hold) if now.since(hold.until) < STALE => hold.strikes.saturating_add(1),
            Some(_) | None => 0,
        };
        let own = match subject {
            Subject::Application | Subject::Connection(_) => {
                SPAN_FIRST.saturating_mul(1 << strikes.min(8)).min(SPAN_MAX)
            }
            Subject::RefreshQuota(_) => REFRESH_SPAN,
        };
        let span = match (&subject, told) {
            // It ends when somebody pays, whatever a header says.
            (Subject::Application, Some(told)) => told.min(SPAN_MAX),
            (_, told) => told.unwrap_or(own),
        };
        self.hold(subject.clone(), span, now);
        let Some(hold) = self.held.get_mut(&subject) else { return own };
        hold.strikes = strikes;
        hold.until.since(now)
    }

    /// Whether a call of this subject may go now. [`Gate::Probe`] is answered to one caller.
    pub fn gate(&mut self, subject: &Subject, now: Moment) -> Gate {
        let Some(hold) = self.held.get_mut(subject) else { return Gate::Free };
        if now < hold.until {
            return Gate::Held(hold.until.since(now));
        }
        let is_over = match subject {
            // Its end is a matter of time alone.
            Subject::RefreshQuota(_) => true,
            Subject::Application | Subject::Connection(_) => now.since(hold.until) >= STALE,
        };
        if is_over {
            self.held.remove(subject);
            return Gate::Free;
        }
        if now < hold.probe_until {
            return Gate::Tried(hold.probe_until.since(now));
        }
        hold.probe_until = now + PROBE_SPAN;
        Gate::Probe
    }

    /// A call of this subject was served: nothing holds it any more, unless it is one that was sent before
    /// the hold. Answers whether there was a hold.
    pub fn served(&mut self, subject: &Subject, now: Moment) -> bool {
        let is_over = self.held.get(subject).is_some_and(|hold| now >= hold.until);
        is_over && self.held.remove(subject).is_some()
    }

    /// A probe ended without finding out: the next caller may be one.
    pub fn unproved(&mut self, subject: &Subject) {
        if let Some(hold) = self.held.get_mut(subject) {
            hold.probe_until = Moment::ZERO;
        }
    }

    /// Every hold whose time is not over, and how long it lasts.
    pub fn list(&self, now: Moment) -> impl Iterator<Item = (&Subject, Duration)> {
        self.held
            .iter()
            .map(move |(subject, hold)| (subject, hold.until.since(now)))
            .filter(|(_, s)| !s.is_zero())
    }

    /// Whether nothing at all is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn make_room(&mut self, subject: &Subject, now: Moment) {
        if self.held.len() < SUBJECTS_MAX || self.held.contains_key(subject) {
            return;
        }
        self.held.retain(|_, hold| now < hold.until);
        if self.held.len() >= SUBJECTS_MAX
            && let Some(first) = self.held.iter().min_by_key(|(_, hold)| hold.until).map(|(s, _)| s.clone())
        {
            self.held.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ConnectionId;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Moment {
        Moment::at(secs(seconds))
    }

    fn connection(id: &str) -> Subject {
        Subject::Connection(ConnectionId::new(id).expect("an id"))
    }

    #[test]
    fn after_a_hold_one_call_goes_first() {
        let mut holds = Holds::default();
        let (a, b) = (connection("a"), connection("b"));
        assert_eq!(holds.gate(&a, at(0)), Gate::Free);
        assert_eq!(holds.refused(a.clone(), None, at(0)), secs(60));
        assert_eq!(holds.gate(&a, at(59)), Gate::Held(secs(1)));
        assert_eq!(holds.gate(&b, at(59)), Gate::Free, "another connection is not concerned");
        assert_eq!(holds.gate(&Subject::Application, at(59)), Gate::Free);
        assert_eq!(holds.gate(&a, at(60)), Gate::Probe);
        assert_eq!(holds.gate(&a, at(61)), Gate::Tried(secs(29)));
        assert_eq!(holds.gate(&a, at(90)), Gate::Probe, "the first one never came back");
        holds.unproved(&a);
        assert_eq!(holds.gate(&a, at(91)), Gate::Probe);
        assert!(holds.served(&a, at(92)));
        assert_eq!(holds.gate(&a, at(92)), Gate::Free);
    }

    #[test]
    fn a_hold_grows_with_each_probe_that_fails_and_starts_anew_after_a_success() {
        let mut holds = Holds::default();
        let (a, mut now) = (connection("a"), at(0));
        for expected in [60, 120, 240, 480, 900, 900] {
            assert_eq!(holds.refused(a.clone(), None, now), secs(expected));
            // Calls that were sent before the hold say nothing new.
            assert_eq!(holds.refused(a.clone(), None, now + secs(1)), secs(expected));
            now = now + secs(expected + 2);
            assert_eq!(holds.gate(&a, now), Gate::Probe);
        }
        assert!(holds.served(&a, now));
        assert_eq!(holds.refused(a, None, now), secs(60));
    }

    #[test]
    fn what_finch_tells_is_believed_within_reason() {
        let mut holds = Holds::default();
        let quota = |id: &str| Subject::RefreshQuota(ConnectionId::new(id).expect("an id"));
        assert_eq!(holds.refused(quota("a"), Some(secs(1_800)), at(0)), secs(1_800));
        assert_eq!(holds.gate(&quota("a"), at(1_799)), Gate::Held(secs(1)));
        assert_eq!(holds.gate(&quota("a"), at(1_800)), Gate::Free, "its end is known: no probe");
        assert_eq!(holds.refused(quota("b"), None, at(0)), REFRESH_SPAN);
        assert_eq!(holds.refused(quota("c"), Some(Duration::MAX), at(0)), TOLD_MAX);
        // Who has paid does not wait for a day.
        assert_eq!(holds.refused(Subject::Application, Some(TOLD_MAX), at(0)), SPAN_MAX);
    }

    #[test]
    fn a_call_sent_before_the_hold_does_not_end_it() {
        let mut holds = Holds::default();
        holds.hold(Subject::Application, secs(60), at(0));
        assert!(!holds.served(&Subject::Application, at(30)));
        assert_eq!(holds.gate(&Subject::Application, at(30)), Gate::Held(secs(30)));
        holds.hold(Subject::Application, secs(10), at(30));
        assert_eq!(holds.gate(&Subject::Application, at(30)), Gate::Held(secs(30)), "never shorter");
    }

    #[test]
    fn there_is_a_bound() {
        let mut holds = Holds::default();
        for n in 0..SUBJECTS_MAX + 50 {
            holds.hold(connection(&format!("c{n}")), secs(60 + n as u64), at(0));
        }
        assert_eq!(holds.held.len(), SUBJECTS_MAX);
        assert_eq!(holds.gate(&connection("c0"), at(0)), Gate::Free, "the one that ends first made room");
        assert_eq!(holds.list(at(0)).count(), SUBJECTS_MAX);
        holds.hold(connection("late"), secs(1), at(1_000_000));
        assert_eq!(holds.held.len(), 1, "those that are over go first");
    }
}

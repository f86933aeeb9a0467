//! What the harness itself has seen: calls, what broke a bound, and when an answer could not be expected.

use super::http::Lost;
use super::judge;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Violations of one kind that are told one by one.
const TOLD_MAX: usize = 5;
/// What is lost this long after the end of an excuse is still excused.
const EXCUSE_SLACK: Duration = Duration::from_secs(3);

/// What must hold; each is a line of the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bound {
    Limits,
    Tokens,
    Writes,
    Once,
    Customers,
    Memory,
    Recovery,
    Answers,
    Processes,
    Panics,
}

impl Bound {
    /// All of them.
    pub(crate) const ALL: [Bound; 10] = [
        Bound::Limits,
        Bound::Tokens,
        Bound::Writes,
        Bound::Once,
        Bound::Customers,
        Bound::Memory,
        Bound::Recovery,
        Bound::Answers,
        Bound::Processes,
        Bound::Panics,
    ];

    /// The sentence.
    pub(crate) const fn says(self) -> &'static str {
        match self {
            Bound::Limits => "no window at the recorder holds more than its limit, and Finch refused nothing",
            Bound::Tokens => "no token and no secret is anywhere but in `Authorization` on the way to Finch",
            Bound::Writes => "nothing that was acknowledged is lost",
            Bound::Once => "no write reached Finch twice, and none that did is told to be sent again",
            Bound::Customers => "no call went out or was answered for another customer",
            Bound::Memory => "no gateway grew by more than 128 MiB",
            Bound::Recovery => {
                "after every fault each gateway served a call again by itself within 30 s (65 s where Redis forgot)"
            }
            Bound::Answers => "every call was answered, in one of the known classes and in perch's shape",
            Bound::Processes => "no process ended that was not killed",
            Bound::Panics => "no log tells of a panic",
        }
    }
}

/// One call that is over.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) gateway: usize,
    pub(crate) sent: Instant,
    pub(crate) ended: Instant,
    /// A class, or `lost`.
    pub(crate) class: String,
}

/// The class of a call without an answer.
pub(crate) const LOST: &str = "lost";

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    broken: BTreeMap<Bound, (usize, Vec<String>)>,
    /// Gateway, from, to.
    excuses: Vec<(usize, Instant, Option<Instant>)>,
    counts: BTreeMap<&'static str, usize>,
    writes: Vec<Told>,
}

/// What an app was told of a write to Finch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// A digest of the body, which no other write has.
    pub(crate) body: String,
    pub(crate) class: String,
    /// Whether it was told that it may be sent again; a good answer says no.
    pub(crate) is_good: bool,
    pub(crate) is_retryable: bool,
}

/// Written to by everybody.
#[derive(Default)]
pub(crate) struct Notes(Mutex<State>);

impl Notes {
    fn with(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something is not as it must be.
    pub(crate) fn broken(&self, bound: Bound, what: impl Into<String>) {
        let mut state = self.with();
        let (count, told) = state.broken.entry(bound).or_default();
        *count += 1;
        if told.len() < TOLD_MAX {
            told.push(what.into());
        }
    }

    /// How often a bound was broken, with examples.
    pub(crate) fn broken_ones(&self) -> BTreeMap<Bound, (usize, Vec<String>)> {
        self.with().broken.clone()
    }

    /// Counts something that was tried, so that a verdict says of how many it speaks.
    pub(crate) fn count(&self, what: &'static str, more: usize) {
        *self.with().counts.entry(what).or_default() += more;
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.with().counts.clone()
    }

    /// A write was answered.
    pub(crate) fn wrote(&self, told: Told) {
        self.with().writes.push(told);
    }

    /// What apps were told of their writes.
    pub(crate) fn writes(&self) -> Vec<Told> {
        self.with().writes.clone()
    }

    /// From now on calls at this gateway may be lost.
    pub(crate) fn excuse(&self, gateway: usize) {
        self.with().excuses.push((gateway, Instant::now(), None));
    }

    /// No longer.
    pub(crate) fn expect_again(&self, gateway: usize) {
        let open =
            |excuse: &&mut (usize, Instant, Option<Instant>)| excuse.0 == gateway && excuse.2.is_none();
        if let Some(excuse) = self.with().excuses.iter_mut().find(open) {
            excuse.2 = Some(Instant::now());
        }
    }

    /// How one call ended.
    pub(crate) fn ended(&self, gateway: usize, sent: Instant, end: Result<judge::Verdict, Lost>) {
        let class = match end {
            Ok(Ok(class)) => class,
            Ok(Err(why)) => {
                let bound = match &why {
                    why if why.contains("another customer") => Bound::Customers,
                    why if why.contains("secret") => Bound::Tokens,
                    _ => Bound::Answers,
                };
                self.broken(bound, why);
                "wrong".to_owned()
            }
            Err(lost) => {
                let (Lost::Cut(bytes) | Lost::Nonsense(bytes)) = &lost else {
                    return self.push(gateway, sent, LOST.to_owned());
                };
                if let Err(why) = judge::secrets(bytes) {
                    self.broken(Bound::Tokens, why);
                }
                LOST.to_owned()
            }
        };
        self.push(gateway, sent, class);
    }

    fn push(&self, gateway: usize, sent: Instant, class: String) {
        self.with().calls.push(Call { gateway, sent, ended: Instant::now(), class });
    }

    /// How many calls of each class ended in a span.
    pub(crate) fn classes(&self, from: Instant, to: Instant) -> BTreeMap<String, usize> {
        let mut classes = BTreeMap::new();
        for call in self.with().calls.iter().filter(|call| (from..to).contains(&call.ended)) {
            *classes.entry(call.class.clone()).or_default() += 1;
        }
        classes
    }

    /// Calls that were lost, or answered by the HTTP library, where nothing explains it.
    pub(crate) fn unexplained(&self, origin: Instant) -> Vec<String> {
        let state = self.with();
        let is_excused = |call: &&Call| {
            state.excuses.iter().any(|(gateway, from, to)| {
                *gateway == call.gateway
                    && call.ended >= *from
                    && to.is_none_or(|to| call.sent <= to + EXCUSE_SLACK)
            })
        };
        let needs_one = |call: &&Call| call.class == LOST || call.class == judge::BARE;
        let left = state.calls.iter().filter(needs_one).filter(|call| !is_excused(call));
        left.map(|call| {
            let at = |when: Instant| when.saturating_duration_since(origin).as_secs_f64();
            format!(
                "gateway {}: {} of {:.1} s to {:.1} s",
                call.gateway,
                call.class,
                at(call.sent),
                at(call.ended)
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lost_call_needs_an_excuse_of_its_own_gateway_and_time() {
        let (notes, origin) = (Notes::default(), Instant::now());
        let second = Duration::from_secs(1);
        let lose = |gateway| notes.ended(gateway, Instant::now(), Err(Lost::Nothing));
        lose(0);
        tokio::time::advance(second).await;
        notes.excuse(0);
        lose(0);
        lose(1);
        notes.expect_again(0);
        tokio::time::advance(second).await;
        lose(0);
        assert_eq!(notes.unexplained(origin).len(), 2, "{:?}", notes.unexplained(origin));
        tokio::time::advance(second * 10).await;
        lose(0);
        assert_eq!(notes.unexplained(origin).len(), 3);
        assert_eq!(notes.classes(origin, Instant::now() + second)[LOST], 5);
    }
}

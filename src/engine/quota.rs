//! The verb *admit*: waits until an attempt may be sent. The arithmetic is `limit`'s; here are the
//! clock, the lock and the sleeping.
//!
//! A waiter sleeps until the time the ledger told it, or until it is rung because it has become
//! next in line or something was given back. Nobody polls.

use crate::limit::beat::Incarnation;
use crate::limit::{Admission, Ask, Ledger, Reason, Rules, Scope, Standing, Tag, Ticket};
use crate::types::{CustomerId, Moment, Priority, Product};
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The quota of one Finch application, shared by every call.
#[derive(Debug)]
pub struct Quota {
    /// The origin of this clock's moments.
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    next_ticket: u64,
    /// What wakes each waiting call.
    bells: HashMap<Ticket, Arc<Notify>>,
    is_closed: bool,
    asks: u64,
}

/// Who wants to send what, and how long it may take to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskFacts {
    /// What the attempt counts against.
    pub product: Product,
    /// For whom, when the call names a customer.
    pub customer: Option<CustomerId>,
    /// How urgent it is.
    pub priority: Priority,
    /// The longest wait, from now on; zero takes what is free now or nothing.
    pub patience: Duration,
    /// The place that an earlier attempt of the same call had.
    pub tag: Option<Tag>,
}

/// Why an attempt was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The limits leave no room in time.
    Limited {
        /// When it is worth coming back.
        retry_in: Duration,
        /// Whose limit it is.
        scope: Scope,
        /// Which rule refused it.
        reason: Reason,
        /// How long it has waited.
        waited: Duration,
    },
    /// perch is going down and admits nothing more.
    Draining,
}

/// How everything stands, for metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The products that have a limit.
    pub products: Vec<(Product, Standing)>,
    /// The egress IP.
    pub ip: Standing,
    /// How many calls wait, for every product and priority.
    pub waiting: Vec<(Product, Priority, usize)>,
    /// The holds that last, and for how long.
    pub holds: Vec<(Scope, Duration)>,
    /// How often the ledger was asked so far. It grows with the calls, not with time.
    pub asks: u64,
}

const GRACE: Duration = Duration::from_secs(1);

enum Answer {
    Granted { tag: Tag },
    Wait { until: Moment, tag: Tag, bell: Arc<Notify> },
    Refused(Refusal),
}

impl Quota {
    /// A quota with nothing spent; the clock starts now.
    pub fn new(rules: Rules) -> Arc<Self> {
        let state = State {
            ledger: Ledger::new(rules),
            next_ticket: 0,
            bells: HashMap::new(),
            is_closed: false,
            asks: 0,
        };
        Arc::new(Self { origin: Instant::now(), state: Mutex::new(state) })
    }

    /// The present on this quota's clock.
    pub fn now(&self) -> Moment {
        Moment::at(self.origin.elapsed())
    }

    /// Waits for a permit. A future that is dropped gives its place to the next.
    ///
    /// # Errors
    /// [`Refusal::Limited`] as soon as it is known that the patience will not do, and
    /// [`Refusal::Draining`] once the quota is closed.
    pub async fn admit(self: &Arc<Self>, facts: AskFacts) -> Result<Permit, Refusal> {
        // The moment it came is the moment of its first question: no patience at all is still enough for
        // what is free now.
        let (mut ask, came, mut answer) = {
            let mut state = self.lock();
            let came = self.now();
            let ask = Ask {
                ticket: state.ticket(),
                product: facts.product,
                customer: facts.customer,
                priority: facts.priority,
                weight: NonZeroU32::MIN,
                patience: facts.patience,
                tag: facts.tag,
            };
            let answer = state.ask(&ask, came, came);
            (ask, came, answer)
        };
        let mut asked = came;
        let mut place: Option<Place<'_>> = None;
        loop {
            match answer {
                Answer::Granted { tag } => {
                    if let Some(place) = &mut place {
                        place.is_served = true;
                    }
                    let waited = self.now().since(came);
                    return Ok(Permit {
                        quota: self.clone(),
                        ticket: ask.ticket,
                        tag,
                        asked,
                        waited,
                        is_settled: false,
                    });
                }
                Answer::Refused(refusal) => return Err(refusal),
                Answer::Wait { until, tag, bell } => {
                    place.get_or_insert_with(|| Place { quota: self, ticket: ask.ticket, is_served: false });
                    tokio::select! {
                        () = bell.notified() => {}
                        () = tokio::time::sleep(until.since(self.now())) => {}
                    }
                    let mut state = self.lock();
                    asked = self.now();
                    ask.tag = Some(tag);
                    ask.patience = facts.patience.saturating_sub(asked.since(came));
                    answer = state.ask(&ask, came, asked);
                }
            }
        }
    }

    /// Sends nothing in `scope` for this long. A hold is only ever made longer.
    pub fn hold(&self, scope: Scope, span: Duration) {
        let mut state = self.lock();
        let now = self.now();
        state.ledger.hold(scope, span, now);
        // Those in other products may now go ahead of the ones held.
        state.ring_all();
    }

    /// How the product's limit stands; `None` when it has none.
    pub fn standing(&self, product: Product) -> Option<Standing> {
        self.lock().ledger.standing(product, self.now())
    }

    /// How the egress IP's limit stands.
    pub fn ip_standing(&self) -> Standing {
        self.lock().ledger.ip_standing(self.now())
    }

    /// How many calls wait.
    pub fn waiting(&self, product: Product, priority: Priority) -> usize {
        self.lock().ledger.waiting(product, priority)
    }

    /// How everything stands, at one moment.
    pub fn snapshot(&self) -> Snapshot {
        let State { ledger, asks, .. } = &*self.lock();
        let now = self.now();
        let each = Product::ALL.into_iter().flat_map(|p| Priority::ALL.map(|priority| (p, priority)));
        Snapshot {
            products: Product::ALL.into_iter().filter_map(|p| Some((p, ledger.standing(p, now)?))).collect(),
            ip: ledger.ip_standing(now),
            waiting: each.map(|(p, priority)| (p, priority, ledger.waiting(p, priority))).collect(),
            holds: ledger.holds(now).collect(),
            asks: *asks,
        }
    }

    /// Admits nothing from now on: everyone who waits, and everyone who comes, is told
    /// [`Refusal::Draining`]. Permits that were granted stay good.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.bells.values().for_each(|bell| bell.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The ledger has no state between two of its calls that a panic could leave half done
        // and that would not mend itself: a lost permit runs out, a lost ticket expires.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket::new(Incarnation(0), self.next_ticket)
    }

    /// One question to the ledger, and the bell under the same lock, so that no ring is missed.
    fn ask(&mut self, ask: &Ask, came: Moment, now: Moment) -> Answer {
        if self.is_closed {
            return Answer::Refused(Refusal::Draining);
        }
        self.asks += 1;
        match self.ledger.ask(ask, now) {
            Admission::Granted { tag } => {
                self.ring(ask.product);
                Answer::Granted { tag }
            }
            Admission::Wait { after, tag } => {
                let bell = self.bells.entry(ask.ticket).or_default().clone();
                Answer::Wait { until: now + after, tag, bell }
            }
            Admission::Refused { after, scope, reason } => {
                let waited = now.since(came);
                Answer::Refused(Refusal::Limited { retry_in: after, scope, reason, waited })
            }
        }
    }

    /// Wakes whoever is next for `product`.
    fn ring(&self, product: Product) {
        if let Some(bell) = self.ledger.head(product).and_then(|head| self.bells.get(&head)) {
            bell.notify_one();
        }
    }

    fn ring_all(&self) {
        Product::ALL.into_iter().for_each(|product| self.ring(product));
    }
}

/// A place in line, given up when dropped. Unless it was served, those behind it move up.
struct Place<'a> {
    quota: &'a Quota,
    ticket: Ticket,
    is_served: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.quota.lock();
        state.bells.remove(&self.ticket);
        let now = self.quota.now();
        state.ledger.cancel(self.ticket, now);
        if !self.is_served {
            state.ring_all();
        }
    }
}

/// The right to send one attempt, now. One that is dropped without a word counts as sent and
/// never answered, because nobody can say that it was not.
#[derive(Debug)]
#[must_use = "a permit that is dropped is spent"]
pub struct Permit {
    quota: Arc<Quota>,
    ticket: Ticket,
    tag: Tag,
    /// When the permit was asked for: it may be used for [`Rules::grace`] from then on.
    asked: Moment,
    waited: Duration,
    is_settled: bool,
}

impl Permit {
    /// How long the attempt waited for it.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The place it had in line: a further attempt of the same call shows it.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// The first byte is about to be written. Tell this when time has passed since the grant, in
    /// connecting for instance: the bound on the way to Finch counts from here. `false`: the
    /// permit has run out; refund it and ask for another.
    #[must_use = "a permit that has run out must not be used"]
    pub fn sent(&mut self) -> bool {
        let asked = self.asked;
        let (is_good, now) = self
            .quota
            .lock_and(|ledger, now| (now.since(asked) <= GRACE || ledger.extend(self.ticket, now), now));
        self.is_settled |= is_good;
        self.asked = now;
        is_good
    }

    /// The response headers are here, or an error came after the first byte was written.
    pub fn arrived(mut self, is_429: bool) {
        self.is_settled = true;
        self.quota.lock_and(|ledger, now| ledger.arrived(self.ticket, is_429, now));
    }

    /// Not one byte was written: somebody else may have it.
    pub fn refund(mut self) {
        self.is_settled = true;
        let mut state = self.quota.lock();
        let now = self.quota.now();
        if state.ledger.refund(self.ticket, now) {
            state.ring_all();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_settled {
            // Sent at the latest now; what follows is the ledger's rule for the unanswered.
            let _ = self.quota.lock_and(|ledger, now| ledger.extend(self.ticket, now));
        }
    }
}

impl Quota {
    fn lock_and<T>(&self, act: impl FnOnce(&mut Ledger, Moment) -> T) -> T {
        let mut state = self.lock();
        let now = self.now();
        act(&mut state.ledger, now)
    }
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;

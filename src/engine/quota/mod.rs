//! The verb *admit*: waits until an attempt may be sent. The arithmetic is `limit`'s; here are the
//! clock and the sleeping, and behind them the lock or the wire.
//!
//! A waiter sleeps until the time the ledger told it, or until it is rung because it has become
//! next in line or something was given back. Nobody polls.

mod fair;
mod notices;
mod observe;
mod own;
mod permit;
mod shared;
mod waiters;

use crate::limit::beat::Incarnation;
use crate::limit::fairness::{self, Fairness};
use crate::limit::{Admission, Ask, Claims, OnOutage, Reason, Replica, Rules, Scope, Standing, Tag, Ticket};
use crate::store::journal::{History, Journal};
use crate::store::redis::Redis;
use crate::types::{CustomerId, Moment, Priority, Product};
use observe::Observed;
use own::Own;
use parking_lot::{Mutex, RwLock};
pub use permit::Permit;
use shared::Shared;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use waiters::{Place, Waiters};

/// The quota of one Finch application, shared by every call.
#[derive(Debug)]
pub struct Quota {
    clock: Clock,
    rules: RwLock<Rules>,
    book: Book,
    waiters: Arc<Waiters>,
    incarnation: Incarnation,
    claims: Mutex<Claims>,
    fairness: Mutex<Fairness>,
    next_ticket: AtomicU64,
    asks: AtomicU64,
    is_closed: AtomicBool,
    /// Whether calls are sent whatever the limits say.
    observes: AtomicBool,
    observed: Mutex<Observed>,
}

/// A steady clock and the moment at which it began.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant, Moment);

impl Clock {
    fn now(&self) -> Moment {
        self.1 + self.0.elapsed()
    }
}

/// When the clock of a quota that remembers begins: what was sent before needs moments too.
const REMEMBERED: Moment = Moment::at(Duration::from_secs(30 * 24 * 60 * 60));

/// Where the ledger is.
#[derive(Debug)]
enum Book {
    /// In this process.
    Own(Box<Own>),
    /// In a store, for all replicas together.
    Shared(Arc<Shared>),
}

/// Which replica this is, among those that share a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, the same after its restart.
    pub name: String,
    /// Larger at every start.
    pub incarnation: Incarnation,
    /// What to do while the store is out.
    pub on_outage: OnOutage,
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

/// Where quota is counted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In this process.
    Memory,
    /// In Redis, for all replicas together.
    Redis,
    /// Redis is out: nothing, or this replica's share, is sent.
    Degraded,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Mode; 3] = [Mode::Memory, Mode::Redis, Mode::Degraded];

    /// The label of `perch_limiter_mode`, and the word in logs and in `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mode::Memory => "memory",
            Mode::Redis => "redis",
            Mode::Degraded => "degraded",
        }
    }
}

/// How everything stands, for metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The products that have a limit.
    pub products: Vec<(Product, Standing)>,
    /// The egress IP.
    pub ip: Option<Standing>,
    /// How many calls wait here, for every product and priority.
    pub waiting: Vec<(Product, Priority, usize)>,
    /// The holds that last, and for how long.
    pub holds: Vec<(Scope, Duration)>,
    /// How fairly the customers of those products were served, as far as they called here.
    pub fairness: Vec<(Product, fairness::Standing)>,
    /// How often the ledger was asked so far. It grows with the calls, not with time.
    pub asks: u64,
    /// Where quota is counted now.
    pub mode: Mode,
}

impl Quota {
    /// A quota in this process with nothing spent; the clock starts now.
    pub fn new(rules: Rules) -> Arc<Self> {
        Arc::new(Self::with(rules.clone(), Book::Own(Box::new(Own::new(rules))), Incarnation::default()))
    }

    /// A quota in a store that all replicas share.
    pub fn shared(redis: Redis, rules: Rules, member: Member, stop: watch::Receiver<bool>) -> Arc<Self> {
        let clock = Clock(Instant::now(), Moment::ZERO);
        let Member { name, incarnation, on_outage } = member;
        let replica = Replica::new(rules.clone(), name, incarnation, on_outage, clock.now());
        let waiters = Arc::<Waiters>::default();
        let shared = Shared::start(redis, rules.clone(), clock, replica, waiters.clone(), stop);
        let own = Self { clock, waiters, ..Self::with(rules, Book::Shared(shared), incarnation) };
        Arc::new(own)
    }

    /// A quota in this process that goes on where earlier runs ended, and tells the next one.
    pub fn remembering(rules: Rules, journal: Journal, history: &History) -> Arc<Self> {
        let book = Book::Own(Box::new(Own::remembering(rules.clone(), journal, history, REMEMBERED)));
        let quota = Self::with(rules, book, Incarnation(history.run));
        Arc::new(Self { clock: Clock(Instant::now(), REMEMBERED), ..quota })
    }

    /// How long a permit can matter at most, for [`Journal::open`].
    pub fn remembers_for(rules: &Rules) -> Duration {
        /// What caution after a refusal of Finch's may add to a window.
        const CAUTION_MAX: Duration = Duration::from_secs(1);
        rules.window.max(rules.ip.window) + rules.pad + rules.flight() + CAUTION_MAX
    }

    /// Waits until all that the next run has to know is written, and tells the others of a shared store
    /// that this replica needs nothing any more.
    pub async fn settle(&self) {
        match &self.book {
            Book::Own(own) => own.settle().await,
            Book::Shared(shared) => shared.leave().await,
        }
    }

    fn with(rules: Rules, book: Book, incarnation: Incarnation) -> Self {
        Self {
            clock: Clock(Instant::now(), Moment::ZERO),
            rules: RwLock::new(rules),
            book,
            waiters: Arc::default(),
            incarnation,
            claims: Mutex::default(),
            fairness: Mutex::default(),
            next_ticket: AtomicU64::new(1),
            asks: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            observes: AtomicBool::new(false),
            observed: Mutex::default(),
        }
    }

    /// The present on this quota's clock.
    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    /// Waits for a permit. A future that is dropped gives its place to the next.
    ///
    /// # Errors
    /// [`Refusal::Limited`] as soon as it is known that the patience will not do, and
    /// [`Refusal::Draining`] once the quota is closed.
    pub async fn admit(self: &Arc<Self>, facts: AskFacts) -> Result<Permit, Refusal> {
        let came = self.now();
        let ticket = Ticket::new(self.incarnation, self.next_ticket.fetch_add(1, Ordering::Relaxed));
        let mut place = Place::take(self, ticket, facts.product, facts.priority);
        let mut ask = Ask {
            ticket,
            product: facts.product,
            weight: self.rules.read().weight(facts.customer.as_ref()),
            customer: facts.customer,
            priority: facts.priority,
            patience: facts.patience,
            tag: facts.tag,
        };
        loop {
            if self.is_closed.load(Ordering::Acquire) {
                return Err(Refusal::Draining);
            }
            // The moment it came is the moment of its first question: no patience at all is still enough
            // for what is free now.
            let asked = if ask.patience == facts.patience { came } else { self.now() };
            let waited = asked.since(came);
            self.asks.fetch_add(1, Ordering::Relaxed);
            if let Some(permit) = self.observed(&ask, &mut place, (asked, waited)).await {
                return Ok(permit);
            }
            match self.book.ask(&ask, asked).await {
                Admission::Granted { tag } => {
                    place.is_served();
                    self.note_outcome(&ask, true, waited);
                    self.ring_heads([ask.product]);
                    let (product, priority) = (ask.product, ask.priority);
                    let tag = Some(tag).filter(|tag| *tag != Tag::UNKNOWN);
                    let (quota, is_counted) = (self.clone(), true);
                    return Ok(Permit { quota, ticket, product, priority, tag, asked, waited, is_counted });
                }
                Admission::Refused { after, scope, reason } => {
                    place.is_refused();
                    self.note_outcome(&ask, false, waited);
                    return Err(Refusal::Limited { retry_in: after, scope, reason, waited });
                }
                Admission::Wait { after, tag } => {
                    ask.tag = Some(tag).filter(|tag| *tag != Tag::UNKNOWN);
                    place.waits();
                    tokio::select! {
                        () = place.rung() => {}
                        () = tokio::time::sleep(after) => {}
                    }
                    ask.patience = facts.patience.saturating_sub(self.now().since(came));
                }
            }
        }
    }

    /// Sends nothing in `scope` for this long. A hold is only ever made longer.
    pub fn hold(&self, scope: Scope, span: Duration) {
        self.book.hold(scope, span, self.now());
        // Those in other products may now go ahead of the ones held.
        self.ring_heads(Product::ALL);
    }

    /// Finch refused a call for the product's limit although it was admitted: see
    /// [`crate::limit::Ledger::limited`].
    pub fn limited(&self, product: Product, retry_after: Option<Duration>) {
        self.book.limited(product, retry_after, self.now());
    }

    /// How the product's limit stands; `None` when it has none.
    pub fn standing(&self, product: Product) -> Option<Standing> {
        self.book.standing(product, self.now())
    }

    /// How the egress IP's limit stands; `None` while a store has not said so.
    pub fn ip_standing(&self) -> Option<Standing> {
        self.book.ip_standing(self.now())
    }

    /// How many calls wait here.
    pub fn waiting(&self, product: Product, priority: Priority) -> usize {
        self.waiters.waiting(product, priority)
    }

    /// Where quota is counted now.
    pub fn mode(&self) -> Mode {
        match &self.book {
            Book::Own(_) => Mode::Memory,
            Book::Shared(shared) => shared.mode(),
        }
    }

    /// How everything stands, at one moment.
    pub fn snapshot(&self) -> Snapshot {
        let now = self.now();
        let products: Vec<(Product, Standing)> =
            Product::ALL.into_iter().filter_map(|p| Some((p, self.standing(p)?))).collect();
        let mut fairness = self.fairness.lock();
        let each = Product::ALL.into_iter().flat_map(|p| Priority::ALL.map(|priority| (p, priority)));
        Snapshot {
            fairness: products.iter().map(|(p, _)| (*p, fairness.standing(*p, now))).collect(),
            products,
            ip: self.ip_standing(),
            waiting: each.map(|(p, priority)| (p, priority, self.waiting(p, priority))).collect(),
            holds: self.book.holds(now),
            asks: self.asks.load(Ordering::Relaxed),
            mode: self.mode(),
        }
    }

    /// Admits nothing from now on: everyone who waits, and everyone who comes, is told
    /// [`Refusal::Draining`]. Permits that were granted stay good.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.waiters.ring_all();
    }

    /// Wakes whoever is next for these products.
    fn ring_heads(&self, products: impl IntoIterator<Item = Product>) {
        self.book.heads(products, |head| self.waiters.ring(head));
    }

    /// A ticket is given up before anything was sent with it.
    fn give_up(&self, ticket: Ticket, product: Product) {
        self.book.give_up(ticket, product, self.now());
        self.ring_heads(Product::ALL);
    }
}

impl Book {
    async fn ask(&self, ask: &Ask, now: Moment) -> Admission {
        match self {
            Book::Own(own) => own.ask(ask, now).await,
            Book::Shared(shared) => shared.ask(ask, now).await,
        }
    }

    async fn extend(&self, ticket: Ticket, product: Product, priority: Priority, now: Moment) -> bool {
        match self {
            Book::Own(own) => own.extend(ticket, product, priority, now).await,
            Book::Shared(shared) => shared.extend(ticket, product, priority, now).await,
        }
    }

    fn arrived(&self, ticket: Ticket, product: Product, is_429: bool, now: Moment) {
        match self {
            Book::Own(own) => own.arrived(ticket, is_429, now),
            Book::Shared(shared) => shared.arrived(ticket, product, is_429, now),
        }
    }

    fn give_up(&self, ticket: Ticket, product: Product, now: Moment) {
        match self {
            Book::Own(own) => own.give_up(ticket, now),
            Book::Shared(shared) => shared.give_up(ticket, product, now),
        }
    }

    fn hold(&self, scope: Scope, span: Duration, now: Moment) {
        match self {
            Book::Own(own) => own.hold(scope, span, now),
            Book::Shared(shared) => shared.hold(scope, span, now),
        }
    }

    fn limited(&self, product: Product, retry_after: Option<Duration>, now: Moment) {
        match self {
            Book::Own(own) => own.limited(product, retry_after, now),
            Book::Shared(shared) => shared.limited(product, retry_after, now),
        }
    }

    fn standing(&self, product: Product, now: Moment) -> Option<Standing> {
        match self {
            Book::Own(own) => own.with(|ledger| ledger.standing(product, now)),
            Book::Shared(shared) => shared.standing(product, now),
        }
    }

    fn ip_standing(&self, now: Moment) -> Option<Standing> {
        match self {
            Book::Own(own) => Some(own.with(|ledger| ledger.ip_standing(now))),
            Book::Shared(shared) => shared.ip_standing(now),
        }
    }

    fn holds(&self, now: Moment) -> Vec<(Scope, Duration)> {
        match self {
            Book::Own(own) => own.with(|ledger| ledger.holds(now).collect()),
            Book::Shared(shared) => shared.holds(now),
        }
    }

    /// Whoever is next for these products, as far as that is known here.
    fn heads(&self, products: impl IntoIterator<Item = Product>, mut ring: impl FnMut(Ticket)) {
        match self {
            Book::Own(own) => {
                let heads: Vec<Ticket> =
                    own.with(|l| products.into_iter().filter_map(|p| l.head(p)).collect());
                heads.into_iter().for_each(&mut ring);
            }
            // The store says at every heartbeat who is next.
            Book::Shared(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;

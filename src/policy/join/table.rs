//! The exchanges that run, and the outcomes that are remembered: who leads, who joins, who is told from
//! memory. It waits for nothing and knows no clock.

use super::{Asks, Key};
use crate::finch::endpoints::Effect;
use crate::types::{Moment, Priority};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The most outcomes remembered at once. Finch's limits let one application make a few hundred writes in the
/// default two minutes; this is far beyond, and bounds what a longer memory may hold.
pub(super) const OUTCOMES_MAX: usize = 10_000;

/// The most bytes of them together: a small part of what a gateway of its size takes.
pub(super) const OUTCOMES_BYTES_MAX: usize = 32 << 20;

/// What an outcome costs beside its body: its headers and the facts for the log.
pub(super) const OUTCOME_BYTES: usize = 1024;

/// What the table asks an exchange that runs.
pub trait Exchange: Clone {
    /// Whether its own client has left.
    fn has_left(&self) -> bool;
    /// Whether it has been admitted: it no longer waits for quota.
    fn is_admitted(&self) -> bool;
}

/// The rank of what its client gave up and no resend has taken yet.
const GIVEN_UP: (u8, u32) = (0, 0);

/// Names one exchange in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

/// What a call brings to the table.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// What it is found by.
    pub key: Key,
    /// What it is made of: another than the key's when the client named it.
    pub content: Key,
    /// What it asks for.
    pub asks: Asks,
    /// Whether it changes anything.
    pub effect: Effect,
    /// How urgent it is.
    pub priority: Priority,
    /// When its patience for quota ends.
    pub deadline: Moment,
}

/// What it gets.
#[derive(Debug)]
pub enum Entered<E, O> {
    /// It is an exchange of its own now; [`Table::end`] must follow.
    Leads(Id),
    /// It waits for this one. When it leaves before it is told, [`Table::release`] must follow.
    Joins(Id, E),
    /// It is told this.
    Remembered(O),
    /// Its name belongs to another call.
    NameReused,
}

/// The table. `E` is the handle of an exchange that runs, `O` an outcome.
#[derive(Debug)]
pub struct Table<E, O> {
    memory: Duration,
    exchanges: HashMap<Id, Held<E, O>>,
    /// Oldest first.
    by_key: HashMap<Key, Vec<Id>>,
    /// Writes that were not sent and whose clients were invited to come back, while others of the same key are known.
    invited: HashMap<Key, Invited>,
    /// Those that have ended, in the order in which they did.
    ended: BTreeMap<u64, Id>,
    bytes: usize,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Invited {
    count: u32,
    last: Moment,
}

#[derive(Debug)]
struct Held<E, O> {
    wish: Wish,
    /// How many resends have taken it.
    claims: u32,
    state: State<E, O>,
}

#[derive(Debug)]
enum State<E, O> {
    Running(E),
    Ended { outcome: O, had_left: bool, bytes: usize, at: Moment, place: u64 },
}

impl<E: Exchange, O: Clone> Held<E, O> {
    /// How well it fits a resend: the smallest fits best.
    ///
    /// Of several identical intended writes, each resend should find the one that its client gave up, and
    /// two resends should not find the same. What nobody gave up is taken all the same when there is
    /// nothing better: that a client left is told late, or never on a connection that is half open, and an
    /// answer can be lost on its way. To share the outcome of an identical write is better than to write
    /// twice.
    fn rank(&self) -> (u8, u32) {
        let is_given_up = match &self.state {
            State::Running(exchange) => exchange.has_left(),
            State::Ended { had_left, .. } => *had_left,
        };
        let rank = match &self.state {
            _ if self.claims > 0 => 3,
            _ if is_given_up => 0,
            State::Running(_) => 1,
            State::Ended { .. } => 2,
        };
        (rank, self.claims)
    }

    /// Whether a read may wait for this one: not behind one that may wait longer for quota than it, nor
    /// behind one that is less urgent, nor behind one that is about to be abandoned.
    fn may_be_awaited(&self, wish: &Wish) -> bool {
        match &self.state {
            State::Running(exchange) => {
                exchange.is_admitted()
                    || (!exchange.has_left()
                        && self.wish.priority <= wish.priority
                        && self.wish.deadline <= wish.deadline)
            }
            State::Ended { .. } => true,
        }
    }
}

impl<E: Exchange, O: Clone> Table<E, O> {
    /// An empty table that remembers an outcome for this long; zero for not at all.
    pub fn new(memory: Duration) -> Self {
        Self {
            memory,
            exchanges: HashMap::new(),
            by_key: HashMap::new(),
            invited: HashMap::new(),
            ended: BTreeMap::new(),
            bytes: 0,
            next: 0,
        }
    }

    /// Finds a call what it asks for, or lets it lead.
    pub fn enter(&mut self, wish: Wish, now: Moment, exchange: impl FnOnce() -> E) -> Entered<E, O> {
        self.sweep(now);
        let found = self.find(&wish, now);
        let Some((id, held)) = found.and_then(|id| Some((id, self.exchanges.get_mut(&id)?))) else {
            return Entered::Leads(self.begin(wish, exchange()));
        };
        if held.wish.content != wish.content {
            return Entered::NameReused;
        }
        if wish.asks == Asks::Outcome {
            held.claims = held.claims.saturating_add(1);
        }
        match &held.state {
            State::Running(exchange) => Entered::Joins(id, exchange.clone()),
            State::Ended { outcome, .. } => {
                let (outcome, effect) = (outcome.clone(), held.wish.effect);
                // What was read is payroll data: delivered once, it goes.
                if effect == Effect::Reads {
                    self.forget(id);
                }
                Entered::Remembered(outcome)
            }
        }
    }

    fn find(&mut self, wish: &Wish, now: Moment) -> Option<Id> {
        let (rank, id) = self.best(wish)?;
        // Nobody gave this one up, and an identical write was refused unsent: that is what comes again.
        if wish.asks == Asks::Outcome && rank != GIVEN_UP && self.takes_invitation(&wish.key, now) {
            return None;
        }
        Some(id)
    }

    fn takes_invitation(&mut self, key: &Key, now: Moment) -> bool {
        let Some(invited) = self.invited.get_mut(key) else { return false };
        let is_valid = invited.count > 0 && now.since(invited.last) < self.memory;
        invited.count = invited.count.saturating_sub(1);
        if invited.count == 0 || !is_valid {
            self.invited.remove(key);
        }
        is_valid
    }

    /// The exchange that fits a call best, and how well.
    fn best(&self, wish: &Wish) -> Option<((u8, u32), Id)> {
        let ids = self.by_key.get(&wish.key)?.iter();
        let mut candidates = ids.filter_map(|id| self.exchanges.get(id).map(|held| (*id, held)));
        let may_await = |held: &Held<E, O>| wish.effect == Effect::Writes || held.may_be_awaited(wish);
        match wish.asks {
            Asks::Nothing => None,
            Asks::Share => candidates
                .find(|(_, held)| matches!(held.state, State::Running(_)) && held.may_be_awaited(wish))
                .map(|(id, held)| (held.rank(), id)),
            Asks::Outcome => {
                let fitting = candidates.filter(|(_, held)| may_await(held));
                fitting.map(|(id, held)| (held.rank(), id)).min()
            }
            // One name, one exchange.
            Asks::Named => candidates.next().map(|(id, held)| (held.rank(), id)),
        }
    }

    fn begin(&mut self, wish: Wish, exchange: E) -> Id {
        let id = Id(self.count());
        self.exchanges.insert(id, Held { wish, claims: 0, state: State::Running(exchange) });
        self.by_key.entry(wish.key).or_default().push(id);
        id
    }

    /// Never the same number twice.
    fn count(&mut self) -> u64 {
        self.next = self.next.saturating_add(1);
        self.next
    }

    /// A resend has left before it was told: another one may take its place.
    pub fn release(&mut self, id: Id) {
        if let Some(held) = self.exchanges.get_mut(&id) {
            held.claims = held.claims.saturating_sub(1);
        }
    }

    /// An exchange has ended, and its client was invited to send the call again: nothing was carried out.
    pub fn end_invited(&mut self, id: Id, now: Moment) {
        let wish = self.exchanges.get(&id).map(|held| held.wish);
        self.end(id, None, now);
        // Where no other one is known, a resend leads anyway.
        if let Some(wish) = wish.filter(|wish| wish.effect == Effect::Writes && wish.asks != Asks::Named)
            && self.by_key.contains_key(&wish.key)
        {
            let invited = self.invited.entry(wish.key).or_insert(Invited { count: 0, last: now });
            *invited = Invited { count: invited.count.saturating_add(1), last: now };
        }
    }

    /// An exchange has ended. `kept` is what to remember of it, with the size of its body.
    pub fn end(&mut self, id: Id, kept: Option<(O, usize)>, now: Moment) {
        self.sweep(now);
        let place = self.count();
        let Some(held) = self.exchanges.get_mut(&id) else { return };
        let State::Running(exchange) = &held.state else { return };
        // A resend that waits for a read is told directly.
        let is_delivered = held.wish.effect == Effect::Reads && held.claims > 0;
        let kept = kept.filter(|_| !is_delivered && !self.memory.is_zero());
        let Some((outcome, bytes)) = kept else { return self.forget(id) };
        let bytes = bytes.saturating_add(OUTCOME_BYTES);
        let had_left = exchange.has_left();
        held.state = State::Ended { outcome, had_left, bytes, at: now, place };
        self.ended.insert(place, id);
        self.bytes = self.bytes.saturating_add(bytes);
        while self.ended.len() > OUTCOMES_MAX || self.bytes > OUTCOMES_BYTES_MAX {
            let Some((_, oldest)) = self.ended.first_key_value() else { break };
            self.forget(*oldest);
        }
    }

    /// Forgets what was remembered long enough.
    pub fn sweep(&mut self, now: Moment) {
        while let Some((_, oldest)) = self.ended.first_key_value() {
            let oldest = *oldest;
            match self.exchanges.get(&oldest).map(|held| &held.state) {
                Some(State::Ended { at, .. }) if now.since(*at) < self.memory => return,
                _ => self.forget(oldest),
            }
        }
    }

    fn forget(&mut self, id: Id) {
        let Some(held) = self.exchanges.remove(&id) else { return };
        if let State::Ended { bytes, place, .. } = held.state {
            self.ended.remove(&place);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        if let Some(ids) = self.by_key.get_mut(&held.wish.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&held.wish.key);
                self.invited.remove(&held.wish.key);
            }
        }
    }

    /// How many outcomes are remembered, and their bytes.
    pub fn remembered(&self) -> (usize, usize) {
        (self.ended.len(), self.bytes)
    }

    /// How many exchanges run.
    pub fn running(&self) -> usize {
        self.exchanges.len().saturating_sub(self.ended.len())
    }
}

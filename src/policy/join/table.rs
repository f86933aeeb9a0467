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
    /// Those that have ended, in the order in which they did.
    ended: BTreeMap<u64, Id>,
    bytes: usize,
    next: u64,
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
    Ended {
        outcome: O,
        had_left: bool,
        bytes: usize,
        at: Moment,
        place: u64,
    },
    /// A write that was not carried out, and whose client comes back: its resend is a write of its own.
    Invited {
        at: Moment,
        place: u64,
    },
}

/// What is kept of an exchange that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept<O> {
    /// Nothing.
    Nothing,
    /// How it ended, and the size of its body.
    Outcome(O, usize),
    /// That it was not carried out, so that its resend does not take the outcome of an identical write.
    Invitation,
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
            State::Invited { .. } => false,
        };
        let rank = match &self.state {
            _ if self.claims > 0 => 4,
            _ if is_given_up => 0,
            State::Invited { .. } => 1,
            State::Running(_) => 2,
            State::Ended { .. } => 3,
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
            State::Ended { .. } | State::Invited { .. } => true,
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
            ended: BTreeMap::new(),
            bytes: 0,
            next: 0,
        }
    }

    /// Remembers for this long from now on, also what is remembered already.
    pub fn set_memory(&mut self, memory: Duration, now: Moment) {
        self.memory = memory;
        self.sweep(now);
    }

    /// Finds a call what it asks for, or lets it lead.
    pub fn enter(&mut self, wish: Wish, now: Moment, exchange: impl FnOnce() -> E) -> Entered<E, O> {
        self.sweep(now);
        let found = self.find(&wish);
        let Some((id, held)) = found.and_then(|id| Some((id, self.exchanges.get_mut(&id)?))) else {
            // Whoever was invited may come back unmarked: then the invitation is taken.
            if wish.effect == Effect::Writes
                && let Some(invited) = self.invited(&wish)
            {
                self.forget(invited);
            }
            return Entered::Leads(self.begin(wish, exchange()));
        };
        if held.wish.content != wish.content {
            return Entered::NameReused;
        }
        if wish.asks == Asks::Outcome {
            held.claims = held.claims.saturating_add(1);
        }
        match &held.state {
            State::Invited { .. } => {
                self.forget(id);
                Entered::Leads(self.begin(wish, exchange()))
            }
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

    fn find(&self, wish: &Wish) -> Option<Id> {
        let ids = self.by_key.get(&wish.key)?.iter();
        let mut candidates = ids.filter_map(|id| self.exchanges.get(id).map(|held| (*id, held)));
        let may_await = |held: &Held<E, O>| wish.effect == Effect::Writes || held.may_be_awaited(wish);
        match wish.asks {
            Asks::Nothing => None,
            Asks::Share => candidates
                .find(|(_, held)| matches!(held.state, State::Running(_)) && held.may_be_awaited(wish))
                .map(|(id, _)| id),
            Asks::Outcome => {
                let fitting = candidates.filter(|(_, held)| may_await(held));
                fitting.min_by_key(|(_, held)| held.rank()).map(|(id, _)| id)
            }
            // One name, one exchange; an invitation among them is the way to it.
            Asks::Named => candidates
                .min_by_key(|(_, held)| matches!(held.state, State::Invited { .. }))
                .map(|(id, _)| id),
        }
    }

    fn invited(&self, wish: &Wish) -> Option<Id> {
        let mut ids = self.by_key.get(&wish.key)?.iter();
        let is_invited =
            |id: &&Id| self.exchanges.get(id).is_some_and(|held| matches!(held.state, State::Invited { .. }));
        ids.find(is_invited).copied()
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

    /// An exchange has ended.
    pub fn end(&mut self, id: Id, kept: Kept<O>, now: Moment) {
        self.sweep(now);
        let place = self.count();
        let Some(held) = self.exchanges.get_mut(&id) else { return };
        let State::Running(exchange) = &held.state else { return };
        // A resend that waits for a read is told directly.
        let is_delivered = held.wish.effect == Effect::Reads && held.claims > 0;
        if is_delivered || self.memory.is_zero() {
            return self.forget(id);
        }
        match kept {
            Kept::Nothing => return self.forget(id),
            Kept::Outcome(outcome, bytes) => {
                let bytes = bytes.saturating_add(OUTCOME_BYTES);
                let had_left = exchange.has_left();
                held.state = State::Ended { outcome, had_left, bytes, at: now, place };
                self.bytes = self.bytes.saturating_add(bytes);
            }
            // Those who joined it go on by themselves: the first of them may be the resend already.
            Kept::Invitation if held.claims > 0 => return self.forget(id),
            Kept::Invitation => held.state = State::Invited { at: now, place },
        }
        self.ended.insert(place, id);
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
                Some(State::Ended { at, .. } | State::Invited { at, .. }) if now.since(*at) < self.memory => {
                    return;
                }
                _ => self.forget(oldest),
            }
        }
    }

    fn forget(&mut self, id: Id) {
        let Some(held) = self.exchanges.remove(&id) else { return };
        match held.state {
            State::Running(_) => {}
            State::Ended { bytes, place, .. } => {
                self.ended.remove(&place);
                self.bytes = self.bytes.saturating_sub(bytes);
            }
            State::Invited { place, .. } => drop(self.ended.remove(&place)),
        }
        if let Some(ids) = self.by_key.get_mut(&held.wish.key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_key.remove(&held.wish.key);
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

//! Who waits together. Calls that may share a request gather under one key; those of them that are nearest to being sent
//! stand in line for quota, the others follow, and whoever is admitted first takes all along.
//!
//! So nobody waits longer than alone: a call follows only one that is at least as urgent and whose patience ends no later,
//! and when that one goes, the next takes its place in line. It waits for nothing and knows no clock.

use super::{Asks, BYTES_MAX, COPIES_MAX, Key, MEMBERS_MAX, WAITING_MAX};
use crate::types::{Moment, Priority};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How near a call is to being sent, or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Near {
    /// How urgent it is.
    pub priority: Priority,
    /// When its patience ends.
    pub deadline: Moment,
}

impl Near {
    /// Whether a call so near may wait for this one to be sent.
    fn leads(self, other: Near) -> bool {
        self.priority <= other.priority && self.deadline <= other.deadline
    }
}

/// Names one call in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    gathering: u64,
    member: u64,
}

#[cfg(test)]
impl Id {
    /// Which gathering it sits in.
    pub(super) const fn gathering_of(self) -> u64 {
        self.gathering
    }
}

/// A call in a gathering.
#[derive(Debug)]
pub struct Member<H> {
    /// How near it is.
    pub near: Near,
    /// Whether it stands in line for quota itself.
    pub is_in_line: bool,
    /// What it asks for.
    pub asks: Asks,
    /// How to reach it.
    pub handle: H,
}

/// What a call is told at the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entered {
    /// Its name here.
    pub id: Id,
    /// Whether it stands in line for quota itself.
    pub is_in_line: bool,
}

/// All gatherings. `H` is the handle of a call.
#[derive(Debug)]
pub struct Table<H> {
    open: HashMap<Key, Vec<u64>>,
    gatherings: HashMap<u64, Gathering<H>>,
    waiting: usize,
    next: u64,
}

#[derive(Debug)]
struct Gathering<H> {
    /// Under which it takes more calls; `None` for a part of one that failed.
    key: Option<Key>,
    members: BTreeMap<u64, Member<H>>,
    /// The bytes asked with each id, and by how many.
    entries: HashMap<Arc<str>, (Box<RawValue>, usize)>,
    /// How many ids are asked for, each as often as it is.
    asked: usize,
    bytes: usize,
}

impl<H> Default for Table<H> {
    fn default() -> Self {
        Self { open: HashMap::new(), gatherings: HashMap::new(), waiting: 0, next: 0 }
    }
}

impl<H> Table<H> {
    /// A call that cannot be sent at once joins a gathering, or opens one. `None` when too many wait already.
    pub fn enter(&mut self, key: Key, near: Near, asks: Asks, handle: H) -> Option<Entered> {
        if self.waiting >= WAITING_MAX {
            return None;
        }
        let open = self.open.get(&key).map(Vec::as_slice).unwrap_or_default();
        let with_room =
            open.iter().copied().find(|id| self.gatherings.get(id).is_some_and(|g| g.has_room(&asks)));
        let gathering = with_room.unwrap_or_else(|| {
            let id = self.fresh();
            self.gatherings.insert(id, Gathering::new(Some(key)));
            self.open.entry(key).or_default().push(id);
            id
        });
        let member = self.fresh();
        let gathered = self.gatherings.get_mut(&gathering)?;
        let is_in_line = !gathered.leads(near);
        gathered.add(member, Member { near, is_in_line, asks, handle });
        self.waiting += 1;
        Some(Entered { id: Id { gathering, member }, is_in_line })
    }

    /// A call goes, whatever became of it. Gives it back, unless it was taken, and tells each who must now stand in line.
    pub fn leave(&mut self, id: Id, mut rise: impl FnMut(&H)) -> Option<Member<H>> {
        let gathering = self.gatherings.get_mut(&id.gathering)?;
        let gone = gathering.remove(id.member)?;
        self.waiting = self.waiting.saturating_sub(1);
        if gathering.members.is_empty() {
            self.close(id.gathering);
        } else if gone.is_in_line {
            gathering.line_up(&mut rise);
        }
        Some(gone)
    }

    /// This call was admitted: everyone in its gathering goes with it. Empty when it was taken by another one before.
    pub fn take(&mut self, id: Id) -> Vec<Member<H>> {
        let is_there = self.gatherings.get(&id.gathering).is_some_and(|g| g.members.contains_key(&id.member));
        let Some(gathering) = is_there.then(|| self.close(id.gathering)).flatten() else { return Vec::new() };
        self.waiting = self.waiting.saturating_sub(gathering.members.len());
        gathering.members.into_values().collect()
    }

    /// Those whose request failed wait again, by themselves: nobody joins them. Each is told its new place.
    pub fn again(&mut self, members: Vec<Member<H>>, mut place: impl FnMut(&Member<H>, Entered)) {
        let id = self.fresh();
        let mut gathering = Gathering::new(None);
        for mut member in members {
            member.is_in_line = false;
            self.waiting += 1;
            let at = self.fresh();
            gathering.add(at, member);
        }
        gathering.line_up(&mut |_| {});
        for (member, at) in &gathering.members {
            place(at, Entered { id: Id { gathering: id, member: *member }, is_in_line: at.is_in_line });
        }
        if !gathering.members.is_empty() {
            self.gatherings.insert(id, gathering);
        }
    }

    /// How many calls wait here.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether nothing is left of those who waited.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.gatherings.is_empty()
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn close(&mut self, id: u64) -> Option<Gathering<H>> {
        let gathering = self.gatherings.remove(&id)?;
        if let Some(key) = gathering.key
            && let Some(open) = self.open.get_mut(&key)
        {
            open.retain(|other| *other != id);
            if open.is_empty() {
                self.open.remove(&key);
            }
        }
        Some(gathering)
    }
}

impl<H> Gathering<H> {
    fn new(key: Option<Key>) -> Self {
        Self { key, members: BTreeMap::new(), entries: HashMap::new(), asked: 0, bytes: 0 }
    }

    /// Whether a call may come in: there is room, and an id that stands here already is asked for in the same words, or its
    /// items could not be told apart.
    fn has_room(&self, asks: &Asks) -> bool {
        let (mut ids, mut bytes) = (self.entries.len(), self.bytes);
        for (id, raw) in asks.entries.iter() {
            match self.entries.get(id.as_str()) {
                Some((known, _)) if known.get() != raw.get() => return false,
                Some(_) => {}
                None => (ids, bytes) = (ids + 1, bytes + raw.get().len()),
            }
        }
        // Whoever asks for what others ask for too gets a copy of it.
        let asked = self.asked.saturating_add(asks.entries.len());
        self.members.len() < MEMBERS_MAX
            && ids <= asks.ids_max
            && asked <= asks.ids_max.saturating_add(COPIES_MAX)
            && bytes <= BYTES_MAX
    }

    /// Whether somebody in line is at least so near.
    fn leads(&self, near: Near) -> bool {
        self.members.values().any(|member| member.is_in_line && member.near.leads(near))
    }

    fn add(&mut self, id: u64, member: Member<H>) {
        self.asked += member.asks.entries.len();
        for (name, raw) in member.asks.entries.iter() {
            match self.entries.get_mut(name.as_str()) {
                Some((_, count)) => *count += 1,
                None => {
                    self.bytes += raw.get().len();
                    self.entries.insert(name.as_str().into(), (raw.clone(), 1));
                }
            }
        }
        self.members.insert(id, member);
    }

    fn remove(&mut self, id: u64) -> Option<Member<H>> {
        let member = self.members.remove(&id)?;
        self.asked = self.asked.saturating_sub(member.asks.entries.len());
        for (name, raw) in member.asks.entries.iter() {
            let Some((_, count)) = self.entries.get_mut(name.as_str()) else { continue };
            *count -= 1;
            if *count == 0 {
                self.bytes = self.bytes.saturating_sub(raw.get().len());
                self.entries.remove(name.as_str());
            }
        }
        Some(member)
    }

    /// Puts into line whoever follows nobody, nearest first, so that few do.
    fn line_up(&mut self, rise: &mut impl FnMut(&H)) {
        let mut order: Vec<(Priority, Moment, u64)> =
            self.members.iter().map(|(id, m)| (m.near.priority, m.near.deadline, *id)).collect();
        order.sort_unstable();
        // Of those in line so far, the earliest end of patience: priorities come in order, so all of them are urgent enough.
        let mut earliest: Option<Moment> = None;
        for (_, deadline, id) in order {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if !member.is_in_line && earliest.is_none_or(|earliest| earliest > deadline) {
                member.is_in_line = true;
                rise(&member.handle);
            }
            if member.is_in_line {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
        }
    }
}

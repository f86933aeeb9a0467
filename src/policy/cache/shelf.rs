//! The answers that are kept: by their names, within a bound of bytes, until their time is over or their connection has
//! changed. It waits for nothing and knows no clock.

use super::Name;
use crate::types::{ConnectionId, Moment, UnixMillis};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The most connections whose last change is remembered by name; beyond them everything counts as changed.
pub(super) const CHANGES_MAX: usize = 10_000;

/// The largest part of the bound that one answer may take, as a divisor: one answer must not push all others out.
const SHARE_OF_ONE: usize = 8;

/// The place of a call among the changes: what it is told may be kept if its connection has not changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Began(u64);

/// Something to keep.
#[derive(Debug)]
pub struct New<V> {
    /// The call's name.
    pub name: Name,
    /// Whose data it is.
    pub connection: ConnectionId,
    /// What is kept.
    pub value: V,
    /// What it costs, in bytes.
    pub bytes: usize,
    /// When its time is over.
    pub until: Moment,
    /// When Finch got the data, where it says so.
    pub retrieved: Option<UnixMillis>,
}

#[derive(Debug)]
struct Entry<V> {
    new: New<V>,
    place: u64,
}

/// The shelf. `V` is what is kept; dropping it forgets it.
#[derive(Debug)]
pub struct Shelf<V> {
    bytes_max: usize,
    entries: HashMap<Name, Entry<V>>,
    /// Least lately used first.
    order: BTreeMap<u64, Name>,
    ends: BTreeSet<(Moment, Name)>,
    of_connection: HashMap<ConnectionId, HashSet<Name>>,
    bytes: usize,
    /// One further for each use and each change.
    turn: u64,
    changes: HashMap<ConnectionId, u64>,
    /// Everything has changed since whatever began before this.
    floor: u64,
}

impl<V: Clone> Shelf<V> {
    /// An empty shelf for so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            ends: BTreeSet::new(),
            of_connection: HashMap::new(),
            bytes: 0,
            turn: 0,
            changes: HashMap::new(),
            floor: 0,
        }
    }

    /// Before anything is asked: what comes of it can be kept with this.
    pub fn begin(&self) -> Began {
        Began(self.turn)
    }

    /// The place of a connection's last change.
    pub fn turn(&self, connection: &ConnectionId) -> u64 {
        self.changes.get(connection).copied().unwrap_or_default().max(self.floor)
    }

    /// Finds what is kept under a name.
    pub fn find(&mut self, name: &Name, now: Moment) -> Option<V> {
        self.sweep(now);
        self.turn += 1;
        let entry = self.entries.get_mut(name)?;
        self.order.remove(&entry.place);
        entry.place = self.turn;
        self.order.insert(entry.place, *name);
        Some(entry.new.value.clone())
    }

    /// Keeps something that was asked for at `began`. `false`: its connection has changed since, its time is over, it is
    /// too large, or what is kept already has newer data, for data must not go back in time.
    pub fn put(&mut self, new: New<V>, began: Began, now: Moment) -> bool {
        self.sweep(now);
        let changed = self.turn(&new.connection);
        let is_older = self
            .entries
            .get(&new.name)
            .is_some_and(|kept| kept.new.retrieved.zip(new.retrieved).is_some_and(|(kept, new)| new < kept));
        if changed > began.0 || new.until <= now || is_older || new.bytes > self.bytes_max / SHARE_OF_ONE {
            return false;
        }
        self.drop_one(new.name);
        while self.bytes + new.bytes > self.bytes_max {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            self.drop_one(*oldest);
        }
        self.turn += 1;
        self.bytes += new.bytes;
        self.order.insert(self.turn, new.name);
        self.ends.insert((new.until, new.name));
        self.of_connection.entry(new.connection.clone()).or_default().insert(new.name);
        self.entries.insert(new.name, Entry { new, place: self.turn });
        true
    }

    /// A connection's data has changed, or may have: what is kept of it goes, and what was asked for until now is not
    /// kept when it comes.
    pub fn forget(&mut self, connection: &ConnectionId) {
        self.turn += 1;
        for name in self.of_connection.get(connection).cloned().unwrap_or_default() {
            self.drop_one(name);
        }
        if self.changes.len() >= CHANGES_MAX && !self.changes.contains_key(connection) {
            // Rather everything than one too few.
            self.changes.clear();
            self.floor = self.turn;
            let all: Vec<Name> = self.entries.keys().copied().collect();
            all.into_iter().for_each(|name| self.drop_one(name));
        }
        self.changes.insert(connection.clone(), self.turn);
    }

    /// Whose answers are kept.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.of_connection.keys().cloned().collect()
    }

    /// Takes one thing off.
    pub fn remove(&mut self, name: &Name) {
        self.drop_one(*name);
    }

    /// Forgets everything whose time is over.
    pub fn sweep(&mut self, now: Moment) {
        while let Some((until, name)) = self.ends.first().copied() {
            if until > now {
                break;
            }
            self.drop_one(name);
        }
    }

    /// What all of it costs.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How much is kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn drop_one(&mut self, name: Name) {
        let Some(Entry { new, place }) = self.entries.remove(&name) else { return };
        self.order.remove(&place);
        self.ends.remove(&(new.until, name));
        self.bytes -= new.bytes;
        if let Some(names) = self.of_connection.get_mut(&new.connection) {
            names.remove(&name);
            if names.is_empty() {
                self.of_connection.remove(&new.connection);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Asked;
    use super::*;
    use crate::policy::batch::Repair;
    use http::HeaderMap;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn connection(n: usize) -> ConnectionId {
        ConnectionId::new(format!("c{n}")).expect("an id")
    }

    fn name(n: usize) -> Name {
        let (connection, path) = (connection(0), n.to_string());
        let to_finch = &HeaderMap::new();
        let (connection, path, repair) = (&connection, path.as_str(), Repair::Off);
        Asked { connection, method: "GET", path, query: None, to_finch, repair, body: b"" }.name()
    }

    fn new(n: usize, of: usize, bytes: usize, until: u64) -> New<usize> {
        New { name: name(n), connection: connection(of), value: n, bytes, until: at(until), retrieved: None }
    }

    fn put(shelf: &mut Shelf<usize>, new: New<usize>, now: u64) -> bool {
        let began = shelf.begin();
        shelf.put(new, began, at(now))
    }

    #[test]
    fn an_answer_is_served_until_its_time_is_over() {
        let mut shelf = Shelf::new(800);
        assert!(put(&mut shelf, new(1, 1, 100, 10), 0));
        assert_eq!(shelf.find(&name(1), at(9)), Some(1));
        assert_eq!(shelf.find(&name(2), at(9)), None);
        assert_eq!((shelf.find(&name(1), at(10)), shelf.bytes(), shelf.len()), (None, 0, 0));
        assert!(!put(&mut shelf, new(1, 1, 100, 10), 10), "its time is over already");
    }

    #[test]
    fn what_was_asked_for_before_a_change_is_not_kept_after_it() {
        let mut shelf = Shelf::new(800);
        assert!(put(&mut shelf, new(1, 1, 1, 10), 0) && put(&mut shelf, new(2, 2, 1, 10), 0));
        let before = shelf.begin();
        shelf.forget(&connection(1));
        assert_eq!((shelf.find(&name(1), at(0)), shelf.find(&name(2), at(0))), (None, Some(2)));
        assert!(!shelf.put(new(1, 1, 1, 10), before, at(0)), "it may be older than the change");
        assert!(shelf.put(new(3, 2, 1, 10), before, at(0)), "another connection has not changed");
        assert!(put(&mut shelf, new(1, 1, 1, 10), 0), "asked for after the change");
    }

    #[test]
    fn more_changes_than_can_be_remembered_change_everything() {
        let mut shelf = Shelf::new(800);
        let before = shelf.begin();
        for n in 0..=CHANGES_MAX {
            shelf.forget(&connection(n));
        }
        assert!(shelf.changes.len() <= CHANGES_MAX);
        assert!(!shelf.put(new(1, 3, 1, 10), before, at(0)));
        assert!(!shelf.put(new(1, CHANGES_MAX + 7, 1, 10), before, at(0)));
        assert!(put(&mut shelf, new(1, 3, 1, 10), 0));
    }

    #[test]
    fn the_least_lately_used_makes_room_and_nothing_takes_more_than_its_share() {
        let mut shelf = Shelf::new(800);
        for n in 0..8 {
            assert!(put(&mut shelf, new(n, n, 100, 10), 0));
        }
        assert_eq!(shelf.find(&name(0), at(0)), Some(0));
        assert!(put(&mut shelf, new(8, 8, 100, 10), 0));
        assert_eq!((shelf.find(&name(0), at(0)), shelf.find(&name(1), at(0))), (Some(0), None));
        assert!(!put(&mut shelf, new(9, 9, 101, 10), 0));
        assert_eq!(shelf.bytes(), 800);
    }

    #[test]
    fn data_does_not_go_back_in_time() {
        let mut shelf = Shelf::new(800);
        let of =
            |value, millis: Option<i64>| New { value, retrieved: millis.map(UnixMillis), ..new(1, 1, 1, 10) };
        for (value, retrieved, found) in
            [(1, Some(5), 1), (2, Some(4), 1), (3, Some(5), 3), (4, None, 4), (5, Some(1), 5)]
        {
            put(&mut shelf, of(value, retrieved), 0);
            assert_eq!(shelf.find(&name(1), at(0)), Some(found));
        }
    }

    proptest! {
        #[test]
        fn its_bound_holds_and_its_tables_agree_whatever_happens(
            steps in prop::collection::vec((0..5_u8, 0..20_usize, 0..5_usize, 0..150_usize), 1..200)
        ) {
            let mut shelf = Shelf::new(800);
            for (now, (what, n, of, bytes)) in steps.into_iter().enumerate() {
                let now = now as u64;
                match what {
                    0 | 1 => drop(put(&mut shelf, new(n, of, bytes, now + bytes as u64 % 7), now)),
                    2 => drop(shelf.find(&name(n), at(now))),
                    3 => shelf.forget(&connection(of)),
                    _ => shelf.sweep(at(now)),
                }
                prop_assert!(shelf.bytes() <= 800);
                prop_assert_eq!(shelf.bytes(), shelf.entries.values().map(|e| e.new.bytes).sum::<usize>());
                let count = shelf.entries.len();
                prop_assert_eq!((shelf.order.len(), shelf.ends.len()), (count, count));
                prop_assert_eq!(shelf.of_connection.values().map(HashSet::len).sum::<usize>(), count);
            }
        }
    }
}

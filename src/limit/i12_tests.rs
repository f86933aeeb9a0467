//! I12: what replicas may spend by themselves and what the store may grant is never more than the
//! limit together, whatever is lost, late, cut off, restarted or forgotten.
//!
//! The world here drives the real `Members` and the real `Replica`s through every schedule of a few
//! faults, and through long random ones. Spending is not simulated but bounded: at every instant the
//! store may fill all that is not away, and a replica may spend its whole lease at any instant at
//! which it shares. The oracle compares every such instant with every other within the time that a
//! permit can be busy. What a replica has spent counts no more against a grant that came after the
//! store had heard of it: the store's own buckets hold it then.

use super::*;
use crate::limit::{OnOutage, PerProduct, Replica};
use std::collections::VecDeque;
use std::num::NonZeroU32;

const PRODUCT: Product = Product::Directory;
const LIMIT: u32 = 4;
/// A heartbeat, in microseconds. A beat arrives a fifth of it later, its answer after two fifths.
const TICK: u64 = 1000;

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn rules() -> Rules {
    let limits = PerProduct::from_fn(|product| match product {
        PRODUCT => NonZeroU32::new(LIMIT),
        _ => None,
    });
    let mut rules = Rules::with_limits(limits);
    rules.ip.requests = NonZeroU32::MIN.saturating_add(31);
    rules.ip.window = micros(4 * TICK);
    rules.window = micros(2 * TICK);
    rules.pad = micros(0);
    rules.grace = micros(TICK / 2);
    rules.arrival_bound = Some(micros(TICK / 2));
    rules.heartbeat = micros(TICK);
    rules.silence = micros(2 * TICK);
    rules.call_timeout = micros(TICK / 2);
    rules.lease_life = micros(3 * TICK);
    rules
}

/// What becomes of a member's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Whole,
    BeatsLost,
    AnswersLost,
    /// The latest beat is kept somewhere on the way, those before it are lost.
    BeatsHeld,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Set(usize, Link),
    SetAll(Link),
    /// A beat that was held arrives at last.
    Release(usize),
    /// The replica dies and begins anew under its name.
    Restart(usize),
    /// It asks for much from now on.
    Want(usize),
    /// The store is another run and has forgotten all, or nothing.
    LoseStore,
    FailOver,
}

#[derive(Debug, Clone)]
struct Node {
    replica: Replica,
    run: u64,
    link: Link,
    held: Option<(Moment, Beat)>,
    /// When it could spend how much, by which run of it.
    spends: VecDeque<(Moment, u64, u32)>,
    /// What was spent by that run of it before the first moment is known since the second to that run
    /// of the store.
    merges: VecDeque<(u64, Moment, Moment, u64)>,
}

/// Rules that are wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// What is taken from a member is free before it is known to have heard of it.
    OwnIsFreedAtOnce,
    /// A replica does not wait for the store to notice its silence.
    QuarantineWithoutSilence,
    /// A beat counts as contact although its answer may not have come.
    ContactWithoutAck,
    /// A store that forgot all does not ask who else there was.
    NothingIsUnclear,
}

#[derive(Debug, Clone)]
struct World {
    rules: Rules,
    wrong: Wrong,
    members: Members,
    store_run: u64,
    nodes: Vec<Node>,
    tick: u64,
    /// When the store could grant, in which run of it, and how much was away.
    grants: VecDeque<(Moment, u64, u32)>,
    /// Whether anybody who knew an earlier run has come to this one, and whether learning ended
    /// without: then the store takes itself for new, and promises nothing about what it never heard of.
    is_reached: bool,
    is_taken_for_new: bool,
    /// Whether anybody has come to this run at all.
    is_entered: bool,
    /// At how many instants a lease could be spent.
    shared: u64,
}

impl World {
    fn new(members: usize, wrong: Wrong) -> Self {
        let rules = rules();
        let mut world = Self {
            wrong,
            members: Members::new(),
            store_run: 1,
            nodes: Vec::new(),
            tick: 0,
            grants: VecDeque::new(),
            is_reached: true,
            is_taken_for_new: false,
            is_entered: false,
            shared: 0,
            rules,
        };
        for at in 0..members {
            let replica = world.replica(at, 1);
            let (spends, merges) = (VecDeque::new(), VecDeque::new());
            world.nodes.push(Node { replica, run: 1, link: Link::Whole, held: None, spends, merges });
        }
        world
    }

    /// Everybody has joined, and has its part of what can be leased.
    fn settled(members: usize, wrong: Wrong) -> Self {
        let mut world = Self::new(members, wrong);
        for _ in 0..8 {
            world.step(None).expect("nothing happens yet");
        }
        let leased: u32 = world.nodes.iter().map(|node| node.replica.lease().products[PRODUCT]).sum();
        assert_eq!(leased, LIMIT / 2, "all that can be is leased");
        world
    }

    fn replica(&self, at: usize, run: u64) -> Replica {
        let mut rules = self.rules.clone();
        if self.wrong == Wrong::QuarantineWithoutSilence {
            rules.silence = micros(0);
        }
        let incarnation = Incarnation(1000 * (at as u64 + 1) + run);
        Replica::new(rules, format!("member-{at}"), incarnation, OnOutage::Share, self.at(0))
    }

    fn at(&self, part: u64) -> Moment {
        Moment::at(micros(self.tick * TICK + part))
    }

    /// One heartbeat of everybody; what happens comes between the beats and the next ones.
    fn step(&mut self, event: Option<Event>) -> Result<(), String> {
        self.observe(self.at(0))?;
        let mut on_the_way = Vec::new();
        for at in 0..self.nodes.len() {
            let now = self.at(0);
            let node = &mut self.nodes[at];
            let beat = node.replica.beat(now);
            match node.link {
                Link::Whole | Link::AnswersLost => on_the_way.push((at, now, beat)),
                Link::BeatsLost => {}
                Link::BeatsHeld => node.held = Some((now, beat)),
            }
        }
        self.observe(self.at(50))?;
        let mut answers = Vec::new();
        for (at, sent, beat) in on_the_way {
            answers.push((at, beat.number, self.deliver(at, sent, &beat, self.at(200))));
            self.observe(self.at(200))?;
        }
        for (at, number, pulse) in answers {
            let now = self.at(400);
            if self.nodes[at].link == Link::Whole {
                self.nodes[at].replica.pulse(number, &pulse, now);
            }
        }
        self.observe(self.at(400))?;
        if let Some(event) = event {
            self.happen(event);
        }
        self.observe(self.at(800))?;
        self.tick += 1;
        Ok(())
    }

    fn deliver(&mut self, at: usize, sent: Moment, beat: &Beat, now: Moment) -> Pulse {
        self.enter(now);
        self.is_reached |= beat.peers > 0;
        if beat.replay.is_some() && self.members.knows(beat, now) {
            self.nodes[at].merges.push_back((beat.incarnation.0, sent, now, self.store_run));
        }
        let Some(told) = self.members.beat(beat, 0, &self.rules, now) else { return Pulse::unknown() };
        match self.wrong {
            Wrong::OwnIsFreedAtOnce => {
                self.members.all.get_mut(&beat.member).expect("it was known").own = told.lease;
                self.members.look(&self.rules, now);
            }
            Wrong::ContactWithoutAck => {
                let member = self.members.all.get_mut(&beat.member).expect("it was known");
                (member.has_contact, member.alive_until) = (true, now + self.rules.silence);
                self.members.look(&self.rules, now);
            }
            Wrong::Nothing | Wrong::QuarantineWithoutSilence | Wrong::NothingIsUnclear => {}
        }
        told.pulse(Vec::new())
    }

    /// What would change nothing is not worth a branch.
    fn is_possible(&self, event: Event) -> bool {
        match event {
            Event::Set(at, link) => self.nodes[at].link != link,
            Event::SetAll(link) => self.nodes.iter().any(|node| node.link != link),
            Event::Release(at) => self.nodes[at].held.is_some(),
            Event::Restart(_) | Event::Want(_) | Event::LoseStore | Event::FailOver => true,
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.at(600);
        match event {
            Event::Set(at, link) => self.nodes[at].link = link,
            Event::SetAll(link) => self.nodes.iter_mut().for_each(|node| node.link = link),
            Event::Release(at) => {
                let Some((sent, beat)) = self.nodes[at].held.take() else { return };
                let pulse = self.deliver(at, sent, &beat, now);
                let is_taken = self.nodes[at].replica.pulse(beat.number, &pulse, now);
                assert!(!is_taken, "an answer that comes too late is never taken");
            }
            Event::Restart(at) => {
                self.nodes[at].run += 1;
                self.nodes[at].replica = self.replica(at, self.nodes[at].run);
            }
            Event::Want(at) => {
                (0..100).for_each(|_| self.nodes[at].replica.wanted(PRODUCT, now));
            }
            Event::LoseStore => {
                self.store_run += 1;
                self.members = Members::new();
                (self.is_reached, self.is_taken_for_new, self.is_entered) = (false, false, false);
            }
            Event::FailOver => (self.store_run, self.is_entered) = (self.store_run + 1, false),
        }
    }

    /// Somebody comes to the store.
    fn enter(&mut self, now: Moment) {
        let is_new = self.members.enter(&self.store_run.to_string(), &self.rules, now);
        if self.wrong == Wrong::NothingIsUnclear && is_new {
            self.members.history.found(&self.rules.leasable());
        }
        self.is_entered = true;
    }

    /// The oracle.
    fn observe(&mut self, now: Moment) -> Result<(), String> {
        let asks = |node: &Node| node.link == Link::Whole && node.replica.must_ask_store(now);
        if self.is_entered || self.nodes.iter().any(asks) {
            self.enter(now);
        }
        let (busy, leasable) = (self.rules.settled(), self.rules.leasable());
        let away = self.members.away(&self.rules, now).products[PRODUCT];
        let is_learning = !self.is_entered || now < self.members.learning_until();
        self.is_taken_for_new |= !is_learning && !self.is_reached;
        if !is_learning && !self.is_taken_for_new {
            self.grants.push_back((now, self.store_run, away));
        }
        while self.grants.front().is_some_and(|&(at, ..)| at + busy <= now) {
            self.grants.pop_front();
        }
        let (mut believed, mut ip) = (0, 0);
        for node in &mut self.nodes {
            let lease = node.replica.lease();
            (believed, ip) = (believed + lease.products[PRODUCT], ip + lease.ip);
            if node.replica.mode(now) == crate::limit::Mode::Sharing {
                self.shared += 1;
                node.spends.push_back((now, node.run, lease.products[PRODUCT]));
            }
            while node.spends.front().is_some_and(|&(at, ..)| at + busy <= now) {
                node.spends.pop_front();
            }
            while node.merges.len() > 32 {
                node.merges.pop_front();
            }
        }
        if self.is_taken_for_new {
            return Ok(());
        }
        if believed > leasable.products[PRODUCT] || ip > leasable.ip {
            return Err(format!("{now:?}: {believed} and {ip} are believed to be leased"));
        }
        if self.nodes.iter().all(|node| node.spends.is_empty()) {
            return Ok(());
        }
        for &(granted, run, away) in &self.grants {
            let spent: u32 = self.nodes.iter().map(|node| node.spent(granted, run)).sum();
            if spent > away {
                return Err(format!(
                    "{now:?}: {spent} may be spent by lease, {away} were away at {granted:?} in run {run}"
                ));
            }
        }
        Ok(())
    }
}

impl Node {
    fn id(&self, run: u64) -> u64 {
        // The replica's number is the thousands of its incarnations.
        self.replica.incarnation().0 / 1000 * 1000 + run
    }

    /// The most it can have spent without the store's having known when it granted.
    fn spent(&self, granted: Moment, store_run: u64) -> u32 {
        let is_known = |at: Moment, run: u64| {
            self.merges.iter().any(|&(of, before, since, by)| {
                of == self.id(run) && at < before && since <= granted && by == store_run
            })
        };
        let mut most = 0;
        for &(at, run, lease) in &self.spends {
            if lease > most && !is_known(at, run) {
                most = lease;
            }
        }
        most
    }
}

fn events(members: usize) -> Vec<Event> {
    let links = [Link::Whole, Link::BeatsLost, Link::AnswersLost, Link::BeatsHeld];
    let mut events: Vec<Event> = [Link::Whole, Link::BeatsLost].map(Event::SetAll).to_vec();
    for at in 0..members {
        events.extend(links.map(|link| Event::Set(at, link)));
        events.extend([Event::Release(at), Event::Restart(at), Event::Want(at)]);
    }
    events.extend([Event::LoseStore, Event::FailOver]);
    events
}

/// The most ticks between two faults, and after the last: every lease ends and cools in this time.
const TAIL: u64 = 13;

/// Tries every schedule of at most `faults` events, at every tick that `stride` divides, and counts them.
fn explore(
    world: &World,
    faults: usize,
    stride: u64,
    path: &mut Vec<(u64, Event)>,
    seen: &mut u64,
) -> Result<(), String> {
    *seen += 1;
    let mut world = world.clone();
    for _ in 0..TAIL {
        if faults > 0 && world.tick.is_multiple_of(stride) {
            for event in events(world.nodes.len()).into_iter().filter(|&event| world.is_possible(event)) {
                let mut other = world.clone();
                path.push((world.tick, event));
                other.step(Some(event)).map_err(|what| format!("{what} after {path:?}"))?;
                explore(&other, faults - 1, stride, path, seen)?;
                path.pop();
            }
        }
        world.step(None).map_err(|what| format!("{what} after {path:?}"))?;
    }
    Ok(())
}

fn explore_all(wrong: Wrong, faults: usize, stride: u64) -> Result<u64, String> {
    let mut seen = 0;
    explore(&World::settled(2, wrong), faults, stride, &mut Vec::new(), &mut seen)?;
    Ok(seen)
}

/// xorshift64*: the same schedule for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let thrown = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(thrown).unwrap_or(0) % sides
    }
}

/// A long run of `members`, with an event every few ticks. Says at how many instants a lease could be
/// spent.
fn wander(wrong: Wrong, members: usize, seed: u64, ticks: u64) -> Result<u64, String> {
    let (mut dice, mut world) = (Dice(seed), World::settled(members, wrong));
    let events = events(members);
    let (mut path, mut shared) = (VecDeque::new(), 0);
    for _ in 0..ticks {
        let mut event = (dice.below(4) == 0).then(|| events[dice.below(events.len())]);
        // Most of the time things go well, or nobody would ever come back; and a store seldom dies.
        if matches!(event, Some(Event::LoseStore | Event::FailOver)) && dice.below(4) > 0 {
            event = None;
        }
        if dice.below(12) == 0 {
            event = Some(Event::SetAll(Link::Whole));
        }
        let event = event.filter(|&event| world.is_possible(event));
        path.extend(event.map(|event| (world.tick, event)));
        if path.len() > 24 {
            path.pop_front();
        }
        world.step(event).map_err(|what| format!("seed {seed}: {what} after {path:?}"))?;
        if world.is_taken_for_new {
            shared += world.shared;
            world = World::settled(members, wrong);
        }
    }
    Ok(shared + world.shared)
}

#[test]
fn i12_no_schedule_of_two_faults_lets_more_be_spent_than_the_limit() {
    let seen = explore_all(Wrong::Nothing, 2, 2).unwrap();
    assert!(seen > 5_000, "{seen} schedules");
}

#[test]
fn i12_no_schedule_of_three_faults_lets_more_be_spent_than_the_limit() {
    let seen = explore_all(Wrong::Nothing, 3, 4).unwrap();
    assert!(seen > 10_000, "{seen} schedules");
}

#[test]
fn i12_no_long_random_run_lets_more_be_spent_than_the_limit() {
    for (members, seed) in [(3, 1), (4, 2), (5, 3), (3, 4)] {
        let shared = wander(Wrong::Nothing, members, seed, 25_000).unwrap();
        assert!(shared > 5_000, "{shared} instants");
    }
}

#[test]
fn i12_the_oracle_catches_rules_that_are_wrong() {
    for wrong in [
        Wrong::OwnIsFreedAtOnce,
        Wrong::QuarantineWithoutSilence,
        Wrong::ContactWithoutAck,
        Wrong::NothingIsUnclear,
    ] {
        let found = wander(wrong, 3, 1, 25_000).is_err() || explore_all(wrong, 2, 1).is_err();
        assert!(found, "{wrong:?}");
    }
}

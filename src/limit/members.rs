//! The replicas that share a ledger: who is alive, what each may spend by itself when the store is
//! out, and what is kept from the others because of that. `history` adds what is unclear after the
//! store has become another run.
//!
//! The promise: what members believe to hold, together with what is unclear, is never more than
//! `leasable`; and a lease is off the limit (*away*) before its holder spends it, and until it has
//! said what it spent.
//!
//! 1. *Places.* The beat of a run whose number is not larger than the last one's is not taken. A newer
//!    incarnation takes over the name; an older one does only when the known one is not alive.
//! 2. *Contact* is the arrival of the last beat whose answer the member has confirmed: this beat's
//!    `acked` is the number of the beat before. A new member without a lease has had contact by its
//!    first beat, one with a lease has not. Alive: contact, or else the first beat, is less than
//!    `silence` ago, and it is not leaving.
//! 3. *Own* is the most that a member can believe to hold: the lease that its beat tells, and what
//!    the answer grants on top. Less is answered at once, but stays own until a beat says so.
//! 4. *Cut off*: has a lease, and is apart, or contact is `silence` or longer ago or never was. Only
//!    a beat with a replay ends being apart.
//! 5. *Away*: what is own to those that are cut off, what is kept (rule 6), what is unclear, or if
//!    that is more, what belongs to members without contact. Of the egress IP all that is own.
//! 6. *Ends.* A run that is replaced while cut off by a newer one, or leaves so without a replay: its
//!    own is kept for as long as a permit is busy. One that is replaced by an older: as in rule 7.
//!    Otherwise its own is free at once.
//! 7. *Forgotten*: without a lease, when silent for as long as a permit is busy; with one, when also
//!    the quarantine and the life of the lease have passed since its last beat. What rules 6 and 7 set
//!    free of the egress IP is kept for as much longer as its window is longer (`ip_later`).
//! 8. *Target*: `leasable` without what belongs to anybody that is not in good standing (joined and not
//!    cut off) is shared among those that are, by demand and in the order of their names. Only they
//!    are answered another lease than they told: the target if less; if more, as much of that as no
//!    one owns, and of the egress IP as is not busy either. The demand for the egress IP, which comes
//!    last: what a member wants without limits, and of each product what ten minutes of its lease
//!    allow; of others' leases what they own.

use super::beat::{Beat, Incarnation, Pools, Pulse, Stance};
use super::history::History;
use super::shares::{DEMAND_MAX, share};
use super::{Rules, Scope, Ticket};
use crate::types::{Moment, Product};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most members; further ones are not known.
const MEMBERS_MAX: usize = 1000;

/// The minutes that demand is counted over.
const DEMAND_MINUTES: u32 = 10;

/// What is known of one member.
#[derive(Debug, Clone)]
struct Member {
    incarnation: Incarnation,
    /// Its last beat, and when that came.
    number: u64,
    heard: Moment,
    /// The lease that its first beat in this run of the store told, until contact is confirmed.
    brought: Option<Pools>,
    has_contact: bool,
    /// Contact, or else the first beat, and the silence.
    alive_until: Moment,
    stance: Stance,
    own: Pools,
    demand: Pools,
    is_whole_from: Moment,
    has_replayed: bool,
    forget_at: Moment,
}

impl Member {
    fn is_alive(&self, now: Moment) -> bool {
        now < self.alive_until && self.stance != Stance::Leaving
    }

    /// Rule 4, but for having a lease.
    fn is_off(&self, now: Moment) -> bool {
        self.stance == Stance::Apart || !self.has_contact || now >= self.alive_until
    }

    fn is_cut_off(&self, now: Moment) -> bool {
        !self.own.is_none() && self.is_off(now)
    }

    fn is_in_standing(&self, now: Moment) -> bool {
        self.stance == Stance::Joined && !self.is_off(now)
    }
}

/// Permits of a run that has ended while it may have been spending them.
#[derive(Debug, Clone)]
struct Kept {
    own: Pools,
    until: Moment,
}

/// What follows from all that at one moment.
#[derive(Debug, Clone)]
struct View {
    away: Pools,
    /// The part of `away` that is cut off, and for how long at the most.
    cut: (Pools, Moment),
    /// All that belongs to somebody or is unclear.
    taken: Pools,
    /// When time alone changes it.
    next: Option<Moment>,
}

/// What a member is told, but for its tickets.
#[derive(Debug)]
pub(super) struct Told {
    lease: Pools,
    peers: u32,
    away: (Pools, Duration),
    wants_replay: bool,
    learns_for: Duration,
}

impl Told {
    pub(super) fn pulse(self, wakes: Vec<Ticket>) -> Pulse {
        let Self { lease, peers, away, wants_replay, learns_for } = self;
        Pulse { is_known: true, lease, peers, away, wants_replay, learns_for, wakes }
    }
}

/// All members.
#[derive(Debug, Clone)]
pub(super) struct Members {
    history: History,
    all: BTreeMap<String, Member>,
    kept: Vec<Kept>,
    view: View,
}

impl Members {
    /// Nobody, and nothing is unclear.
    pub(super) fn new() -> Self {
        let cut = (Pools::none(), Moment::ZERO);
        let view = View { away: Pools::none(), cut, taken: Pools::none(), next: None };
        Self { history: History::new(), all: BTreeMap::new(), kept: Vec::new(), view }
    }

    /// Another run of the store than before: learning begins, and everybody has yet to come. True
    /// when it was another.
    pub(super) fn enter(&mut self, run: &str, rules: &Rules, now: Moment) -> bool {
        self.pass(rules, now);
        if self.history.is_run(run) {
            return false;
        }
        self.history.begin(run, self.peers(), self.view.cut, rules, now);
        self.all.clear();
        self.kept.clear();
        self.look(rules, now);
        true
    }

    /// Whether this beat would be taken (rule 1).
    pub(super) fn knows(&self, beat: &Beat, now: Moment) -> bool {
        match self.all.get(&beat.member) {
            None => self.all.len() < MEMBERS_MAX,
            Some(known) if known.incarnation == beat.incarnation => beat.number > known.number,
            Some(known) => beat.incarnation > known.incarnation || !known.is_alive(now),
        }
    }

    /// One beat; its replay has been taken over already. `ip_busy`: permits of the egress IP that
    /// are busy. `None`: it is not taken.
    pub(super) fn beat(&mut self, beat: &Beat, ip_busy: u32, rules: &Rules, now: Moment) -> Option<Told> {
        self.pass(rules, now);
        if !self.knows(beat, now) {
            return None;
        }
        if self.all.get(&beat.member).is_some_and(|known| known.incarnation != beat.incarnation) {
            self.replace(beat, rules, now);
        }
        if !self.all.contains_key(&beat.member) {
            self.meet(beat, rules, now);
        }
        self.hear(beat, rules, now);
        self.look(rules, now);
        let lease = self.lease(&beat.member, ip_busy, rules, now);
        let has_replayed = {
            let member = self.all.get_mut(&beat.member)?;
            member.own = member.own.or_more(&lease);
            member.has_replayed
        };
        self.look(rules, now);
        let (cut, until) = self.view.cut;
        Some(Told {
            lease,
            peers: self.peers(),
            away: (cut, until.since(now)),
            wants_replay: !has_replayed,
            learns_for: match self.history.is_learning() {
                true => self.learning_until().since(now),
                false => Duration::ZERO,
            },
        })
    }

    /// Rule 6, for a run whose name another takes over.
    fn replace(&mut self, beat: &Beat, rules: &Rules, now: Moment) {
        let Some(ended) = self.all.remove(&beat.member) else { return };
        if beat.incarnation < ended.incarnation {
            self.keep(ended.own, ended.forget_at, rules);
        } else if ended.is_cut_off(now) {
            self.keep(ended.own, now + rules.settled(), rules);
        }
    }

    fn keep(&mut self, own: Pools, until: Moment, rules: &Rules) {
        let ip = own.of_ip();
        for (own, until) in [(own.minus(&ip), until), (ip, until + rules.ip_later())] {
            if !own.is_none() {
                self.kept.push(Kept { own, until });
            }
        }
    }

    /// The first beat of a run, before it is heard as any other.
    fn meet(&mut self, beat: &Beat, rules: &Rules, now: Moment) {
        self.history.meet(beat, now);
        let member = Member {
            incarnation: beat.incarnation,
            number: 0,
            heard: now,
            brought: Some(beat.lease),
            has_contact: beat.lease.is_none(),
            alive_until: now + rules.silence,
            stance: beat.stance,
            own: beat.lease,
            demand: beat.demand,
            is_whole_from: now,
            has_replayed: false,
            forget_at: now,
        };
        self.all.insert(beat.member.clone(), member);
    }

    fn hear(&mut self, beat: &Beat, rules: &Rules, now: Moment) {
        let Some(member) = self.all.get_mut(&beat.member) else { return };
        let mut kept = None;
        // Rule 2. Beats are numbered from 1, so no first beat confirms anything.
        if member.number > 0 && beat.acked == member.number {
            member.has_contact = true;
            member.alive_until = member.heard + rules.silence;
            if let Some(brought) = member.brought.take() {
                self.history.found(&brought.or_less(&beat.lease));
            }
            if beat.replay.is_some() {
                member.has_replayed = true;
                self.history.replayed(&beat.member);
            }
        }
        match beat.stance {
            Stance::Leaving => {
                if member.is_cut_off(now) && beat.replay.is_none() {
                    kept = Some(member.own);
                }
                (member.stance, member.own) = (Stance::Leaving, Pools::none());
            }
            // Rule 4.
            Stance::Joined if member.stance == Stance::Apart && beat.replay.is_none() => {
                member.own = beat.lease;
            }
            stance => (member.stance, member.own) = (stance, beat.lease),
        }
        (member.number, member.heard) = (beat.number, now);
        member.demand = Pools::from_fn(|scope| beat.demand.of(scope).min(DEMAND_MAX));
        member.is_whole_from = now + rules.settled() - beat.uptime;
        if let Some(own) = kept {
            self.keep(own, now + rules.settled(), rules);
        }
    }

    /// Rule 8.
    fn lease(&self, name: &str, ip_busy: u32, rules: &Rules, now: Moment) -> Pools {
        let Some(member) = self.all.get(name) else { return Pools::none() };
        if !member.is_in_standing(now) {
            return member.own;
        }
        let sharers: Vec<&Member> = self.all.values().filter(|m| m.is_in_standing(now)).collect();
        let before = self.all.iter().take_while(|(other, _)| other.as_str() < name);
        let place = before.filter(|(_, m)| m.is_in_standing(now)).count();
        let leasable = rules.leasable();
        let ip_free = rules.pools().ip.saturating_sub(ip_busy).saturating_sub(self.view.away.ip);
        let target = |scope: Scope, demands: &[u32]| {
            let (all, taken, own) = (leasable.of(scope), self.view.taken.of(scope), member.own.of(scope));
            let theirs: u32 = sharers.iter().map(|m| m.own.of(scope)).sum();
            let whole = all.saturating_sub(taken.saturating_sub(theirs));
            let free = all.saturating_sub(taken).min(match scope {
                Scope::Product(_) => u32::MAX,
                Scope::EgressIp => ip_free,
            });
            share(whole, demands, place).min(own.saturating_add(free))
        };
        let mut lease = Pools::none();
        for product in Product::ALL.into_iter().filter(|&product| leasable.products[product] > 0) {
            let demands: Vec<u32> = sharers.iter().map(|m| m.demand.products[product]).collect();
            lease.products[product] = target(Scope::Product(product), &demands);
        }
        let of_ip = |at: usize| match at == place {
            true => ip_demand(&lease, &sharers[at].demand, rules),
            false => ip_demand(&sharers[at].own, &sharers[at].demand, rules),
        };
        let demands: Vec<u32> = (0..sharers.len()).map(of_ip).collect();
        lease.ip = target(Scope::EgressIp, &demands);
        lease
    }

    /// How many members there are or may be.
    fn peers(&self) -> u32 {
        u32::try_from(self.all.len()).unwrap_or(u32::MAX).saturating_add(self.history.unseen())
    }

    /// What time alone changes.
    fn pass(&mut self, rules: &Rules, now: Moment) {
        if self.view.next.is_some_and(|next| now >= next) {
            self.look(rules, now);
        }
    }

    /// Rules 7 and 5.
    fn look(&mut self, rules: &Rules, now: Moment) {
        for member in self.all.values_mut() {
            let safe = if member.own.is_none() { rules.settled() } else { rules.lease_over() };
            member.forget_at = member.heard + safe;
        }
        let (all, kept) = (&mut self.all, &mut self.kept);
        all.retain(|_, member| {
            let is_forgotten = now >= member.forget_at;
            if is_forgotten && member.own.ip > 0 {
                kept.push(Kept { own: member.own.of_ip(), until: member.forget_at + rules.ip_later() });
            }
            !is_forgotten
        });
        self.kept.retain(|kept| now < kept.until);
        let is_whole = |member: &Member| member.has_replayed && now >= member.is_whole_from;
        self.history.settle(self.all.values().all(is_whole), now);

        let (mut away, mut cut, mut taken, mut unmet) =
            (Pools::none(), Pools::none(), Pools::none(), Pools::none());
        let mut until = now;
        let mut next: Vec<Moment> = self.history.next().into_iter().collect();
        for member in self.all.values() {
            next.push(member.forget_at);
            if self.history.is_learning() && now < member.is_whole_from {
                next.push(member.is_whole_from);
            }
            if member.own.is_none() {
                continue;
            }
            let is_cut_off = member.is_cut_off(now);
            if is_cut_off {
                until = until.max(member.forget_at);
            } else {
                next.push(member.alive_until);
            }
            if !member.has_contact {
                unmet = unmet.plus(&member.own);
                continue;
            }
            taken = taken.plus(&member.own);
            let ip = member.own.of_ip();
            away = away.plus(if is_cut_off { &member.own } else { &ip });
            if is_cut_off {
                cut = cut.plus(&member.own);
            }
        }
        for kept in &self.kept {
            next.push(kept.until);
            until = until.max(kept.until);
            (away, cut, taken) = (away.plus(&kept.own), cut.plus(&kept.own), taken.plus(&kept.own));
        }
        let (unclear, unclear_until) = self.history.unclear();
        if !unclear.is_none() {
            until = until.max(unclear_until);
        }
        let rest = unclear.or_more(&unmet);
        self.view = View {
            away: away.plus(&rest),
            cut: (cut.plus(&rest), until),
            taken: taken.plus(&rest),
            next: next.into_iter().min(),
        };
    }

    /// No member that is alive has this run; never while nobody is known or history is not.
    pub(super) fn is_dead(&self, run: Incarnation, now: Moment) -> bool {
        let is_his = |member: &Member| member.incarnation == run && member.is_alive(now);
        !self.all.is_empty() && !self.history.is_learning() && !self.all.values().any(is_his)
    }

    /// Brings what is withdrawn up to date.
    pub(super) fn away(&mut self, rules: &Rules, now: Moment) -> &Pools {
        self.pass(rules, now);
        &self.view.away
    }

    /// What was withdrawn when last asked.
    pub(super) fn withdrawn(&self) -> &Pools {
        &self.view.away
    }

    /// True once, when learning ended without everybody's replay.
    pub(super) fn has_given_up_learning(&mut self) -> bool {
        self.history.has_given_up()
    }

    /// Whether learning may end before its time.
    pub(super) fn may_know_soon(&self) -> bool {
        self.history.may_end_soon()
    }

    /// Nothing is granted before.
    pub(super) fn learning_until(&self) -> Moment {
        self.history.learning_until()
    }
}

/// How many requests somebody with this demand could send in ten minutes of this lease, if the IP
/// were no matter.
fn ip_demand(lease: &Pools, demand: &Pools, rules: &Rules) -> u32 {
    let metered = || Product::ALL.into_iter().filter(|&product| rules.limits[product].is_some());
    let of_limits: u32 = metered().map(|product| demand.products[product]).sum();
    let within = metered()
        .map(|product| demand.products[product].min(lease.products[product].saturating_mul(DEMAND_MINUTES)));
    demand.ip.saturating_sub(of_limits).saturating_add(within.sum())
}

#[cfg(test)]
#[path = "i12_tests.rs"]
mod i12;
#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;

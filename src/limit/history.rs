//! What a store that became another run still has to find out: what was sent before, and which
//! leases are out. Spans are whole microseconds; `settled` and the like are those of [`Rules`].
//!
//! 1. Another run than before, or the first one: nothing is granted (*learning*), all leases that
//!    can be out (`leasable`) are *unclear*, and the number of peers is the larger of what the last
//!    run knew and what members say.
//! 2. Only the first beat of a name in this run tells of the time before it: later ones repeat what
//!    this run said. A name has *returned* when it was told of peers before this run and its replay
//!    has come in answer to a pulse of this run. `missing` = peers - returned.
//! 3. Learning ends early when somebody is expected, nobody is missing, and every member has
//!    replayed and runs for longer than a permit stays busy. Else it ends a window and a pad after
//!    it began, and if somebody is missing then, as much later as a request may be on its way.
//! 4. A returned lease is taken off what is unclear. When learning has ended and nobody is missing,
//!    what members had been told to be away is all that stays unclear, for as long as they were told;
//!    else it stays so until the last lease of the former run has ended and cooled, that of the egress
//!    IP for as much longer as its window is longer (`ip_later`).

use super::beat::{Beat, Pools};
use super::{PerProduct, Rules};
use crate::types::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// The part of the egress IP's share that is leased: a quarter. Its window is longer than the time
/// that a replica waits before it spends its lease, so these permits cannot be lent: they are kept
/// from everybody else as long as they are leased.
const IP_PART: u64 = 4;

impl Rules {
    /// How long after the question a permit is busy at the most.
    pub(super) fn settled(&self) -> Duration {
        self.flight() + self.span()
    }

    /// How long after the sending of its last answered beat a replica may spend its lease: the store
    /// has withdrawn it by then, and what the store granted before has cooled.
    pub fn quarantine(&self) -> Duration {
        self.silence + self.call_timeout + self.settled()
    }

    /// How long after a beat its lease is of no danger any more, whatever became of the replica.
    pub(super) fn lease_over(&self) -> Duration {
        self.quarantine() + self.lease_life + self.settled()
    }

    /// How much longer a permit of the egress IP is busy than one of a product.
    pub(super) fn ip_later(&self) -> Duration {
        self.ip.window.saturating_sub(self.window)
    }

    /// How much of each pool is leased in all.
    pub(super) fn leasable(&self) -> Pools {
        let part = |limit: u32, of: u64| {
            let share = u64::from(limit) * u64::from(self.share_percent.min(100)) / (100 * of);
            u32::try_from(share).unwrap_or(u32::MAX)
        };
        let limits = self.pools();
        Pools { products: PerProduct::from_fn(|p| part(limits.products[p], 1)), ip: part(limits.ip, IP_PART) }
    }
}

/// The most names that are told apart while somebody may be missing; who comes later stays missing.
const FACES_MAX: usize = 4096;

/// A name that was seen in this run.
#[derive(Debug, Clone, Copy)]
struct Face {
    /// Whether an earlier run knew it.
    is_expected: bool,
    has_replayed: bool,
}

/// Rules 1 to 4 above.
#[derive(Debug, Clone)]
pub(super) struct History {
    run: Option<String>,
    is_learning: bool,
    has_given_up: bool,
    /// When learning ends if nobody is missing, and if somebody is; both are the end when it is over.
    ends: [Moment; 2],
    /// Whether somebody may be missing.
    is_open: bool,
    peers: u32,
    faces: BTreeMap<String, Face>,
    unclear: Pools,
    unclear_until: Moment,
    ip_later: Duration,
    reported: (Pools, Moment),
}

impl History {
    /// All is known: there is nothing before.
    pub(super) fn new() -> Self {
        Self {
            run: None,
            is_learning: false,
            has_given_up: false,
            ends: [Moment::ZERO; 2],
            is_open: false,
            peers: 0,
            faces: BTreeMap::new(),
            unclear: Pools::none(),
            unclear_until: Moment::ZERO,
            ip_later: Duration::ZERO,
            reported: (Pools::none(), Moment::ZERO),
        }
    }

    pub(super) fn is_run(&self, run: &str) -> bool {
        self.run.as_deref() == Some(run)
    }

    /// Rule 1. `peers` and `away` are what the run before knew.
    pub(super) fn begin(&mut self, run: &str, peers: u32, away: (Pools, Moment), rules: &Rules, now: Moment) {
        *self = Self {
            run: Some(run.to_owned()),
            is_learning: true,
            has_given_up: false,
            ends: [now + rules.span(), now + rules.settled()],
            is_open: true,
            peers,
            faces: BTreeMap::new(),
            unclear: rules.leasable(),
            unclear_until: now + rules.lease_over(),
            ip_later: rules.ip_later(),
            reported: away,
        };
    }

    /// Rule 2: the first beat of a run of a replica.
    pub(super) fn meet(&mut self, beat: &Beat, now: Moment) {
        if !self.is_open || self.faces.contains_key(&beat.member) || self.faces.len() >= FACES_MAX {
            return;
        }
        self.faces.insert(beat.member.clone(), Face { is_expected: beat.peers > 0, has_replayed: false });
        self.peers = self.peers.max(beat.peers);
        let (away, lasts) = &beat.away;
        self.reported = (self.reported.0.or_more(away), self.reported.1.max(now + *lasts));
    }

    /// Rule 2: a replay that this run has asked for.
    pub(super) fn replayed(&mut self, member: &str) {
        if let Some(face) = self.faces.get_mut(member) {
            face.has_replayed = true;
        }
    }

    /// Rule 4: this much of what was unclear is the lease of a member.
    pub(super) fn found(&mut self, lease: &Pools) {
        if self.is_open {
            self.unclear = self.unclear.minus(lease);
        }
    }

    /// Rules 3 and 4. `is_everybody_whole`: every member has replayed and runs for long enough.
    pub(super) fn settle(&mut self, is_everybody_whole: bool, now: Moment) {
        if self.is_learning {
            if self.peers > 0 && self.missing() == 0 && is_everybody_whole {
                (self.is_learning, self.ends) = (false, [now; 2]);
            } else if now >= self.learning_until() {
                (self.is_learning, self.has_given_up) = (false, true);
                self.ends = [self.learning_until(); 2];
            }
        }
        if self.is_open && !self.is_learning && self.missing() == 0 {
            let (reported, until) = self.reported;
            self.close(self.unclear.or_less(&reported), until);
        }
        if (self.is_open || !self.unclear.is_none()) && now >= self.unclear_until {
            let until = self.unclear_until + self.ip_later;
            let still = if self.is_open && now < until { self.unclear.of_ip() } else { Pools::none() };
            self.close(still, until);
        }
    }

    fn close(&mut self, unclear: Pools, until: Moment) {
        (self.is_open, self.unclear, self.unclear_until) = (false, unclear, until);
        self.peers = 0;
        self.faces.clear();
    }

    fn missing(&self) -> u32 {
        self.peers.saturating_sub(self.count(|face| face.is_expected && face.has_replayed))
    }

    /// How many peers of an earlier run have not been seen.
    pub(super) fn unseen(&self) -> u32 {
        self.peers.saturating_sub(self.count(|face| face.is_expected))
    }

    fn count(&self, which: impl Fn(&Face) -> bool) -> u32 {
        u32::try_from(self.faces.values().filter(|face| which(face)).count()).unwrap_or(u32::MAX)
    }

    /// Whether learning may end before its time: members of an earlier run are expected.
    pub(super) fn may_end_soon(&self) -> bool {
        self.is_learning && self.peers > 0
    }

    pub(super) fn is_learning(&self) -> bool {
        self.is_learning
    }

    /// Nothing is granted before.
    pub(super) fn learning_until(&self) -> Moment {
        self.ends[usize::from(self.missing() > 0)]
    }

    /// True once, when learning ended by time.
    pub(super) fn has_given_up(&mut self) -> bool {
        std::mem::take(&mut self.has_given_up)
    }

    /// Leases that may be out without anybody's being known to hold them, and until when.
    pub(super) fn unclear(&self) -> (&Pools, Moment) {
        (&self.unclear, self.unclear_until)
    }

    /// When time alone changes something here.
    pub(super) fn next(&self) -> Option<Moment> {
        let learns = self.is_learning.then(|| self.learning_until());
        let clears = (self.is_open || !self.unclear.is_none()).then_some(self.unclear_until);
        learns.into_iter().chain(clears).min()
    }
}

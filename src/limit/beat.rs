//! The words between a shared ledger and the replicas that use it: what a replica says of itself at
//! every heartbeat, and what it is told.

use super::{PerProduct, Ticket};
use crate::types::{Priority, Product};
use std::time::Duration;

/// One run of one replica. A later run of the same replica has a larger number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(pub u64);

/// A number for every pool of permits: each product's, and the egress IP's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pools {
    /// Of each product.
    pub products: PerProduct<u32>,
    /// Of the egress IP.
    pub ip: u32,
}

impl Pools {
    /// Nothing in any pool.
    pub fn none() -> Self {
        Self { products: PerProduct::from_fn(|_| 0), ip: 0 }
    }

    /// Whether every pool is empty.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

/// A request that went to Finch, as the replica that sent it remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The permit it was sent with.
    pub ticket: Ticket,
    /// What it counted against, next to the egress IP.
    pub product: Product,
    /// How urgent it was.
    pub priority: Priority,
    /// How long ago it counts as arrived; `None` while it is in flight.
    pub age: Option<Duration>,
}

/// How a replica stands to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stance {
    /// It asks the store for every permit.
    Joined,
    /// It has been cut off and may be spending its lease. It is about to come back.
    Apart,
    /// It ends, and sends nothing any more.
    Leaving,
}

/// One heartbeat of one replica. At most one is under way; the answer to an earlier one than the
/// latest is never taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The replica's name, the same after its restart.
    pub member: String,
    /// Which run of it.
    pub incarnation: Incarnation,
    /// Counts the beats of this run from 1.
    pub number: u64,
    /// The latest beat of this run whose answer was taken in time; 0 for none.
    pub acked: u64,
    /// How it stands to the store.
    pub stance: Stance,
    /// The lease it believes to have.
    pub lease: Pools,
    /// How many permits it asked for during the last ten minutes.
    pub demand: Pools,
    /// How long this run has lasted.
    pub uptime: Duration,
    /// The largest number of members it was told of within a window.
    pub peers: u32,
    /// The largest number of permits that it was told are leased to replicas that are cut off, and
    /// for how long that may last; to be remembered when the store forgets everything.
    pub away: (Pools, Duration),
    /// All it sent during the last windows, when it was asked for that or comes back.
    pub replay: Option<Vec<Sent>>,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulse {
    /// `false`: another run under the same name is alive, or this beat is older than one already
    /// answered. Nothing else here means anything then.
    pub is_known: bool,
    /// The permits that the replica may spend by itself while the store is out.
    pub lease: Pools,
    /// How many members the store knows, those that are cut off included.
    pub peers: u32,
    /// Permits leased to replicas that are cut off, and for how long they are kept from the others.
    pub away: (Pools, Duration),
    /// Whether the next beat shall bring a replay.
    pub wants_replay: bool,
    /// How long nothing is granted because history is unknown; zero when it is known.
    pub learns_for: Duration,
    /// Tickets of this replica that would be granted now if they asked.
    pub wakes: Vec<Ticket>,
}

impl Pulse {
    /// The answer to a beat that is not taken.
    pub fn unknown() -> Self {
        Self {
            is_known: false,
            lease: Pools::none(),
            peers: 0,
            away: (Pools::none(), Duration::ZERO),
            wants_replay: false,
            learns_for: Duration::ZERO,
            wakes: Vec::new(),
        }
    }
}

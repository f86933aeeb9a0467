//! The words between the ledger and those who ask it.

use super::beat::Incarnation;
use crate::types::{CustomerId, Priority, Product};
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// One wish to send one request: a name that is used once. Asking twice with it costs one permit.
/// The run of the replica that asks is part of it, so no two replicas use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket {
    /// The run of the replica that asks.
    pub of: Incarnation,
    /// Counts that run's wishes.
    pub number: u64,
}

impl Ticket {
    /// The wish `number` of one run of a replica.
    pub const fn new(of: Incarnation, number: u64) -> Self {
        Self { of, number }
    }
}

/// 32 hexadecimal digits, which sort as the tickets do.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.of.0, self.number)
    }
}

impl Ticket {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (of, number) = (text.get(..16)?, text.get(16..).filter(|rest| rest.len() == 16)?);
        let number = u64::from_str_radix(number, 16).ok()?;
        Some(Self::new(Incarnation(u64::from_str_radix(of, 16).ok()?), number))
    }
}

/// A place in the fair order of one product and priority, in units of virtual time. Whoever asks
/// again shows it, so that a ledger which has lost the ticket gives the place back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(pub u64);

impl Tag {
    /// No place is known. Nobody shows it.
    pub const UNKNOWN: Tag = Tag(u64::MAX);
}

/// What somebody wants to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Names this wish. A new attempt is a new ticket.
    pub ticket: Ticket,
    /// What it counts against, next to the egress IP.
    pub product: Product,
    /// For whom; calls that name no customer count as those of one.
    pub customer: Option<CustomerId>,
    /// How urgent it is.
    pub priority: Priority,
    /// The customer's share next to others': twice the weight, twice the permits.
    pub weight: NonZeroU32,
    /// How much longer the permit is of use.
    pub patience: Duration,
    /// The place it was given before, if any.
    pub tag: Option<Tag>,
}

/// The ledger's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send it now. The permit is spent until it is refunded or has cooled.
    Granted {
        /// The place it had: a further attempt of the same call shows it.
        tag: Tag,
    },
    /// The ticket stands in line. Ask again then: earlier is useless unless a place is given back,
    /// later wastes quota, and half a second later loses the place.
    Wait {
        /// In how long; never beyond the patience, never zero.
        after: Duration,
        /// Its place.
        tag: Tag,
    },
    /// The ticket is forgotten.
    Refused {
        /// In how long the same ask would be served, if those ahead answer at once and nobody else
        /// comes.
        after: Duration,
        /// Whose limit it is.
        scope: Scope,
        /// Which rule refused it.
        reason: Reason,
    },
}

/// What a ledger that only looks on would have done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Would {
    /// Sent it at once.
    Send,
    /// Let it wait for so long.
    Wait(Duration),
    /// Refused it, because so long is beyond its patience.
    Refuse(Duration),
}

/// Where a limit or a hold applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One product of this application.
    Product(Product),
    /// Everything that leaves this address.
    EgressIp,
}

impl Scope {
    /// The word used in error bodies and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Product(_) => "product",
            Scope::EgressIp => "ip",
        }
    }
}

/// Why an ask was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The next free permit comes after the patience ends.
    Quota,
    /// The scope is held beyond that.
    Hold,
    /// What was sent before is not known, and that lasts beyond that.
    Learning,
    /// As many calls wait as may.
    QueueFull,
    /// As many calls of this customer wait as may.
    CustomerQueueFull,
    /// The store is out, and this replica has nothing to spend by itself.
    NoLedger,
}

/// How one limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Permits in all, as they may be spent now.
    pub limit: u32,
    /// Permits busy now.
    pub used: u32,
    /// Permits that can be had now; none while the scope is held.
    pub remaining: u32,
    /// Finch's window.
    pub window: Duration,
    /// When the next permit comes back, or the hold ends; zero when nothing is busy. Permits in
    /// flight are taken to be answered now.
    pub next_free_in: Duration,
}

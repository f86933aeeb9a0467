//! The words between the ledger and those who ask it.

use crate::types::{CustomerId, Moment, Priority, Product};
use std::time::Duration;

/// One wish to send one request: a number that is used once. Asking twice with it costs one permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What somebody wants to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Names this wish. A new attempt is a new ticket.
    pub ticket: Ticket,
    /// What it counts against, next to the egress IP.
    pub product: Product,
    /// For whom, when the call names a customer.
    pub customer: Option<CustomerId>,
    /// How urgent it is.
    pub priority: Priority,
    /// After this moment the permit is of no use. The first ask of a ticket sets it.
    pub deadline: Moment,
}

/// The ledger's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send it now. The permit is spent until it is refunded or has cooled.
    Granted,
    /// The ticket stands in line. Ask again at `until`: earlier is useless unless a place is given
    /// back, later wastes quota.
    Wait {
        /// When to ask again; never after the deadline.
        until: Moment,
    },
    /// The ticket is forgotten.
    Refused {
        /// When the same ask would be served, if those ahead answer at once and nobody else comes.
        retry_at: Moment,
        /// Whose limit it is.
        scope: Scope,
        /// Which rule refused it.
        reason: Reason,
    },
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
    /// The next free permit comes after the deadline.
    Quota,
    /// The scope is held beyond the deadline.
    Hold,
    /// As many calls wait as may.
    QueueFull,
    /// As many calls of this customer wait as may.
    CustomerQueueFull,
}

/// How one limit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Permits in all.
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

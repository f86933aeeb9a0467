//! The store that replicas share: a ledger in a process that can be out, and can forget.

use super::ours::PRODUCT;
use crate::limit::beat::{Beat, Pulse};
use crate::limit::{Admission, Ask, Ledger, Rules, Scope, Ticket};
use crate::types::Moment;
use std::time::Duration;

/// A question to the ledger.
#[derive(Debug)]
pub(super) enum Op {
    Ask(Ask),
    Extend(Ticket),
    Arrived(Ticket, bool),
    Cancel(Ticket),
    Refund(Ticket),
    Limited(Option<Duration>),
    Hold(Scope, Duration),
    Beat(Box<Beat>),
}

/// The answer.
#[derive(Debug)]
pub(super) enum Reply {
    Admission(Admission),
    Extended(bool),
    Pulse(Box<Pulse>),
    /// Whether somebody may have moved up.
    Done(bool),
}

impl Reply {
    /// Whether another ticket may be served earlier than it was told.
    pub(super) fn moves_others(&self) -> bool {
        match self {
            Reply::Admission(Admission::Granted { .. } | Admission::Refused { .. }) => true,
            Reply::Admission(Admission::Wait { .. }) | Reply::Extended(_) | Reply::Pulse(_) => false,
            Reply::Done(moves) => *moves,
        }
    }
}

/// A process with a ledger.
#[derive(Debug)]
pub(super) struct Store {
    rules: Rules,
    ledger: Ledger,
    run: u32,
    pub(super) is_up: bool,
}

impl Store {
    pub(super) fn new(rules: Rules) -> Self {
        Self { ledger: Ledger::new(rules.clone()), run: 1, is_up: true, rules }
    }

    /// A question from elsewhere; no answer while it is out.
    pub(super) fn hears(&mut self, op: &Op, now: Moment) -> Option<Reply> {
        if !self.is_up {
            return None;
        }
        self.ledger.enter(&self.run.to_string(), now);
        Some(self.does(op, now))
    }

    /// Does what is asked.
    pub(super) fn does(&mut self, op: &Op, now: Moment) -> Reply {
        match op {
            Op::Ask(ask) => return Reply::Admission(self.ledger.ask(ask, now)),
            Op::Extend(ticket) => return Reply::Extended(self.ledger.extend(*ticket, now)),
            Op::Arrived(ticket, is_429) => self.ledger.arrived(*ticket, *is_429, now),
            Op::Beat(beat) => return Reply::Pulse(Box::new(self.ledger.beat(beat, now))),
            Op::Cancel(ticket) => return Reply::Done(self.ledger.cancel(*ticket, now)),
            Op::Refund(ticket) => return Reply::Done(self.ledger.refund(*ticket, now)),
            Op::Limited(retry_after) => self.ledger.limited(PRODUCT, *retry_after, now),
            Op::Hold(scope, span) => self.ledger.hold(*scope, *span, now),
        }
        Reply::Done(false)
    }

    /// Who is next.
    pub(super) fn head(&self) -> Option<Ticket> {
        self.ledger.head(PRODUCT)
    }

    /// It is restarted, and empty.
    pub(super) fn forgets(&mut self) {
        self.ledger = Ledger::new(self.rules.clone());
        self.run += 1;
    }
}

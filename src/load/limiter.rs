//! What every limiter under test is asked, and what it may do about it.

use super::chance::Chance;
use super::finch::Verdict;
use super::plan::Step;
use crate::types::{Moment, Priority};
use std::time::Duration;

/// One call as it reaches a replica. An app's repetition is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct CallId(pub u64);

/// A call that wants to go to Finch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Which one.
    pub(super) call: CallId,
    /// For whom.
    pub(super) customer: usize,
    /// Which replica it came to.
    pub(super) replica: usize,
    /// How urgent it is.
    pub(super) priority: Priority,
    /// When it is of no more use to send it.
    pub(super) deadline: Moment,
}

/// How a call ends for the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// With Finch's answer.
    Served,
    /// With Finch's 429.
    Limited,
    /// With a word from the limiter: not within your deadline.
    Refused,
}

/// What a limiter wants done.
#[derive(Debug)]
pub(super) enum Order<N> {
    /// Get a connection; [`Limiter::connected`] follows.
    Connect(CallId),
    /// Write the request; [`Limiter::answered`] follows.
    Write(CallId),
    /// Tell the app.
    Finish(CallId, End),
    /// Give this back after a while.
    Remind(Duration, N),
}

/// The table at which a limiter works: the time, chance, and what it ordered.
#[derive(Debug)]
pub(super) struct Desk<N> {
    /// What time it is.
    pub(super) now: Moment,
    /// The limiter's own chance.
    pub(super) chance: Chance,
    /// How many questions went to the store.
    pub(super) store_calls: u64,
    pub(super) orders: Vec<Order<N>>,
}

impl<N> Desk<N> {
    pub(super) fn new(chance: Chance) -> Self {
        Self { now: Moment::ZERO, chance, store_calls: 0, orders: Vec::new() }
    }

    /// The call may go: get it a connection.
    pub(super) fn connect(&mut self, call: CallId) {
        self.orders.push(Order::Connect(call));
    }

    /// Write the request now.
    pub(super) fn write(&mut self, call: CallId) {
        self.orders.push(Order::Write(call));
    }

    /// The call has ended.
    pub(super) fn finish(&mut self, call: CallId, end: End) {
        self.orders.push(Order::Finish(call, end));
    }

    /// Hands `note` back after `span`.
    pub(super) fn remind(&mut self, span: Duration, note: N) {
        self.orders.push(Order::Remind(span, note));
    }
}

/// A limiter with all its replicas, and its store if it has one.
pub(super) trait Limiter {
    /// What it reminds itself of.
    type Note;

    /// The run begins.
    fn begin(&mut self, desk: &mut Desk<Self::Note>);

    /// A call has come.
    fn want(&mut self, wish: &Wish, desk: &mut Desk<Self::Note>);

    /// The connection that was ordered is there.
    fn connected(&mut self, call: CallId, desk: &mut Desk<Self::Note>);

    /// Response headers are here. The limiter finishes the call, or tries again.
    fn answered(&mut self, call: CallId, verdict: Verdict, desk: &mut Desk<Self::Note>);

    /// The client hung up before anything was written. Nothing is asked about the call any more.
    fn hung_up(&mut self, call: CallId, desk: &mut Desk<Self::Note>);

    /// What it reminded itself of.
    fn reminded(&mut self, note: Self::Note, desk: &mut Desk<Self::Note>);

    /// Something breaks, or is mended. The calls of a replica that crashes are gone already.
    fn fault(&mut self, step: Step, desk: &mut Desk<Self::Note>);
}

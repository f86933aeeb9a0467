//! The other limiters: at every replica a plain queue, first come first served, whose first waits
//! for a counter. A counter in a store that does not answer lets everybody through, as is usual.

use super::counters::Counter;
use super::finch::Verdict;
use super::limiter::{CallId, Desk, End, Limiter, Wish};
use super::network;
use super::plan::{LimiterKind, Plan, Step};
use crate::types::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// After this long without an answer of the store a call goes ahead.
const STORE_TIMEOUT: Duration = Duration::from_millis(100);

/// Where the counting is done.
#[derive(Debug)]
enum Place {
    /// At each replica.
    Local(Vec<Counter>),
    /// In one store that all replicas ask.
    Store { counter: Counter, is_up: bool },
}

/// What the queues remind themselves of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Note {
    /// The first of this replica's queue asks.
    Ask(usize),
    /// Its question reaches the store.
    AtStore(usize),
    /// The answer is back: go, or when to ask again.
    Answer(usize, Result<(), Duration>),
    /// The patience of a call ends.
    Expires(usize, CallId),
}

/// Queues before counters.
#[derive(Debug)]
pub(super) struct Queues {
    place: Place,
    queues: Vec<VecDeque<(CallId, Moment)>>,
    /// Whether the replica's first is asking, or waits to ask again.
    is_asking: Vec<bool>,
}

impl Queues {
    /// The baseline of this kind; `None` when the kind is ours.
    pub(super) fn new(plan: &Plan) -> Option<Self> {
        let limit = plan.limit.get();
        let replicas = u32::try_from(plan.replicas).unwrap_or(u32::MAX);
        let local = |counter: fn(u32) -> Counter, limit| {
            Place::Local((0..replicas).map(|_| counter(limit)).collect())
        };
        let store = |counter| Place::Store { counter, is_up: true };
        let place = match plan.limiter {
            LimiterKind::Perch | LimiterKind::PerchUnpaced => return None,
            LimiterKind::None => local(|_| Counter::None, 0),
            LimiterKind::PerReplica => local(|l| Counter::log(l, Duration::ZERO), (limit / replicas).max(1)),
            LimiterKind::FixedWindow => store(Counter::fixed(limit)),
            LimiterKind::SlidingCounter => store(Counter::sliding(limit)),
            LimiterKind::GcraBurst => store(Counter::gcra(limit, limit)),
            LimiterKind::GcraSpaced => store(Counter::gcra(limit, 1)),
            LimiterKind::SendLog => store(Counter::log(limit, Duration::ZERO)),
            LimiterKind::SendLogMargin => store(Counter::log(limit, Duration::from_secs(1))),
        };
        let queues = vec![VecDeque::new(); plan.replicas];
        Some(Self { place, queues, is_asking: vec![false; plan.replicas] })
    }

    /// Lets the first of the queue ask, unless it does already.
    fn pump(&mut self, replica: usize, desk: &mut Desk<Note>) {
        while !self.is_asking[replica] && !self.queues[replica].is_empty() {
            self.is_asking[replica] = true;
            match &mut self.place {
                Place::Local(counters) => {
                    let answer = counters[replica].take(desk.now);
                    self.hear(replica, answer, desk);
                }
                Place::Store { .. } => {
                    desk.store_calls += 1;
                    let delay = network::to_store(&mut desk.chance);
                    desk.remind(delay, Note::AtStore(replica));
                }
            }
        }
    }

    fn hear(&mut self, replica: usize, answer: Result<(), Duration>, desk: &mut Desk<Note>) {
        match answer {
            Ok(()) => {
                self.is_asking[replica] = false;
                if let Some((call, _)) = self.queues[replica].pop_front() {
                    desk.connect(call);
                }
            }
            Err(after) => desk.remind(after, Note::Ask(replica)),
        }
    }
}

impl Limiter for Queues {
    type Note = Note;

    fn begin(&mut self, _: &mut Desk<Note>) {}

    fn want(&mut self, wish: &Wish, desk: &mut Desk<Note>) {
        self.queues[wish.replica].push_back((wish.call, wish.deadline));
        desk.remind(wish.deadline.since(desk.now), Note::Expires(wish.replica, wish.call));
        self.pump(wish.replica, desk);
    }

    fn connected(&mut self, call: CallId, desk: &mut Desk<Note>) {
        desk.write(call);
    }

    fn answered(&mut self, call: CallId, verdict: Verdict, desk: &mut Desk<Note>) {
        let end = match verdict {
            Verdict::Accepted => End::Served,
            Verdict::ProductLimited { .. } | Verdict::IpLimited => End::Limited,
        };
        desk.finish(call, end);
    }

    fn hung_up(&mut self, call: CallId, _: &mut Desk<Note>) {
        for queue in &mut self.queues {
            queue.retain(|&(other, _)| other != call);
        }
    }

    fn reminded(&mut self, note: Note, desk: &mut Desk<Note>) {
        match note {
            Note::Ask(replica) => {
                self.is_asking[replica] = false;
                self.pump(replica, desk);
            }
            Note::AtStore(replica) => {
                let Place::Store { counter, is_up } = &mut self.place else { return };
                let (delay, answer) = match is_up {
                    true => (network::to_store(&mut desk.chance), counter.take(desk.now)),
                    false => (STORE_TIMEOUT, Ok(())),
                };
                desk.remind(delay, Note::Answer(replica, answer));
            }
            Note::Answer(replica, answer) => {
                self.hear(replica, answer, desk);
                self.pump(replica, desk);
            }
            Note::Expires(replica, call) => {
                let queue = &mut self.queues[replica];
                if let Some(place) = queue.iter().position(|&(other, _)| other == call) {
                    queue.remove(place);
                    desk.finish(call, End::Refused);
                }
            }
        }
    }

    fn fault(&mut self, step: Step, _: &mut Desk<Note>) {
        match (step, &mut self.place) {
            (Step::StoreDown, Place::Store { is_up, .. }) => *is_up = false,
            (Step::StoreUp, Place::Store { is_up, .. }) => *is_up = true,
            (Step::StoreEmpty, Place::Store { counter, .. }) => counter.forget(),
            (Step::Crash(replica), _) => self.queues[replica].clear(),
            (Step::StoreDown | Step::StoreUp | Step::StoreEmpty, Place::Local(_)) => {}
        }
    }
}

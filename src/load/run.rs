//! One run: apps, a limiter, Finch, and the time between them. Time is a number that jumps to the
//! next event.

use super::chance::{Chance, secs};
use super::finch::{Finch, Verdict};
use super::limiter::{CallId, Desk, End, Limiter, Order, Wish};
use super::measure::{Figures, Measure};
use super::network;
use super::plan::{Fault, Plan, Step};
use super::workload::{Pace, Source, zipf};
use crate::types::Moment;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

/// How often an app's SDK repeats a call that was answered with 429.
const SDK_TRIES: u32 = 2;

/// How many clients hang up while they wait, under [`Fault::Hangups`].
const HANGUPS: f64 = 0.2;

/// What happens.
#[derive(Debug)]
enum Event<N> {
    /// A source calls.
    Comes(usize),
    /// An app's SDK tries once more.
    Again(App),
    /// The connection for a call is there.
    Ready(CallId),
    /// A request is counted at Finch.
    Reaches(CallId),
    /// Response headers are at the replica.
    Answers(CallId, Verdict),
    /// The client leaves, if it still waits.
    HangsUp(CallId),
    /// The limiter's own.
    Reminds(N),
    /// Somebody else's request with the same application is counted at Finch.
    Stranger,
    /// Something breaks or is mended.
    Breaks(Step),
}

/// What an app wants, with all its SDK's tries.
#[derive(Debug, Clone, Copy)]
struct App {
    source: usize,
    /// The replica beside it.
    replica: usize,
    began: Moment,
    tries: u32,
}

/// One try of it, as it came to a replica.
#[derive(Debug)]
struct Call {
    app: App,
    granted: Option<Moment>,
    is_written: bool,
}

/// Everything but the limiter.
struct World<'a, N> {
    plan: &'a Plan,
    now: Moment,
    events: BinaryHeap<Reverse<(Moment, u64)>>,
    /// What the events are: a heap orders by time and number alone.
    bodies: BTreeMap<u64, Event<N>>,
    number: u64,
    sources: Vec<Source>,
    /// Each source has its own, so that all limiters meet the same arrivals.
    arrivals: Vec<Chance>,
    apps: Chance,
    network: Chance,
    weights: Vec<f64>,
    is_gone: Vec<bool>,
    calls: BTreeMap<CallId, Call>,
    finch: Finch,
    measure: Measure,
    /// Calls that a job still has to make; `None` where the day has no end of its own.
    left: Option<u64>,
}

/// Runs `plan` with `limiter`.
pub(super) fn run<L: Limiter>(plan: &Plan, mut limiter: L) -> Figures {
    let mut world = World::new(plan);
    let mut desk = Desk::new(Chance::new(plan.seed, 4));
    limiter.begin(&mut desk);
    world.obey(&mut desk);
    while let Some((at, event)) = world.next() {
        if at > Moment::at(plan.span) {
            break;
        }
        (world.now, desk.now) = (at, at);
        world.happens(event, &mut limiter, &mut desk);
        world.obey(&mut desk);
        if world.left == Some(0) {
            world.measure.finished(at);
            break;
        }
    }
    world.measure.figures(desk.store_calls)
}

impl<'a, N> World<'a, N> {
    fn new(plan: &'a Plan) -> Self {
        let sources = plan.workload.sources(plan.limit.get());
        let customers = sources.iter().map(|s| s.customer + 1).max().unwrap_or(0);
        let mut measure = Measure::new(plan, customers);
        for source in sources.iter().filter(|s| s.pace == Pace::Worker) {
            measure.insatiable(source.customer);
        }
        let mut world = Self {
            plan,
            now: Moment::ZERO,
            events: BinaryHeap::new(),
            bodies: BTreeMap::new(),
            number: 0,
            arrivals: (0..sources.len() as u64).map(|i| Chance::new(plan.seed, 1000 + i)).collect(),
            apps: Chance::new(plan.seed, 1),
            network: Chance::new(plan.seed, 2),
            weights: zipf(plan.replicas),
            is_gone: vec![false; plan.replicas],
            calls: BTreeMap::new(),
            finch: Finch::new(plan.finch()),
            measure,
            left: tasks(&sources),
            sources,
        };
        for source in 0..world.sources.len() {
            let pause = match world.sources[source].pace {
                Pace::Worker => world.arrivals[source].between(0.0, 2.0),
                Pace::Task(_) => world.arrivals[source].between(0.0, 0.1),
                Pace::Alone(_) | Pace::Bursts { .. } => world.pause(source, true),
            };
            world.after(secs(pause), Event::Comes(source));
        }
        if plan.stranger > 0.0 {
            world.stranger_comes();
        }
        for (at, step) in plan.steps() {
            world.after(at, Event::Breaks(step));
        }
        world
    }

    fn after(&mut self, span: Duration, event: Event<N>) {
        self.number += 1;
        self.events.push(Reverse((self.now + span, self.number)));
        self.bodies.insert(self.number, event);
    }

    fn next(&mut self) -> Option<(Moment, Event<N>)> {
        let Reverse((at, number)) = self.events.pop()?;
        Some((at, self.bodies.remove(&number)?))
    }

    fn pause(&mut self, source: usize, was_served: bool) -> f64 {
        self.sources[source].pause(was_served, &mut self.arrivals[source])
    }

    fn stranger_comes(&mut self) {
        let pause = self.apps.exponential(60.0 / self.plan.stranger);
        self.after(secs(pause), Event::Stranger);
    }

    fn happens<L: Limiter<Note = N>>(&mut self, event: Event<N>, limiter: &mut L, desk: &mut Desk<N>) {
        match event {
            Event::Comes(source) => self.comes(source, limiter, desk),
            Event::Again(app) if self.is_gone[app.replica] => self.moves(app.source),
            Event::Again(app) => self.call(app, limiter, desk),
            Event::Ready(call) => {
                if self.calls.contains_key(&call) {
                    limiter.connected(call, desk);
                }
            }
            Event::Reaches(call) => self.reaches(call),
            Event::Answers(call, verdict) => {
                if self.calls.contains_key(&call) {
                    limiter.answered(call, verdict, desk);
                }
            }
            Event::HangsUp(id) => {
                if let Some(call) = self.calls.get(&id).filter(|call| !call.is_written) {
                    let app = call.app;
                    self.calls.remove(&id);
                    limiter.hung_up(id, desk);
                    self.app_ends(app, None);
                }
            }
            Event::Reminds(note) => limiter.reminded(note, desk),
            Event::Stranger => {
                self.finch.arrives(true, self.now);
                self.stranger_comes();
            }
            Event::Breaks(step) => {
                if let Step::Crash(replica) = step {
                    self.crashes(replica);
                }
                limiter.fault(step, desk);
            }
        }
    }

    /// Does what the limiter ordered.
    fn obey(&mut self, desk: &mut Desk<N>) {
        for order in std::mem::take(&mut desk.orders) {
            match order {
                Order::Connect(call) => {
                    if let Some(call) = self.calls.get_mut(&call) {
                        call.granted = Some(self.now);
                    }
                    let delay = self.plan.profile.connect(&mut self.network);
                    self.after(delay, Event::Ready(call));
                }
                Order::Write(call) => {
                    if let Some(is_written) = self.calls.get_mut(&call).map(|call| &mut call.is_written) {
                        *is_written = true;
                        self.measure.written(self.now);
                        let delay = self.plan.profile.reach(&mut self.network);
                        self.after(delay, Event::Reaches(call));
                    }
                }
                Order::Finish(call, end) => self.finishes(call, end),
                Order::Remind(span, note) => self.after(span, Event::Reminds(note)),
            }
        }
    }

    fn comes<L: Limiter<Note = N>>(&mut self, source: usize, limiter: &mut L, desk: &mut Desk<N>) {
        let replica = self.replica(source);
        let calls = self.sources[source].calls(&mut self.arrivals[source]);
        for _ in 0..calls {
            self.call(App { source, replica, began: self.now, tries: 0 }, limiter, desk);
        }
        if !self.sources[source].waits_for_answers() {
            let pause = self.pause(source, true);
            self.after(secs(pause), Event::Comes(source));
        }
    }

    /// The replica that a source's next call goes to.
    fn replica(&mut self, source: usize) -> usize {
        let drawn = match self.sources[source].is_whale {
            true => self.plan.replicas - 1,
            false => self.arrivals[source].place(&self.weights),
        };
        let all = self.plan.replicas;
        (0..all).map(|step| (drawn + step) % all).find(|&r| !self.is_gone[r]).unwrap_or(drawn)
    }

    fn call<L: Limiter<Note = N>>(&mut self, app: App, limiter: &mut L, desk: &mut Desk<N>) {
        self.number += 1;
        let call = CallId(self.number);
        let source = &self.sources[app.source];
        let deadline = app.began + source.patience();
        let wish = Wish {
            call,
            customer: source.customer,
            replica: app.replica,
            priority: source.priority,
            deadline,
        };
        self.calls.insert(call, Call { app, granted: None, is_written: false });
        if self.plan.fault == Some(Fault::Hangups) && self.apps.happens(HANGUPS) {
            let patience = self.apps.exponential(10.0);
            self.after(secs(patience), Event::HangsUp(call));
        }
        limiter.want(&wish, desk);
    }

    /// Whatever became of the replica meanwhile, Finch counts what reaches it.
    fn reaches(&mut self, call: CallId) {
        let verdict = self.finch.arrives(false, self.now);
        let is_accepted = verdict == Verdict::Accepted;
        self.measure.arrived(is_accepted, self.now);
        let work = match is_accepted {
            true => network::service(&mut self.network),
            false => network::rejection(&mut self.network),
        };
        let delay = work + self.plan.profile.back(&mut self.network);
        self.after(delay, Event::Answers(call, verdict));
    }

    fn finishes(&mut self, call: CallId, end: End) {
        let Some(call) = self.calls.remove(&call) else { return };
        self.measure.told(end, self.now);
        match end {
            End::Served => self.app_ends(call.app, call.granted),
            End::Limited if call.app.tries < SDK_TRIES => {
                // From half a second, doubled each time, up to eight; a quarter of it is chance.
                let pause = (0.5 * 2_f64.powi(call.app.tries.cast_signed())).min(8.0);
                let pause = pause * self.apps.between(0.75, 1.0);
                self.after(secs(pause), Event::Again(App { tries: call.app.tries + 1, ..call.app }));
            }
            End::Limited | End::Refused => self.app_ends(call.app, None),
        }
    }

    /// `granted`: when the request that was served was let go.
    fn app_ends(&mut self, app: App, granted: Option<Moment>) {
        let source = &self.sources[app.source];
        let waited = granted.map(|at| at.since(app.began));
        self.measure.ended(source.customer, source.priority, waited, self.now);
        let has_more = self.has_more(app.source, granted.is_some());
        if has_more {
            let pause = self.pause(app.source, granted.is_some());
            self.after(secs(pause), Event::Comes(app.source));
        }
    }

    /// Whether the source calls again now that this call has ended.
    fn has_more(&mut self, source: usize, was_served: bool) -> bool {
        match &mut self.sources[source].pace {
            Pace::Alone(_) | Pace::Bursts { .. } => false,
            Pace::Worker => true,
            Pace::Task(calls) => {
                if was_served {
                    *calls = calls.saturating_sub(1);
                    self.left = self.left.map(|left| left.saturating_sub(1));
                }
                *calls > 0
            }
        }
    }

    /// The replica goes down with the apps beside it; their work is taken up elsewhere.
    fn crashes(&mut self, replica: usize) {
        self.is_gone[replica] = true;
        let lost: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| call.app.replica == replica).map(|(id, _)| *id).collect();
        for id in lost {
            let Some(call) = self.calls.remove(&id) else { continue };
            self.moves(call.app.source);
        }
    }

    /// What the source was at is lost; a worker starts again beside another replica.
    fn moves(&mut self, source: usize) {
        if self.sources[source].waits_for_answers() {
            let pause = self.apps.between(10.0, 30.0);
            self.after(secs(pause), Event::Comes(source));
        }
    }
}

/// How many calls the jobs among these have; `None` when there is no job.
fn tasks(sources: &[Source]) -> Option<u64> {
    let task = |source: &Source| match source.pace {
        Pace::Task(calls) => Some(u64::from(calls)),
        Pace::Alone(_) | Pace::Bursts { .. } | Pace::Worker => None,
    };
    sources.iter().filter_map(task).reduce(|all, more| all + more)
}

//! perch under load: the real ledger, and calls that are driven as the engine drives them.

use super::finch::Verdict;
use super::fleet::{Fleet, For, incarnation};
use super::limiter::{CallId, Desk, End, Limiter, Wish};
use super::plan::{LimiterKind, Plan, Step};
use super::store::{Op, Reply};
use crate::limit::{Admission, Ask, PerProduct, Rules, Scope, Tag, Ticket};
use crate::types::{CustomerId, Moment, Product};
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::time::Duration;

/// The product that everybody asks for.
pub(super) const PRODUCT: Product = Product::Directory;

/// How often a call is sent when Finch answers 429, in all.
const ATTEMPTS_MAX: u32 = 5;

/// How long nothing is sent after the address was refused.
const IP_PENALTY: Duration = Duration::from_secs(60 * 60);

/// How soon a question that was not answered is repeated.
const REPEAT: Duration = Duration::from_millis(250);

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The ledger is being asked.
    Asking,
    /// Until it is time to ask again.
    Waiting,
    /// Granted: a connection is on its way.
    Connecting,
    /// That took long, and the permit is being taken anew.
    Extending,
    /// Sent.
    Written,
}

/// A call on its way.
#[derive(Debug)]
struct Pending {
    wish: Wish,
    ticket: Ticket,
    tag: Option<Tag>,
    stage: Stage,
    /// When the permit was asked for.
    asked: Moment,
    /// Whether the replica was asked for it, and not the shared ledger.
    is_alone: bool,
    attempts: u32,
}

/// What perch reminds itself of.
#[derive(Debug)]
pub(super) enum Note {
    /// A waiting ticket's time has come.
    Wake(CallId, Ticket),
    /// A question reaches the store.
    AtStore(u64, Box<Op>),
    /// Its answer is back.
    Back(u64, Box<Reply>),
    /// It is too late for an answer.
    TimedOut(u64),
    /// A replica's heartbeat.
    BeatDue(usize, Moment),
}

/// A fleet of perch with its calls.
#[derive(Debug)]
pub(super) struct Perch {
    grace: Duration,
    names: Vec<CustomerId>,
    calls: BTreeMap<CallId, Pending>,
    by_ticket: HashMap<Ticket, CallId>,
    fleet: Fleet,
    next_ticket: u64,
}

/// perch's rules for a run.
fn rules(plan: &Plan) -> Rules {
    let mut rules =
        Rules::with_limits(PerProduct::from_fn(|product| (product == PRODUCT).then_some(plan.limit)));
    rules.pacing = plan.limiter != LimiterKind::PerchUnpaced;
    rules.share_percent = u32::from(plan.share);
    if !plan.is_arrival_bounded {
        rules.arrival_bound = None;
    }
    rules.ip.requests = match plan.ip_limit {
        Some(limit) => NonZeroU32::new(limit / 5 * 4).unwrap_or(NonZeroU32::MIN),
        // Where the address has no limit, none is in the way of the product's.
        None => rules.ip.requests.max(plan.limit.saturating_mul(NonZeroU32::MIN.saturating_add(9))),
    };
    rules
}

impl Perch {
    pub(super) fn new(plan: &Plan) -> Self {
        let rules = rules(plan);
        let customers = plan.workload.sources(plan.limit.get()).iter().map(|s| s.customer + 1).max();
        let name = |n| CustomerId::new(format!("customer-{n}")).expect("an id without blanks");
        Self {
            grace: rules.grace,
            names: (0..customers.unwrap_or(0)).map(name).collect(),
            calls: BTreeMap::new(),
            by_ticket: HashMap::new(),
            fleet: Fleet::new(rules, plan.replicas),
            next_ticket: 0,
        }
    }

    fn ticket(&mut self, replica: usize) -> Ticket {
        self.next_ticket += 1;
        Ticket::new(incarnation(replica), self.next_ticket)
    }

    /// Tells the ledger something that nobody waits for an answer to.
    fn tell(&mut self, replica: usize, op: Op, desk: &mut Desk<Note>) {
        if self.fleet.tell(replica, For::Nobody, op, desk) {
            self.ring(replica, desk);
        }
    }

    /// Wakes whoever is next in the replica's own process.
    fn ring(&mut self, replica: usize, desk: &mut Desk<Note>) {
        let head = self.fleet.head(replica);
        if let Some((ticket, call)) = head.and_then(|t| Some((t, self.by_ticket.get(&t)?))) {
            desk.remind(Duration::ZERO, Note::Wake(*call, ticket));
        }
    }

    /// Asks for a permit. The patience may be over: what is free now can be had all the same.
    fn ask(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let replica = call.wish.replica;
        let is_alone = !self.fleet.asks_ledger(replica, desk.now);
        if is_alone != call.is_alone {
            // Where it is asked next nothing is known of it, and where it was asked it may be spent.
            call.is_alone = is_alone;
            return self.ask_anew(id, desk);
        }
        (call.stage, call.asked) = (Stage::Asking, desk.now);
        let ask = Ask {
            ticket: call.ticket,
            product: PRODUCT,
            customer: Some(self.names[call.wish.customer].clone()),
            priority: call.wish.priority,
            weight: NonZeroU32::MIN,
            patience: call.wish.deadline.since(desk.now),
            tag: call.tag,
        };
        let ticket = call.ticket;
        match self.fleet.shared(replica).filter(|_| is_alone) {
            Some(shared) => {
                let admission = shared.ask_alone(&ask, desk.now);
                self.admitted(id, ticket, replica, admission, desk);
                if !matches!(admission, Admission::Wait { .. }) {
                    self.ring(replica, desk);
                }
            }
            None => {
                if self.fleet.tell(replica, For::Ask(id, ticket), Op::Ask(ask), desk) {
                    self.ring(replica, desk);
                }
            }
        }
    }

    /// Asks for a permit with another ticket, from the same place in line.
    fn ask_anew(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(replica) = self.calls.get(&id).map(|call| call.wish.replica) else { return };
        let ticket = self.ticket(replica);
        if let Some(call) = self.calls.get_mut(&id) {
            self.by_ticket.remove(&call.ticket);
            self.by_ticket.insert(ticket, id);
            call.ticket = ticket;
        }
        if let Some(shared) = self.fleet.shared(replica) {
            shared.wanted(PRODUCT, desk.now);
        }
        self.ask(id, desk);
    }

    fn finish(&mut self, id: CallId, end: End, desk: &mut Desk<Note>) {
        if let Some(call) = self.calls.remove(&id) {
            self.by_ticket.remove(&call.ticket);
            desk.finish(id, end);
        }
    }

    fn admitted(
        &mut self,
        id: CallId,
        ticket: Ticket,
        replica: usize,
        admission: Admission,
        desk: &mut Desk<Note>,
    ) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.ticket == ticket) else {
            // The client hung up meanwhile.
            match admission {
                Admission::Granted { .. } => self.tell(replica, Op::Refund(ticket), desk),
                Admission::Wait { .. } => self.tell(replica, Op::Cancel(ticket), desk),
                Admission::Refused { .. } => {}
            }
            return;
        };
        match admission {
            Admission::Granted { tag } => {
                (call.stage, call.tag) = (Stage::Connecting, Some(tag));
                let (priority, is_alone) = (call.wish.priority, call.is_alone);
                if let Some(shared) = self.fleet.shared(replica).filter(|_| !is_alone) {
                    shared.granted(ticket, PRODUCT, priority, desk.now);
                }
                desk.connect(id);
            }
            Admission::Wait { after, tag } => {
                (call.stage, call.tag) = (Stage::Waiting, Some(tag));
                desk.remind(after, Note::Wake(id, ticket));
            }
            Admission::Refused { .. } => {
                let end = if call.attempts > 0 { End::Limited } else { End::Refused };
                self.finish(id, end, desk);
            }
        }
    }

    /// The permit was taken anew, or could not be.
    fn extended(&mut self, id: CallId, ticket: Ticket, is_good: bool, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get(&id).filter(|call| call.ticket == ticket) else { return };
        if !is_good || desk.now.since(call.asked) > self.grace {
            return self.ask_anew(id, desk);
        }
        let (replica, priority, is_alone) = (call.wish.replica, call.wish.priority, call.is_alone);
        if let Some(shared) = self.fleet.shared(replica).filter(|_| !is_alone) {
            shared.granted(ticket, PRODUCT, priority, desk.now);
        }
        self.write(id, desk);
    }

    /// The connection is there and the permit is good.
    fn write(&mut self, id: CallId, desk: &mut Desk<Note>) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Written;
            call.attempts += 1;
            desk.write(id);
        }
    }

    /// An answer of the ledger is here.
    fn hear(&mut self, question: u64, reply: Reply, desk: &mut Desk<Note>) {
        let Some((replica, whom)) = self.fleet.claim(question) else { return };
        match (whom, reply) {
            (For::Ask(id, ticket), Reply::Admission(admission)) => {
                self.admitted(id, ticket, replica, admission, desk);
            }
            (For::Extend(id, ticket), Reply::Extended(is_good)) => self.extended(id, ticket, is_good, desk),
            (For::Beat(number), Reply::Pulse(pulse)) => {
                for ticket in &pulse.wakes {
                    if let Some(id) = self.by_ticket.get(ticket) {
                        desk.remind(Duration::ZERO, Note::Wake(*id, *ticket));
                    }
                }
                if self.fleet.pulse(replica, number, &pulse, desk) {
                    self.wake_all(replica, desk);
                }
            }
            _ => {}
        }
    }

    /// The ledger is to be asked again: everybody does.
    fn wake_all(&mut self, replica: usize, desk: &mut Desk<Note>) {
        for (id, call) in self.calls.iter().filter(|(_, call)| call.wish.replica == replica) {
            desk.remind(Duration::ZERO, Note::Wake(*id, call.ticket));
        }
    }

    fn unanswered(&mut self, question: u64, desk: &mut Desk<Note>) {
        match self.fleet.claim(question) {
            Some((_, For::Ask(id, ticket))) => {
                if let Some(call) = self.calls.get_mut(&id).filter(|call| call.ticket == ticket) {
                    call.stage = Stage::Waiting;
                    desk.remind(REPEAT, Note::Wake(id, ticket));
                }
            }
            Some((_, For::Extend(id, ticket))) => self.extended(id, ticket, false, desk),
            Some((_, For::Beat(_) | For::Nobody)) | None => {}
        }
    }

    /// A permit that was not used goes back.
    fn refund(&mut self, replica: usize, ticket: Ticket, is_alone: bool, desk: &mut Desk<Note>) {
        if let Some(shared) = self.fleet.shared(replica) {
            shared.refunded(ticket, desk.now);
        }
        match is_alone {
            true => self.ring(replica, desk),
            false => self.tell(replica, Op::Refund(ticket), desk),
        }
    }
}

impl Limiter for Perch {
    type Note = Note;

    fn begin(&mut self, desk: &mut Desk<Note>) {
        self.fleet.begin(desk);
    }

    fn want(&mut self, wish: &Wish, desk: &mut Desk<Note>) {
        let ticket = self.ticket(wish.replica);
        let pending = Pending {
            wish: *wish,
            ticket,
            tag: None,
            stage: Stage::Asking,
            asked: desk.now,
            is_alone: false,
            attempts: 0,
        };
        self.calls.insert(wish.call, pending);
        self.ask_anew(wish.call, desk);
    }

    fn connected(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if desk.now.since(call.asked) <= self.grace {
            return self.write(id, desk);
        }
        (call.stage, call.asked) = (Stage::Extending, desk.now);
        let (replica, ticket) = (call.wish.replica, call.ticket);
        let is_alone = call.is_alone;
        match self.fleet.shared(replica).filter(|_| is_alone) {
            Some(shared) => {
                let is_good = shared.extend_alone(ticket, desk.now);
                self.extended(id, ticket, is_good, desk);
            }
            None => {
                self.fleet.tell(replica, For::Extend(id, ticket), Op::Extend(ticket), desk);
            }
        }
    }

    fn answered(&mut self, id: CallId, verdict: Verdict, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get(&id) else { return };
        let (replica, ticket, is_alone) = (call.wish.replica, call.ticket, call.is_alone);
        let may_repeat = call.attempts < ATTEMPTS_MAX && call.wish.deadline > desk.now;
        let is_429 = verdict != Verdict::Accepted;
        if let Some(shared) = self.fleet.shared(replica) {
            shared.arrived(ticket, is_429, desk.now);
        }
        if !is_alone {
            self.tell(replica, Op::Arrived(ticket, is_429), desk);
        }
        match verdict {
            Verdict::Accepted => self.finish(id, End::Served, desk),
            Verdict::ProductLimited { retry_after } => {
                if let Some(shared) = self.fleet.shared(replica) {
                    shared.limited(PRODUCT, retry_after, desk.now);
                }
                self.tell(replica, Op::Limited(retry_after), desk);
                match may_repeat {
                    true => self.ask_anew(id, desk),
                    false => self.finish(id, End::Limited, desk),
                }
            }
            Verdict::IpLimited => {
                if let Some(shared) = self.fleet.shared(replica) {
                    shared.held(Scope::EgressIp, IP_PENALTY, desk.now);
                }
                self.tell(replica, Op::Hold(Scope::EgressIp, IP_PENALTY), desk);
                self.finish(id, End::Limited, desk);
            }
        }
    }

    fn hung_up(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.by_ticket.remove(&call.ticket);
        let (replica, ticket, is_alone) = (call.wish.replica, call.ticket, call.is_alone);
        match call.stage {
            // The answer is not known yet; what it brings is given back then.
            Stage::Asking | Stage::Written => {}
            Stage::Waiting => match self.fleet.shared(replica).filter(|_| is_alone) {
                Some(shared) => {
                    shared.cancel_alone(ticket, desk.now);
                    self.ring(replica, desk);
                }
                None => self.tell(replica, Op::Cancel(ticket), desk),
            },
            Stage::Connecting | Stage::Extending => self.refund(replica, ticket, is_alone, desk),
        }
    }

    fn reminded(&mut self, note: Note, desk: &mut Desk<Note>) {
        match note {
            Note::Wake(id, ticket) => {
                let is_due = |call: &&Pending| call.ticket == ticket && call.stage == Stage::Waiting;
                if self.calls.get(&id).filter(is_due).is_some() {
                    self.ask(id, desk);
                }
            }
            Note::AtStore(question, op) => self.fleet.at_store(question, &op, desk),
            Note::Back(question, reply) => self.hear(question, *reply, desk),
            Note::TimedOut(question) => self.unanswered(question, desk),
            Note::BeatDue(replica, due) => self.fleet.beat_due(replica, due, desk),
        }
    }

    fn fault(&mut self, step: Step, _: &mut Desk<Note>) {
        match step {
            Step::Crash(replica) => {
                self.fleet.crash(replica);
                self.calls.retain(|_, call| call.wish.replica != replica);
                self.by_ticket.retain(|ticket, _| ticket.of != incarnation(replica));
            }
            Step::StoreDown => self.fleet.store.is_up = false,
            Step::StoreUp => self.fleet.store.is_up = true,
            Step::StoreEmpty => self.fleet.store.forgets(),
        }
    }
}

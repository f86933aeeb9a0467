//! perch under load: the real ledger, with the calls of every replica driven as the engine drives
//! them. One replica has its ledger in process; several share one in a [`Store`].

use super::finch::Verdict;
use super::limiter::{CallId, Desk, End, Limiter, Wish};
use super::plan::{LimiterKind, Plan, Step};
use super::store::{Op, Reply, Store};
use crate::limit::beat::Incarnation;
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
}

/// Whom an answer of the store is for.
#[derive(Debug, Clone, Copy)]
enum For {
    Ask(CallId, Ticket),
    Extend(CallId, Ticket),
    Nobody,
}

/// A fleet of perch.
#[derive(Debug)]
pub(super) struct Perch {
    rules: Rules,
    names: Vec<CustomerId>,
    calls: BTreeMap<CallId, Pending>,
    by_ticket: HashMap<Ticket, CallId>,
    store: Store,
    is_shared: bool,
    is_gone: Vec<bool>,
    outstanding: BTreeMap<u64, (usize, For)>,
    next_question: u64,
    next_ticket: u64,
}

/// perch's rules for a run.
pub(super) fn rules(plan: &Plan) -> Rules {
    let mut rules =
        Rules::with_limits(PerProduct::from_fn(|product| (product == PRODUCT).then_some(plan.limit)));
    rules.pacing = plan.limiter != LimiterKind::PerchUnpaced;
    rules.share_percent = u32::from(plan.share);
    if !plan.is_arrival_bounded {
        rules.arrival_bound = None;
    }
    if let Some(limit) = plan.ip_limit {
        rules.ip.requests = NonZeroU32::new(limit / 5 * 4).unwrap_or(NonZeroU32::MIN);
    }
    rules
}

impl Perch {
    pub(super) fn new(plan: &Plan) -> Self {
        let rules = rules(plan);
        let customers = plan.workload.sources(plan.limit.get()).iter().map(|s| s.customer + 1).max();
        let name = |n| CustomerId::new(format!("customer-{n}")).expect("an id without blanks");
        Self {
            names: (0..customers.unwrap_or(0)).map(name).collect(),
            calls: BTreeMap::new(),
            by_ticket: HashMap::new(),
            is_shared: plan.replicas > 1,
            store: Store::new(rules.clone()),
            is_gone: vec![false; plan.replicas],
            outstanding: BTreeMap::new(),
            next_question: 0,
            next_ticket: 0,
            rules,
        }
    }

    fn ticket(&mut self, replica: usize) -> Ticket {
        self.next_ticket += 1;
        Ticket::new(Incarnation(replica as u64 + 1), self.next_ticket)
    }

    /// Puts a question to the ledger.
    fn tell(&mut self, replica: usize, whom: For, op: Op, desk: &mut Desk<Note>) {
        self.next_question += 1;
        let question = self.next_question;
        self.outstanding.insert(question, (replica, whom));
        if self.is_shared {
            desk.store_calls += 1;
            let delay = super::network::to_store(&mut desk.chance);
            desk.remind(delay, Note::AtStore(question, Box::new(op)));
            desk.remind(self.rules.call_timeout, Note::TimedOut(question));
        } else {
            let reply = self.store.does(&op, desk.now);
            let moves_others = reply.moves_others();
            desk.remind(Duration::ZERO, Note::Back(question, Box::new(reply)));
            if moves_others {
                self.ring(desk);
            }
        }
    }

    /// In one process, who is next is woken whenever something may have changed.
    fn ring(&mut self, desk: &mut Desk<Note>) {
        let head = self.store.head().and_then(|ticket| self.by_ticket.get(&ticket));
        if let Some(call) = head {
            let ticket = self.calls[call].ticket;
            desk.remind(Duration::ZERO, Note::Wake(*call, ticket));
        }
    }

    /// Asks for a permit. The patience may be over: what is free now can be had all the same.
    fn ask(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.stage = Stage::Asking;
        call.asked = desk.now;
        let ask = Ask {
            ticket: call.ticket,
            product: PRODUCT,
            customer: Some(self.names[call.wish.customer].clone()),
            priority: call.wish.priority,
            weight: NonZeroU32::MIN,
            patience: call.wish.deadline.since(desk.now),
            tag: call.tag,
        };
        let (replica, ticket) = (call.wish.replica, call.ticket);
        self.tell(replica, For::Ask(id, ticket), Op::Ask(ask), desk);
    }

    /// Asks for a permit for a further attempt, from the same place in line.
    fn ask_anew(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(replica) = self.calls.get(&id).map(|call| call.wish.replica) else { return };
        let ticket = self.ticket(replica);
        if let Some(call) = self.calls.get_mut(&id) {
            self.by_ticket.remove(&call.ticket);
            self.by_ticket.insert(ticket, id);
            call.ticket = ticket;
        }
        self.ask(id, desk);
    }

    fn finish(&mut self, id: CallId, end: End, desk: &mut Desk<Note>) {
        if let Some(call) = self.calls.remove(&id) {
            self.by_ticket.remove(&call.ticket);
            desk.finish(id, end);
        }
    }

    fn admitted(&mut self, id: CallId, ticket: Ticket, replica: usize, admission: Admission, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get_mut(&id).filter(|call| call.ticket == ticket) else {
            // The client hung up meanwhile.
            match admission {
                Admission::Granted { .. } => self.tell(replica, For::Nobody, Op::Refund(ticket), desk),
                Admission::Wait { .. } => self.tell(replica, For::Nobody, Op::Cancel(ticket), desk),
                Admission::Refused { .. } => {}
            }
            return;
        };
        match admission {
            Admission::Granted { tag } => {
                (call.stage, call.tag) = (Stage::Connecting, Some(tag));
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

    /// The connection is there and the permit is good.
    fn write(&mut self, id: CallId, desk: &mut Desk<Note>) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.stage = Stage::Written;
            call.attempts += 1;
            desk.write(id);
        }
    }

    /// No answer of the store.
    fn unanswered(&mut self, whom: For, desk: &mut Desk<Note>) {
        match whom {
            For::Ask(id, ticket) => {
                if let Some(call) = self.calls.get_mut(&id).filter(|call| call.ticket == ticket) {
                    call.stage = Stage::Waiting;
                    desk.remind(self.rules.stale / 2, Note::Wake(id, ticket));
                }
            }
            For::Extend(id, _) => self.ask_anew(id, desk),
            For::Nobody => {}
        }
    }
}

impl Limiter for Perch {
    type Note = Note;

    fn begin(&mut self, _: &mut Desk<Note>) {}

    fn want(&mut self, wish: &Wish, desk: &mut Desk<Note>) {
        let ticket = self.ticket(wish.replica);
        let pending =
            Pending { wish: *wish, ticket, tag: None, stage: Stage::Asking, asked: desk.now, attempts: 0 };
        self.calls.insert(wish.call, pending);
        self.by_ticket.insert(ticket, wish.call);
        self.ask(wish.call, desk);
    }

    fn connected(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if desk.now.since(call.asked) <= self.rules.grace {
            return self.write(id, desk);
        }
        (call.stage, call.asked) = (Stage::Extending, desk.now);
        let (replica, ticket) = (call.wish.replica, call.ticket);
        self.tell(replica, For::Extend(id, ticket), Op::Extend(ticket), desk);
    }

    fn answered(&mut self, id: CallId, verdict: Verdict, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.get(&id) else { return };
        let (replica, ticket, wish) = (call.wish.replica, call.ticket, call.wish);
        let may_repeat = call.attempts < ATTEMPTS_MAX && wish.deadline > desk.now;
        self.tell(replica, For::Nobody, Op::Arrived(ticket, verdict != Verdict::Accepted), desk);
        match verdict {
            Verdict::Accepted => self.finish(id, End::Served, desk),
            Verdict::ProductLimited { retry_after } => {
                self.tell(replica, For::Nobody, Op::Limited(retry_after), desk);
                match may_repeat {
                    true => self.ask_anew(id, desk),
                    false => self.finish(id, End::Limited, desk),
                }
            }
            Verdict::IpLimited => {
                self.tell(replica, For::Nobody, Op::Hold(Scope::EgressIp, IP_PENALTY), desk);
                self.finish(id, End::Limited, desk);
            }
        }
    }

    fn hung_up(&mut self, id: CallId, desk: &mut Desk<Note>) {
        let Some(call) = self.calls.remove(&id) else { return };
        self.by_ticket.remove(&call.ticket);
        let (replica, ticket) = (call.wish.replica, call.ticket);
        match call.stage {
            // The answer is not known yet; it will be given back when it comes.
            Stage::Asking | Stage::Written => {}
            Stage::Waiting => self.tell(replica, For::Nobody, Op::Cancel(ticket), desk),
            Stage::Connecting | Stage::Extending => self.tell(replica, For::Nobody, Op::Refund(ticket), desk),
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
            Note::AtStore(question, op) => {
                if let Some(reply) = self.store.hears(&op, desk.now) {
                    let delay = super::network::to_store(&mut desk.chance);
                    desk.remind(delay, Note::Back(question, Box::new(reply)));
                }
            }
            Note::Back(question, reply) => {
                let Some((replica, whom)) = self.outstanding.remove(&question) else { return };
                if self.is_gone[replica] {
                    return;
                }
                match (whom, *reply) {
                    (For::Ask(id, ticket), Reply::Admission(admission)) => {
                        self.admitted(id, ticket, replica, admission, desk);
                    }
                    (For::Extend(id, ticket), Reply::Extended(is_good)) => {
                        let Some(call) = self.calls.get(&id).filter(|call| call.ticket == ticket) else { return };
                        match is_good && desk.now.since(call.asked) <= self.rules.grace {
                            true => self.write(id, desk),
                            false => self.ask_anew(id, desk),
                        }
                    }
                    _ => {}
                }
            }
            Note::TimedOut(question) => {
                let Some((replica, whom)) = self.outstanding.remove(&question) else { return };
                if !self.is_gone[replica] {
                    self.unanswered(whom, desk);
                }
            }
        }
    }

    fn fault(&mut self, step: Step, _: &mut Desk<Note>) {
        match step {
            Step::Crash(replica) => {
                self.is_gone[replica] = true;
                self.calls.retain(|_, call| call.wish.replica != replica);
                self.by_ticket.retain(|ticket, _| ticket.of != Incarnation(replica as u64 + 1));
            }
            Step::StoreDown => self.store.is_up = false,
            Step::StoreUp => self.store.is_up = true,
            Step::StoreEmpty => self.store.forgets(),
        }
    }
}

//! The replicas of perch and the ledger they share: who carries which question where, and what is
//! heard of it. One replica has its ledger in process; several reach a [`Store`] over a network and
//! each is a [`Replica`] that knows what to do without it.

use super::limiter::{CallId, Desk};
use super::network;
use super::ours::{Note, PRODUCT};
use super::store::{Op, Store};
use crate::limit::beat::{Incarnation, Pulse};
use crate::limit::{OnOutage, Replica, Rules, Ticket};
use crate::types::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// Whom an answer of the ledger is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum For {
    /// A call that asked for a permit.
    Ask(CallId, Ticket),
    /// A call that extends its permit.
    Extend(CallId, Ticket),
    /// The replica's own heartbeat.
    Beat(u64),
    /// Nobody waits for it.
    Nobody,
}

/// One replica.
#[derive(Debug)]
struct Node {
    /// Its side of a shared ledger.
    shared: Option<Replica>,
    is_gone: bool,
    next_beat: Option<Moment>,
}

/// All replicas.
#[derive(Debug)]
pub(super) struct Fleet {
    rules: Rules,
    pub(super) store: Store,
    nodes: Vec<Node>,
    outstanding: BTreeMap<u64, (usize, For)>,
    next_question: u64,
}

/// The run of a replica.
pub(super) fn incarnation(replica: usize) -> Incarnation {
    Incarnation(replica as u64 + 1)
}

impl Fleet {
    pub(super) fn new(rules: Rules, replicas: usize) -> Self {
        let node = |replica: usize| Node {
            shared: (replicas > 1).then(|| {
                let name = format!("replica-{replica}");
                Replica::new(rules.clone(), name, incarnation(replica), OnOutage::Share, Moment::ZERO)
            }),
            is_gone: false,
            next_beat: None,
        };
        Self {
            nodes: (0..replicas).map(node).collect(),
            store: Store::new(rules.clone()),
            outstanding: BTreeMap::new(),
            next_question: 0,
            rules,
        }
    }

    /// The replica's side of a shared ledger, if it shares one.
    pub(super) fn shared(&mut self, replica: usize) -> Option<&mut Replica> {
        self.nodes[replica].shared.as_mut()
    }

    /// Whether the ledger is to be asked, and not the replica itself.
    pub(super) fn asks_ledger(&self, replica: usize, now: Moment) -> bool {
        self.nodes[replica].shared.as_ref().is_none_or(|shared| shared.must_ask_store(now))
    }

    /// Whoever is next where the replica's calls wait in one process with it.
    pub(super) fn head(&self, replica: usize) -> Option<Ticket> {
        match &self.nodes[replica].shared {
            None => self.store.head(),
            Some(shared) => shared.local().and_then(|ledger| ledger.head(PRODUCT)),
        }
    }

    pub(super) fn is_gone(&self, replica: usize) -> bool {
        self.nodes[replica].is_gone
    }

    pub(super) fn crash(&mut self, replica: usize) {
        self.nodes[replica].is_gone = true;
    }

    /// Puts a question to the ledger. Whether others may have moved up is known at once when it is
    /// in the same process.
    pub(super) fn tell(&mut self, replica: usize, whom: For, op: Op, desk: &mut Desk<Note>) -> bool {
        self.next_question += 1;
        let question = self.next_question;
        self.outstanding.insert(question, (replica, whom));
        if self.nodes[replica].shared.is_none() {
            let reply = self.store.does(&op, desk.now);
            let moves_others = reply.moves_others();
            desk.remind(Duration::ZERO, Note::Back(question, Box::new(reply)));
            return moves_others;
        }
        if !matches!(whom, For::Beat(_)) {
            desk.store_calls += 1;
        }
        let delay = network::to_store(&mut desk.chance);
        desk.remind(delay, Note::AtStore(question, Box::new(op)));
        desk.remind(self.rules.call_timeout, Note::TimedOut(question));
        false
    }

    /// A question is at the store.
    pub(super) fn at_store(&mut self, question: u64, op: &Op, desk: &mut Desk<Note>) {
        if let Some(reply) = self.store.hears(op, desk.now) {
            let delay = network::to_store(&mut desk.chance);
            desk.remind(delay, Note::Back(question, Box::new(reply)));
        }
    }

    /// Who waits for the answer to this question, if anybody still does.
    pub(super) fn claim(&mut self, question: u64) -> Option<(usize, For)> {
        let (replica, whom) = self.outstanding.remove(&question)?;
        (!self.is_gone(replica)).then_some((replica, whom))
    }

    /// The replicas begin, one shortly after the other.
    pub(super) fn begin(&mut self, desk: &mut Desk<Note>) {
        let replicas = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        for (place, node) in (0..).zip(&mut self.nodes).filter(|(_, node)| node.shared.is_some()) {
            let at = self.rules.heartbeat * place / replicas;
            node.next_beat = Some(desk.now + at);
            desk.remind(at, Note::BeatDue(place as usize, desk.now + at));
        }
    }

    /// It is time for a heartbeat, unless another time was agreed on since.
    pub(super) fn beat_due(&mut self, replica: usize, due: Moment, desk: &mut Desk<Note>) {
        let node = &mut self.nodes[replica];
        if node.is_gone || node.next_beat != Some(due) {
            return;
        }
        let Some(shared) = &mut node.shared else { return };
        let beat = shared.beat(desk.now);
        let number = beat.number;
        self.tell(replica, For::Beat(number), Op::Beat(Box::new(beat)), desk);
        self.plan_beat(replica, desk);
    }

    fn plan_beat(&mut self, replica: usize, desk: &mut Desk<Note>) {
        let node = &mut self.nodes[replica];
        let Some(due) = node.shared.as_ref().map(|shared| shared.beat_due().max(desk.now)) else { return };
        if node.next_beat != Some(due) || due == desk.now {
            node.next_beat = Some(due);
            desk.remind(due.since(desk.now), Note::BeatDue(replica, due));
        }
    }

    /// The answer to a heartbeat. `true`: from now on the ledger is asked, and was not before.
    pub(super) fn pulse(
        &mut self,
        replica: usize,
        number: u64,
        pulse: &Pulse,
        desk: &mut Desk<Note>,
    ) -> bool {
        let was_asking = self.asks_ledger(replica, desk.now);
        if let Some(shared) = self.shared(replica) {
            shared.pulse(number, pulse, desk.now);
        }
        self.plan_beat(replica, desk);
        !was_asking && self.asks_ledger(replica, desk.now)
    }
}

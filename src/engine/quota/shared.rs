//! The ledger in a store that all replicas share. What is decided is `limit::Replica`'s and the
//! script's; here are the connection, the heartbeat and the messages.
//!
//! A call that has no answer yet asks again with the same ticket, which costs nothing. What need not
//! be answered (arrivals, tickets given up) goes through an outbox; should it be lost, a permit stays
//! busy for a few seconds longer.

mod board;
mod seen;

use super::waiters::Waiters;
use super::{Clock, Mode};
use crate::limit::{self, Admission, Ask, Reason, Replica, Rules, Scope, Standing, Tag, Ticket};
use crate::store::redis::codec::{self, Call, Heard, Told};
use crate::store::redis::{Link, LinkError, Redis, Reply};
use crate::types::{Moment, Priority, Product};
use board::Board;
use parking_lot::Mutex;
use seen::{Seen, later};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// How soon a call asks again when the store gave no answer.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The longest wait for a connection, signing in included.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// How soon another connection is tried after one failed.
const CONNECT_AGAIN: Duration = Duration::from_millis(300);

/// How long a connection may leave every call without an answer before it is given up.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Messages that wait to be sent. More are dropped; each costs a permit a few seconds.
const OUTBOX_MAX: usize = 4096;

/// How often a message is tried that may be lost, and how soon again.
const NOTE_TRIES_MAX: u32 = 20;
const NOTE_AGAIN: Duration = Duration::from_millis(50);

/// How often a message is tried that must not be lost.
const TRIES_MAX: u32 = 30;

/// This replica's end of the shared ledger.
#[derive(Debug)]
pub(super) struct Shared {
    redis: Redis,
    clock: Clock,
    rules: Rules,
    /// The same as the script reads them.
    rules_text: Vec<u8>,
    replica: Mutex<Replica>,
    line: Mutex<Line>,
    seen: Mutex<Seen>,
    outbox: mpsc::Sender<Note>,
    board: Board,
    /// Rung when the heart has something to do before its time.
    nudge: Notify,
    mode: watch::Sender<Mode>,
}

/// The connection, while there is one.
#[derive(Debug, Default)]
struct Line {
    link: Option<Arc<Link>>,
    /// Since when no call on it had an answer.
    silent_since: Option<Moment>,
    /// The server's clock at the sending of a call: what it shows later, it shows at most so much later.
    server: Option<(u64, Moment)>,
    /// Whose clock that is.
    run: String,
}

impl Line {
    /// Another connection, perhaps to the same run of the server: then its clock is held to what it showed.
    fn join(&mut self, link: Link) {
        if self.run != link.run_id() {
            link.run_id().clone_into(&mut self.run);
            self.server = None;
        }
        (self.link, self.silent_since) = (Some(Arc::new(link)), None);
    }
}

/// A message that need not be answered.
#[derive(Debug)]
enum Note {
    Arrived { ticket: Ticket, product: Product, is_429: bool },
    GivenUp { ticket: Ticket, product: Product },
}

impl Shared {
    /// Begins; the heart and the outbox beat until `stop` says so.
    pub(super) fn start(
        redis: Redis,
        rules: Rules,
        clock: Clock,
        replica: Replica,
        waiters: Arc<Waiters>,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let (outbox, notes) = mpsc::channel(OUTBOX_MAX);
        let (board, posts) = Board::new(replica.incarnation(), stop.clone());
        let shared = Arc::new(Self {
            redis,
            clock,
            rules_text: codec::rules(&rules),
            rules,
            replica: Mutex::new(replica),
            line: Mutex::default(),
            seen: Mutex::new(Seen::nothing()),
            outbox,
            board,
            nudge: Notify::new(),
            mode: watch::Sender::new(Mode::Degraded),
        });
        tokio::spawn(shared.clone().post(notes));
        tokio::spawn(shared.clone().pin(posts));
        tokio::spawn(shared.clone().live(waiters, stop));
        shared
    }

    pub(super) fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// Asks the store, or, while that is out, whatever this replica may spend by itself.
    pub(super) async fn ask(&self, ask: &Ask, now: Moment) -> Admission {
        self.ask_openly(ask, now).await.0
    }

    /// The same, and whether the egress IP is open: neither held, nor waiting for the call that goes first after a hold.
    pub(super) async fn ask_openly(&self, ask: &Ask, now: Moment) -> (Admission, bool) {
        {
            let mut replica = self.replica.lock();
            if ask.tag.is_none() {
                replica.wanted(ask.product, now);
            }
            if !replica.must_ask_store(now) {
                return (unknown_place(ask, replica.ask_alone(ask, now)), replica.is_ip_open(now));
            }
        }
        let read = |reply: &Reply| codec::read_ask(reply, ask.product, &self.rules);
        let Ok((admission, standing, is_ip_open)) = self.call(codec::ask(ask), read).await else {
            return (no_answer(ask), self.seen.lock().is_ip_open);
        };
        {
            let mut seen = self.seen.lock();
            seen.note(ask.product, standing, self.clock.now());
            seen.is_ip_open = is_ip_open;
        }
        let admission = match admission {
            // Too late to be used: nothing was sent, so it may be asked for again at no cost.
            Admission::Granted { .. } if self.clock.now().since(now) > self.rules.grace => no_answer(ask),
            Admission::Granted { .. } => {
                self.replica.lock().granted(ask.ticket, ask.product, ask.priority, now);
                admission
            }
            Admission::Wait { .. } | Admission::Refused { .. } => admission,
        };
        (admission, is_ip_open)
    }

    pub(super) async fn extend(
        &self,
        ticket: Ticket,
        product: Product,
        priority: Priority,
        now: Moment,
    ) -> bool {
        {
            let mut replica = self.replica.lock();
            if !replica.must_ask_store(now) {
                return replica.extend_alone(ticket, now);
            }
        }
        let is_extended = self.call(codec::extend(ticket, product), codec::read_flag).await.unwrap_or(false);
        if is_extended {
            self.replica.lock().granted(ticket, product, priority, now);
        }
        is_extended
    }

    pub(super) fn arrived(&self, ticket: Ticket, product: Product, is_429: bool, now: Moment) {
        self.replica.lock().arrived(ticket, is_429, now);
        self.send(Note::Arrived { ticket, product, is_429 });
    }

    pub(super) fn give_up(&self, ticket: Ticket, product: Product, now: Moment) {
        {
            let mut replica = self.replica.lock();
            replica.cancel_alone(ticket, now);
            replica.refunded(ticket, now);
        }
        self.send(Note::GivenUp { ticket, product });
    }

    pub(super) fn hold(self: &Arc<Self>, scope: Scope, span: Duration, now: Moment) {
        self.replica.lock().held(scope, span, now);
        self.seen.lock().holds.push((scope, now + span));
        let shared = self.clone();
        tokio::spawn(async move { shared.insist(|left| codec::hold(scope, left), now + span).await });
    }

    pub(super) fn limited(self: &Arc<Self>, product: Product, retry_after: Option<Duration>, now: Moment) {
        self.replica.lock().limited(product, retry_after, now);
        let shared = self.clone();
        let until = now + Duration::from_secs(60);
        tokio::spawn(async move { shared.insist(|_| codec::limited(product, retry_after), until).await });
    }

    pub(super) fn standing(&self, product: Product, now: Moment) -> Option<Standing> {
        if let Some(local) = self.replica.lock().local() {
            return local.standing(product, now);
        }
        self.seen.lock().products[product].map(|(standing, at)| later(standing, now.since(at)))
    }

    pub(super) fn ip_standing(&self, now: Moment) -> Option<Standing> {
        if let Some(local) = self.replica.lock().local() {
            return Some(local.ip_standing(now));
        }
        self.seen.lock().ip.map(|(standing, at)| later(standing, now.since(at)))
    }

    pub(super) fn holds(&self, now: Moment) -> Vec<(Scope, Duration)> {
        let seen = self.seen.lock();
        let mut holds: Vec<(Scope, Duration)> = Vec::new();
        for &(scope, until) in &seen.holds {
            let left = until.since(now);
            match holds.iter_mut().find(|(other, _)| *other == scope) {
                Some((_, span)) => *span = left.max(*span),
                None if !left.is_zero() => holds.push((scope, left)),
                None => {}
            }
        }
        holds
    }

    /// The last beat: every permit that was not used is free, and so is the lease.
    pub(super) async fn leave(&self) {
        let beat = self.replica.lock().leave(self.clock.now());
        let _ = self.call(codec::beat(&beat), |reply| codec::read_beat(reply, &self.rules)).await;
    }

    fn send(&self, note: Note) {
        if self.outbox.try_send(note).is_err() {
            tracing::debug!(
                "a message to the quota's store was dropped; a permit stays busy a little longer"
            );
        }
    }

    /// One call on the connection that there is.
    async fn call<T>(
        &self,
        what: Call,
        read: impl FnOnce(&Reply) -> Result<Heard<T>, LinkError>,
    ) -> Result<T, LinkError> {
        let sent = self.clock.now();
        let (link, expected) = {
            let line = self.line.lock();
            let link = line.link.clone().ok_or_else(|| LinkError::Broken("there is none".to_owned()))?;
            let at_most = |(server, at): (u64, Moment)| {
                let passed = sent.since(at) + self.rules.call_timeout;
                server.saturating_add(u64::try_from(passed.as_micros()).unwrap_or(u64::MAX))
            };
            (link, line.server.map_or(0, at_most))
        };
        let head = codec::head(link.run_id(), expected, &self.rules_text);
        let answer = link.call(&codec::args(&head, &what), self.rules.call_timeout).await;
        match answer.and_then(|reply| read(&reply)) {
            Ok(Heard::Told(Told { now, what })) => {
                self.with_line_of(&link, |line| (line.silent_since, line.server) = (None, Some((now, sent))));
                Ok(what)
            }
            Ok(Heard::Skewed { .. }) => {
                self.distrust(&link).await;
                Err(LinkError::Unwilling("its clock was set ahead"))
            }
            Err(error) => {
                self.suspect(&link, &error, sent);
                Err(error)
            }
        }
    }

    fn with_line_of(&self, link: &Arc<Link>, act: impl FnOnce(&mut Line)) {
        let mut line = self.line.lock();
        if line.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            act(&mut line);
        }
    }

    /// What the lack of an answer tells of the connection.
    fn suspect(&self, link: &Arc<Link>, error: &LinkError, sent: Moment) {
        self.with_line_of(link, |line| match error {
            LinkError::BadReply(what) => {
                tracing::error!(what, "the quota's store answered what it should not");
            }
            LinkError::TimedOut
                if self.clock.now().since(*line.silent_since.get_or_insert(sent)) < SILENCE_MAX => {}
            LinkError::TimedOut
            | LinkError::Moved
            | LinkError::Loading
            | LinkError::ReadOnly
            | LinkError::Refused(_)
            | LinkError::Unwilling(_)
            | LinkError::Broken(_) => {
                tracing::debug!(error = %error, "the connection to the quota's store is given up");
                (line.link, line.silent_since) = (None, None);
                self.nudge.notify_one();
            }
        });
    }

    /// The server's clock went ahead: by it, permits have cooled that have not. All is learnt anew.
    async fn distrust(&self, link: &Arc<Link>) {
        tracing::warn!("the clock of the quota's store was set ahead; what was sent is learnt anew");
        let (sent, call) = (self.clock.now(), codec::skew());
        let head = codec::head(link.run_id(), 0, &self.rules_text);
        let answer = link.call(&codec::args(&head, &call), self.rules.call_timeout).await;
        if let Ok(Heard::Told(Told { now, .. })) = answer.and_then(|reply| codec::read_done(&reply)) {
            self.with_line_of(link, |line| line.server = Some((now, sent)));
        }
    }

    /// Tells the store until it has heard it, or it is of no use any more.
    async fn insist(&self, what: impl Fn(Duration) -> Call, until: Moment) {
        for _ in 0..TRIES_MAX {
            let left = until.since(self.clock.now());
            if left.is_zero() || self.call(what(left), codec::read_done).await.is_ok() {
                return;
            }
            tokio::time::sleep(ASK_AGAIN * 5).await;
        }
    }

    async fn post(self: Arc<Self>, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.recv().await {
            // All of them may be said twice. Without an arrival a permit stays busy for seconds.
            for _ in 0..NOTE_TRIES_MAX {
                if !self.replica.lock().must_ask_store(self.clock.now()) {
                    break; // The store learns it by a replay, if at all.
                }
                if self.say(&note).await.is_ok() {
                    break;
                }
                tokio::time::sleep(NOTE_AGAIN).await;
            }
        }
    }

    async fn say(&self, note: &Note) -> Result<(), LinkError> {
        match *note {
            Note::Arrived { ticket, product, is_429 } => {
                let read = |reply: &Reply| codec::read_arrived(reply, product, &self.rules);
                let standing = self.call(codec::arrived(ticket, product, is_429), read).await?;
                self.seen.lock().note(product, standing, self.clock.now());
            }
            Note::GivenUp { ticket, product } => {
                // Whichever it is: one that waits, or one whose grant was not heard of.
                self.call(codec::cancel(ticket), codec::read_flag).await?;
                self.call(codec::refund(ticket, product), codec::read_flag).await?;
            }
        }
        Ok(())
    }

    /// The heart: connects, beats, and says when the mode changes.
    async fn live(self: Arc<Self>, waiters: Arc<Waiters>, mut stop: watch::Receiver<bool>) {
        let mut trouble: Option<LinkError> = None;
        let mut connected: Option<Moment> = None;
        loop {
            let has_link = self.line.lock().link.is_some();
            if !has_link {
                // A link that was made a moment ago and is gone would be made again and again without a pause.
                let lasted = connected.map(|at| self.clock.now().since(at));
                if let Some(rest) = lasted.and_then(|lasted| CONNECT_AGAIN.checked_sub(lasted)) {
                    tokio::time::sleep(rest).await;
                }
                match self.redis.connect(CONNECT_WITHIN).await {
                    Ok(link) => {
                        let server = link.server();
                        tracing::info!(store = %self.redis, version = server.version, "the quota's store is connected");
                        self.line.lock().join(link);
                        connected = Some(self.clock.now());
                        trouble = None;
                    }
                    Err(error) => {
                        if trouble.as_ref() != Some(&error) {
                            tracing::warn!(store = %self.redis, error = %error, "the quota's store cannot be had");
                        }
                        trouble = Some(error);
                    }
                }
            }
            self.beat(&waiters).await;
            self.tell_mode();
            let has_link = self.line.lock().link.is_some();
            let pause = match has_link {
                true => self.replica.lock().beat_due().since(self.clock.now()),
                false => CONNECT_AGAIN,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.nudge.notified() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    async fn beat(self: &Arc<Self>, waiters: &Waiters) {
        let now = self.clock.now();
        if self.line.lock().link.is_none() || self.replica.lock().beat_due() > now {
            return;
        }
        let beat = self.replica.lock().beat(now);
        let answer = self.call(codec::beat(&beat), |reply| codec::read_beat(reply, &self.rules)).await;
        let Ok((pulse, standings)) = answer else { return };
        let now = self.clock.now();
        let is_taken = self.replica.lock().pulse(beat.number, &pulse, now);
        if !pulse.is_known {
            tracing::error!(
                member = beat.member,
                "another perch uses this replica's name; give each its own with limits.member"
            );
        }
        if is_taken {
            // A store that has lost what was sent has lost the holds as well.
            let known = self.holds(now);
            for &(scope, span) in known.iter().filter(|_| pulse.wants_replay) {
                self.hold(scope, span, now);
            }
            for &(scope, span) in &standings.holds {
                self.replica.lock().held(scope, span, now);
            }
            self.seen.lock().renew(&standings, now);
        }
        pulse.wakes.iter().for_each(|ticket| waiters.ring(*ticket));
    }

    fn tell_mode(&self) {
        let now = self.clock.now();
        let stands = self.replica.lock().mode(now);
        let mode = match stands {
            limit::Mode::Joined => Mode::Redis,
            limit::Mode::Joining | limit::Mode::Silent { .. } | limit::Mode::Sharing | limit::Mode::Spent => {
                Mode::Degraded
            }
        };
        let is_new = self.mode.send_if_modified(|before| std::mem::replace(before, mode) != mode);
        match mode {
            Mode::Redis if is_new => tracing::info!(store = %self.redis, "quota is shared by all replicas"),
            Mode::Degraded if is_new => {
                tracing::warn!(store = %self.redis, "the quota's store is out; see limits.on_outage");
            }
            Mode::Redis | Mode::Degraded | Mode::Memory => {}
        }
    }
}

/// The store gave no answer in time; the same ticket asks again.
fn no_answer(ask: &Ask) -> Admission {
    if ask.patience < ASK_AGAIN {
        let scope = Scope::Product(ask.product);
        return Admission::Refused { after: ASK_AGAIN * 5, scope, reason: Reason::NoLedger };
    }
    Admission::Wait { after: ASK_AGAIN, tag: ask.tag.unwrap_or(Tag::UNKNOWN) }
}

/// A replica that is alone says nothing of places in the store's lines.
fn unknown_place(ask: &Ask, admission: Admission) -> Admission {
    let shown = ask.tag.unwrap_or(Tag::UNKNOWN);
    match admission {
        Admission::Granted { .. } => Admission::Granted { tag: shown },
        Admission::Wait { after, .. } => Admission::Wait { after: after.min(LOOK_EVERY), tag: shown },
        refused @ Admission::Refused { .. } => refused,
    }
}

/// How long somebody who waits for the store sleeps at a time: the store may be back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

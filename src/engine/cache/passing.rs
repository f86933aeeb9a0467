//! What replicas with one store pass to each other: answers, sealed, and which of them reads what now. A connection of
//! its own, so that the quota never waits for it; while it is out, each replica is by itself.

use crate::engine::call::Sent;
use crate::policy::cache::{Name, Record};
use crate::store::redis::answers::{self, Ask, Asked, Call, Place, Stage, read_asked, read_flag};
use crate::store::redis::{Link, LinkError, Redis, Reply};
use crate::types::ConnectionId;
use crate::vault::Vault;
use crate::vault::answers::{PASSED_BYTES_MAX, PassingKeys};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long a question may take. A call that gets no answer is sent.
const ASK_WITHIN: Duration = Duration::from_millis(250);
/// How long passing an answer on may take: it is much larger than a question.
const PASS_WITHIN: Duration = Duration::from_secs(1);
/// The longest wait for a connection, and how soon another is tried after one failed.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
const CONNECT_AGAIN: Duration = Duration::from_millis(300);
/// How long a reader of whom nothing more is heard is believed to read, and how often it is heard of.
const LEASE: Duration = Duration::from_secs(3);
const HOLD_EVERY: Duration = Duration::from_secs(1);
/// The most connections whose change the store has not heard of yet; beyond them it is told that all have changed.
const UNTOLD_MAX: usize = 1_000;
/// How much longer than anything is kept a change is remembered: longer than any call takes.
const CALL_MAX: Duration = Duration::from_secs(60 * 60);

/// The way to the other replicas.
#[derive(Debug)]
pub struct Passing {
    redis: Redis,
    state: watch::Sender<State>,
    /// Begins the names of this replica's readings.
    run: String,
    next: AtomicU64,
    bytes_max: usize,
    change_span: Duration,
    untold: Mutex<Untold>,
    tell: Notify,
}

#[derive(Debug, Clone)]
enum State {
    /// The first connection is being made; a call waits for it a moment.
    Joining,
    Up(Arc<Link>),
    Out,
}

/// Changes that the store has not heard of.
#[derive(Debug, Default)]
struct Untold {
    all: bool,
    connections: HashMap<ConnectionId, u64>,
    turn: u64,
}

impl Passing {
    /// Begins; a connection is kept until `stop` says so. `redis` is the way to the store with the script of
    /// [`answers::SCRIPT`], `run` names this run of this replica, answers of `lifetime` at the longest are kept, of
    /// `bytes_max` together.
    pub fn start(
        redis: Redis,
        run: String,
        (lifetime, bytes_max): (Duration, usize),
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let passing = Arc::new(Self {
            redis,
            state: watch::Sender::new(State::Joining),
            run,
            next: AtomicU64::new(1),
            bytes_max,
            change_span: lifetime + CALL_MAX,
            untold: Mutex::default(),
            tell: Notify::new(),
        });
        for task in [Task::Connect, Task::Tell] {
            let (passing, mut stop) = (Arc::clone(&passing), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    never = passing.work(task) => match never {},
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        }
        passing
    }

    async fn work(&self, task: Task) -> Infallible {
        match task {
            Task::Connect => self.connect().await,
            Task::Tell => self.tell_all().await,
        }
    }

    async fn connect(&self) -> Infallible {
        let mut is_told = false;
        loop {
            match self.redis.connect(CONNECT_WITHIN).await {
                Ok(link) => {
                    is_told = false;
                    self.state.send_replace(State::Up(Arc::new(link)));
                    self.tell.notify_one();
                    // The sender lives in `self`, so the channel cannot close.
                    let _ = self.state.subscribe().wait_for(|state| matches!(state, State::Out)).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            store = %self.redis, error = %error,
                            "replicas cannot pass answers to each other; each keeps its own"
                        );
                    }
                    self.state.send_replace(State::Out);
                    sleep(CONNECT_AGAIN).await;
                }
            }
        }
    }

    async fn call(&self, call: &Call, within: Duration) -> Result<Reply, LinkError> {
        let out = || LinkError::Broken("there is no connection".to_owned());
        let deadline = Instant::now() + within;
        let mut state = self.state.subscribe();
        let joined = timeout(within, state.wait_for(|state| !matches!(state, State::Joining))).await;
        let link = match joined.map_err(|_| LinkError::TimedOut)?.map_err(|_| out())?.clone() {
            State::Up(link) => link,
            State::Joining | State::Out => return Err(out()),
        };
        let words: Vec<&[u8]> = call.iter().map(Vec::as_slice).collect();
        let answer = link.call(&words, deadline.saturating_duration_since(Instant::now())).await;
        match &answer {
            Ok(_) => {}
            Err(LinkError::BadReply(what)) => {
                tracing::error!(what, "the store of passed answers said what it should not");
            }
            Err(error) => {
                tracing::debug!(error = %error, "the connection to the store of passed answers is given up");
                self.state.send_if_modified(|state| {
                    let is_current = matches!(state, State::Up(current) if Arc::ptr_eq(current, &link));
                    if is_current {
                        *state = State::Out;
                    }
                    is_current
                });
            }
        }
        answer
    }

    /// A reading of this call; `None` while others may not know how this connection has changed.
    pub(super) fn begin(
        self: &Arc<Self>,
        vault: &Vault,
        name: &Name,
        connection: &ConnectionId,
    ) -> Option<Reading> {
        {
            let untold = self.untold.lock();
            if untold.all || untold.connections.contains_key(connection) {
                return None;
            }
        }
        let keys = vault.passing_keys();
        let place = Place { name: hex(&keys.name(&[name.bytes()])), connection: digest(connection) };
        let me = format!("{}-{}", self.run, self.next.fetch_add(1, Ordering::Relaxed));
        let (epoch, follows, leads) = (None, None, false);
        Some(Reading { passing: Arc::clone(self), keys, place, me, epoch, follows, leads })
    }

    /// A connection's data has changed. When this returns the store has heard of it, or is out; then it is told later, and
    /// until that nothing of the connection is taken from there.
    pub(super) async fn moved(&self, connection: &ConnectionId) {
        let turn = {
            let mut untold = self.untold.lock();
            untold.turn += 1;
            let turn = untold.turn;
            if untold.connections.len() >= UNTOLD_MAX && !untold.connections.contains_key(connection) {
                untold.all = true;
            } else {
                untold.connections.insert(connection.clone(), turn);
            }
            turn
        };
        if !self.tell_of(connection, turn).await {
            self.tell.notify_one();
        }
    }

    async fn tell_of(&self, connection: &ConnectionId, turn: u64) -> bool {
        let call = answers::moved(&digest(connection), self.change_span);
        let is_told = self.call(&call, ASK_WITHIN).await.is_ok();
        let mut untold = self.untold.lock();
        if is_told && untold.connections.get(connection) == Some(&turn) {
            untold.connections.remove(connection);
        }
        is_told
    }

    /// Tells what the store has not heard of, as soon as it is there.
    async fn tell_all(&self) -> Infallible {
        loop {
            self.tell.notified().await;
            loop {
                let (all, next, turn) = {
                    let untold = self.untold.lock();
                    let next = untold.connections.iter().next().map(|(id, turn)| (id.clone(), *turn));
                    (untold.all, next, untold.turn)
                };
                let is_told = match (all, next) {
                    (true, _) => {
                        let is_told = self.call(&answers::all_moved(), ASK_WITHIN).await.is_ok();
                        let mut untold = self.untold.lock();
                        if is_told && untold.turn == turn {
                            untold.all = false;
                            untold.connections.clear();
                        }
                        is_told
                    }
                    (false, Some((connection, turn))) => self.tell_of(&connection, turn).await,
                    (false, None) => break,
                };
                if !is_told {
                    sleep(CONNECT_AGAIN).await;
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Task {
    Connect,
    Tell,
}

/// One call's business with the other replicas.
pub(super) struct Reading {
    passing: Arc<Passing>,
    keys: PassingKeys,
    place: Place,
    me: String,
    epoch: Option<String>,
    follows: Option<String>,
    leads: bool,
}

/// What a question finds.
pub(super) enum Found {
    /// What is kept here holds.
    Same,
    /// An answer, of so long ago, kept for so much longer.
    Answer { record: Record<Vec<u8>>, is_kept: bool, age: Duration, left: Duration },
    /// Another one reads it, and is so far.
    Wait(Stage),
    /// Nothing: the call is sent.
    Nothing,
}

impl Reading {
    /// The epoch in which this was asked.
    pub(super) fn epoch(&self) -> Option<&str> {
        self.epoch.as_deref()
    }

    /// Asks for an answer; `None` when the store gives none.
    pub(super) async fn ask(
        &mut self,
        stage: Stage,
        have: Option<&str>,
        (looks, claims): (bool, bool),
    ) -> Option<Found> {
        let (place, me, follows) = (&self.place, self.me.as_str(), self.follows.as_deref());
        let call = answers::ask(&Ask { place, me, lease: LEASE, stage, have, looks, claims, follows });
        let asked = self.passing.call(&call, ASK_WITHIN).await.and_then(read_asked).ok()?;
        Some(match asked {
            Asked::Same => Found::Same,
            Asked::Wait { who, stage, epoch } => {
                (self.follows, self.epoch) = (Some(who), Some(epoch));
                Found::Wait(stage)
            }
            Asked::Lead(epoch) => {
                (self.leads, self.epoch) = (true, Some(epoch));
                Found::Nothing
            }
            Asked::Alone(epoch) => {
                self.epoch = Some(epoch);
                Found::Nothing
            }
            Asked::Answer { is_kept, epoch, age, left, answer } => {
                self.epoch = Some(epoch);
                let opened = self.keys.open(&self.aad(), &answer);
                match opened.and_then(|bytes| Record::read(&bytes)) {
                    Some(record) => Found::Answer { record, is_kept, age, left },
                    None => {
                        tracing::error!(store = %self.passing.redis, "an answer in the store was not sealed by a replica of this vault");
                        Found::Nothing
                    }
                }
            }
        })
    }

    /// Says again and again that the reader is there, and how far, for as long as this is polled.
    pub(super) async fn hold(&self, stage: Stage, sent: &Sent) -> Infallible {
        if !self.leads {
            return std::future::pending().await;
        }
        loop {
            let is_sent = sent.is_admitted();
            tokio::select! {
                () = sent.admitted(), if !is_sent => {}
                () = sent.waiting(), if is_sent => {}
                () = sleep(HOLD_EVERY) => {}
            }
            let stage = if sent.is_admitted() { Stage::Sent } else { stage };
            let call = answers::hold(&self.place, &self.me, LEASE, stage);
            // Should the claim be lost, the answer is still this call's own.
            let _ = self.passing.call(&call, ASK_WITHIN).await;
        }
    }

    /// Passes an answer on: to all for `span`, or to those who wait for it.
    pub(super) async fn pass(&self, record: &Record<bytes::Bytes>, span: Option<Duration>) {
        let Some(epoch) = self.epoch.as_deref() else { return };
        if span.is_none() {
            if !self.leads {
                return;
            }
            let asked = self.passing.call(&answers::done(&self.place, &self.me), ASK_WITHIN).await;
            // Nobody waits: then it does not leave this process.
            if !asked.and_then(|reply| read_flag(&reply)).unwrap_or(false) {
                return;
            }
        }
        let sealed = (record.body.len() < PASSED_BYTES_MAX)
            .then(|| self.keys.seal(&self.aad(), &record.to_bytes()?))
            .flatten();
        let Some(sealed) = sealed else { return self.fail(true).await };
        let put = answers::put(&self.place, (&self.me, epoch), span, self.passing.bytes_max, sealed);
        let _ = self.passing.call(&put, PASS_WITHIN).await;
    }

    /// There is nothing to pass on: whoever waits goes by itself, or, when nothing was sent, one of them reads for all.
    pub(super) async fn fail(&self, was_sent: bool) {
        if self.leads {
            let _ = self.passing.call(&answers::fail(&self.place, &self.me, was_sent), ASK_WITHIN).await;
        }
    }

    /// What a sealed answer is bound to.
    fn aad(&self) -> [&[u8]; 3] {
        [b"perch.answer", self.place.name.as_bytes(), self.place.connection.as_bytes()]
    }
}

/// The name of a connection's changes: the same for replicas of all vaults that share a store.
fn digest(connection: &ConnectionId) -> String {
    hex(&Sha256::new().chain_update(b"perch/v1/connection\0").chain_update(connection.as_str()).finalize())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a text cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

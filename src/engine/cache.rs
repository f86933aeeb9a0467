//! The verb *keep*: a read that was answered lately is answered from memory, here or by another replica; one that another
//! replica makes now is waited for. Whether an answer may be kept, and for whom, is `policy::cache`'s to say.
//!
//! Who may have an answer is decided before it is looked for, and what is known against a login or a connection goes
//! before what is kept of it. Whatever changes a connection's data moves it on: what was asked for before is not served
//! afterwards, here at once, and by replicas that share a store as soon as that has heard of it.

mod keep;
mod passing;

pub use passing::Passing;

use super::Engine;
use super::call::{Answer, AnswerBody, Call, Caller, Client, Ended, Identity};
use super::reply::put;
use super::resolve::in_time;
use super::shield::login_of;
use super::warm::Warming;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::finch::headers::{
    PERCH_ATTEMPTS, PERCH_CACHE, PERCH_IDEMPOTENCY_KEY, PERCH_REQUEST_ID, PERCH_WAIT_MS, RATE_LIMIT,
    RATE_LIMIT_POLICY,
};
use crate::policy::batch::{self, BatchReport};
use crate::policy::cache::{
    self, Asked as Question, Began, ENTRY_BYTES, Facts, Lifetimes, Name, New, Record, Shelf, Wishes,
};
use crate::policy::freshness::Freshness;
use crate::policy::headers;
use crate::policy::paging::{self, Cut};
use crate::store::redis::answers::Stage;
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::telemetry::metrics::{Looked, Merged};
use crate::types::{ConnectionId, Moment, Priority};
use crate::vault::{Status, VaultError};
use bytes::Bytes;
use http::header::AGE;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use passing::{Found as Passed, Reading};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// Headers that each call has of its own.
const OWN: [&str; 7] =
    [PERCH_REQUEST_ID, PERCH_ATTEMPTS, PERCH_WAIT_MS, PERCH_CACHE, RATE_LIMIT, RATE_LIMIT_POLICY, "age"];

/// How soon a call looks again for the answer that another replica reads, at first and at most.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LOOK_AGAIN_MAX: Duration = Duration::from_millis(100);

/// How far the clocks of replicas may be apart before an answer is not believed to be as young as its store says.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Everything that is kept of answers.
#[derive(Debug)]
pub struct Answers {
    lifetimes: Lifetimes,
    shelf: Mutex<Shelf<Arc<Kept>>>,
    passing: Option<Arc<Passing>>,
    /// New connections whose first data is fetched; `None` when that is not wanted.
    pub(super) warming: Option<Warming>,
}

impl Answers {
    /// Nothing yet. What is kept takes `bytes_max` at most.
    pub fn new(lifetimes: Lifetimes, bytes_max: usize, warms: bool, passing: Option<Arc<Passing>>) -> Self {
        let warming = warms.then(Warming::default);
        Self { lifetimes, shelf: Mutex::new(Shelf::new(bytes_max)), passing, warming }
    }

    /// How long answers of these products are kept.
    pub(super) fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// How often this connection has changed here: who asks after a change does not share what was asked before it.
    pub(super) fn turn(&self, connection: &ConnectionId) -> u64 {
        self.shelf.lock().turn(connection)
    }

    fn is_used(&self) -> bool {
        self.passing.is_some() || self.lifetimes.longest().is_some()
    }
}

/// An answer that is kept.
#[derive(Debug)]
struct Kept {
    record: Record<Bytes>,
    batch: Option<BatchReport>,
    cut: Option<Cut>,
    /// The epoch in which it was asked for, of replicas that share a store; `None` when that was out.
    epoch: Option<String>,
    /// How old it was when it came here, and when that was.
    came: (Duration, Moment),
}

impl Kept {
    fn age(&self, now: Moment) -> Duration {
        self.came.0 + now.since(self.came.1)
    }

    fn bytes(&self) -> usize {
        let headers = self.record.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        let ids = self.record.finch_request_id.iter().map(|id| id.as_str().len());
        ENTRY_BYTES + self.record.body.len() + headers.chain(ids).sum::<usize>()
    }
}

/// What a call looks for.
struct Sought {
    name: Name,
    connection: ConnectionId,
    /// The version of the connection's token: with another one it may be somebody else's data.
    version: u64,
    wishes: Wishes,
    began: Began,
    /// How long its answer is kept; `None` when it is not.
    lifetime: Option<Duration>,
    /// Whether it shares one reading with other replicas.
    joins: bool,
    stage: Stage,
}

/// What a call finds.
enum Found {
    Answer(Answer),
    /// Nothing: it is sent.
    Nothing(Option<Reading>),
}

impl Engine {
    /// Carries out a read of an employer's data, unless its answer is at hand; anything else as it is.
    pub(super) async fn cached(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Answer, Ended> {
        let Some(sought) = self.sought(call, endpoint, caller, line).await else {
            return Box::pin(self.carry_whole(call, endpoint, caller, (client, line))).await;
        };
        let reading = match self.look(&sought, (call, endpoint), caller, (&mut *client, &mut *line)).await? {
            Found::Answer(answer) => return Ok(answer),
            Found::Nothing(reading) => reading,
        };
        let ended = {
            let carrying = Box::pin(self.carry_whole(call, endpoint, caller, (client, &mut *line)));
            match &reading {
                Some(reading) => tokio::select! {
                    biased;
                    ended = carrying => ended,
                    never = reading.hold(sought.stage, &caller.sent) => match never {},
                },
                None => carrying.await,
            }
        };
        let mut ended = self.keep(&sought, endpoint, reading, ended, line).await;
        if let (Ok(answer), Some(_)) = (&mut ended, sought.lifetime) {
            let looked = if sought.wishes.takes { Looked::Miss } else { Looked::Bypass };
            self.mark(answer, looked, line);
        }
        ended
    }

    /// What a call looks for; `None` when nothing of its kind is kept or shared.
    async fn sought(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        line: &mut AccessLine,
    ) -> Option<Sought> {
        let answers = &self.answers;
        let lifetime = answers.lifetimes.of(endpoint.product);
        let joins = answers.passing.is_some() && self.settings.now().coalesce;
        if !cache::is_data(endpoint) || (lifetime.is_none() && !joins) {
            return None;
        }
        let mut wishes = cache::wishes(&call.headers);
        // Who names a call wants that very exchange.
        wishes.takes &= !call.headers.contains_key(PERCH_IDEMPOTENCY_KEY);
        let began = answers.shelf.lock().begin();
        let identity = self.resolve(call, endpoint, caller, line).await.ok()?;
        let Identity::Connection(entry) = &identity else { return None };
        let (connection, version) = (entry.facts.connection_id.clone(), entry.facts.version);
        let is_ill = entry.facts.status != Status::Active
            || login_of(call, endpoint, &identity).is_some_and(|(login, entry)| {
                self.outlook.shield.lock().case(&login, entry.facts.version).is_some()
            });
        if is_ill {
            // Its customer has something to do, and nothing from memory must hide it.
            (wishes.takes, wishes.keeps) = (false, false);
        }
        let question = Question {
            connection: &connection,
            method: endpoint.method.as_str(),
            path: &call.path,
            query: call.query.as_deref(),
            to_finch: &headers::to_finch(&call.headers),
            repair: caller.repair,
            body: &call.body,
        };
        let stage = match caller.priority {
            Priority::Interactive => Stage::Interactive,
            Priority::Batch => Stage::Batch,
        };
        Some(Sought { name: question.name(), connection, version, wishes, began, lifetime, joins, stage })
    }

    /// Looks for an answer: here, at the other replicas, and with one of them that reads it now.
    async fn look(
        &self,
        sought: &Sought,
        (call, endpoint): (&Call, &'static Endpoint),
        caller: &Caller,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Found, Ended> {
        let here = self.kept_here(sought);
        let hit = |here: Option<Arc<Kept>>, line: &mut AccessLine| match here {
            Some(kept) => Found::Answer(self.serve_kept(&kept, (Looked::Hit, Merged::Cached), line)),
            None => Found::Nothing(None),
        };
        let passing = self.answers.passing.as_ref().filter(|_| sought.wishes.takes || sought.wishes.keeps);
        let Some(passing) = passing else { return Ok(hit(here, line)) };
        let Some(mut reading) = passing.begin(&self.vault, &sought.name, &sought.connection) else {
            return Ok(hit(here, line));
        };
        let have = here.as_ref().and_then(|kept| kept.epoch.as_deref());
        let mut waiting = None;
        let mut pause = LOOK_AGAIN;
        let found;
        loop {
            let asked = reading.ask(sought.stage, have, (sought.wishes.takes, sought.joins)).await;
            let stage = match asked {
                // Without the others, what is here is what there is.
                None | Some(Passed::Same) => {
                    found = hit(here, line);
                    break;
                }
                Some(Passed::Answer { record, is_kept, age, left }) => {
                    let passed = (record, is_kept);
                    // Whoever has waited is looked at again, as whoever sends is.
                    if waiting.is_some() && !self.is_still(call, endpoint, caller, sought, line).await {
                        found = Found::Nothing(Some(reading));
                        break;
                    }
                    found = match self.take(sought, endpoint, &reading, passed, (age, left), line) {
                        Some(answer) => Found::Answer(answer),
                        None => Found::Nothing(Some(reading)),
                    };
                    break;
                }
                Some(Passed::Nothing) => {
                    found = Found::Nothing(Some(reading));
                    break;
                }
                Some(Passed::Wait(stage)) => stage,
            };
            let is_sent = stage == Stage::Sent;
            // As among the calls of one replica: not behind one that is less urgent, and for another's admission no
            // longer than for one's own.
            if !is_sent && (stage > sought.stage || line.wait >= caller.patience) {
                found = Found::Nothing(Some(reading));
                break;
            }
            waiting.get_or_insert_with(|| self.telemetry.metrics.merges.wait());
            match is_sent {
                true if !caller.sent.is_admitted() => caller.sent.admit(),
                false if caller.sent.is_admitted() => caller.sent.waits(),
                true | false => {}
            }
            let began = Instant::now();
            let left = if is_sent { pause } else { pause.min(caller.patience.saturating_sub(line.wait)) };
            let is_over = tokio::select! {
                biased;
                () = client.gone() => return Err(Ended::Abandoned),
                () = self.drain.closing() => true,
                () = sleep(left) => false,
            };
            *(if is_sent { &mut line.finch } else { &mut line.wait }) += began.elapsed();
            if is_over {
                found = Found::Nothing(None);
                break;
            }
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
        if matches!(found, Found::Nothing(_)) && caller.sent.is_admitted() {
            caller.sent.waits();
        }
        Ok(found)
    }

    /// Whether the call may still be answered with what it looked for.
    async fn is_still(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        sought: &Sought,
        line: &mut AccessLine,
    ) -> bool {
        let Ok(Identity::Connection(entry)) = self.resolve(call, endpoint, caller, line).await else {
            return false;
        };
        let facts = &entry.facts;
        facts.status == Status::Active
            && (&facts.connection_id, facts.version) == (&sought.connection, sought.version)
    }

    /// What is kept here, if it is good for this call.
    fn kept_here(&self, sought: &Sought) -> Option<Arc<Kept>> {
        if !sought.wishes.takes || sought.lifetime.is_none() {
            return None;
        }
        let now = self.quota.now();
        let mut shelf = self.answers.shelf.lock();
        let kept = shelf.find(&sought.name, now)?;
        if kept.record.version != sought.version {
            shelf.remove(&sought.name);
            return None;
        }
        drop(shelf);
        sought.wishes.age_max.is_none_or(|most| kept.age(now) <= most).then_some(kept)
    }

    /// Takes an answer of another replica's, and keeps it, if it is good for this call.
    fn take(
        &self,
        sought: &Sought,
        endpoint: &Endpoint,
        reading: &Reading,
        (record, is_kept): (Record<Vec<u8>>, bool),
        (age, left): (Duration, Duration),
        line: &mut AccessLine,
    ) -> Option<Answer> {
        let by_clock = Duration::from_millis(unix_now().0.saturating_sub(record.at.0).unsigned_abs());
        // What is told to those who wait is seconds old; what is kept no older than it may be. Only the seal is believed.
        let age_max = if is_kept { sought.lifetime? } else { Duration::ZERO };
        if record.version != sought.version || by_clock > age.min(age_max) + SKEW_MAX {
            return None;
        }
        if sought.wishes.age_max.is_some_and(|most| age > most) {
            return None;
        }
        let Record { status, class, headers, finch_request_id, version, at, body } = record;
        let (batch, cut) = tallied(endpoint, &body);
        let body = Bytes::from_owner(Zeroizing::new(body));
        let record = Record { status, class, headers, finch_request_id, version, at, body };
        let came = (age, self.quota.now());
        let kept = Arc::new(Kept { record, batch, cut, epoch: reading.epoch().map(str::to_owned), came });
        let merged = if is_kept { Merged::Cached } else { Merged::Coalesced };
        let fresh = Freshness::read(&kept.record.headers);
        let facts =
            Facts { status: kept.record.status, class: kept.record.class, is_whole: true, fresh: &fresh };
        if is_kept && let Some(span) = sought.lifetime.and_then(|lifetime| cache::span(facts, lifetime)) {
            self.shelve(sought, Arc::clone(&kept), left.min(span));
        }
        Some(self.serve_kept(&kept, (Looked::Shared, merged), line))
    }

    /// Makes a call's own answer out of one that is kept.
    fn serve_kept(&self, kept: &Kept, (looked, merged): (Looked, Merged), line: &mut AccessLine) -> Answer {
        let record = &kept.record;
        self.telemetry.metrics.merges.count(merged);
        line.class = record.class;
        line.finch_request_id.clone_from(&record.finch_request_id);
        (line.batch, line.cut) = (kept.batch, kept.cut);
        self.note_freshness(&record.headers, line);
        let body = AnswerBody::Whole(record.body.clone());
        let status = StatusCode::from_u16(record.status).unwrap_or(StatusCode::OK);
        let mut answer = Answer { status, headers: record.headers.clone(), body, closes: false };
        self.sign(&mut answer, line);
        put(&mut answer.headers, AGE.as_str(), &kept.age(self.quota.now()).as_secs().to_string());
        self.mark(&mut answer, looked, line);
        answer
    }

    fn mark(&self, answer: &mut Answer, looked: Looked, line: &mut AccessLine) {
        put(&mut answer.headers, PERCH_CACHE, looked.as_str());
        // That others asked for it too says more than that it was not at hand.
        line.cache = line.cache.filter(|_| looked == Looked::Miss).or(Some(looked.as_str()));
        self.telemetry.metrics.cache.count(line.product, looked);
    }

    fn shelve(&self, sought: &Sought, kept: Arc<Kept>, span: Duration) {
        let now = self.quota.now();
        let new = New {
            name: sought.name,
            connection: sought.connection.clone(),
            bytes: kept.bytes(),
            until: now + span,
            retrieved: Freshness::read(&kept.record.headers).retrieved,
            value: kept,
        };
        self.answers.shelf.lock().put(new, sought.began, now);
        self.note_kept();
    }

    fn note_kept(&self) {
        let (bytes, entries) = {
            let shelf = self.answers.shelf.lock();
            (shelf.bytes(), shelf.len())
        };
        self.telemetry.metrics.cache.holds(bytes, entries);
    }

    /// A connection's data has changed, or may have: nothing that was asked for until now is served any more.
    pub(super) async fn forget_answers(&self, connection: &ConnectionId) {
        self.answers.shelf.lock().forget(connection);
        if !self.answers.is_used() {
            return;
        }
        self.note_kept();
        if let Some(passing) = &self.answers.passing {
            passing.moved(connection).await;
        }
    }

    /// Another process changed the store: of a connection that is not served any more nothing stays in memory.
    pub async fn forget_gone(&self) {
        let kept = self.answers.shelf.lock().connections();
        for connection in kept {
            let is_served = match in_time(self.vault.connection(&connection)).await {
                Ok(entry) => entry.facts.status == Status::Active,
                Err(VaultError::Store(_)) => true,
                Err(_) => false,
            };
            if !is_served {
                self.answers.shelf.lock().forget(&connection);
            }
        }
        self.note_kept();
    }

    /// Forgets what has been kept for its time. Calls do this too; somebody has to when none come.
    pub fn sweep_answers(&self) {
        self.answers.shelf.lock().sweep(self.quota.now());
        self.note_kept();
    }
}

/// What the log tells of an answer's items and pages.
fn tallied(endpoint: &Endpoint, body: &[u8]) -> (Option<BatchReport>, Option<Cut>) {
    let cut = (endpoint.operation == Operation::ListDirectory).then(|| paging::cut(body)).flatten();
    (batch::inspect(endpoint, body), cut)
}

fn without_own(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OWN {
        headers.remove(name);
    }
    headers
}

//! The verb *join*: a call that was sent before, or that reads what another one is reading, takes the
//! outcome of that exchange. Everything else leads an exchange of its own, and whoever comes later may
//! take its outcome. Who may is `policy::join`'s to say; here are the waiting and the answers.

use super::Engine;
use super::call::{Answer, AnswerBody, Call, Caller, Client, Ended, Identity, Sent};
use super::reply::with_request_id;
use crate::finch::endpoints::{Effect, Endpoint, Operation};
use crate::finch::headers::SHOULD_RETRY;
use crate::policy::Refusal;
use crate::policy::join::{self, Asks, End, Entered, Id, Kept, Parts, Table, Whose, Wish, Worth};
use crate::telemetry::AccessLine;
use crate::telemetry::metrics::Merged;
use crate::telemetry::timeline::{Awaited, Did};
use crate::types::Moment;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

/// Every exchange that may be joined.
#[derive(Debug, Clone)]
pub struct Joins {
    table: Arc<Mutex<Table<Running, Arc<Outcome>>>>,
    began: Instant,
}

/// An exchange, as those who join it see it.
#[derive(Debug, Clone)]
struct Running {
    client: Client,
    sent: Sent,
    told: watch::Receiver<Option<Arc<Outcome>>>,
}

impl join::Exchange for Running {
    fn has_left(&self) -> bool {
        self.client.has_left()
    }

    fn is_admitted(&self) -> bool {
        self.sent.is_admitted()
    }
}

/// How an exchange ended, and the log's line of it.
#[derive(Debug)]
struct Outcome {
    line: AccessLine,
    what: What,
}

/// What those who joined get.
#[derive(Debug)]
enum What {
    /// Nothing was sent: each goes on by itself.
    Unsent,
    /// A read was answered with more than is held, to one client only: each reads by itself.
    Streamed,
    /// The same answer.
    Answer { status: StatusCode, headers: HeaderMap, body: Bytes, closes: bool },
    /// It was sent, and its answer cannot be had any more.
    Lost(Refusal),
}

/// What a call is told at the table.
pub(super) enum Joined {
    /// It is an exchange of its own.
    Lead(Seat),
    /// It takes this answer of another one.
    Told(Answer),
}

/// The place of a call that leads an exchange. Whoever joined is told when it finishes, and also when
/// it cannot: dropping it does.
pub(super) struct Seat {
    joins: Joins,
    id: Id,
    effect: Effect,
    client: Client,
    sent: Sent,
    tell: watch::Sender<Option<Arc<Outcome>>>,
    /// The line to tell with when the call fails without an end.
    fallback: Option<Box<AccessLine>>,
}

/// The place of a call that waits for another one's outcome.
struct Claim {
    joins: Joins,
    id: Option<Id>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.joins.table().release(id);
        }
    }
}

impl Joins {
    /// No exchange yet; outcomes will be remembered this long.
    pub fn new(memory: Duration) -> Self {
        Self { table: Arc::new(Mutex::new(Table::new(memory))), began: Instant::now() }
    }

    /// Outcomes are remembered this long from now on.
    pub fn set_memory(&self, memory: Duration) {
        self.table().set_memory(memory, self.now());
    }

    /// Forgets what was remembered long enough. Calls do this too; somebody has to when none come.
    pub fn sweep(&self) {
        self.table().sweep(self.now());
    }

    fn now(&self) -> Moment {
        Moment::at(self.began.elapsed())
    }

    fn table(&self) -> MutexGuard<'_, Table<Running, Arc<Outcome>>> {
        // Nothing in there is half done when a thread panics.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat or somebody else's exchange.
    fn enter(&self, wish: Wish, caller: &Caller, client: &Client, line: &AccessLine) -> Entering {
        let (tell, told) = watch::channel(None);
        let running = || Running { client: client.clone(), sent: caller.sent.clone(), told };
        match self.table().enter(wish, self.now(), running) {
            Entered::Leads(id) => Entering::Leads(Seat {
                joins: self.clone(),
                id,
                effect: wish.effect,
                client: client.clone(),
                sent: caller.sent.clone(),
                tell,
                fallback: Some(Box::new(line.clone())),
            }),
            Entered::Joins(id, running) => {
                let id = (wish.asks == Asks::Outcome).then_some(id);
                Entering::Joins(Claim { joins: self.clone(), id }, running)
            }
            Entered::Remembered(outcome) => Entering::Remembered(outcome),
            Entered::NameReused => Entering::NameReused,
        }
    }
}

enum Entering {
    Leads(Seat),
    Joins(Claim, Running),
    Remembered(Arc<Outcome>),
    NameReused,
}

impl Engine {
    /// Finds a call the exchange it belongs to, and waits for its outcome; or gives it a seat.
    pub(super) async fn join(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        caller: &Caller,
        identity: Result<Identity, Refusal>,
        client: &mut Client,
        line: &mut AccessLine,
    ) -> Result<Joined, Ended> {
        let marks = join::marks(&call.headers)?;
        let parts = Parts {
            app: call.app.as_ref().map(|app| &app.name),
            whose: match &identity {
                Ok(Identity::Connection(entry)) => Whose::Connection(&entry.facts.connection_id),
                Ok(Identity::Brought(token)) => Whose::Token(token),
                Ok(Identity::Application) => Whose::Application,
                Ok(Identity::InBody) => Whose::InBody,
                Ok(Identity::Nobody) => Whose::Nobody,
                // A disconnect that was carried out leaves nothing to send it through again.
                Err(Refusal::Disconnected(connection)) if endpoint.operation == Operation::Disconnect => {
                    Whose::Connection(connection)
                }
                Err(refusal) => return Err(refusal.clone().into()),
            },
            customer: line.customer.as_ref(),
            method: endpoint.method.as_str(),
            path: &call.path,
            query: call.query.as_deref(),
            headers: &call.headers,
            body: &call.body,
        };
        // A write may change what is read: who asks after it does not share what was asked before. A name keeps its call.
        let turn = match (&identity, endpoint.effect, &marks.name) {
            (Ok(Identity::Connection(entry)), Effect::Reads, None) => {
                self.answers.turn(&entry.facts.connection_id)
            }
            _ => 0,
        };
        let content = parts.key().after(turn);
        let key = marks.name.as_deref().map_or(content, |name| parts.named(name));
        // No token is held while a call waits.
        let refusal = identity.err();
        let mut wish = Wish {
            key,
            content,
            asks: Asks::of(&marks, endpoint.effect, self.settings.now().coalesce),
            effect: endpoint.effect,
            priority: caller.priority,
            deadline: self.joins.now() + caller.patience,
        };
        let how = match wish.asks {
            Asks::Share => Merged::Coalesced,
            Asks::Nothing | Asks::Outcome | Asks::Named => Merged::Resend,
        };
        loop {
            let outcome = match self.joins.enter(wish, caller, client, line) {
                Entering::Leads(seat) => {
                    return refusal.map_or(Ok(Joined::Lead(seat)), |refusal| Err(refusal.into()));
                }
                Entering::NameReused => return Err(Refusal::IdempotencyKeyReused.into()),
                Entering::Remembered(outcome) => outcome,
                Entering::Joins(mut claim, running) => {
                    let outcome = self.follow(running, endpoint, caller, client, line).await?;
                    // It is told: its claim stands.
                    claim.id = None;
                    outcome
                }
            };
            match &outcome.what {
                What::Unsent => {}
                What::Streamed => wish.asks = Asks::Nothing,
                What::Answer { .. } | What::Lost(_) => {
                    return Ok(Joined::Told(self.share(&outcome, how, line)));
                }
            }
        }
    }

    /// Waits for the end of an exchange: for its admission no longer than the call's own patience, then
    /// as long as Finch takes.
    async fn follow(
        &self,
        mut running: Running,
        endpoint: &'static Endpoint,
        caller: &Caller,
        client: &mut Client,
        line: &mut AccessLine,
    ) -> Result<Arc<Outcome>, Ended> {
        let _waiting = self.telemetry.metrics.merges.wait();
        loop {
            let began = Instant::now();
            let patience = caller.patience.saturating_sub(line.wait);
            let waited = tokio::select! {
                biased;
                told = heard(&mut running.told) => Ok(Some(told)),
                () = running.sent.admitted() => Ok(None),
                () = client.gone() => Err(Ended::Abandoned),
                () = sleep(patience) => Err(self.out_of_patience(endpoint).into()),
            };
            line.wait += began.elapsed();
            self.waited(began, Awaited::Twin, endpoint.product, waited.is_ok(), line);
            if let Some(told) = waited? {
                return Ok(told);
            }
            let began = Instant::now();
            let told = tokio::select! {
                biased;
                told = heard(&mut running.told) => Ok(Some(told)),
                () = client.gone() => Err(Ended::Abandoned),
                // What was sent settled nothing, and it may wait longer than this call does.
                () = running.sent.waiting() => Ok(None),
            };
            line.finch += began.elapsed();
            line.timeline.note(began, Did::Share);
            if let Some(told) = told? {
                return Ok(told);
            }
        }
    }

    /// The answer of an exchange, for a call that was not sent.
    fn share(&self, outcome: &Outcome, how: Merged, line: &mut AccessLine) -> Answer {
        let Outcome { line: told, what } = outcome;
        self.telemetry.metrics.merges.count(how);
        match how {
            Merged::Resend => line.resend_of = Some(told.request_id.clone()),
            Merged::Coalesced | Merged::Batched | Merged::Cached => line.cache = Some(how.as_str()),
        }
        line.finch_request_id.clone_from(&told.finch_request_id);
        // A code exchange knows only at its end whose it was.
        line.customer = line.customer.take().or_else(|| told.customer.clone());
        line.connection_id = line.connection_id.take().or_else(|| told.connection_id.clone());
        line.company_id = line.company_id.take().or_else(|| told.company_id.clone());
        line.provider = line.provider.take().or_else(|| told.provider.clone());
        line.class = told.class;
        line.refusal = told.refusal;
        line.finch_code.clone_from(&told.finch_code);
        line.uninspected = told.uninspected;
        // The answer tells how often the exchange was sent, the line that nothing was sent for this call.
        line.attempts = told.attempts;
        let answer = match what {
            What::Answer { status, headers, body, closes } => {
                // Also a 202 that an operator wants told as an error.
                let body = match status.is_client_error() || status.is_server_error() {
                    true => with_request_id(body, &line.request_id),
                    false => body.clone(),
                };
                let body = AnswerBody::Whole(body);
                let mut answer = Answer { status: *status, headers: headers.clone(), body, closes: *closes };
                self.sign(&mut answer, line);
                answer
            }
            What::Lost(refusal) => self.refuse(refusal, line),
            // Nobody is told of these.
            What::Unsent | What::Streamed => self.refuse(&Refusal::Fault, line),
        };
        line.attempts = 0;
        answer
    }
}

/// The outcome, once it is there.
async fn heard(told: &mut watch::Receiver<Option<Arc<Outcome>>>) -> Arc<Outcome> {
    match told.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
        Ok(Some(outcome)) => outcome,
        // A seat tells before it is dropped.
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

impl Seat {
    /// Tells whoever joined how it ended, remembers what is worth it, and hands the end back.
    pub(super) fn finish(
        mut self,
        engine: &Engine,
        ended: Result<Answer, Ended>,
        line: &mut AccessLine,
    ) -> Result<Answer, Ended> {
        let ended = match ended {
            // Whoever joined reads it too, so it is written here.
            // A read that ran out of its own patience later on says nothing to those who have more.
            Err(Ended::Refused(refusal))
                if self.sent.was_admitted()
                    && (self.effect == Effect::Writes || refusal.is_after_sending()) =>
            {
                Ok(engine.refuse(&refusal, line))
            }
            other => other,
        };
        self.fallback = None;
        let answer = match &ended {
            Ok(answer) => answer,
            // Refused for quota or abandoned: that was this call's own patience or client.
            Err(why) => {
                let comes_back = match why {
                    Ended::Refused(refusal) => refusal.problem().resend.invites(),
                    Ended::Abandoned => true,
                };
                self.tell(line.clone(), What::Unsent, self.invitation(comes_back));
                return ended;
            }
        };
        let body = match &answer.body {
            AnswerBody::Whole(body) => Some(body),
            AnswerBody::Streamed(_) => None,
        };
        let end = End {
            effect: self.effect,
            class: line.class,
            forbids_resend: answer.headers.get(SHOULD_RETRY).is_some_and(|value| value == "false"),
            attempts: line.attempts,
            bytes: body.map(Bytes::len),
            has_left: self.client.has_left(),
        };
        let with = |body: &Bytes| What::Answer {
            status: answer.status,
            headers: answer.headers.clone(),
            body: body.clone(),
            closes: answer.closes,
        };
        let lost = || What::Lost(Refusal::OutcomeLost(line.finch_request_id.last().cloned()));
        let what = match (body, self.effect) {
            (Some(body), _) => with(body),
            (None, Effect::Reads) => What::Streamed,
            (None, Effect::Writes) => lost(),
        };
        let kept = match (end.worth(), body) {
            (Worth::Nothing, _) => self.invitation(!end.forbids_resend),
            // A copy of its own, which is wiped when it is forgotten.
            (Worth::Answer, Some(body)) => {
                Kept::Outcome(with(&Bytes::from_owner(Zeroizing::new(body.to_vec()))), body.len())
            }
            (Worth::Answer | Worth::Fact, _) => Kept::Outcome(lost(), 0),
        };
        self.tell(line.clone(), what, kept);
        ended
    }

    /// What to keep of an exchange that was not carried out: a client that comes back with a write must not be
    /// told the outcome of an identical one.
    fn invitation(&self, comes_back: bool) -> Kept<What> {
        match self.effect {
            Effect::Writes if comes_back => Kept::Invitation,
            Effect::Writes | Effect::Reads => Kept::Nothing,
        }
    }

    fn tell(&self, line: AccessLine, what: What, kept: Kept<What>) {
        let kept = match kept {
            Kept::Outcome(what, bytes) => {
                Kept::Outcome(Arc::new(Outcome { line: line.clone(), what }), bytes)
            }
            Kept::Invitation => Kept::Invitation,
            Kept::Nothing => Kept::Nothing,
        };
        // First nobody finds it running any more, then those who did are told.
        self.joins.table().end(self.id, kept, self.joins.now());
        self.tell.send_replace(Some(Arc::new(Outcome { line, what })));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(line) = self.fallback.take().map(|line| *line) else { return };
        match self.effect {
            // The call failed in perch after it may have been sent: that much is known, and it must not be
            // sent again.
            Effect::Writes if self.sent.was_admitted() => {
                self.tell(line, What::Lost(Refusal::Fault), Kept::Outcome(What::Lost(Refusal::Fault), 0));
            }
            Effect::Writes | Effect::Reads => self.tell(line, What::Unsent, Kept::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Selector;
    use crate::types::{Priority, RequestId, UnixMillis};

    fn seat(joins: &Joins, effect: Effect, asks: Asks) -> Entering {
        let line = AccessLine::begin(RequestId::new("r").expect("an id"), UnixMillis(0));
        let (headers, body) = (&HeaderMap::new(), b"".as_slice());
        let (app, whose, customer, method, query) = (None, Whose::Nobody, None, "POST", None);
        let key = Parts { app, whose, customer, method, path: "/", query, headers, body }.key();
        let priority = Priority::Interactive;
        let caller = Caller {
            app: None,
            by: crate::engine::By::App,
            selector: Selector::default(),
            priority,
            patience: Duration::ZERO,
            sent: Sent::default(),
            repair: crate::policy::batch::Repair::Off,
            names_page: false,
        };
        caller.sent.admit();
        let wish = Wish { key, content: key, asks, effect, priority, deadline: Moment::ZERO };
        joins.enter(wish, &caller, &Client::present().1, &line)
    }

    #[tokio::test]
    async fn a_call_that_fails_without_an_end_leaves_nobody_waiting() {
        for effect in [Effect::Writes, Effect::Reads] {
            let joins = Joins::new(Duration::from_secs(60));
            let Entering::Leads(leader) = seat(&joins, effect, Asks::Nothing) else { panic!("it leads") };
            let Entering::Joins(_, mut running) = seat(&joins, effect, Asks::Outcome) else {
                panic!("it joins")
            };
            drop(leader);
            let told = heard(&mut running.told).await;
            // It may have been carried out: a write is not sent again, now or later.
            match effect {
                Effect::Writes => assert!(matches!(told.what, What::Lost(Refusal::Fault))),
                Effect::Reads => assert!(matches!(told.what, What::Unsent)),
            }
            let later = seat(&joins, effect, Asks::Outcome);
            assert_eq!(matches!(later, Entering::Remembered(_)), effect == Effect::Writes);
        }
    }

    #[test]
    fn an_error_is_told_under_the_calls_own_id() {
        let id = RequestId::new("mine").expect("an id");
        let body = Bytes::from_static(
            br#"{"code":1e2,"perch":{"class":"x","request_id":"theirs","attempts":1},"z":0}"#,
        );
        let told = with_request_id(&body, &id);
        assert_eq!(
            std::str::from_utf8(&told),
            Ok(r#"{"code":1e2,"perch":{"class":"x","request_id":"mine","attempts":1},"z":0}"#)
        );
        for body in [&b"no JSON"[..], b"{}", br#"{"perch":7}"#] {
            let body = Bytes::from_static(body);
            assert_eq!(with_request_id(&body, &id), body);
        }
    }
}

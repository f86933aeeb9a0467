//! The verb *gather*: calls to the same connection that wait for quota share the next request. Finch counts requests, not
//! the ids in them.
//!
//! A call that need not wait is sent alone. Who waits stands in line itself or follows one that does and is at least as near
//! to being sent (`policy::merge` says who); the first to be admitted asks for everybody's ids, and each takes its part of
//! the answer on as if it had been sent alone. Each keeps its own patience, urgency and client.

mod crowd;

use super::Engine;
use super::attempt::ask_of;
use super::call::{Call, Caller, Client, Ended};
use super::carry::Outcome;
use super::quota::{Permit, Refusal as QuotaRefusal};
use crate::finch::endpoints::Endpoint;
use crate::limit::Tag;
use crate::policy::merge::{Asks, Common, Entered, Id, Key, Member, Near, Table};
use crate::policy::{Refusal, headers};
use crate::telemetry::AccessLine;
use crate::telemetry::metrics::Merged;
use crate::telemetry::timeline::{Awaited, Did};
use crate::types::{AppName, FinchRequestId, Moment, Priority, Product, RequestId};
use http::header::CONTENT_ENCODING;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep};

/// Whose calls share requests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batching {
    /// To which products; none for not at all.
    pub products: Vec<Product>,
    /// Of which apps; none for all of them.
    pub apps: Vec<AppName>,
}

impl Batching {
    fn includes(&self, product: Product, app: Option<&AppName>) -> bool {
        let is_mine = self.apps.is_empty() || app.is_some_and(|app| self.apps.contains(app));
        is_mine && self.products.contains(&product)
    }
}

/// Every call that waits together with others.
#[derive(Debug)]
pub struct Gathers {
    table: Mutex<Table<Handle>>,
    began: Instant,
}

impl Default for Gathers {
    fn default() -> Self {
        Self { table: Mutex::default(), began: Instant::now() }
    }
}

impl Gathers {
    fn now(&self) -> Moment {
        Moment::at(self.began.elapsed())
    }

    /// A call goes; whoever followed it is told to stand in line.
    fn leave(&self, id: Id) -> Option<Member<Handle>> {
        self.table.lock().leave(id, |next| {
            next.stage.send_modify(|stage| {
                if let Stage::Waits { entered, .. } = stage {
                    entered.is_in_line = true;
                }
            });
        })
    }

    /// This one was admitted: all of its gathering ride along.
    fn take(&self, id: Id) -> Vec<Member<Handle>> {
        let mut table = self.table.lock();
        let taken = table.take(id);
        for member in &taken {
            member.handle.stage.send_replace(Stage::Rides);
        }
        taken
    }

    /// Their request settled nothing: they wait again, by themselves.
    fn again(&self, members: Vec<Member<Handle>>) {
        let mut table = self.table.lock();
        let there = members.into_iter().filter(|member| !member.handle.tell.is_closed()).collect();
        table.again(there, |member, entered| {
            let deadline = member.near.deadline;
            member.handle.stage.send_replace(Stage::Waits { entered, deadline, is_apart: true });
        });
    }
}

/// What a call's attempts know of its sharing.
#[derive(Debug, Default)]
pub(super) struct Trip {
    /// What it asks for, once that was read; nothing when it cannot be shared.
    asks: Option<Option<Asks>>,
    /// A request that it shared failed: it goes alone from now on.
    is_alone: bool,
}

/// How a call got to its attempt.
pub(super) enum Gathered {
    /// It was admitted, and makes an attempt of its own.
    Alone(Permit),
    /// A shared attempt ended so, for this call.
    Shared(Outcome),
    /// The one who was to send has found out that it must not: each looks for itself.
    Again,
}

/// How to reach a call that waits.
#[derive(Debug)]
struct Handle {
    /// Which one it is.
    request_id: RequestId,
    /// Changed under the table's lock only.
    stage: watch::Sender<Stage>,
    tell: oneshot::Sender<Told>,
    /// What others' requests have told of it so far.
    news: Vec<News>,
    /// The answer in case nothing better comes in time.
    fallback: Option<Outcome>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Waits {
        entered: Entered,
        deadline: Moment,
        /// A request that it shared failed.
        is_apart: bool,
    },
    Rides,
}

/// How a shared attempt ended for one call.
#[derive(Debug)]
struct Told {
    news: Vec<News>,
    outcome: Option<Outcome>,
}

/// An attempt that another call made.
#[derive(Debug, Clone)]
struct News {
    carried_by: RequestId,
    finch_request_id: Option<FinchRequestId>,
    was_sent: bool,
}

/// What ended a wait.
enum Turn {
    /// Something has changed at the table.
    Changed,
    /// The ledger's word.
    Asked(Result<Permit, QuotaRefusal>),
    /// An operator has set a brake.
    Stopped(Refusal),
    /// Who follows has no patience left.
    Late,
    /// The client has left.
    Left,
}

/// A place at the table, given up when dropped.
struct Place<'a> {
    gathers: &'a Gathers,
    stage: watch::Receiver<Stage>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let stage = *self.stage.borrow();
        if let Stage::Waits { entered, .. } = stage {
            self.gathers.leave(entered.id);
        }
    }
}

impl Engine {
    /// Waits until this call is admitted, or has been carried by another one. Without a `trip` it shares nothing.
    pub(super) async fn gather(
        &self,
        (call, endpoint): (&Call, &'static Endpoint),
        caller: &Caller,
        trip: Option<&mut Trip>,
        (tag, left): (Option<Tag>, Duration),
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Gathered, Ended> {
        // Who has no patience asks for what is free now, and nothing else.
        let trip = trip.filter(|_| !left.is_zero());
        let found = trip
            .and_then(|trip| Some((self.may_share((call, endpoint), caller.priority, trip, line)?, trip)));
        let Some(((key, asks), trip)) = found else {
            return self.admit(endpoint, caller, (tag, left), client, line).await.map(Gathered::Alone);
        };
        let Some((mut place, mut told)) = self.sit_down(key, asks, caller, left, line) else {
            return self.admit(endpoint, caller, (tag, left), client, line).await.map(Gathered::Alone);
        };
        loop {
            let stage = *place.stage.borrow_and_update();
            let Stage::Waits { entered: Entered { id, is_in_line }, deadline, is_apart } = stage else {
                caller.sent.admit();
                match self.ride(&mut place, &mut told, line).await {
                    Some(gathered) => return Ok(gathered),
                    None => caller.sent.waits(),
                }
                continue;
            };
            let began = Instant::now();
            let left = deadline.since(self.gathers.now());
            let turn = if is_in_line {
                let ask = ask_of(endpoint, caller, (tag, left), line);
                tokio::select! {
                    biased;
                    _ = place.stage.changed() => Turn::Changed,
                    asked = self.quota.admit(ask) => Turn::Asked(asked),
                    refusal = self.stopped(caller.by, endpoint, &*line) => Turn::Stopped(refusal),
                    () = client.gone() => Turn::Left,
                }
            } else {
                let _waiting = self.telemetry.metrics.merges.wait();
                tokio::select! {
                    biased;
                    _ = place.stage.changed() => Turn::Changed,
                    refusal = self.stopped(caller.by, endpoint, &*line) => Turn::Stopped(refusal),
                    () = client.gone() => Turn::Left,
                    () = sleep(left) => Turn::Late,
                }
            };
            line.wait += began.elapsed();
            let is_over = matches!(turn, Turn::Changed | Turn::Asked(Ok(_)));
            self.waited(began, Awaited::Quota, endpoint.product, is_over, line);
            if let Turn::Asked(admitted) = &turn {
                self.note_wait(endpoint.product, caller.priority, admitted);
            }
            let refusal = match turn {
                Turn::Changed => continue,
                Turn::Asked(Ok(permit)) => {
                    let mut crowd = self.gathers.take(id);
                    match crowd.len() {
                        // Another one was quicker, and takes this call along.
                        0 => permit.refund(),
                        1 => {
                            crowd.into_iter().for_each(|me| note(me.handle.news, line));
                            trip.is_alone = is_apart;
                            line.cache = None;
                            return Ok(Gathered::Alone(permit));
                        }
                        _ => {
                            // It is asked for by this call now, whoever asked before.
                            line.cache = None;
                            caller.sent.admit();
                            let me = crowd.iter_mut().find(|m| m.handle.request_id == line.request_id);
                            if let Some(me) = me {
                                note(std::mem::take(&mut me.handle.news), line);
                            }
                            self.carry_crowd((call, endpoint), caller, permit, crowd, line).await;
                        }
                    }
                    continue;
                }
                Turn::Asked(Err(refusal)) => Ended::Refused(self.refused(endpoint, &refusal)),
                Turn::Stopped(refusal) => Ended::Refused(refusal),
                Turn::Late => Ended::Refused(self.out_of_patience(endpoint)),
                Turn::Left => Ended::Abandoned,
            };
            // Whoever was taken along at this very moment is carried all the same.
            if let Some(me) = self.gathers.leave(id) {
                note(me.handle.news, line);
                trip.is_alone = is_apart;
                return match (refusal, me.handle.fallback) {
                    (Ended::Refused(_), Some(outcome)) => Ok(Gathered::Shared(outcome)),
                    (ended, _) => Err(ended),
                };
            }
        }
    }

    /// What a call brings to the table, when it may share a request.
    fn may_share(
        &self,
        (call, endpoint): (&Call, &Endpoint),
        priority: Priority,
        trip: &mut Trip,
        line: &AccessLine,
    ) -> Option<(Key, Asks)> {
        let is_wanted = self.settings.now().batching.includes(endpoint.product, call.app_name());
        if !is_wanted || trip.is_alone || call.headers.contains_key(CONTENT_ENCODING) {
            return None;
        }
        let asks = trip.asks.get_or_insert_with(|| Asks::read(endpoint, &call.body)).clone()?;
        let key_id = call.app.as_ref().map(|app| app.key_id.to_string());
        let common = Common {
            app: call.app_name(),
            app_key: key_id.as_deref(),
            priority,
            customer: line.customer.as_ref(),
            connection: line.connection_id.as_ref()?,
            path: &call.path,
            query: call.query.as_deref(),
            headers: &headers::to_finch(&call.headers),
            frame: &asks.frame,
        };
        Some((common.key(), asks))
    }

    fn sit_down(
        &self,
        key: Key,
        asks: Asks,
        caller: &Caller,
        left: Duration,
        line: &AccessLine,
    ) -> Option<(Place<'_>, oneshot::Receiver<Told>)> {
        let (tell, told) = oneshot::channel();
        let (stage, place) = watch::channel(Stage::Rides);
        let request_id = line.request_id.clone();
        // Under the lock, so that who comes later has the later end of the same patience.
        let mut table = self.gathers.table.lock();
        let deadline = self.gathers.now() + left;
        let near = Near { priority: caller.priority, deadline };
        let handle = Handle { request_id, stage: stage.clone(), tell, news: Vec::new(), fallback: None };
        let entered = table.enter(key, near, asks, handle)?;
        stage.send_replace(Stage::Waits { entered, deadline, is_apart: false });
        drop(table);
        Some((Place { gathers: &self.gathers, stage: place }, told))
    }

    /// Waits for the end of a shared attempt. `None`: it settled nothing, and the call waits again.
    async fn ride(
        &self,
        place: &mut Place<'_>,
        told: &mut oneshot::Receiver<Told>,
        line: &mut AccessLine,
    ) -> Option<Gathered> {
        let began = Instant::now();
        let _waiting = self.telemetry.metrics.merges.wait();
        let told = tokio::select! {
            biased;
            told = told => told,
            _ = place.stage.changed() => return None,
        };
        line.finch += began.elapsed();
        line.timeline.note(began, Did::Share);
        // Whoever carries tells; one that failed in perch before it could has settled nothing.
        let Ok(Told { news, outcome }) = told else { return Some(Gathered::Again) };
        let is_carried = news.iter().any(|news| news.was_sent);
        note(news, line);
        let Some(outcome) = outcome else { return Some(Gathered::Again) };
        if is_carried {
            self.telemetry.metrics.merges.count(Merged::Batched);
            line.cache = Some(Merged::Batched.as_str());
        }
        Some(Gathered::Shared(outcome))
    }
}

/// What others' attempts told of this call.
fn note(news: Vec<News>, line: &mut AccessLine) {
    for News { carried_by, finch_request_id, was_sent } in news {
        if let Some(id) = finch_request_id {
            line.saw(id);
        }
        line.attempts += u32::from(was_sent);
        line.carried += u32::from(was_sent);
        line.carried_by = Some(carried_by);
    }
}

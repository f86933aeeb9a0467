//! Work that Finch does later: forced refreshes with their quota, and deduction writes.

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::company::Entity;
use super::refusal::{Reason, Refusal};
use super::scenario::Authentication;
use super::seed::Seed;
use super::settings::JobSettings;
use super::world::{Connection, Status};
use crate::types::{Moment, UnixMillis};
use serde_json::{Value, json};

/// The most jobs remembered of each kind; the oldest go.
const JOBS_MAX: usize = 1000;
const ENDINGS: [&str; 4] = ["complete", "reauth_error", "permissions_error", "error"];

#[derive(Debug)]
struct Automated {
    id: String,
    kind: String,
    params: Value,
    created: UnixMillis,
    done: Moment,
    done_wall: UnixMillis,
    ending: String,
}

#[derive(Debug)]
struct Manual {
    id: String,
    done: Moment,
    body: Value,
}

/// The jobs of one connection.
#[derive(Debug)]
pub(super) struct Jobs {
    seed: u64,
    connection: String,
    settings: JobSettings,
    made: u64,
    automated: Vec<Automated>,
    manual: Vec<Manual>,
    /// Since when the quota's window runs, and how much of it is spent.
    quota: Option<(Moment, u32)>,
    /// How the next one ends, in the sandbox's words.
    ending: String,
}

impl Jobs {
    /// None yet.
    pub(super) fn new(seed: u64, connection: &str, settings: JobSettings) -> Self {
        Self {
            seed,
            connection: connection.to_owned(),
            settings,
            made: 0,
            automated: Vec::new(),
            manual: Vec::new(),
            quota: None,
            ending: ENDINGS[0].to_owned(),
        }
    }

    fn new_id(&mut self) -> String {
        self.made += 1;
        Seed::of(self.seed, &["job", &self.connection, &self.made.to_string()]).uuid()
    }

    fn spent(&mut self, now: Moment) -> u32 {
        match self.quota {
            Some((since, spent)) if now < since + self.settings.window => spent,
            _ => {
                self.quota = None;
                0
            }
        }
    }

    fn quota_fields(&mut self, now: Moment) -> (u32, u32) {
        let spent = self.spent(now);
        (self.settings.refreshes, self.settings.refreshes.saturating_sub(spent))
    }

    fn shown(&self, job: &Automated, now: Moment, base_url: &str) -> Value {
        let over = now >= job.done;
        json!({
            "job_id": job.id,
            "job_url": format!("{base_url}/jobs/automated/{}", job.id),
            "type": job.kind,
            "params": job.params,
            "status": if over { job.ending.as_str() } else { "in_progress" },
            "created_at": job.created, "scheduled_at": job.created, "started_at": job.created,
            "completed_at": over.then_some(job.done_wall),
        })
    }

    /// Whether a forced refresh is running.
    fn running(&self, kind: &str, now: Moment) -> Option<&Automated> {
        self.automated.iter().find(|j| j.kind == kind && now < j.done)
    }

    fn start(&mut self, kind: &str, params: Value, call: &Call<'_>) -> String {
        let id = self.new_id();
        if self.automated.len() >= JOBS_MAX {
            self.automated.remove(0);
        }
        self.automated.push(Automated {
            id: id.clone(),
            kind: kind.to_owned(),
            params,
            created: call.wall,
            done: call.now + self.settings.duration,
            done_wall: call.wall.plus(self.settings.duration),
            ending: self.ending.clone(),
        });
        id
    }

    /// `GET /jobs/automated`
    pub(super) fn list(&mut self, call: &Call<'_>) -> Outcome {
        let limit = call.number("limit", 100, 1000)?;
        let offset = call.number("offset", 0, usize::MAX)?;
        let page: Vec<Value> = self
            .automated
            .iter()
            .rev()
            .skip(offset)
            .take(limit)
            .map(|job| self.shown(job, call.now, call.base_url))
            .collect();
        let (allowed, remaining) = self.quota_fields(call.now);
        let quota = json!({ "allowed_refreshes": allowed, "remaining_refreshes": remaining });
        Ok(Answer::ok(json!({ "data": page, "meta": { "quotas": { "data_sync_all": quota } } })))
    }

    /// `GET /jobs/automated/{job_id}`
    pub(super) fn get(&self, call: &Call<'_>) -> Outcome {
        let job = self.automated.iter().find(|j| j.id == call.id).ok_or(Reason::NotFound)?;
        Ok(Answer::ok(self.shown(job, call.now, call.base_url)))
    }

    /// Notes a deduction write and gives its id.
    pub(super) fn note_manual(&mut self, body: Value, call: &Call<'_>) -> String {
        let id = self.new_id();
        if self.manual.len() >= JOBS_MAX {
            self.manual.remove(0);
        }
        self.manual.push(Manual { id: id.clone(), done: call.now + self.settings.duration, body });
        id
    }

    /// `GET /jobs/manual/{job_id}`
    pub(super) fn get_manual(&self, call: &Call<'_>) -> Outcome {
        let job = self.manual.iter().find(|j| j.id == call.id).ok_or(Reason::NotFound)?;
        let over = call.now >= job.done;
        Ok(Answer::ok(json!({
            "job_id": job.id,
            "status": if over { "complete" } else { "in_progress" },
            "body": if over { job.body.clone() } else { Value::Null },
        })))
    }

    /// `GET /sandbox/jobs/configuration`
    pub(super) fn configuration(&self) -> Outcome {
        Ok(Answer::ok(json!({ "type": "data_sync_all", "completion_status": self.ending })))
    }

    /// `PUT /sandbox/jobs/configuration`
    pub(super) fn configure(&mut self, call: &Call<'_>) -> Outcome {
        let body = call.object()?;
        let ending = body.get("completion_status").and_then(Value::as_str).unwrap_or_default();
        if !ENDINGS.contains(&ending) {
            let why = format!("completion_status must be one of {}", ENDINGS.join(", "));
            return Err(Refusal::because(Reason::InvalidRequest, why));
        }
        self.ending = ending.to_owned();
        self.configuration()
    }
}

/// `POST /jobs/automated`: 201 new, 202 one is running, 429 the quota is spent.
pub(super) fn create(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    let kind = body.get("type").and_then(Value::as_str).unwrap_or_default();
    if connection.authentication == Authentication::Assisted {
        return Err(Refusal::because(Reason::BadRequest, "Assisted connections have no automated jobs"));
    }
    match kind {
        "data_sync_all" => {}
        "w4_form_employee_sync" => {
            let params = body.get("params").cloned().unwrap_or(Value::Null);
            if !params["individual_id"].is_string() {
                return Err(Refusal::because(Reason::InvalidRequest, "params.individual_id is required"));
            }
            let id = connection.jobs.start(kind, params, call);
            return Ok(Answer::json(201, json!({ "job_id": id, "job_url": url(call, &id) })));
        }
        other => return Err(Refusal::because(Reason::InvalidRequest, format!("{other:?} is no job type"))),
    }
    if let Some(job) = connection.jobs.running(kind, call.now) {
        let id = job.id.clone();
        let (allowed, remaining) = connection.jobs.quota_fields(call.now);
        return Ok(Answer::json(202, created(call, &id, allowed, remaining)));
    }
    let jobs = &mut connection.jobs;
    let spent = jobs.spent(call.now);
    if spent >= jobs.settings.refreshes {
        let since = jobs.quota.map_or(call.now, |(since, _)| since);
        let left = (since + jobs.settings.window).since(call.now);
        return Ok(quota_spent(jobs.settings.refreshes, call.wall.plus(left)));
    }
    let since = jobs.quota.map_or(call.now, |(since, _)| since);
    jobs.quota = Some((since, spent + 1));
    let id = refresh(connection, call);
    let (allowed, remaining) = connection.jobs.quota_fields(call.now);
    Ok(Answer::json(201, created(call, &id, allowed, remaining)))
}

/// The 429 that has neither `name` nor `finch_code` (Finch API reference).
pub(super) fn quota_spent(allowed: u32, retry_at: UnixMillis) -> Answer {
    Answer::json(429, json!({ "allowed_refreshes": allowed, "remaining_refreshes": 0, "retry_at": retry_at }))
}

fn url(call: &Call<'_>, id: &str) -> String {
    format!("{}/jobs/automated/{id}", call.base_url)
}

fn created(call: &Call<'_>, id: &str, allowed: u32, remaining: u32) -> Value {
    json!({
        "job_id": id, "job_url": url(call, id),
        "allowed_refreshes": allowed, "remaining_refreshes": remaining,
    })
}

/// Runs a sync: it ends as configured, and only a good end brings data.
fn refresh(connection: &mut Connection, call: &Call<'_>) -> String {
    let id = connection.jobs.start("data_sync_all", Value::Null, call);
    match connection.jobs.ending.as_str() {
        "complete" => {
            connection.synced = call.wall;
            connection.entities.iter_mut().for_each(Entity::sync);
        }
        "reauth_error" => connection.status = Status::Reauth,
        "permissions_error" => connection.status = Status::ErrorPermissions,
        _ => {}
    }
    id
}

/// `POST /sandbox/jobs`: no quota in the sandbox.
pub(super) fn create_in_sandbox(connection: &mut Connection, call: &Call<'_>) -> Outcome {
    let body = call.object()?;
    if body.get("type").and_then(Value::as_str) != Some("data_sync_all") {
        return Err(Refusal::because(Reason::InvalidRequest, "type must be data_sync_all"));
    }
    let id = refresh(connection, call);
    let (allowed, remaining) = connection.jobs.quota_fields(call.now);
    Ok(Answer::ok(created(call, &id, allowed, remaining)))
}

//! What perch knows about who can be called now, beyond quota: dead logins, holds of a connection or of the
//! whole application, what is left for retries, links for customers.

use super::Engine;
use super::call::{Call, Client, Ended, Identity};
use super::link::Links;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::limit::holds::{Gate, Holds};
use crate::limit::{Ailment, Notice, Scope, Subject};
use crate::policy::retry::Budget;
use crate::policy::shield::Shield;
use crate::policy::{Class, Refusal};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::telemetry::timeline::{Awaited, Did};
use crate::types::UnixMillis;
use crate::types::json::RawObject;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How long what replicas tell each other of dead logins is worth hearing; each asks by itself after that.
pub(super) const ILL_SPAN: Duration = Duration::from_secs(60 * 60);

/// What perch knows beyond quota.
#[derive(Debug)]
pub struct Outlook {
    pub(super) shield: Mutex<Shield>,
    pub(super) holds: Mutex<Holds>,
    /// Rung when a call that went first to try a hold has ended.
    tried: Notify,
    pub(super) budget: Mutex<Budget>,
    pub(super) links: Links,
}

/// What the configuration says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlookRules {
    /// The most attempts of one call, the first included.
    pub attempts_max: u32,
    /// The share of calls that may be retries, in percent.
    pub retry_percent: u32,
    /// How long after its discovery a dead login is first asked about; `None`: there is no shield.
    pub probe: Option<Duration>,
}

impl Outlook {
    /// Nothing is known yet.
    pub fn new(rules: &OutlookRules) -> Self {
        Self {
            shield: Mutex::new(Shield::new(rules.probe.unwrap_or_default())),
            holds: Mutex::default(),
            tried: Notify::new(),
            budget: Mutex::new(Budget::new(rules.retry_percent)),
            links: Links::default(),
        }
    }

    /// Takes new rules over; what is known stays.
    pub fn set_rules(&self, rules: &OutlookRules) {
        if let Some(probe) = rules.probe {
            self.shield.lock().set_interval(probe);
        }
        let mut budget = self.budget.lock();
        *budget = budget.of(rules.retry_percent);
    }
}

/// The holds whose end a call tries. When it has ended, whatever it found, the next caller may go.
pub(super) struct Probes<'e> {
    outlook: &'e Outlook,
    subjects: Vec<Subject>,
}

impl Drop for Probes<'_> {
    fn drop(&mut self) {
        if self.subjects.is_empty() {
            return;
        }
        let mut holds = self.outlook.holds.lock();
        self.subjects.iter().for_each(|subject| holds.unproved(subject));
        drop(holds);
        self.outlook.tried.notify_waiters();
    }
}

/// One thing that cannot be called for a while, for an operator.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Standstill {
    /// `product`, `ip`, `application`, `connection`, `refresh_quota` or `login`.
    pub scope: &'static str,
    /// The product, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<&'static str>,
    /// The connection, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// The legal entity, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    /// What calls are answered with.
    pub class: &'static str,
    /// Since when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixMillis>,
    /// Until when; a dead login has no end of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixMillis>,
}

/// The word for a subject in metrics, logs and error bodies.
const fn scope_of(subject: &Subject) -> &'static str {
    match subject {
        Subject::Application => "application",
        Subject::Connection(_) => "connection",
        Subject::RefreshQuota(_) => "refresh_quota",
    }
}

impl Engine {
    /// Waits while something beyond quota holds this call, or refuses it when that lasts too long. `left` is
    /// what remains of the call's patience.
    pub(super) async fn pass_holds(
        &self,
        subjects: &[Subject],
        left: Duration,
        (client, line): (&mut Client, &mut AccessLine),
    ) -> Result<Probes<'_>, Ended> {
        if self.outlook.holds.lock().is_empty() {
            return Ok(Probes { outlook: &self.outlook, subjects: Vec::new() });
        }
        let began = Instant::now();
        let passed = self.wait_for_holds(subjects, left, client).await;
        line.wait += began.elapsed();
        line.timeline.note(began, Did::Wait { what: Awaited::Hold, is_over: passed.is_ok(), limiter: None });
        passed
    }

    async fn wait_for_holds(
        &self,
        subjects: &[Subject],
        left: Duration,
        client: &mut Client,
    ) -> Result<Probes<'_>, Ended> {
        let mut probes = Probes { outlook: &self.outlook, subjects: Vec::new() };
        let began = Instant::now();
        for subject in subjects {
            loop {
                // Listening begins before the question, or what ends between is missed.
                let mut tried = std::pin::pin!(self.outlook.tried.notified());
                tried.as_mut().enable();
                let gate = self.outlook.holds.lock().gate(subject, self.quota.now());
                let left = left.saturating_sub(began.elapsed());
                let (wait, pause) = match gate {
                    Gate::Free => break,
                    Gate::Probe => {
                        probes.subjects.push(subject.clone());
                        break;
                    }
                    Gate::Held(wait) => (wait, wait),
                    // It may be known sooner.
                    Gate::Tried(wait) => (wait, wait.min(left)),
                };
                if pause > left || left.is_zero() {
                    return Err(refusal(subject, wait).into());
                }
                let abandoned = tokio::select! {
                    () = sleep(pause) => false,
                    () = tried => false,
                    () = client.gone() => true,
                    () = self.drain.closing() => return Err(Refusal::Draining.into()),
                };
                if abandoned {
                    return Err(Ended::Abandoned);
                }
            }
        }
        Ok(probes)
    }

    /// Finch, or the provider, refused this subject: everybody of it waits. Answers how long.
    pub(super) fn refused_for(&self, subject: Subject, told: Option<Duration>) -> Duration {
        let span = self.outlook.holds.lock().refused(subject.clone(), told, self.quota.now());
        tracing::warn!(
            scope = scope_of(&subject),
            seconds = span.as_secs(),
            "Finch refuses a scope; its calls wait"
        );
        self.quota.post(Notice::Hold { subject, span }, span);
        span
    }

    /// A call of these subjects was served.
    pub(super) fn served(&self, identity: &Identity) {
        let mut holds = self.outlook.holds.lock();
        if holds.is_empty() {
            return;
        }
        let now = self.quota.now();
        holds.served(&Subject::Application, now);
        if let Identity::Connection(entry) = identity {
            holds.served(&Subject::Connection(entry.facts.connection_id.clone()), now);
        }
    }

    /// Another replica found something out.
    pub async fn hear_notice(&self, notice: Notice, left: Duration) {
        match notice {
            Notice::Hold { subject, .. } => {
                self.outlook.holds.lock().hold(subject, left, self.quota.now());
            }
            Notice::Ill { connection, entity, ailment, version } => {
                self.hear_ill(connection, entity, (ailment, version));
            }
            Notice::Well { connection, entity } => self.hear_well(&connection, entity).await,
        }
    }

    /// Everything that cannot be called now.
    pub fn standstills(&self) -> Vec<Standstill> {
        let (now, wall) = (self.quota.now(), unix_now());
        let nothing = Standstill {
            scope: "product",
            product: None,
            connection_id: None,
            entity_id: None,
            class: Class::RateLimited.as_str(),
            since: None,
            until: None,
        };
        let mut all: Vec<Standstill> = self
            .quota
            .snapshot()
            .holds
            .iter()
            .map(|(scope, left)| Standstill {
                scope: scope.as_str(),
                product: match scope {
                    Scope::Product(product) => Some(product.as_str()),
                    Scope::EgressIp => None,
                },
                until: Some(wall.plus(*left)),
                ..nothing.clone()
            })
            .collect();
        all.extend(self.outlook.holds.lock().list(now).map(|(subject, left)| Standstill {
            scope: scope_of(subject),
            connection_id: match subject {
                Subject::Application => None,
                Subject::Connection(id) | Subject::RefreshQuota(id) => Some(id.to_string()),
            },
            class: refusal(subject, left).problem().class.as_str(),
            until: Some(wall.plus(left)),
            ..nothing.clone()
        }));
        all.extend(self.outlook.shield.lock().cases().map(|(login, case)| Standstill {
            scope: "login",
            connection_id: Some(login.connection.to_string()),
            entity_id: login.entity.as_ref().map(ToString::to_string),
            class: case.ailment.class().as_str(),
            since: Some(case.since),
            ..nothing.clone()
        }));
        all
    }

    /// How many logins are known to be dead, by what their calls are answered with.
    pub fn sick_by_class(&self) -> [(&'static str, u64); Ailment::ALL.len()] {
        let shield = self.outlook.shield.lock();
        Ailment::ALL.map(|ailment| {
            let count = shield.cases().filter(|(_, case)| case.ailment == ailment).count();
            (ailment.class().as_str(), count as u64)
        })
    }

    /// How many of the holds beyond the ledger's there are, by scope.
    pub fn holds_by_scope(&self) -> [(&'static str, u64); 3] {
        let (mut application, mut connection, mut refresh) = (0, 0, 0);
        for (subject, _) in self.outlook.holds.lock().list(self.quota.now()) {
            match subject {
                Subject::Application => application += 1,
                Subject::Connection(_) => connection += 1,
                Subject::RefreshQuota(_) => refresh += 1,
            }
        }
        [("application", application), ("connection", connection), ("refresh_quota", refresh)]
    }
}

/// What a call may be held by, beyond the ledger's scopes.
pub(super) fn subjects(call: &Call, endpoint: &Endpoint, identity: &Identity) -> Vec<Subject> {
    let mut all = match identity {
        // Whose token it is, is not known; `/providers` needs nobody.
        Identity::Brought(_) | Identity::Nobody => Vec::new(),
        Identity::Application | Identity::InBody => vec![Subject::Application],
        Identity::Connection(entry) => {
            vec![Subject::Application, Subject::Connection(entry.facts.connection_id.clone())]
        }
    };
    if let Identity::Connection(entry) = identity
        && is_forced_refresh(call, endpoint)
    {
        all.push(Subject::RefreshQuota(entry.facts.connection_id.clone()));
    }
    all
}

/// Whether the call is one of those that a connection may make once an hour.
pub(super) fn is_forced_refresh(call: &Call, endpoint: &Endpoint) -> bool {
    endpoint.operation == Operation::CreateAutomatedJob
        && RawObject::parse(&call.body)
            .and_then(|body| body.text("type"))
            .is_none_or(|kind| kind == "data_sync_all")
}

fn refusal(subject: &Subject, wait: Duration) -> Refusal {
    match subject {
        Subject::Application => Refusal::ApplicationBlocked { wait },
        Subject::Connection(_) => Refusal::ProviderLimited { wait },
        Subject::RefreshQuota(_) => Refusal::RefreshQuotaSpent { wait },
    }
}

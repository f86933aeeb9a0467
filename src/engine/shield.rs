//! The shield at work: dead logins are answered for, asked about, and noticed.

use super::Engine;
use super::call::{self, Answer, AnswerBody, Call, Identity};
use super::outlook::ILL_SPAN;
use super::own_line::own_line;
use super::reply::{advise, own};
use super::resolve::in_time;
use crate::finch::endpoints::{Endpoint, Operation};
use crate::limit::{Ailment, Notice};
use crate::policy::Class;
use crate::policy::problem::Relayed;
use crate::policy::resend::Resend;
use crate::policy::shield::{Advice, Case, Health, Login, entity_in, may_probe, needs_login};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::types::json::RawObject;
use crate::types::{ConnectionId, EntityId, Product, UnixMillis};
use crate::upstream::{IntrospectError, Introspection};
use crate::vault::{Entry, Status, VaultError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a question of the shield's waits for its admission at most.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// What the shield says to a call.
pub(super) enum Shielded {
    /// It goes on.
    Clear,
    /// It goes on to find out: what is known of its login does not stop it.
    Probe,
    /// This is its answer; nothing was sent.
    Answer(Answer),
}

/// Whose login a call needs, when it needs one that perch looks after.
pub(super) fn login_of(call: &Call, endpoint: &Endpoint, identity: &Identity) -> Option<(Login, Arc<Entry>)> {
    let Identity::Connection(entry) = identity else { return None };
    if !needs_login(endpoint) {
        return None;
    }
    let facts = &entry.facts;
    // A connection with one entity is that entity.
    let entity = match facts.entity_ids.len() {
        1 => None,
        _ => call.query.as_deref().and_then(entity_in),
    };
    Some((Login { connection: facts.connection_id.clone(), entity }, Arc::clone(entry)))
}

impl Engine {
    /// Asks the shield about a call before it waits for quota.
    pub(super) async fn shielded(
        &self,
        call: &Call,
        endpoint: &'static Endpoint,
        identity: &Identity,
        (left, line): (Duration, &mut AccessLine),
    ) -> Shielded {
        let Some(probe) = self.settings.now().outlook.probe else { return Shielded::Clear };
        let Some((login, entry)) = login_of(call, endpoint, identity) else { return Shielded::Clear };
        let (version, now) = (entry.facts.version, self.quota.now());
        let advice = {
            let mut shield = self.outlook.shield.lock();
            if entry.facts.status == Status::NeedsReauth {
                shield.remembered(&login.connection, version, (now, unix_now()));
            }
            shield.advise(&login, version, may_probe(endpoint), now)
        };
        let (case, is_call) = match advice {
            Advice::Send => return Shielded::Clear,
            Advice::Answer(case) => return Shielded::Answer(self.answer_for(&login, case, line).await),
            Advice::Ask(case) => (case, false),
            Advice::Try(case) => (case, true),
        };
        let name =
            format!("probe {} {}", login.connection, login.entity.as_ref().map_or("", EntityId::as_str));
        if !self.quota.claim(&name, probe / 2).await {
            return Shielded::Answer(self.answer_for(&login, case, line).await);
        }
        if is_call {
            return Shielded::Probe;
        }
        match self.health_of(&login, &entry, (left.min(ASK_PATIENCE), line)).await {
            Health::Well => {
                self.recovered(&login, &entry).await;
                Shielded::Clear
            }
            Health::Ill(ailment) => {
                self.fell_ill(&login, &entry, ailment).await;
                let case = self.outlook.shield.lock().case(&login, version).unwrap_or(case);
                Shielded::Answer(self.answer_for(&login, case, line).await)
            }
            // Finch did not tell: a read finds out by itself.
            Health::Unknown if may_probe(endpoint) => Shielded::Probe,
            Health::Unknown => Shielded::Answer(self.answer_for(&login, case, line).await),
        }
    }

    /// The same after the call has waited: others may have found out meanwhile.
    pub(super) async fn shielded_late(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        identity: &Identity,
        line: &mut AccessLine,
    ) -> Option<Answer> {
        self.settings.now().outlook.probe?;
        let (login, entry) = login_of(call, endpoint, identity)?;
        let case = self.outlook.shield.lock().case(&login, entry.facts.version)?;
        Some(self.answer_for(&login, case, line).await)
    }

    /// Whether [`Self::shielded_late`] would answer.
    pub(super) fn is_shielded_late(&self, call: &Call, endpoint: &Endpoint, identity: &Identity) -> bool {
        self.settings.now().outlook.probe.is_some()
            && login_of(call, endpoint, identity).is_some_and(|(login, entry)| {
                self.outlook.shield.lock().case(&login, entry.facts.version).is_some()
            })
    }

    /// What Finch says of a login's health now.
    async fn health_of(
        &self,
        login: &Login,
        entry: &Arc<Entry>,
        asking: (Duration, &mut AccessLine),
    ) -> Health {
        self.asked_about(login, entry, asking).await.0
    }

    /// The same, and whether Finch does not take the token any more.
    async fn asked_about(
        &self,
        login: &Login,
        entry: &Arc<Entry>,
        (patience, line): (Duration, &mut AccessLine),
    ) -> (Health, bool) {
        let Some(token) = &entry.token else { return (Health::Unknown, false) };
        let told = self.ask_finch(token, patience, line).await;
        if let Some(Ok(told)) = &told {
            self.keep_told(entry, told).await;
        }
        let health = match &told {
            Some(Ok(told)) => health_in(told, login.entity.as_ref()),
            Some(Err(IntrospectError::Refused(401))) => Health::Ill(Ailment::Disconnected),
            Some(Err(IntrospectError::Unwell(class))) => {
                Ailment::of_class(*class).map_or(Health::Unknown, Health::Ill)
            }
            Some(Err(_)) | None => Health::Unknown,
        };
        self.telemetry.metrics.failures.probe(health);
        (health, matches!(told, Some(Err(IntrospectError::Refused(401)))))
    }

    /// After so many 500s in a row, whether the login is dead. The class that the answer then gets.
    pub(super) async fn hidden_ailment(
        &self,
        login: &Login,
        entry: &Arc<Entry>,
        line: &mut AccessLine,
    ) -> Option<Class> {
        let probe = self.settings.now().outlook.probe?;
        if !self.outlook.shield.lock().failed(login, self.quota.now()) {
            return None;
        }
        if !self.quota.claim(&format!("doubt {}", login.connection), probe).await {
            return None;
        }
        match self.health_of(login, entry, (ASK_PATIENCE, line)).await {
            Health::Ill(ailment) => {
                self.fell_ill(login, entry, ailment).await;
                Some(ailment.class())
            }
            Health::Well | Health::Unknown => None,
        }
    }

    /// What an answer of Finch's tells about its connection.
    pub(super) async fn note_connection(
        &self,
        (call, endpoint): (&Call, &Endpoint),
        identity: &Identity,
        class: Class,
        body: &[u8],
    ) {
        let Identity::Connection(entry) = identity else { return };
        let id = &entry.facts.connection_id;
        if let Some((login, entry)) = login_of(call, endpoint, identity) {
            match Ailment::of_class(class) {
                Some(ailment) => {
                    self.fell_ill(&login, &entry, ailment).await;
                    self.note_word(&login, &entry, Some(ailment)).await;
                }
                None if class == Class::Ok => {
                    let is_concern = entry.facts.status == Status::NeedsReauth
                        || self.outlook.shield.lock().concerns(&login);
                    if is_concern {
                        self.recovered(&login, &entry).await;
                        self.note_word(&login, &entry, None).await;
                    }
                }
                None => {}
            }
            return;
        }
        match endpoint.operation {
            Operation::DisconnectEntity if class == Class::Ok => {
                let gone = entities_of(&call.body);
                if let Err(error) = self.vault.drop_entities(id, gone, unix_now()).await {
                    tracing::warn!(error = %error, connection.id = %id, "could not note which entities connection {id} lost");
                }
            }
            Operation::Introspect => self.note_introspection(entry, class, body).await,
            _ => {}
        }
    }

    /// An app asked `/introspect` itself: perch listens.
    async fn note_introspection(&self, entry: &Arc<Entry>, class: Class, body: &[u8]) {
        let whole = Login { connection: entry.facts.connection_id.clone(), entity: None };
        if let Some(ailment) = Ailment::of_class(class) {
            match ailment {
                Ailment::Disconnected => self.learn_dead(entry).await,
                Ailment::Reauthentication | Ailment::AccountSetup => {
                    self.note_word(&whole, entry, Some(ailment)).await;
                }
            }
            return self.fell_ill(&whole, entry, ailment).await;
        }
        let Ok(told) = serde_json::from_slice::<Introspection>(body) else { return };
        self.keep_told(entry, &told).await;
        let entities: Vec<(EntityId, Health)> = told
            .entities
            .iter()
            .flatten()
            .filter_map(|e| Some((EntityId::new(&e.id).ok()?, Health::of_word(e.status.as_deref()?))))
            .collect();
        let several = entities.len() > 1;
        let own = match several {
            true => Health::of_words(told.status(), told.methods()),
            false => health_in(&told, None),
        };
        // The word for the whole is about those entities that have none of their own.
        let is_mixed = several && entities.iter().any(|(_, health)| *health == Health::Well);
        match own {
            Health::Ill(ailment) if !is_mixed => self.fell_ill(&whole, entry, ailment).await,
            Health::Well => self.recovered(&whole, entry).await,
            Health::Ill(_) | Health::Unknown => {}
        }
        for (id, health) in entities.into_iter().filter(|_| several) {
            let login = Login { connection: whole.connection.clone(), entity: Some(id) };
            match health {
                Health::Ill(ailment) => self.fell_ill(&login, entry, ailment).await,
                Health::Well => self.recovered(&login, entry).await,
                Health::Unknown => {}
            }
        }
    }

    /// A webhook told the status of a login, at `at`; `is_last` says that no other word is as new. Where the vault was
    /// changed after that, or the order cannot be told, Finch is asked what holds now: an old word must not stop a
    /// login that was just renewed. And it is asked before a token is erased, however new the word: with the token goes
    /// the only way to end a connection that is billed.
    ///
    /// # Errors
    /// The vault does not answer.
    pub(super) async fn told_by_finch(
        &self,
        connection: &ConnectionId,
        entity: Option<&EntityId>,
        word: &str,
        (at, is_last): (UnixMillis, bool),
        may_ask: bool,
    ) -> Result<(), VaultError> {
        let entry = match in_time(self.vault.connection(connection)).await {
            Ok(entry) => entry,
            Err(error @ VaultError::Store(_)) => return Err(error),
            Err(error) => {
                tracing::info!(connection.id = %connection, "Finch tells of connection {connection}: {error}");
                return Ok(());
            }
        };
        let facts = &entry.facts;
        if facts.status == Status::Disconnected {
            return Ok(());
        }
        // A connection with one entity is that entity, and no other.
        let entity = entity.filter(|entity| facts.entity_ids.as_slice() != [(*entity).clone()]).cloned();
        let login = Login { connection: connection.clone(), entity };
        let mut health = Health::of_word(word);
        // Finch's timestamps are whole seconds: within one nobody can tell what was first.
        let slack = Duration::from_secs(1);
        let is_doubtful = !is_last || at.plus(slack) < facts.updated_at;
        let is_final = health == Health::Ill(Ailment::Disconnected) && login.entity.is_none();
        let mut is_dead = false;
        if is_doubtful || is_final {
            // A webhook is no call; what is asked for it is one of perch's own.
            let mut line = own_line(connection, Product::Introspect, ("GET", "/introspect"));
            (line.customer, line.company_id) = (facts.customer_id.clone(), facts.company_id.clone());
            line.provider = facts.provider_id.clone();
            let began = Instant::now();
            let found = match may_ask {
                true => self.asked_about(&login, &entry, (ASK_PATIENCE, &mut line)).await,
                false => (Health::Unknown, false),
            };
            tracing::info!(
                connection.id = %connection, finch.request_ids = ?line.finch_request_id,
                "asked Finch about connection {connection} before its webhook is believed: {:?}", found.0
            );
            self.record_question(line, found.0, began.elapsed());
            // Where Finch does not tell, a new word stands. It stops calls, and erases nothing.
            if is_doubtful || found.0 != Health::Unknown {
                (health, is_dead) = found;
            }
        }
        if !is_doubtful
            && health == Health::of_word(word)
            && login.entity.is_none()
            && health != Health::Unknown
        {
            // Somewhere in that second, and not later than now.
            let (said, now) = (at.plus(slack), unix_now());
            let is_newest = self.vault.note_account_status(connection, word, said.min(now), now).await?;
            if !is_newest {
                return Ok(());
            }
        }
        match health {
            Health::Ill(ailment) => {
                self.fell_ill(&login, &entry, ailment).await;
                if is_dead && is_final {
                    self.vault.mark_token_dead(connection, facts.version, unix_now()).await?;
                }
            }
            Health::Well => self.recovered(&login, &entry).await,
            Health::Unknown => {
                tracing::info!(connection.id = %connection, "what Finch tells of connection {connection} says nothing of its login");
            }
        }
        Ok(())
    }

    /// Finch said that a login does not work.
    pub(super) async fn fell_ill(&self, login: &Login, entry: &Entry, ailment: Ailment) {
        let facts = &entry.facts;
        let id = &login.connection;
        let is_new = self.outlook.shield.lock().fell_ill(
            login.clone(),
            (ailment, facts.version),
            (self.quota.now(), unix_now()),
        );
        if is_new {
            tracing::warn!(
                connection.id = %id, entity.id = login.entity.as_ref().map(EntityId::as_str), class = ailment.class().as_str(),
                "the login of connection {id} does not work; its calls are answered here until Finch says that it does"
            );
            let (connection, entity) = (id.clone(), login.entity.clone());
            self.quota.post(Notice::Ill { connection, entity, ailment, version: facts.version }, ILL_SPAN);
        }
        // The vault knows connections, not entities.
        if ailment == Ailment::Reauthentication
            && login.entity.is_none()
            && facts.status != Status::NeedsReauth
        {
            let noted = self.vault.note_reauthentication(id, facts.version, unix_now()).await;
            if let Err(error) = noted {
                tracing::warn!(error = %error, connection.id = %id, "could not note the status of connection {id}");
            }
        }
    }

    /// Finch said, or showed, that a login works.
    pub(super) async fn recovered(&self, login: &Login, entry: &Entry) {
        let id = &login.connection;
        if self.outlook.shield.lock().recovered(login, entry.facts.version, self.quota.now()) {
            tracing::info!(connection.id = %id, "the login of connection {id} works again");
            if login.entity.is_none() {
                self.forget_link(id).await;
            }
            let (connection, entity) = (id.clone(), login.entity.clone());
            self.quota.post(Notice::Well { connection, entity }, ILL_SPAN);
        }
        if entry.facts.status == Status::NeedsReauth && login.entity.is_none() {
            let noted = self.vault.note_recovery(id, entry.facts.version, unix_now()).await;
            if let Err(error) = noted {
                tracing::warn!(error = %error, connection.id = %id, "could not note the status of connection {id}");
            }
        }
    }

    /// A connection has a new token.
    pub(super) async fn renewed(&self, connection: &ConnectionId) {
        self.outlook.shield.lock().renewed(connection);
        self.forget_link(connection).await;
        self.quota.post(Notice::Well { connection: connection.clone(), entity: None }, ILL_SPAN);
    }

    pub(super) fn hear_ill(&self, connection: ConnectionId, entity: Option<EntityId>, found: (Ailment, u64)) {
        let (login, now) = (Login { connection, entity }, (self.quota.now(), unix_now()));
        self.outlook.shield.lock().fell_ill(login, found, now);
    }

    pub(super) async fn hear_well(&self, connection: &ConnectionId, entity: Option<EntityId>) {
        if entity.is_none() {
            self.outlook.shield.lock().renewed(connection);
            // Each replica has a link of its own, and the customer may have followed any of them.
            return self.forget_link(connection).await;
        }
        let login = Login { connection: connection.clone(), entity };
        // Its token is this one or a newer one.
        self.outlook.shield.lock().recovered(&login, 0, self.quota.now());
    }

    /// The answer that perch gives in Finch's stead, in Finch's words, with what the customer needs.
    async fn answer_for(&self, login: &Login, case: Case, line: &mut AccessLine) -> Answer {
        let class = case.ailment.class();
        line.class = class;
        line.refusal = Some("perch_shielded");
        self.telemetry.metrics.failures.shielded(class);
        let url = match case.ailment {
            Ailment::Reauthentication => self.reauth_url(&login.connection).await,
            Ailment::AccountSetup | Ailment::Disconnected => None,
        };
        let (name, finch_code, message) = case.ailment.words();
        let mut words = RawObject::default();
        words.set("code", &401);
        words.set("name", &name);
        if let Some(code) = finch_code {
            words.set("finch_code", &code);
        }
        words.set("message", &message);
        let relayed = Relayed {
            class,
            status: 401,
            resend: Resend::No,
            wait: None,
            scope: None,
            since: Some(case.since),
            reauth_url: url.as_deref(),
            action: None,
        };
        let body = relayed.to_body(&words.to_bytes(), call::evidence(line, unix_now()));
        let mut answer = own(401, Vec::new());
        answer.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        answer.body = AnswerBody::Whole(Bytes::from(body));
        advise(&mut answer.headers, Resend::No);
        self.sign(&mut answer, line);
        answer
    }

    /// Whether the vault has a newer token than the one that a call was sent with: another process may have
    /// stored it.
    pub(super) async fn has_newer_token(&self, identity: &Identity) -> bool {
        let Identity::Connection(entry) = identity else { return false };
        let now = in_time(self.vault.read_anew(&entry.facts.connection_id)).await;
        now.is_ok_and(|now| now.facts.version > entry.facts.version && now.token.is_some())
    }
}

/// The entities that a call to `/disconnect-entity` names.
fn entities_of(body: &[u8]) -> Vec<EntityId> {
    let ids = RawObject::parse(body)
        .and_then(|body| serde_json::from_str::<Vec<String>>(body.get("entity_ids")?.get()).ok());
    ids.into_iter().flatten().filter_map(|id| EntityId::new(id).ok()).collect()
}

/// What `/introspect` says of one login.
fn health_in(told: &Introspection, entity: Option<&EntityId>) -> Health {
    let entities = || told.entities.iter().flatten();
    match entity {
        Some(id) => {
            let own = entities().find(|e| e.id == id.as_str()).and_then(|e| e.status.as_deref());
            Health::of_words(own.or(told.status()), [])
        }
        // An entity that is not reached any more says nothing of the others.
        None => Health::of_words(
            told.status(),
            told.methods().chain(entities().filter(|e| !e.is_gone()).filter_map(|e| e.status.as_deref())),
        ),
    }
}

//! The code exchange: the token stays here, the app gets a reference.

use super::Engine;
use super::attempt::note_id;
use super::authorize::may_have;
use super::call::{Answer, AnswerBody, Call, Caller};
use super::life::code_of;
use super::quota::{AskFacts, Permit};
use crate::finch::endpoints::{Auth, Endpoint, Operation};
use crate::policy::caller::reference;
use crate::policy::exchange::{Arrival, Keeping, keep};
use crate::policy::redact::Secrets;
use crate::policy::{Class, Refusal, headers};
use crate::telemetry::AccessLine;
use crate::telemetry::clock::unix_now;
use crate::telemetry::timeline::{Awaited, Did};
use crate::types::json::RawObject;
use crate::types::{
    AccessToken, CompanyId, ConnectionId, CustomerId, EntityId, Environment, Priority, Product, ProviderId,
};
use crate::upstream::{IntrospectError, Introspection, SendError, introspect};
use crate::vault::{Actor, NewConnection, Status, VaultError, failpoint};
use http::{HeaderMap, StatusCode};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use zeroize::Zeroize;

/// How long after each failure a token that arrived is tried to be sealed again, where several gateways share the store.
const SEAL_AGAIN: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// How long an exchange waits for the admission of its `/introspect`; without it the token is kept
/// with what the exchange itself told.
const INTROSPECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long its answer may take. Finch's own bound is minutes, and an SDK hangs up after one, with its
/// only code spent.
const INTROSPECT_ANSWER_MAX: Duration = Duration::from_secs(10);

/// What is known of a new connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    customer: Option<CustomerId>,
    company: Option<CompanyId>,
    provider: Option<ProviderId>,
    products: Vec<String>,
    entities: Vec<EntityId>,
    client_type: Option<Environment>,
    account_status: Option<String>,
}

impl Engine {
    /// What perch must be able to read of a body before it waits: a session's customer, who must not be
    /// another than the header's, and the object that gets perch's credentials.
    pub(super) fn check_body(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        caller: &Caller,
        line: &mut AccessLine,
    ) -> Result<(), Refusal> {
        let is_session = endpoint.operation == Operation::CreateSession;
        if !is_session && endpoint.auth != Auth::InBody {
            return Ok(());
        }
        let body = RawObject::parse(&call.body).ok_or(Refusal::BodyNotAnObject)?;
        if !is_session {
            return Ok(());
        }
        let Some(customer) = body.text("customer_id").and_then(|id| CustomerId::new(id).ok()) else {
            // Finch says what is wrong with it.
            return Ok(());
        };
        if caller.selector.customer.as_ref().is_some_and(|named| *named != customer) {
            return Err(Refusal::CustomersDisagree);
        }
        line.customer = Some(customer);
        Ok(())
    }

    /// Seals the token that an answer brings and makes the app's answer: the same, with a reference
    /// in the token's place. Everything is stored before anything is said.
    pub(super) async fn keep_token(
        &self,
        (call, endpoint): (&Call, &Endpoint),
        caller: &Caller,
        status: u16,
        finch_headers: &HeaderMap,
        mut body: Vec<u8>,
        line: &mut AccessLine,
    ) -> Result<Answer, Refusal> {
        failpoint::hit("exchange:answered");
        let text = RawObject::parse(&body).and_then(|object| object.text("access_token"));
        // The token is taken out of everything else first: the rest is stored, logged and answered.
        let secrets = Secrets::new(text.iter().map(String::as_bytes));
        secrets.take_out_of_body(&mut body);
        let parsed = RawObject::parse(&body);
        body.zeroize();
        let (Some(mut object), Some(text)) = (parsed, text) else {
            tracing::error!(path = endpoint.path, "an exchange was answered without a token");
            return Err(Refusal::BadAnswer("the exchange brought no token"));
        };
        let mut headers = headers::to_app(finch_headers, true);
        if secrets.take_out_of_headers(&mut headers) {
            self.telemetry.redacted();
        }
        line.finch_request_id.retain(|id| !secrets.are_in(id.as_str().as_bytes()));
        line.timeline.forget_ids(|id| secrets.are_in(id.as_str().as_bytes()));
        // Two copies: the vault keeps one, the other asks whose it is.
        let token = AccessToken::new(text.clone());
        let probe = AccessToken::new(text);
        let mut facts = Facts::told(&object);
        let mut connection = object.text("connection_id").and_then(|id| ConnectionId::new(id).ok());
        let mut kept = None;
        if let Some(id) = &connection {
            kept = Some(
                self.store(
                    (call, endpoint),
                    caller,
                    (id, &facts),
                    AccessToken::new(probe.expose().to_owned()),
                )
                .await?,
            );
        }
        failpoint::hit("exchange:sealed");
        // What `/introspect` adds is worth a second write; the token itself is already safe.
        if let Some(told) = self.ask_whose(&probe, line).await {
            let fuller = facts.clone().with(&told);
            let id =
                connection.clone().or_else(|| told.connection_id.and_then(|id| ConnectionId::new(id).ok()));
            if let Some(id) = id.filter(|_| kept.is_none() || fuller != facts) {
                kept = match (self.store((call, endpoint), caller, (&id, &fuller), token).await, kept) {
                    (Ok(keeping), _) => Some(keeping),
                    // Sealed already, for the same customer and environment: only details are missing.
                    (Err(_), Some(first)) if fuller.belongs_as(&facts) => Some(first),
                    (Err(refusal), first) => {
                        if first.is_some() {
                            self.suspend(&id).await;
                        }
                        return Err(refusal);
                    }
                };
                connection = Some(id);
            }
            facts = fuller;
        }
        failpoint::hit("exchange:completed");
        let (Some(connection), Some(kept)) = (connection, kept) else {
            return Err(Refusal::ExchangeNotStored {
                connection: None,
                why: "Finch did not name the connection".to_owned(),
            });
        };
        line.connection_id = Some(connection.clone());
        line.company_id.clone_from(&facts.company);
        line.provider.clone_from(&facts.provider);
        match kept {
            Keeping::Active(customer) => line.customer = customer,
            Keeping::Swapped(_) => return Err(Refusal::ExchangedForAnother { connection, is_held: false }),
            Keeping::HeldForCustomer => {
                return Err(Refusal::ExchangedForAnother { connection, is_held: true });
            }
            Keeping::Withheld(_) | Keeping::HeldForApp(_) => {
                tracing::warn!(
                    connection.id = %connection,
                    "an app exchanged the code of connection {connection}, for whose customer it may not act; the token is sealed"
                );
                return Err(Refusal::ExchangedForForbidden {
                    is_held: matches!(kept, Keeping::HeldForApp(_)),
                });
            }
            Keeping::HeldForEnvironment(environment) => {
                return Err(Refusal::ExchangedElsewhere {
                    connection,
                    environment: environment.to_string(),
                    configured: self.settings.now().environment,
                });
            }
        }
        // Whatever was known against the old token.
        self.renewed(&connection).await;
        object.set("access_token", &reference(&connection));
        line.class = Class::Ok;
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
        let mut answer =
            Answer { status, headers, body: AnswerBody::Whole(object.to_bytes().into()), closes: false };
        self.sign(&mut answer, line);
        Ok(answer)
    }

    /// One transaction: the token is sealed for whom it belongs to, or held.
    async fn store(
        &self,
        (call, endpoint): (&Call, &Endpoint),
        caller: &Caller,
        (id, facts): (&ConnectionId, &Facts),
        token: AccessToken,
    ) -> Result<Keeping, Refusal> {
        let (stored, is_held) = match self.vault.connection(id).await {
            Ok(entry) => (entry.facts.customer_id.clone(), entry.facts.status == Status::Held),
            // Not knowing whose it is, is no licence to give it to somebody else.
            Err(error @ (VaultError::Store(_) | VaultError::Damaged(_))) => {
                return Err(self.not_stored(id, &error));
            }
            Err(_) => (None, false),
        };
        let arrival = Arrival {
            finch: facts.customer.as_ref(),
            named: caller.selector.customer.as_ref(),
            stored: stored.as_ref(),
            client_type: facts.client_type,
            configured: self.settings.now().environment,
        };
        let may = caller
            .app
            .as_ref()
            .is_none_or(|app| may_have(&app.policy, id, (arrival.finch, arrival.stored, arrival.named)));
        let keeping = match keep(arrival).for_app(may, arrival) {
            // What waits for an operator is not freed by an app that may not have it.
            Keeping::Withheld(owner) if is_held => Keeping::HeldForApp(Some(owner)),
            keeping => keeping,
        };
        let (customer, status, held_reason) = match &keeping {
            Keeping::Active(customer) => (customer.clone(), facts.status(), None),
            Keeping::Swapped(customer) | Keeping::Withheld(customer) => {
                (Some(customer.clone()), facts.status(), None)
            }
            Keeping::HeldForApp(customer) => (
                customer.clone(),
                Status::Held,
                Some("the app that exchanged its code may not act for its customer".to_owned()),
            ),
            Keeping::HeldForCustomer => (
                stored,
                Status::Held,
                Some("its exchange named another customer than Finch or the vault".to_owned()),
            ),
            Keeping::HeldForEnvironment(other) => {
                (stored, Status::Held, Some(format!("its token is of the {other} environment")))
            }
        };
        let new = |token: &AccessToken| NewConnection {
            connection_id: id.clone(),
            customer_id: customer.clone(),
            company_id: facts.company.clone(),
            provider_id: facts.provider.clone(),
            products: facts.products.clone(),
            entity_ids: facts.entities.clone(),
            client_type: facts.client_type.unwrap_or(self.settings.now().environment),
            account_status: facts.account_status.clone(),
            token: AccessToken::new(token.expose().to_owned()),
            status,
            held_reason: held_reason.clone(),
        };
        // The code is done in the same transaction: whoever sends it again gets this connection.
        let (code, actor) = (code_of(call, endpoint), Actor::App(call.app_name().cloned()));
        // Nobody has it but this call. A store that others write to may be busy for a while, with an import for one.
        let mut pauses = SEAL_AGAIN.iter().filter(|_| self.vault.is_shared());
        loop {
            let sealed = self.vault.seal_exchanged(new(&token), code, actor.clone(), unix_now()).await;
            match (sealed, pauses.next()) {
                (Ok(_), _) => return Ok(keeping),
                (Err(VaultError::Store(why)), Some(pause)) => {
                    tracing::warn!(error = %why, connection.id = %id, "the token of connection {id} is not stored yet; trying again");
                    tokio::time::sleep(*pause).await;
                }
                (Err(error), _) => return Err(self.not_stored(id, &error)),
            }
        }
    }

    /// What was sealed before Finch told better must not be used as it stands.
    async fn suspend(&self, id: &ConnectionId) {
        let why = Some("its exchange could not be finished".to_owned());
        if let Err(error) = self.vault.set_status(id, Status::Held, why, unix_now()).await {
            tracing::error!(error = %error, connection.id = %id, "could not hold connection {id}; check whose it is");
        }
    }

    fn not_stored(&self, id: &ConnectionId, error: &VaultError) -> Refusal {
        tracing::error!(error = %error, connection.id = %id, "could not store the token that an exchange brought");
        Refusal::ExchangeNotStored { connection: Some(id.clone()), why: error.to_string() }
    }

    async fn ask_whose(&self, token: &AccessToken, line: &mut AccessLine) -> Option<Introspection> {
        let asked = self.ask_finch(token, INTROSPECT_PATIENCE, line).await?;
        line.attempts += 1;
        asked
            .inspect_err(|error| tracing::warn!(error = %error, "could not introspect a new connection"))
            .ok()
    }

    /// Asks Finch about a token; `None` when there was no admission for it in time.
    pub(super) async fn ask_finch(
        &self,
        token: &AccessToken,
        patience: Duration,
        line: &mut AccessLine,
    ) -> Option<Result<Introspection, IntrospectError>> {
        let ask = AskFacts {
            product: Product::Introspect,
            customer: None,
            priority: Priority::Interactive,
            patience,
            tag: None,
        };
        let began = Instant::now();
        let admitted = self.quota.admit(ask).await;
        line.wait += began.elapsed();
        self.waited(began, Awaited::Quota, Product::Introspect, admitted.is_ok(), line);
        let permit = admitted.ok()?;
        let (began, ids) = (Instant::now(), line.finch_request_id.len());
        let told = self.introspect(token, permit, line).await;
        line.finch += began.elapsed();
        let (status, failed) = match &told {
            Ok(_) => (Some(200), None),
            Err(IntrospectError::Refused(status)) => (Some(*status), None),
            Err(IntrospectError::Unwell(_)) => (Some(401), None),
            Err(IntrospectError::Unanswered(error)) => (None, Some(error.why())),
            Err(IntrospectError::Unreadable) => (None, Some("the answer cannot be read")),
        };
        let finch_request_id = line.finch_request_id.get(ids).cloned();
        let product = Product::Introspect;
        line.timeline.note(began, Did::Attempt { product, status, failed, finch_request_id });
        Some(told)
    }

    async fn introspect(
        &self,
        token: &AccessToken,
        mut permit: Permit,
        line: &mut AccessLine,
    ) -> Result<Introspection, IntrospectError> {
        let connected = match self.finch.connect().await {
            Ok(connected) if permit.is_good().await => connected,
            Ok(_) => {
                permit.refund();
                return Err(IntrospectError::Unanswered(SendError::Unreachable("connecting took too long")));
            }
            Err(error) => {
                permit.refund();
                return Err(IntrospectError::Unanswered(error));
            }
        };
        let mut has_arrived = false;
        let trace = self.telemetry.traces.as_ref().and_then(|traces| traces.propagated(line));
        let asked = introspect(connected, token, trace, |answer| {
            has_arrived = true;
            permit.arrived(answer.is_some_and(|a| a.status == 429));
            self.telemetry.metrics.attempt(Product::Introspect.as_str(), answer.map(|a| a.status));
            if let Some(answer) = answer {
                note_id(answer, line);
            }
        });
        match timeout(INTROSPECT_ANSWER_MAX, asked).await {
            Ok(told) => told,
            Err(_) => {
                if !has_arrived {
                    self.telemetry.metrics.attempt(Product::Introspect.as_str(), None);
                }
                Err(IntrospectError::Unanswered(SendError::TimedOut))
            }
        }
    }
}

impl Facts {
    /// What the exchange itself tells (Finch API reference, Create Access Token).
    fn told(object: &RawObject) -> Self {
        let list = |name| {
            object
                .get(name)
                .and_then(|v| serde_json::from_str::<Vec<String>>(v.get()).ok())
                .unwrap_or_default()
        };
        let mut entities = ids(&list("entity_ids"));
        entities.extend(object.text("entity_id").and_then(|id| EntityId::new(id).ok()));
        Self {
            customer: object.text("customer_id").and_then(|id| CustomerId::new(id).ok()),
            company: object.text("company_id").and_then(|id| CompanyId::new(id).ok()),
            provider: object.text("provider_id").and_then(|id| ProviderId::new(id).ok()),
            products: list("products"),
            entities,
            client_type: object.text("client_type").as_deref().and_then(Environment::parse),
            account_status: None,
        }
    }

    /// The same, and what `/introspect` knows better.
    fn with(self, told: &Introspection) -> Self {
        let reached = told.entities.iter().flatten().filter(|e| !e.is_gone());
        let entities: Vec<String> = reached.map(|e| e.id.clone()).collect();
        Self {
            customer: told.customer_id.as_deref().and_then(|id| CustomerId::new(id).ok()).or(self.customer),
            company: told.company_id.as_deref().and_then(|id| CompanyId::new(id).ok()).or(self.company),
            provider: told.provider_id.as_deref().and_then(|id| ProviderId::new(id).ok()).or(self.provider),
            products: if told.products.is_empty() { self.products } else { told.products.clone() },
            entities: if entities.is_empty() { self.entities } else { ids(&entities) },
            client_type: told.client_type.as_deref().and_then(Environment::parse).or(self.client_type),
            account_status: told.connection_status.as_ref().map(|s| s.status.clone()),
        }
    }

    /// Whether both say the same of whose it is and where it belongs.
    fn belongs_as(&self, other: &Self) -> bool {
        self.customer == other.customer && self.client_type == other.client_type
    }

    fn status(&self) -> Status {
        match self.account_status.as_deref() {
            // The second word is the one of older pages of Finch's.
            Some("reauth" | "error_reauth") => Status::NeedsReauth,
            _ => Status::Active,
        }
    }
}

fn ids(texts: &[String]) -> Vec<EntityId> {
    texts.iter().filter_map(|id| EntityId::new(id).ok()).collect()
}

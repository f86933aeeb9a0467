//! A support bundle's facts, out of the vault, the request ledger and what this gateway knows of limits.

use super::Engine;
use crate::policy::Class;
use crate::policy::brake::PauseScope;
use crate::policy::support::{
    About, Attempt, Bundle, CALLS_MAX, CONNECTIONS_MAX, Call, Connection, Deed, EVENTS_MAX, Facts, Hold,
    Limiter, Standing, Step, Webhook, bundle,
};
use crate::store::requests::{Recorded, RecordedStep, Requests, Search};
use crate::store::webhooks::Listed;
use crate::types::{
    ApplicationId, ConnectionId, CustomerId, Environment, FinchRequestId, Product, RequestId, UnixMillis,
};
use crate::vault::{self, Vault, VaultError};
use std::collections::BTreeSet;

/// What perch asks on a call's behalf.
const INTROSPECT: &str = "/introspect";

/// Where the facts come from.
pub struct Sources<'a> {
    /// The vault.
    pub vault: &'a Vault,
    /// What is kept of calls; none when that is off.
    pub requests: Option<&'a Requests>,
    /// How limits stand; none where no gateway runs.
    pub limiter: Option<Limiter>,
    /// The Finch application.
    pub application: &'a ApplicationId,
    /// Its environment.
    pub environment: Environment,
    /// What perch is told to do, as far as it matters.
    pub essentials: &'a [(String, String)],
}

impl std::fmt::Debug for Sources<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("application", &self.application).finish_non_exhaustive()
    }
}

/// Makes the bundle of an id: a connection's, a customer's, one of Finch's requests' or one of perch's calls', in this
/// order. `None`: nobody knows it.
///
/// # Errors
/// [`VaultError`] when the vault's store or the ledger does not answer.
pub async fn support(sources: Sources<'_>, id: &str, now: UnixMillis) -> Result<Option<Bundle>, VaultError> {
    let Sources { vault, requests, limiter, application, environment, essentials } = sources;
    let all = vault.list().await?;
    let is_connection = |facts: &&vault::Connection| facts.connection_id.as_str() == id;
    let is_customers =
        |facts: &&vault::Connection| facts.customer_id.as_ref().is_some_and(|c| c.as_str() == id);
    let known =
        match (all.iter().any(|facts| is_connection(&facts)), all.iter().any(|facts| is_customers(&facts))) {
            (true, _) => Some(About::Connection),
            (false, true) => Some(About::Customer),
            (false, false) => None,
        };
    let Some((about, calls)) = find(requests, known, id).await? else { return Ok(None) };
    let named: BTreeSet<&str> = match about {
        About::Connection => BTreeSet::from([id]),
        About::Customer => {
            all.iter().filter(is_customers).map(|facts| facts.connection_id.as_str()).collect()
        }
        About::FinchRequest | About::Request => {
            calls.iter().filter_map(|call| call.connection_id.as_ref()).map(ConnectionId::as_str).collect()
        }
    };
    let mut about_them: Vec<&vault::Connection> =
        all.iter().filter(|facts| named.contains(facts.connection_id.as_str())).collect();
    about_them.sort_by_key(|facts| std::cmp::Reverse(facts.updated_at));
    let mut deeds = Vec::new();
    for facts in about_them.iter().take(CONNECTIONS_MAX) {
        deeds.extend(vault.deeds(&facts.connection_id).await?.into_iter().map(|deed| Deed {
            at: deed.at,
            connection_id: deed.connection_id,
            action: deed.action,
            actor: deed.actor,
        }));
    }
    // Those that the bundle shows, and those that only calls tell of.
    let shown = about_them.iter().take(CONNECTIONS_MAX).map(|facts| &facts.connection_id);
    let of_calls = calls.iter().take(CALLS_MAX).filter_map(|call| call.connection_id.as_ref());
    let asked: BTreeSet<String> = shown.chain(of_calls).map(ToString::to_string).collect();
    let limit = u32::try_from(EVENTS_MAX).unwrap_or(u32::MAX);
    let told = vault.webhooks_of(asked.into_iter().collect(), limit).await?;
    let webhooks = told.into_iter().filter_map(webhook).collect();
    let has_more_calls = calls.len() > CALLS_MAX;
    Ok(Some(bundle(Facts {
        id: id.to_owned(),
        about,
        made_at: now,
        application: application.to_string(),
        environment: environment.to_string(),
        perch: env!("CARGO_PKG_VERSION"),
        calls: calls.into_iter().map(call).collect(),
        has_more_calls,
        without_calls: requests.is_none().then(|| "there is no request ledger (ledger.keep)".to_owned()),
        connections: about_them.into_iter().map(connection).collect(),
        has_more_connections: false,
        deeds,
        webhooks,
        limiter,
        settings: essentials.to_vec(),
    })))
}

/// The calls of an id, and what the id is; what is in the vault is not looked for as something else.
async fn find(
    requests: Option<&Requests>,
    known: Option<About>,
    id: &str,
) -> Result<Option<(About, Vec<Recorded>)>, VaultError> {
    let kinds = match known {
        Some(about) => vec![about],
        None => vec![About::FinchRequest, About::Request, About::Connection, About::Customer],
    };
    for about in kinds {
        let Some(search) = search_for(about, id) else { continue };
        let calls = match requests {
            Some(requests) => requests.search(&search).await.map_err(VaultError::from)?.calls,
            None => Vec::new(),
        };
        if known.is_some() || !calls.is_empty() {
            return Ok(Some((about, calls)));
        }
    }
    Ok(None)
}

/// `None`: such an id cannot be one of these.
fn search_for(about: About, id: &str) -> Option<Search> {
    // One more than is shown tells whether there are more.
    let mut search =
        Search { limit: u32::try_from(CALLS_MAX).unwrap_or(u32::MAX).saturating_add(1), ..Search::default() };
    match about {
        About::FinchRequest => search.finch_request_id = Some(FinchRequestId::new(id).ok()?),
        About::Request => search.request_id = Some(RequestId::new(id).ok()?),
        About::Connection => search.connection = Some(ConnectionId::new(id).ok()?),
        About::Customer => search.customer = Some(CustomerId::new(id).ok()?),
    }
    Some(search)
}

fn call(call: Recorded) -> Call {
    let text = |id: Option<&str>| id.map(str::to_owned);
    let steps = call.steps.into_iter().map(|it| step(it, &call.product)).collect();
    Call {
        ts: call.ts,
        request_id: call.request_id.to_string(),
        finch_request_id: call.finch_request_id.iter().map(ToString::to_string).collect(),
        app: text(call.app.as_ref().map(|id| id.as_str())).or(call.by),
        customer: text(call.customer.as_ref().map(|id| id.as_str())),
        connection_id: text(call.connection_id.as_ref().map(|id| id.as_str())),
        company_id: text(call.company_id.as_ref().map(|id| id.as_str())),
        provider: text(call.provider.as_ref().map(|id| id.as_str())),
        product: call.product,
        method: call.method,
        path: call.path,
        status: call.status,
        class: call.class,
        refusal: call.refusal,
        finch_code: call.finch_code,
        attempts: call.attempts,
        wait_ms: call.wait_ms,
        finch_ms: call.finch_ms,
        total_ms: call.total_ms,
        cache: call.cache,
        resend_of: text(call.resend_of.as_ref().map(|id| id.as_str())),
        carried_by: text(call.carried_by.as_ref().map(|id| id.as_str())),
        client_gone: call.client_gone,
        steps,
    }
}

fn step(step: RecordedStep, product: &str) -> Step {
    let mut details = Vec::new();
    if step.did == "look_up" {
        details.push(if step.is_answered == Some(false) { "not answered" } else { "answered" }.to_owned());
    }
    if step.is_over == Some(false) {
        details.push("in vain".to_owned());
    }
    if let (Some(limiter), Some(used), Some(limit)) = (&step.limiter, step.used, step.limit) {
        details.push(format!("{used} of {limit} used, counted in {limiter}"));
    }
    if let Some(status) = step.status {
        details.push(format!("status {status}"));
    }
    details.extend(step.failed.clone());
    details.extend(step.finch_request_id.as_ref().map(|id| format!("Finch-Request-ID {id}")));
    let what = match (&step.awaited, &step.product) {
        (Some(awaited), _) => format!("wait for {awaited}"),
        (None, Some(product)) => format!("{} ({product})", step.did),
        (None, None) => step.did.replace('_', " "),
    };
    let asks = Product::Introspect.as_str();
    let is_question = step.product.as_deref() == Some(asks) && product != asks;
    let attempt = (step.did == "attempt").then(|| Attempt {
        // Whose connection it is, or what Finch says of it.
        endpoint: is_question.then(|| format!("GET {INTROSPECT}")),
        status: step.status,
        failed: step.failed,
        finch_request_id: step.finch_request_id.map(|id| id.to_string()),
    });
    Step { at_ms: step.at_ms, lasted_ms: step.lasted_ms, what, details: details.join("; "), attempt }
}

fn connection(facts: &vault::Connection) -> Connection {
    Connection {
        connection_id: facts.connection_id.to_string(),
        customer: facts.customer_id.as_ref().map(ToString::to_string),
        company_id: facts.company_id.as_ref().map(ToString::to_string),
        provider: facts.provider_id.as_ref().map(ToString::to_string),
        products: facts.products.clone(),
        status: facts.status.to_string(),
        finch_says: facts.account_status.clone(),
        said_at: facts.status_at,
        asked_at: facts.introspected_at,
        notes: facts.held_reason.iter().chain(&facts.note).cloned().collect(),
        created_at: facts.created_at,
        updated_at: facts.updated_at,
        last_used_at: facts.last_used_at,
    }
}

fn webhook(event: Listed) -> Option<Webhook> {
    let connection_id = event.connection_id?;
    Some(Webhook {
        received_at: event.received_at,
        event_id: event.event_id,
        event_type: event.event_type,
        connection_id,
        state: event.state.as_str().to_owned(),
        failure: event.failure,
    })
}

impl Engine {
    /// The bundle of an id, with how limits stand here. `None`: nobody knows it.
    ///
    /// # Errors
    /// As [`support`].
    pub async fn support(&self, id: &str, now: UnixMillis) -> Result<Option<Bundle>, VaultError> {
        let settings = self.settings.now();
        let sources = Sources {
            vault: &self.vault,
            requests: self.requests.as_deref(),
            limiter: Some(self.limiter()),
            application: &settings.client_id,
            environment: settings.environment,
            essentials: &settings.essentials,
        };
        support(sources, id, now).await
    }

    fn limiter(&self) -> Limiter {
        let quota = self.quota.snapshot();
        let standing = |of: &str, standing: &crate::limit::Standing, waiting: usize| Standing {
            of: of.to_owned(),
            used: standing.used.into(),
            limit: standing.limit.into(),
            waiting: waiting as u64,
        };
        let waiting = |wanted| -> usize {
            quota.waiting.iter().filter(|(product, ..)| *product == wanted).map(|(.., count)| *count).sum()
        };
        let mut standings: Vec<Standing> = quota
            .products
            .iter()
            .map(|(product, it)| standing(product.as_str(), it, waiting(*product)))
            .collect();
        standings.extend(quota.ip.as_ref().map(|ip| standing("egress-ip", ip, 0)));
        let held = self.standstills().into_iter().map(|it| Hold {
            scope: it.scope.to_owned(),
            whose: it.connection_id.clone(),
            of: it.connection_id.or(it.entity_id).or(it.product.map(str::to_owned)),
            class: it.class.to_owned(),
            until: it.until,
        });
        let paused = self.pauses().into_iter().map(|it| Hold {
            scope: format!("pause of a {}", it.scope),
            whose: (it.scope == PauseScope::Customer).then(|| it.name.clone()),
            of: Some(it.name),
            class: Class::PerchUnavailable.as_str().to_owned(),
            until: None,
        });
        let holds = held.chain(paused).collect();
        Limiter { mode: quota.mode.as_str().to_owned(), standings, holds }
    }
}

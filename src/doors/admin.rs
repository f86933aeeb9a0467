//! The admin door: is it alive, is it ready, what has it counted. The page is a room of its own beside it.

pub(in crate::doors) mod connections;
mod pauses;
mod requests;
mod support;

use super::admin_webhooks::REPLAY;
use super::guard::Pace;
use super::page::{self, Page};
use super::receive::has_one_reading;
use super::visitor::Names;
use crate::engine::Engine;
use crate::engine::quota::Mode;
use crate::telemetry::clock::unix_now;
use crate::telemetry::metrics::{Metrics, QuotaGauges};
use crate::types::{AdminToken, ProviderId};
use crate::vault::{Stats, Status};
use async_trait::async_trait;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::time::timeout;

/// The most providers that get a metric label of their own; the rest share `other`.
const PROVIDER_LABELS_MAX: usize = 100;

/// The largest body that is read, and how long it may take to come.
const BODY_BYTES_MAX: usize = 64 * 1024;
const BODY_MAX: Duration = Duration::from_secs(10);

/// What is asked of the door.
struct Asked {
    method: Method,
    path: String,
    query: Option<String>,
    /// `Err` when it was too large or too slow.
    body: Result<Vec<u8>, ()>,
}

/// The door.
#[derive(Debug)]
pub struct AdminDoor {
    pub(super) engine: Arc<Engine>,
    pub(super) token: Option<AdminToken>,
    pub(super) page: Page,
    names: Names,
    /// What is served to whom: nothing but these, when there are any.
    only: &'static [&'static str],
}

/// What a door for an orchestrator serves.
const PROBES: &[&str] = &["/livez", "/readyz", "/metrics"];

impl AdminDoor {
    /// A door to this engine; with a token, whoever wants more than a probe must show it.
    pub fn new(engine: Arc<Engine>, token: Option<AdminToken>, names: Names) -> Self {
        Self { engine, token, page: Page::new(unix_now()), names, only: &[] }
    }

    /// A door that serves probes and metrics to whoever reaches it, and nothing else to anybody.
    pub fn for_probes(engine: Arc<Engine>, names: Names) -> Self {
        Self { only: PROBES, ..Self::new(engine, None, names) }
    }

    async fn answer(&self, asked: &Asked, headers: &HeaderMap) -> (u16, &'static str, Vec<u8>) {
        let Asked { method, path, query, body } = asked;
        let path = path.as_str();
        const TEXT: &str = "text/plain; charset=utf-8";
        let text = |status, text: &str| (status, TEXT, format!("{text}\n").into_bytes());
        if !self.is_called_by_its_name(headers) {
            return text(
                421,
                "this door answers to its address, to localhost and to the names in listen.names",
            );
        }
        if !self.only.is_empty() && !self.only.contains(&path) {
            return text(
                404,
                "this door serves /livez, /readyz and /metrics; listen.admin is the operators'",
            );
        }
        if let Some((status, body)) = self.webhooks(method, (path, query.as_deref()), headers).await {
            return (status, "application/json", body);
        }
        let allowed = allowed(path);
        if !allowed.split(", ").any(|allowed| allowed == method.as_str()) {
            return text(405, &format!("only {allowed}"));
        }
        // A page in somebody's browser must not do what its reader may.
        if method == Method::POST && headers.contains_key(ORIGIN) {
            return text(403, "a request with an Origin comes from a page, and pages change nothing here");
        }
        match path {
            "/livez" => text(200, "ok"),
            "/readyz" => {
                let standing = self.engine.readiness().await;
                let said = match is_verbose(query.as_deref()) {
                    true => standing.at_length(),
                    false => standing.in_short(),
                };
                text(if standing.is_ready() { 200 } else { 503 }, &said)
            }
            _ if !self.is_known(headers) => text(401, "show the admin token: Authorization: Bearer <token>"),
            "/metrics" => match self.metrics().await {
                Ok(body) => (200, "text/plain; version=0.0.4; charset=utf-8", body),
                Err(error) => {
                    tracing::error!(error = %error, "could not write the metrics");
                    text(500, "the metrics cannot be written; see the log")
                }
            },
            _ if connections::is_here(path) => {
                let Ok(body) = body else {
                    return text(413, "the body is too large, or did not come in time");
                };
                let said = connections::answer(&self.engine, method, (path, query.as_deref()), body).await;
                (said.0, "application/json", said.1)
            }
            _ if pauses::is_here(path) => {
                let Ok(body) = body else {
                    return text(413, "the body is too large, or did not come in time");
                };
                let said = pauses::answer(&self.engine, method, path, body).await;
                (said.0, "application/json", said.1)
            }
            // What is in force, as it was written, and how the last reading of it ended.
            "/api/config" => {
                let shown = self.engine.written.shown(self.engine.quota.counts_alone());
                match serde_json::to_vec(&shown) {
                    Ok(body) => (200, "application/json", body),
                    Err(_) => text(500, "the configuration cannot be written"),
                }
            }
            // What became of calls.
            _ if requests::is_here(path) => {
                let said = requests::answer(&self.engine, (path, query.as_deref())).await;
                (said.0, "application/json", said.1)
            }
            _ if support::is_here(path) => {
                support::answer(&self.engine, (path, query.as_deref()), headers).await
            }
            // What cannot be called now, and until when.
            "/api/holds" => match serde_json::to_vec(&self.engine.standstills()) {
                Ok(body) => (200, "application/json", body),
                Err(_) => text(500, "the holds cannot be written"),
            },
            // How Finch's answers compare with their known shape: names and counts.
            "/api/drift" => match serde_json::to_vec(&self.engine.telemetry.drift.snapshot()) {
                Ok(body) => (200, "application/json", body),
                Err(_) => text(500, "the counts cannot be written"),
            },
            _ => text(
                404,
                "there is the page at /, and /livez, /readyz, /metrics, /api/config, /api/connections, /api/requests, /api/support/{id}, /api/usage, /api/holds, /api/pauses, /api/drift and /api/webhooks",
            ),
        }
    }

    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(AUTHORIZATION).and_then(|v| v.as_bytes().strip_prefix(b"Bearer "));
        self.token.is_none() || self.is_token(shown.unwrap_or_default())
    }

    /// Whether this is the admin token; nothing is, where there is none.
    pub(super) fn is_token(&self, shown: &[u8]) -> bool {
        self.token.as_ref().is_some_and(|token| shown.ct_eq(token.expose().as_bytes()).into())
    }

    fn is_called_by_its_name(&self, headers: &HeaderMap) -> bool {
        headers.get(HOST).is_some_and(|host| self.names.has(host.as_bytes()))
    }

    async fn metrics(&self) -> Result<Vec<u8>, crate::telemetry::metrics::MetricsError> {
        self.engine.count_webhooks().await;
        // Without the store the last counts stand; `/readyz` tells the rest.
        let stats = self.engine.vault.stats().await.ok();
        self.engine.telemetry.metrics.render_after(|metrics| self.copy_to(metrics, stats.as_ref()))
    }

    /// Takes over into the metrics what others count.
    fn copy_to(&self, metrics: &Metrics, stats: Option<&Stats>) {
        let quota = self.engine.quota.snapshot();
        let mut holds = BTreeMap::from([("product", 0), ("ip", 0)]);
        holds.extend(self.engine.holds_by_scope());
        for (scope, _) in &quota.holds {
            *holds.entry(scope.as_str()).or_default() += 1;
        }
        metrics.set_quota(&QuotaGauges {
            products: quota.products.iter().map(|(p, s)| (*p, s.used.into(), s.limit.into())).collect(),
            ip: quota.ip.map(|ip| (ip.used.into(), ip.limit.into())),
            waiting: quota
                .waiting
                .iter()
                .map(|(product, priority, n)| (*product, *priority, *n as u64))
                .collect(),
            holds: holds.into_iter().collect(),
            fairness: quota.fairness.iter().map(|(p, s)| (*p, s.index, s.competing)).collect(),
            modes: Mode::ALL.iter().map(|mode| (mode.as_str(), *mode == quota.mode)).collect(),
        });
        metrics.process.look();
        metrics.stale.look(unix_now());
        metrics.steering.set_paused(self.engine.paused_by_scope());
        metrics.steering.set_observed(self.engine.quota.is_observing(), &self.engine.quota.observed_so_far());
        metrics.failures.set_sick(&self.engine.sick_by_class());
        if let Some(stats) = stats {
            metrics.set_connections(&bounded(&stats.connections));
            if let Some(made) = stats.sealing_key_made {
                metrics.ages.sealing_key_made(made);
            }
        }
    }
}

/// Whether a probe wants every line, in the orchestrators' way: `?verbose`.
fn is_verbose(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        query.split('&').any(|part| matches!(part, "verbose" | "verbose=1" | "verbose=true"))
    })
}

/// The methods of a path, as `Allow` tells them.
fn allowed(path: &str) -> &'static str {
    if path == pauses::PATH {
        return "GET, HEAD, POST";
    }
    if path == REPLAY || path == pauses::RESUME || connections::is_errand(path) {
        "POST"
    } else {
        "GET, HEAD"
    }
}

/// Providers are Finch's words, and Finch adds new ones: the labels stay bounded all the same.
fn bounded(counts: &[(Status, Option<ProviderId>, u64)]) -> Vec<(&'static str, &str, u64)> {
    let mut known = BTreeMap::new();
    let mut labels = BTreeSet::new();
    for (status, provider, count) in counts {
        let name = provider.as_ref().map_or("unknown", ProviderId::as_str);
        let label = match labels.len() < PROVIDER_LABELS_MAX || labels.contains(name) {
            true => name,
            false => "other",
        };
        labels.insert(label);
        *known.entry((status.as_str(), label)).or_default() += count;
    }
    known.into_iter().map(|((status, provider), count)| (status, provider, count)).collect()
}

/// Whether a body follows, of a method that has none.
fn brings_a_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|n| n != "0")
}

/// Reads what a POST brings, as far as one may be.
async fn read_body(session: &mut ServerSession) -> Result<Vec<u8>, ()> {
    let mut body = Vec::new();
    while let Some(piece) = session.read_request_body().await.map_err(|_| ())? {
        if body.len() + piece.len() > BODY_BYTES_MAX {
            return Err(());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[async_trait]
impl ServeHttp for AdminDoor {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        Pace::head_is_read();
        let head = session.req_header();
        let (method, headers) = (head.method.clone(), head.headers.clone());
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().map(str::to_owned));
        let body = match method == Method::POST {
            true => timeout(BODY_MAX, read_body(session)).await.unwrap_or(Err(())),
            false => Ok(Vec::new()),
        };
        let is_head = method == Method::HEAD;
        // The chunks of a request that was written behind this one are not this one's.
        let is_chunked = headers.contains_key(TRANSFER_ENCODING);
        let is_sound = has_one_reading(session)
            && (!is_chunked || Pace::body_is_plain())
            && (method == Method::POST || !brings_a_body(&headers));
        if !is_sound || is_chunked || self.engine.drain.is_leaving() {
            // Whatever is behind such a body is never read as a request; and who leaves says so.
            session.set_keepalive(None);
        }
        let asked = Asked { method, path, query, body };
        if is_sound
            && self.only.is_empty()
            && page::is_here(&asked.path)
            && self.is_called_by_its_name(&headers)
        {
            let Asked { method, path, query, body } = &asked;
            let served = page::answer(self, method, (path, query.as_deref()), body, &headers).await;
            let answer = served.into_answer(is_head);
            Pace::answer_is_written();
            return answer;
        }
        let (mut status, mut content_type, mut body) = match is_sound {
            true => self.answer(&asked, &headers).await,
            false => (400, "text/plain; charset=utf-8", b"the request can be read in two ways\n".to_vec()),
        };
        let mut wait = None;
        if status == 401 && headers.contains_key(AUTHORIZATION) {
            wait = self.page.wrong_token(self.engine.quota.now());
        }
        if wait.is_some() {
            (status, content_type) = (429, "text/plain; charset=utf-8");
            body = b"too many wrong admin tokens; wait a little (the right one works at any time)\n".to_vec();
        }
        let challenge = match status {
            401 => Some(("WWW-Authenticate", "Bearer")),
            405 => Some(("Allow", allowed(&asked.path))),
            _ => None,
        };
        let mut answer = Response::builder().status(status);
        if let Some((name, value)) = challenge {
            answer = answer.header(name, value);
        }
        if let Some(wait) = wait {
            answer = answer.header("Retry-After", wait.as_secs());
        }
        let answer = answer
            .header("Content-Type", content_type)
            .header("Content-Length", body.len())
            .header("Cache-Control", "no-store")
            .header("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
            .header("Referrer-Policy", "no-referrer")
            .header("X-Content-Type-Options", "nosniff")
            .header("X-Frame-Options", "DENY")
            .body(if is_head { Vec::new() } else { body });
        // What is written from here on falls under the deadline of writes.
        Pace::answer_is_written();
        answer.unwrap_or_else(|_| Response::new(Vec::new()))
    }
}

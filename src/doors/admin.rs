//! The admin door: is it alive, is it ready, what has it counted.

use super::guard::Pace;
use crate::engine::Engine;
use crate::engine::quota::Mode;
use crate::telemetry::metrics::QuotaGauges;
use crate::types::{AdminToken, ProviderId};
use crate::vault::Status;
use async_trait::async_trait;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Method, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The most providers that get a metric label of their own; the rest share `other`.
const PROVIDER_LABELS_MAX: usize = 100;

/// The door.
#[derive(Debug)]
pub struct AdminDoor {
    pub(super) engine: Arc<Engine>,
    pub(super) token: Option<AdminToken>,
}

impl AdminDoor {
    /// A door to this engine; with a token, whoever wants more than a probe must show it.
    pub fn new(engine: Arc<Engine>, token: Option<AdminToken>) -> Self {
        Self { engine, token }
    }

    async fn answer(
        &self,
        method: &Method,
        (path, query): (&str, Option<&str>),
        headers: &HeaderMap,
    ) -> (u16, &'static str, Vec<u8>) {
        const TEXT: &str = "text/plain; charset=utf-8";
        let text = |status, text: &str| (status, TEXT, format!("{text}\n").into_bytes());
        if !is_own_name(headers) {
            return text(421, "this door answers to its address and to localhost only");
        }
        if let Some((status, body)) = self.webhooks(method, (path, query), headers).await {
            return (status, "application/json", body);
        }
        if method != Method::GET && method != Method::HEAD {
            return text(405, "only GET");
        }
        match path {
            "/livez" => text(200, "ok"),
            "/readyz" => match self.engine.is_ready().await {
                true => text(200, &format!("ok\nlimiter: {}", self.engine.quota.mode().as_str())),
                false if self.engine.drain.is_closing() => text(503, "stopping"),
                false => text(503, "the vault does not answer"),
            },
            _ if !self.is_known(headers) => text(401, "show the admin token: Authorization: Bearer <token>"),
            "/metrics" => match self.metrics().await {
                Ok(body) => (200, "text/plain; version=0.0.4; charset=utf-8", body),
                Err(error) => {
                    tracing::error!(error = %error, "could not write the metrics");
                    text(500, "the metrics cannot be written; see the log")
                }
            },
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
            _ => text(404, "there is /livez, /readyz, /metrics, /api/holds, /api/drift and /api/webhooks"),
        }
    }

    pub(super) fn is_known(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let shown = headers
            .get(AUTHORIZATION)
            .and_then(|v| v.as_bytes().strip_prefix(b"Bearer "))
            .unwrap_or_default();
        shown.ct_eq(token.expose().as_bytes()).into()
    }

    async fn metrics(&self) -> Result<Vec<u8>, crate::telemetry::metrics::MetricsError> {
        let metrics = &self.engine.telemetry.metrics;
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
            modes: Mode::ALL.iter().map(|mode| (mode.as_str(), *mode == quota.mode)).collect(),
        });
        self.engine.count_webhooks().await;
        metrics.failures.set_sick(&self.engine.sick_by_class());
        // Without the store the last counts stand; `/readyz` tells the rest.
        if let Ok(stats) = self.engine.vault.stats().await {
            metrics.set_connections(&bounded(&stats.connections));
        }
        metrics.render()
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

/// A page of a stranger's that made its own name point here must not be answered (DNS rebinding).
fn is_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|v| v.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[async_trait]
impl ServeHttp for AdminDoor {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        Pace::head_is_read();
        let head = session.req_header();
        let (status, content_type, body) = {
            let target = (head.uri.path(), head.uri.query());
            self.answer(&head.method, target, &head.headers).await
        };
        let is_head = head.method == Method::HEAD;
        let challenge = match status {
            401 => Some(("WWW-Authenticate", "Bearer")),
            405 => Some(("Allow", "GET, HEAD")),
            _ => None,
        };
        let mut answer = Response::builder().status(status);
        if let Some((name, value)) = challenge {
            answer = answer.header(name, value);
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

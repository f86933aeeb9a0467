//! What the simulator saw, whatever the caller believes: counts, the fullest window, and what looks wrong.

use super::arrivals::{Arrivals, Tally};
use super::settings::LimitSettings;
use crate::finch::{Auth, Endpoint, headers as names};
use crate::types::Moment;
use http::{HeaderMap, Version};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

/// The last requests that are shown one by one.
const RECENT_MAX: usize = 1000;
/// Oddities shown one by one; all are counted.
const ODDITIES_MAX: usize = 200;
/// Distinct credentials remembered.
const FINGERPRINTS_MAX: usize = 10_000;
/// Distinct status codes, error codes and addresses remembered.
const KEYS_MAX: usize = 1000;

/// A request as it arrived.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) endpoint: Option<&'static Endpoint>,
    pub(super) method: &'a str,
    pub(super) uri: &'a http::Uri,
    pub(super) version: Version,
    pub(super) headers: &'a HeaderMap,
    pub(super) body_bytes: usize,
    pub(super) address: IpAddr,
    pub(super) connection: Option<&'a str>,
    pub(super) now: Moment,
    pub(super) finch_request_id: &'a str,
}

/// Everything seen since the start or the last reset.
#[derive(Debug, Default)]
pub(super) struct Report {
    total: u64,
    products: Arrivals,
    addresses: BTreeMap<IpAddr, Tally>,
    refused: BTreeMap<String, u64>,
    operations: BTreeMap<String, BTreeMap<String, u64>>,
    carried_out: BTreeMap<String, u64>,
    retries: BTreeMap<String, u64>,
    fingerprints: BTreeMap<String, (u64, BTreeSet<String>)>,
    oddities: BTreeMap<&'static str, u64>,
    odd: VecDeque<Value>,
    recent: VecDeque<Value>,
}

fn name(endpoint: Option<&'static Endpoint>) -> String {
    endpoint.map_or_else(|| "unknown".to_owned(), |e| format!("{:?}", e.operation))
}

/// The first 8 hex digits of the SHA-256: enough to tell credentials apart, too little to be one.
pub(super) fn fingerprint(secret: &[u8]) -> String {
    Sha256::digest(secret).iter().take(4).map(|b| format!("{b:02x}")).collect()
}

fn push<T>(list: &mut VecDeque<T>, item: T, max: usize) {
    if list.len() >= max {
        list.pop_front();
    }
    list.push_back(item);
}

impl Report {
    /// Notes a request before anything is decided about it.
    pub(super) fn arrive(&mut self, arrival: &Arrival<'_>, limits: &LimitSettings) {
        self.total += 1;
        if let Some(endpoint) = arrival.endpoint {
            self.products.arrive(endpoint.product, limits.window, arrival.now);
        }
        if self.addresses.len() < KEYS_MAX || self.addresses.contains_key(&arrival.address) {
            self.addresses.entry(arrival.address).or_default().count(limits.ip.window, arrival.now);
        }
        if let Some(value) = arrival.headers.get(names::STAINLESS_RETRY_COUNT) {
            let number = value.to_str().ok().and_then(|v| v.parse::<u8>().ok());
            let key = number.map_or_else(|| "other".to_owned(), |n| n.to_string());
            *self.retries.entry(key).or_default() += 1;
        } else {
            *self.retries.entry("none".to_owned()).or_default() += 1;
        }
        for value in arrival.headers.get_all(http::header::AUTHORIZATION) {
            let print = fingerprint(value.as_bytes());
            if self.fingerprints.len() < FINGERPRINTS_MAX || self.fingerprints.contains_key(&print) {
                let (uses, connections) = self.fingerprints.entry(print).or_default();
                *uses += 1;
                connections.extend(arrival.connection.map(str::to_owned));
            }
        }
        for (what, detail) in oddities(arrival) {
            *self.oddities.entry(what).or_default() += 1;
            let seen = json!({
                "what": what, "detail": detail, "method": arrival.method, "path": arrival.uri.path(),
                "finch_request_id": arrival.finch_request_id,
            });
            push(&mut self.odd, seen, ODDITIES_MAX);
        }
    }

    /// Notes what became of it. `outcome` is a status, or the name of a fault that has none.
    pub(super) fn finish(
        &mut self,
        arrival: &Arrival<'_>,
        outcome: &str,
        finch_code: Option<&str>,
        done: bool,
    ) {
        let name = name(arrival.endpoint);
        *self.operations.entry(name.clone()).or_default().entry(outcome.to_owned()).or_default() += 1;
        if done {
            *self.carried_out.entry(name).or_default() += 1;
        }
        if outcome == "429" {
            *self.refused.entry(finch_code.unwrap_or("none").to_owned()).or_default() += 1;
            if let Some(endpoint) = arrival.endpoint {
                self.products.refuse(endpoint.product, arrival.now);
            }
        }
        let headers: Vec<&str> = arrival.headers.keys().map(http::HeaderName::as_str).collect();
        let seen = json!({
            "method": arrival.method,
            "path": arrival.uri.path(),
            "operation": arrival.endpoint.map(|e| format!("{:?}", e.operation)),
            "headers": headers,
            "body_bytes": arrival.body_bytes,
            "arrival_ms": arrival.now.since_origin().as_millis() as u64,
            "connection_id": arrival.connection,
            "status": outcome.parse::<u16>().ok(),
            "fault": outcome.parse::<u16>().is_err().then_some(outcome),
            "finch_request_id": arrival.finch_request_id,
        });
        push(&mut self.recent, seen, RECENT_MAX);
    }

    /// When each product's requests arrived, as JSON.
    pub(super) fn arrivals(&self, limits: &LimitSettings, now: Moment) -> Value {
        self.products.shown(limits, now)
    }

    /// All of it as JSON.
    pub(super) fn shown(&self, limits: &LimitSettings) -> Value {
        let products: serde_json::Map<String, Value> = self
            .products
            .tallies()
            .map(|(product, tally, refused)| {
                let limit = limits.of(product);
                let shown = json!({
                    "arrivals": tally.arrivals, "refused": refused, "worst_window": tally.worst, "limit": limit,
                    "within": limit.is_none_or(|l| tally.worst <= l as usize),
                });
                (product.as_str().to_owned(), shown)
            })
            .collect();
        let addresses: serde_json::Map<String, Value> = self
            .addresses
            .iter()
            .map(|(address, tally)| {
                let shown = json!({
                    "arrivals": tally.arrivals, "worst_window": tally.worst, "limit": limits.ip.requests,
                    "within": tally.worst <= limits.ip.requests as usize,
                });
                (address.to_string(), shown)
            })
            .collect();
        let credentials: Vec<Value> = self
            .fingerprints
            .iter()
            .map(|(print, (uses, connections))| {
                json!({ "fingerprint": print, "requests": uses, "connection_ids": connections })
            })
            .collect();
        json!({
            "requests": self.total,
            "window_ms": limits.window.as_millis() as u64,
            "products": products,
            "addresses": addresses,
            "rate_limited": self.refused,
            "operations": self.operations,
            "carried_out": self.carried_out,
            "retry_count_header": self.retries,
            "authorizations": credentials,
            "suspicious": { "count": self.oddities.values().sum::<u64>(), "by_kind": self.oddities, "last": self.odd },
            "recent": self.recent,
        })
    }
}

/// What a careful gateway would not have sent.
fn oddities(arrival: &Arrival<'_>) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let headers = arrival.headers;
    let text = |name: &str| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    for name in headers.keys().map(http::HeaderName::as_str) {
        if name.starts_with("perch-") || name.starts_with("x-perch-") {
            found.push(("perch_header", name.to_owned()));
        }
        if [
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "proxy-authenticate",
            "trailer",
            "upgrade",
        ]
        .contains(&name)
        {
            found.push(("hop_by_hop_header", name.to_owned()));
        }
    }
    let plain = |value: &str| matches!(value.trim().to_ascii_lowercase().as_str(), "close" | "keep-alive");
    for value in headers.get_all("connection").iter().filter_map(|v| v.to_str().ok()) {
        if !value.split(',').all(plain) {
            found.push(("hop_by_hop_header", format!("connection: {value}")));
        }
    }
    if text("te").is_some_and(|te| te != "trailers") {
        found.push(("hop_by_hop_header", "te".to_owned()));
    }
    let authorizations = headers.get_all("authorization").iter().count();
    if authorizations > 1 {
        found.push(("several_authorizations", authorizations.to_string()));
    }
    if authorizations > 0 && arrival.endpoint.is_some_and(|e| matches!(e.auth, Auth::InBody | Auth::NoAuth)) {
        found.push(("authorization_not_needed", name(arrival.endpoint)));
    }
    if headers.get_all("authorization").iter().any(|v| {
        let value = String::from_utf8_lossy(v.as_bytes()).to_ascii_lowercase();
        value.contains("customer:") || value.contains("connection:")
    }) {
        found.push(("reference_token", "authorization names a customer or connection".to_owned()));
    }
    match text(names::FINCH_API_VERSION) {
        None => found.push(("no_api_version", String::new())),
        Some(version) if version != names::FINCH_API_VERSION_VALUE => {
            found.push(("other_api_version", version))
        }
        Some(_) => {}
    }
    for name in [names::FINCH_API_VERSION, "host", "content-length", "content-type", "transfer-encoding"] {
        let times = headers.get_all(name).iter().count();
        if times > 1 {
            found.push(("doubled_header", name.to_owned()));
        }
    }
    if arrival.version < Version::HTTP_2 && !headers.contains_key("host") {
        found.push(("framing", "no host".to_owned()));
    }
    if arrival.version < Version::HTTP_2 && arrival.uri.authority().is_some() {
        found.push(("framing", "absolute request target".to_owned()));
    }
    if headers.contains_key("content-length") && headers.contains_key("transfer-encoding") {
        found.push(("framing", "content-length and transfer-encoding".to_owned()));
    }
    if text("transfer-encoding").is_some_and(|te| !te.eq_ignore_ascii_case("chunked")) {
        found.push(("framing", "transfer-encoding other than chunked".to_owned()));
    }
    if arrival.method == "GET" && arrival.body_bytes > 0 {
        found.push(("framing", "a GET with a body".to_owned()));
    }
    if headers.contains_key("expect") {
        found.push(("framing", "expect".to_owned()));
    }
    found
}

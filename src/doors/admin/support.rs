//! `GET /api/support/{id}`: a support bundle, as JSON or, with `?format=markdown` or `Accept: text/markdown`, as a text to
//! paste. `GET /api/usage?month=2026-11`: what a month may be billed for.

use super::connections::{decoded, json, of_vault, problem};
use crate::engine::Engine;
use crate::policy::usage::Month;
use crate::telemetry::clock::unix_now;
use crate::types::id::ID_BYTES_MAX;
use http::HeaderMap;
use http::header::ACCEPT;
use std::sync::Arc;

/// Where bundles are.
const SUPPORT: &str = "/api/support/";
/// Where months are.
const USAGE: &str = "/api/usage";

const JSON: &str = "application/json";

/// What the door says: a status, a content type and a body.
pub(super) type Said = (u16, &'static str, Vec<u8>);

/// Whether a path is one of these.
pub(super) fn is_here(path: &str) -> bool {
    path == USAGE || path.starts_with(SUPPORT)
}

/// Answers; `path` is one for which [`is_here`] holds.
pub(super) async fn answer(
    engine: &Arc<Engine>,
    (path, query): (&str, Option<&str>),
    headers: &HeaderMap,
) -> Said {
    match path.strip_prefix(SUPPORT) {
        Some(id) => support(engine, id, query, headers).await,
        None => {
            let (status, body) = usage(engine, query).await;
            (status, JSON, body)
        }
    }
}

async fn support(engine: &Arc<Engine>, id: &str, query: Option<&str>, headers: &HeaderMap) -> Said {
    let as_json = |(status, body)| (status, JSON, body);
    let accepts = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_markdown = match query {
        Some("format=markdown") => true,
        Some("format=json") => false,
        None | Some("") => accepts.starts_with("text/markdown"),
        Some(_) => return as_json(problem(400, "the query can be format=markdown or format=json")),
    };
    let Some(id) = decoded(id).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len())) else {
        return as_json(problem(
            400,
            "behind /api/support/ comes an id: Finch's or perch's id of a request, a connection or a customer",
        ));
    };
    match engine.support(&id, unix_now()).await {
        Ok(Some(bundle)) if is_markdown => {
            (200, "text/markdown; charset=utf-8", bundle.to_markdown().into_bytes())
        }
        Ok(Some(bundle)) => as_json(json(200, &bundle)),
        Ok(None) => as_json(problem(404, "neither the vault nor the request ledger knows this id")),
        Err(error) => as_json(of_vault(&error)),
    }
}

async fn usage(engine: &Arc<Engine>, query: Option<&str>) -> super::connections::Said {
    let now = unix_now();
    let month = match query.filter(|query| !query.is_empty()) {
        None => Month::of(now),
        Some(query) => match query.strip_prefix("month=").map(Month::parse) {
            Some(Ok(month)) => month,
            Some(Err(why)) => return problem(400, &why.to_string()),
            None => return problem(400, "the query can be month=2026-11"),
        },
    };
    match engine.month_of_usage(month, None, now).await {
        Ok(usage) => json(200, &usage),
        Err(error) => of_vault(&error),
    }
}

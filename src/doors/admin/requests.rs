//! `/api/requests`: the request ledger for operators. What became of a call, by Finch's id of it, by perch's, by customer.

use super::connections::{Said, decoded, json, problem};
use crate::engine::Engine;
use crate::policy::Class;
use crate::store::StoreError;
use crate::store::requests::{Found, LIMIT_MAX, Recorded, Search};
use crate::telemetry::clock::unix_now;
use crate::types::{RequestId, UnixMillis};
use serde::Serialize;

/// Where it begins.
const PATH: &str = "/api/requests";

/// How many calls are answered when nobody says.
const LIMIT_DEFAULT: u32 = 50;

#[derive(Serialize)]
struct Listed {
    /// Newest first, without their steps.
    requests: Vec<Recorded>,
    /// Where to go on, as `before`; null when there are no more.
    next: Option<i64>,
    /// Whether so many calls were looked at that the search ended there.
    is_cut: bool,
    /// How many calls cannot be read.
    unreadable: u64,
}

/// Whether a path is one of these.
pub(super) fn is_here(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a GET; `path` is one for which [`is_here`] holds.
pub(super) async fn answer(engine: &Engine, (path, query): (&str, Option<&str>)) -> Said {
    match path.strip_prefix(PATH).unwrap_or_default().trim_matches('/') {
        "" => match search_of(query.unwrap_or_default(), unix_now()) {
            Ok(search) => list(engine, &search).await,
            Err(why) => problem(400, &why),
        },
        id => match decoded(id).and_then(|id| RequestId::new(id).ok()) {
            Some(id) => show(engine, id).await,
            None => unknown(),
        },
    }
}

async fn list(engine: &Engine, search: &Search) -> Said {
    match engine.find_requests(search).await {
        Ok(Found { mut calls, next, is_cut, unreadable }) => {
            calls.iter_mut().for_each(|call| call.steps.clear());
            json(200, &Listed { requests: calls, next, is_cut, unreadable })
        }
        Err(error) => of_store(&error),
    }
}

async fn show(engine: &Engine, id: RequestId) -> Said {
    let search = Search { request_id: Some(id), limit: 1, ..Search::default() };
    match engine.search_requests(&search).await {
        Ok(calls) => calls.first().map_or_else(unknown, |call| json(200, call)),
        Err(error) => of_store(&error),
    }
}

fn unknown() -> Said {
    problem(
        404,
        "the ledger has no such call: it is written within a second of its end, and kept for ledger.keep",
    )
}

fn of_store(error: &StoreError) -> Said {
    let status = match error {
        StoreError::Unavailable(_) | StoreError::Damaged(_) => 503,
        StoreError::Newer(_) | StoreError::Refused(_) => 409,
    };
    problem(status, &error.to_string())
}

/// Reads what is wanted. A name that is not known is refused: a condition that was not understood would find too much.
fn search_of(query: &str, now: UnixMillis) -> Result<Search, String> {
    const NAMES: &str = "finch_request_id, request_id, customer, connection, company, app, product, class, since, until, \
                         before and limit";
    let mut search = Search { limit: LIMIT_DEFAULT, ..Search::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let text = decoded(&text.replace('+', " ")).ok_or_else(|| format!("{name} is not well escaped"))?;
        // An empty field of a form.
        if text.is_empty() {
            continue;
        }
        let wrong = |why: &dyn std::fmt::Display| format!("{name} {why}");
        macro_rules! id {
            ($field:ident: $kind:ident) => {
                search.$field = Some(crate::types::$kind::new(&text).map_err(|why| wrong(&why))?)
            };
        }
        match name {
            "finch_request_id" => id!(finch_request_id: FinchRequestId),
            "request_id" => id!(request_id: RequestId),
            "customer" => id!(customer: CustomerId),
            "connection" => id!(connection: ConnectionId),
            "company" => id!(company: CompanyId),
            "app" => id!(app: AppName),
            "product" => search.product = Some(text),
            "class" => {
                search.class = Some(Class::parse(&text).ok_or_else(|| wrong(&"is no class of perch's"))?);
            }
            "since" => search.since = Some(Search::moment(&text, now).map_err(|why| wrong(&why))?),
            "until" => search.until = Some(Search::moment(&text, now).map_err(|why| wrong(&why))?),
            "before" => search.before = Some(text.parse().map_err(|_| wrong(&"is no number"))?),
            "limit" => {
                let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                search.limit = limit.ok_or_else(|| wrong(&format_args!("is between 1 and {LIMIT_MAX}")))?;
            }
            _ => return Err(format!("there is {NAMES}")),
        }
    }
    Ok(search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read_whole_or_not_at_all() {
        let now = UnixMillis(1_700_000_000_000);
        let search = search_of("customer=a%20b+c&class=ok&since=2h&limit=1000&before=7&app=", now).unwrap();
        assert_eq!(search.customer.unwrap().as_str(), "a b c");
        assert_eq!(search.class, Some(Class::Ok));
        assert_eq!(search.since, Some(UnixMillis(1_700_000_000_000 - 7_200_000)));
        assert_eq!((search.limit, search.before, search.app), (1000, Some(7), None));
        assert_eq!(search_of("", now).unwrap().limit, LIMIT_DEFAULT);
        for bad in [
            "customers=acme",
            "customer=%zz",
            "customer=%0a",
            "class=fine",
            "since=yesterday",
            "since=-1h",
            "limit=0",
            "limit=1001",
            "before=x",
        ] {
            assert!(search_of(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn its_paths_are_its_own() {
        assert!(is_here("/api/requests") && is_here("/api/requests/r1") && !is_here("/api/requestsx"));
    }
}

//! The request ledger: a call found by Finch's id of it, by perch's, by customer or by what became of it; and one call with
//! every step of its life.

use super::form::encoded;
use super::parts::{
    View, ago, ago_in_full, choice, class, connection, customer, empty, facts, field, id, or_dash, problem,
    span, table,
};
use super::{Ask, in_time};
use crate::policy::Class;
use crate::store::requests::{Found, Recorded, RecordedStep, Search};
use crate::types::{ConnectionId, CustomerId, FinchRequestId, Product, RequestId, UnixMillis};
use maud::{Markup, html};
use std::time::Duration;

/// How many calls stand on one page.
const PAGE: u32 = 50;
/// How many calls may have one id: those that shared a request.
const TWINS_MAX: u32 = 20;

/// How far back one may look, in hours, and how that is called.
const SPANS: [(&str, u64, &str); 4] = [
    ("1h", 1, "One hour"),
    ("24h", 24, "One day"),
    ("7d", 7 * 24, "Seven days"),
    ("30d", 30 * 24, "Thirty days"),
];

/// The view of a search.
pub(super) async fn view(ask: &Ask<'_>) -> View {
    let get = |name: &str| ask.fields.get(name);
    let found = match wanted(ask) {
        Ok(search) => Some(find(ask, search).await),
        Err(()) => None,
    };
    let classes = Class::ALL.map(|class| (class.as_str(), class.as_str()));
    let products = Product::ALL.map(|product| (product.as_str(), product.as_str()));
    let spans = SPANS.map(|(word, _, name)| (word, name));
    let body = html! {
        form.filters method="get" action="/requests" role="search" aria-label="Requests" {
            (field("id", "Finch-Request-ID or perch's id", get("id"), None))
            (field("customer", "Customer", get("customer"), None))
            (field("connection", "Connection", get("connection"), None))
            (choice("class", "Class", get("class"), "Any", &classes))
            (choice("product", "Product", get("product"), "Any", &products))
            (choice("since", "Not older than", get("since"), "Any age", &spans))
            p.buttons { button type="submit" { "Search" } a.button.quiet href="/requests" { "Start anew" } }
        }
        @match &found {
            None => (empty("No call has an id like that: an id is at most 255 printable characters.")),
            Some(Err(why)) => (problem("The request ledger", why)),
            Some(Ok(found)) => (results(ask, found)),
        }
    };
    View::new("Requests", body)
}

/// What the fields ask for; `Err` when one of them can be nothing that was ever kept.
fn wanted(ask: &Ask<'_>) -> Result<Search, ()> {
    let fields = &ask.fields;
    let since = SPANS.iter().find(|(word, ..)| *word == fields.get("since"));
    Ok(Search {
        finch_request_id: read(fields.filled("id"), FinchRequestId::new)?,
        customer: read(fields.filled("customer"), CustomerId::new)?,
        connection: read(fields.filled("connection"), ConnectionId::new)?,
        class: fields.filled("class").and_then(|word| Class::ALL.into_iter().find(|c| c.as_str() == word)),
        product: fields.filled("product").map(str::to_owned),
        since: since
            .map(|(_, hours, _)| UnixMillis(ask.now.0 - i64::try_from(hours * 3_600_000).unwrap_or(0))),
        before: fields.filled("before").and_then(|text| text.parse().ok()),
        limit: PAGE,
        ..Search::default()
    })
}

fn read<T, E>(text: Option<&str>, new: impl FnOnce(String) -> Result<T, E>) -> Result<Option<T>, ()> {
    text.map(|text| new(text.to_owned())).transpose().map_err(|_| ())
}

/// Searches; what is no id of Finch's may be one of perch's.
async fn find(ask: &Ask<'_>, search: Search) -> Result<Found, String> {
    let found = in_time(ask.engine.find_requests(&search)).await?;
    let own = search.finch_request_id.as_ref().and_then(|id| RequestId::new(id.as_str()).ok());
    match own {
        Some(own) if found.calls.is_empty() => {
            let search = Search { finch_request_id: None, request_id: Some(own), ..search };
            in_time(ask.engine.find_requests(&search)).await
        }
        _ => Ok(found),
    }
}

fn results(ask: &Ask<'_>, found: &Found) -> Markup {
    html! {
        @if found.calls.is_empty() {
            (empty("No call is like that. Calls are here within a second of their end, for as long as ledger.keep says."))
        } @else {
            (list(ask, "Calls, newest first", &found.calls))
        }
        @if found.is_cut { p.hint { "The search stopped after looking at very many calls; go on, or narrow it." } }
        @if found.unreadable > 0 { p.hint { (found.unreadable) " calls cannot be read: damaged, or from a newer perch." } }
        @if let Some(next) = found.next {
            p.buttons { a.button href={ "/requests?" (ask.fields.with("before", &next.to_string())) } rel="next" { "Older calls" } }
        }
    }
}

/// Calls as a table.
pub(super) fn list(ask: &Ask<'_>, caption: &str, calls: &[Recorded]) -> Markup {
    let rows: Vec<Vec<Markup>> = calls
        .iter()
        .map(|call| {
            vec![
                html! { a href={ "/requests/" (encoded(call.request_id.as_str())) } { (ago(call.ts, ask.now)) } },
                or_dash(call.customer.as_ref(), |c| customer(c.as_str())),
                html! { code.call { (call.method) " " (call.path) } },
                html! { (call.status) },
                class(&call.class),
                html! { (call.attempts) },
                millis(call.wait_ms),
                millis(call.total_ms),
                or_dash(call.finch_request_id.last(), id),
            ]
        })
        .collect();
    let heads =
        ["When", "Customer", "Call", "#Status", "Class", "#Attempts", "#Waited", "#Took", "Finch-Request-ID"];
    table(caption, &heads, &rows)
}

fn millis(millis: u64) -> Markup {
    html! { (span(Duration::from_millis(millis))) }
}

/// The call that a path is about.
pub(super) fn id_of(path: &str) -> Option<RequestId> {
    let part = path.strip_prefix("/requests/").filter(|part| !part.contains('/'))?;
    RequestId::new(crate::doors::admin::connections::decoded(part)?).ok()
}

/// The view of one call; `None` when it is not in the ledger.
pub(super) async fn one(ask: &Ask<'_>, wanted: &RequestId) -> Option<View> {
    let search = Search { request_id: Some(wanted.clone()), limit: TWINS_MAX, ..Search::default() };
    let body = match in_time(ask.engine.find_requests(&search)).await {
        Err(why) => problem("The call", &why),
        Ok(found) if found.calls.is_empty() => return None,
        Ok(found) => html! { @for call in &found.calls { (whole(ask, call)) } },
    };
    Some(View::new("One call", body))
}

fn whole(ask: &Ask<'_>, call: &Recorded) -> Markup {
    let size = |bytes: u64| html! { (super::parts::number(bytes)) " bytes" };
    let word = |word: &Option<String>| or_dash(word.as_ref(), |word| html! { (word) });
    let other = |id: &Option<RequestId>| {
        or_dash(id.as_ref(), |id| html! { a.id href={ "/requests/" (encoded(id.as_str())) } { (id) } })
    };
    html! {
        section.card {
            h2 { code { (call.method) " " (call.path) } }
            (facts(&[
                ("What became of it", html! { (call.status) " " (class(&call.class)) }),
                ("Came in", ago_in_full(call.ts, ask.now)),
                ("perch's id", id(&call.request_id)),
                ("Finch-Request-ID", html! {
                    @if call.finch_request_id.is_empty() { span.none { "none: Finch did not answer, or was not asked" } }
                    @for (nth, one) in call.finch_request_id.iter().enumerate() { @if nth > 0 { br; } (id(one)) }
                }),
                ("Customer", or_dash(call.customer.as_ref(), |c| customer(c.as_str()))),
                ("Connection", or_dash(call.connection_id.as_ref(), |c| connection(c.as_str()))),
                ("Company", or_dash(call.company_id.as_ref(), id)),
                ("Provider", or_dash(call.provider.as_ref(), |p| html! { (p) })),
                ("By", match (&call.app, &call.by) {
                    (Some(app), _) => html! { (app) },
                    (None, Some(by)) => html! { (by) },
                    (None, None) => html! { "an app" },
                }),
                ("Product", html! { (call.product) }),
                ("Finch's code", word(&call.finch_code)),
                ("perch's refusal", word(&call.refusal)),
                ("Attempts", html! { (call.attempts) }),
                ("Took", html! {
                    (millis(call.total_ms)) span.hint { " · waited " (millis(call.wait_ms)) ", Finch " (millis(call.finch_ms)) }
                }),
                ("Bodies", html! { (size(call.bytes_in)) " in, " (size(call.bytes_out)) " out" }),
                ("Items", or_dash(call.batch.as_ref(), |batch| html! {
                    (batch.total) ", " (batch.failed) " failed, " (batch.pending) " pending"
                })),
                ("Age of the data", or_dash(call.data_age_s, |age| html! { @if age == 0 { "under a second" } @else { (span(Duration::from_secs(age))) } })),
                ("Kept answers", word(&call.cache)),
                ("Sent again after", other(&call.resend_of)),
                ("Carried by", other(&call.carried_by)),
            ]))
            p.buttons {
                a.button href={ "/support/" (encoded(call.finch_request_id.last().map_or(call.request_id.as_str(), FinchRequestId::as_str))) } {
                    "Support bundle"
                }
            }
            @if call.client_gone { p.notice { "Its client had left before the answer." } }
            @if call.steps.is_empty() { (empty("It was answered without a step that takes time.")) } @else { (steps(call)) }
        }
    }
}

/// What happened, in the order in which it ended, each step with its place in the whole.
fn steps(call: &Recorded) -> Markup {
    let rows: Vec<Vec<Markup>> = call
        .steps
        .iter()
        .map(|step| {
            vec![
                html! { (said(step)) },
                html! { (bar(step, call.total_ms)) },
                html! { "+" (step.at_ms) " ms" },
                html! { (step.lasted_ms) " ms" },
                or_dash(step.finch_request_id.as_ref(), id),
            ]
        })
        .collect();
    table("Step by step", &["Step", "In the whole", "#Began", "#Took", "Finch-Request-ID"], &rows)
}

fn said(step: &RecordedStep) -> String {
    let product = step.product.as_deref().unwrap_or("Finch");
    match step.did.as_str() {
        "look_up" if step.is_answered == Some(false) => "the vault did not answer".to_owned(),
        "look_up" => "looked the connection up".to_owned(),
        "wait" => {
            let what = match step.awaited.as_deref() {
                Some("quota") => "quota",
                Some("hold") => "the end of a hold",
                Some("twin") => "an identical call",
                _ => "something",
            };
            let used = match (step.used, step.limit) {
                (Some(used), Some(limit)) => format!(", {used} of {limit} busy at its end"),
                _ => String::new(),
            };
            let vain = if step.is_over == Some(false) { " in vain" } else { "" };
            format!("waited{vain} for {what}{used}")
        }
        "share" => "shared its request with other calls".to_owned(),
        "attempt" => match (step.status, &step.failed) {
            (Some(status), _) => format!("asked Finch ({product}): {status}"),
            (None, Some(why)) => format!("asked Finch ({product}): {why}"),
            (None, None) => format!("asked Finch ({product})"),
        },
        other => other.replace('_', " "),
    }
}

/// Where a step lies in its call, as a picture; the numbers stand beside it.
fn bar(step: &RecordedStep, total: u64) -> Markup {
    let total = total.max(step.at_ms.saturating_add(step.lasted_ms)).max(1);
    let part = |ms: u64| ms.saturating_mul(1000) / total;
    let (from, long) = (part(step.at_ms).min(990), part(step.lasted_ms).max(10));
    html! {
        svg.bar viewBox="0 0 1000 60" preserveAspectRatio="none" aria-hidden="true" {
            rect.rail width="1000" height="60" {}
            rect.span x=(from) width=(long) height="60" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_said_in_words_also_one_of_a_later_version() {
        let step = |json: serde_json::Value| -> RecordedStep {
            let mut all = serde_json::json!({ "at_ms": 1, "lasted_ms": 2 });
            all.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
            serde_json::from_value(all).unwrap()
        };
        for (json, words) in [
            (serde_json::json!({ "did": "look_up", "is_answered": true }), "looked the connection up"),
            (
                serde_json::json!({ "did": "wait", "for": "quota", "is_over": false, "used": 20, "limit": 20 }),
                "waited in vain for quota, 20 of 20 busy at its end",
            ),
            (
                serde_json::json!({ "did": "attempt", "product": "directory", "status": 200 }),
                "asked Finch (directory): 200",
            ),
            (serde_json::json!({ "did": "attempt", "failed": "reset" }), "asked Finch (Finch): reset"),
            (serde_json::json!({ "did": "brand_new" }), "brand new"),
        ] {
            assert_eq!(said(&step(json)), words);
        }
        let hostile = step(serde_json::json!({ "did": "<script>" }));
        assert!(!html! { (said(&hostile)) }.into_string().contains("<script>"));
        for (at, lasted, total) in [(0, 0, 0), (u64::MAX, u64::MAX, 0), (5, 5, 10)] {
            let text = bar(&RecordedStep { at_ms: at, lasted_ms: lasted, ..RecordedStep::default() }, total)
                .into_string();
            assert!(text.contains("<svg") && !text.contains("style"), "{text}");
        }
    }
}

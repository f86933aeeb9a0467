//! The first view: is it well, what wants somebody, and what goes through.

use super::parts::{
    Tone, View, ago, ago_in_full, badge, class, connection, empty, facts, meter, number, or_dash, problem,
    status, table,
};
use super::quota::waiting;
use super::{Ask, in_time};
use crate::engine::Standstill;
use crate::engine::quota::{Mode, Snapshot};
use crate::store::requests::Search;
use crate::store::webhooks::Depth;
use crate::vault::{Stats, Status};
use maud::{Markup, html};

/// How many calls are shown.
const CALLS: u32 = 8;
/// The most rows of a list on this view; its own view has the rest.
const ROWS_MAX: usize = 12;

/// The view.
pub(super) async fn view(ask: &Ask<'_>) -> View {
    let latest = Search { limit: CALLS, ..Search::default() };
    let (stats, depth, latest, readiness) = tokio::join!(
        in_time(ask.engine.vault.stats()),
        in_time(ask.engine.vault.webhook_depth()),
        in_time(ask.engine.search_requests(&latest)),
        ask.engine.readiness(),
    );
    let is_ready = readiness.is_ready();
    let (snapshot, held) = (ask.engine.quota.snapshot(), ask.engine.standstills());
    let wanting = wanting(ask, is_ready, &snapshot, stats.as_ref().ok(), depth.as_ref().ok());
    let body = html! {
        section.card aria-labelledby="state" {
            h2 #state { "State" }
            @if wanting.is_empty() {
                p.lead { (badge(Tone::Good, "well")) " Nothing wants your attention." }
            } @else {
                ul.wanting { @for one in &wanting { li { (one) } } }
            }
            (facts(&[
                ("Readiness", badge(if is_ready { Tone::Good } else { Tone::Bad }, if is_ready { "ready" } else { "not ready" })),
                ("Quota counted in", mode(snapshot.mode)),
                ("Calls under way", html! { (number(ask.engine.drain.running() as u64)) }),
                ("Running since", ago_in_full(ask.page.since, ask.now)),
                ("Version", html! { (env!("CARGO_PKG_VERSION")) }),
            ]))
        }
        div.columns {
            (calls(ask))
            (connections(&stats))
            (quota(&snapshot))
            (holds(ask, &held))
        }
        section.card aria-labelledby="latest" {
            h2 #latest { "Latest calls" }
            @match &latest {
                Err(why) => (problem("The latest calls", why)),
                Ok(all) if all.is_empty() => (empty("No call has ended yet.")),
                Ok(all) => {
                    (super::requests::list(ask, "Calls, newest first", all))
                    p { a href="/requests" { "Search all calls" } }
                }
            }
        }
    };
    View::new("Overview", body)
}

fn mode(mode: Mode) -> Markup {
    match mode {
        Mode::Memory => badge(Tone::Good, "memory"),
        Mode::Redis => badge(Tone::Good, "redis"),
        Mode::Degraded => badge(Tone::Bad, "degraded"),
    }
}

/// Everything that somebody should look at, the worst first.
fn wanting(
    ask: &Ask<'_>,
    is_ready: bool,
    snapshot: &Snapshot,
    stats: Option<&Stats>,
    depth: Option<&Depth>,
) -> Vec<Markup> {
    let mut all = Vec::new();
    if !is_ready {
        all.push(html! { (badge(Tone::Bad, "not ready")) " The vault does not answer, or perch is stopping; apps get 503." });
    }
    if snapshot.mode == Mode::Degraded {
        all.push(html! { (badge(Tone::Bad, "degraded")) " The shared quota store is out: calls wait, or spend this replica's share." });
    }
    let alarms = ask.engine.telemetry.metrics.alarms();
    for (count, what) in [
        (alarms.redactions, "tokens were taken out of answers of Finch's"),
        (
            alarms.finch_429,
            "calls were refused by Finch for a limit: another program uses this quota, or a number is wrong",
        ),
        (alarms.vault_errors, "failures of the vault; see the log"),
        (alarms.no_ledger, "calls were refused because spent quota could not be written down"),
        (alarms.access_lines_dropped, "access lines were lost because nobody read standard output"),
    ] {
        if count > 0 {
            all.push(html! { (badge(Tone::Bad, &number(count))) " " (what) ", since the start." });
        }
    }
    let of = |wanted: Status| -> u64 {
        let counts = stats.iter().flat_map(|stats| &stats.connections);
        counts.filter(|(status, ..)| *status == wanted).map(|(.., count)| count).sum()
    };
    for (wanted, what) in [
        (Status::Held, "held until an operator decides"),
        (Status::NeedsReauth, "waiting for their customer to sign in again"),
        (Status::Disconnecting, "being disconnected, which Finch did not confirm yet"),
    ] {
        let count = of(wanted);
        if count > 0 {
            let tone = if wanted == Status::Held { Tone::Bad } else { Tone::Warn };
            all.push(html! {
                (badge(tone, &number(count))) " of the connections: " a href={ "/connections?status=" (wanted.as_str()) } { (what) } "."
            });
        }
    }
    let paused = ask.engine.pauses().len() as u64;
    if paused > 0 {
        all.push(html! { (badge(Tone::Warn, &number(paused))) " " a href="/pauses" { "paused" } ": their calls are refused until somebody resumes them." });
    }
    if ask.engine.quota.is_observing() {
        all.push(html! { (badge(Tone::Warn, "observing")) " " code { "limits.mode" } " is \"observe\": the limits hold nobody back." });
    }
    if let Some(dead) = depth.map(|depth| depth.dead).filter(|dead| *dead > 0) {
        all.push(html! { (badge(Tone::Warn, &number(dead))) " of the webhooks: " a href="/webhooks" { "dead letters" } ", which the app did not take." });
    }
    all
}

fn calls(ask: &Ask<'_>) -> Markup {
    let by_class = ask.engine.telemetry.metrics.calls_by_class();
    let all: u64 = by_class.values().sum();
    let mut rows: Vec<(&String, &u64)> = by_class.iter().collect();
    rows.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), (*word).clone()));
    let rows: Vec<Vec<Markup>> = rows
        .into_iter()
        .map(|(word, count)| {
            vec![
                html! { a.plain href={ "/requests?class=" (word) } { (class(word)) } },
                html! { (number(*count)) },
                html! { span.share { (share(*count, all)) } },
            ]
        })
        .collect();
    html! {
        section.card aria-labelledby="calls" {
            h2 #calls { "Calls since the start" }
            @if rows.is_empty() {
                (empty("No app has called yet. Point one at the proxy door, with Perch-Customer to name its customer."))
            } @else {
                (table("Calls by what became of them", &["Class", "#Calls", "#Share"], &rows))
            }
        }
    }
}

fn share(count: u64, all: u64) -> String {
    let tenths = count.saturating_mul(1000) / all.max(1);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

fn connections(stats: &Result<Stats, String>) -> Markup {
    let body = match stats {
        Err(why) => problem("The connections", why),
        Ok(stats) if stats.connections.is_empty() => empty(
            "No customer is connected. New ones come through POST /auth/token; existing ones with: perch connections import",
        ),
        Ok(stats) => {
            let rows: Vec<Vec<Markup>> = Status::ALL
                .into_iter()
                .filter_map(|wanted| {
                    let of = stats.connections.iter().filter(|(status, ..)| *status == wanted);
                    let count: u64 = of.map(|(.., count)| count).sum();
                    (count > 0).then(|| {
                        vec![
                            html! { a.plain href={ "/connections?status=" (wanted.as_str()) } { (status(wanted)) } },
                            html! { (number(count)) },
                        ]
                    })
                })
                .collect();
            table("Connections by status", &["Status", "#Connections"], &rows)
        }
    };
    html! { section.card aria-labelledby="connections" { h2 #connections { "Connections" } (body) } }
}

fn quota(snapshot: &Snapshot) -> Markup {
    let used = |(_, standing): &&(crate::types::Product, crate::limit::Standing)| standing.used > 0;
    let busy: Vec<_> = snapshot.products.iter().filter(used).take(ROWS_MAX).collect();
    let rows: Vec<Vec<Markup>> = busy
        .iter()
        .map(|(product, standing)| {
            let name = product.as_str();
            vec![
                html! { (name) },
                meter(&format!("{name}: permits in use"), standing.used.into(), standing.limit.into()),
                html! { (standing.used) " / " (standing.limit) },
                html! { (waiting(snapshot, *product)) },
            ]
        })
        .collect();
    html! {
        section.card aria-labelledby="quota" {
            h2 #quota { "Quota in use" }
            @if rows.is_empty() {
                (empty("No permit is in use: nothing was sent in the last window."))
            } @else {
                (table("Products with permits in use", &["Product", "Use", "#Used", "#Waiting"], &rows))
            }
            p { a href="/quota" { "All products, live" } }
        }
    }
}

/// What cannot be called now.
pub(super) fn holds(ask: &Ask<'_>, held: &[Standstill]) -> Markup {
    let rows: Vec<Vec<Markup>> = held.iter().take(ROWS_MAX).map(|hold| hold_row(ask, hold)).collect();
    html! {
        section.card aria-labelledby="holds" {
            h2 #holds { "Holds" }
            @if rows.is_empty() {
                (empty("Nothing is held: everything may be called."))
            } @else {
                (table("What cannot be called now", &["Scope", "Of", "Answered with", "Since", "Until"], &rows))
                @if held.len() > ROWS_MAX {
                    p.hint { "The first " (ROWS_MAX) " of " (held.len()) ". " code { "GET /api/holds" } " has all." }
                }
            }
        }
    }
}

fn hold_row(ask: &Ask<'_>, hold: &Standstill) -> Vec<Markup> {
    let of = match (&hold.connection_id, hold.product) {
        (Some(id), _) => {
            html! { (connection(id)) @if let Some(entity) = &hold.entity_id { " · " code.id { (entity) } } }
        }
        (None, Some(product)) => html! { (product) },
        (None, None) => html! { "everything" },
    };
    vec![
        html! { (hold.scope.replace('_', " ")) },
        of,
        class(hold.class),
        or_dash(hold.since, |at| ago(at, ask.now)),
        match hold.until {
            Some(at) => ago(at, ask.now),
            None => html! { "the customer signs in" },
        },
    ]
}

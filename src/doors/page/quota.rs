//! Quota, live: what is used of each product, who waits, what is held.

use super::Ask;
use super::parts::{Tone, View, badge, meter, number, span, table};
use crate::engine::quota::Snapshot;
use crate::limit::Standing;
use crate::types::{Priority, Product};
use maud::{Markup, html};

/// The view.
pub(super) fn view(ask: &Ask<'_>) -> View {
    let body = html! {
        p {
            "A permit is busy from the moment a request is sent until one window after its answer began. Calls that find none wait in line; customers take turns."
        }
        // The script asks for this part again and again; without it, this is the moment of the page.
        div #live data-live=(super::LIVE) { (now(ask)) }
        p.buttons {
            a.button.quiet href="/quota" { "Refresh" }
            button.quiet #live-toggle type="button" hidden { "Pause updates" }
        }
    };
    View::new("Quota", body)
}

/// The part that changes.
pub(super) fn now(ask: &Ask<'_>) -> Markup {
    let snapshot = ask.engine.quota.snapshot();
    let held = |product: Option<Product>| {
        snapshot.holds.iter().find(|(scope, _)| match scope {
            crate::limit::Scope::Product(of) => Some(*of) == product,
            crate::limit::Scope::EgressIp => product.is_none(),
        })
    };
    let mut rows: Vec<Vec<Markup>> = snapshot
        .products
        .iter()
        .map(|(product, standing)| {
            let waits = [Priority::Interactive, Priority::Batch].map(|p| of(&snapshot, *product, p));
            row(product.as_str(), standing, Some(waits), held(Some(*product)).map(|(_, left)| *left))
        })
        .collect();
    if let Some(ip) = &snapshot.ip {
        rows.push(row("egress IP", ip, None, held(None).map(|(_, left)| *left)));
    }
    html! {
        (table(
            "Permits of each product, for all customers together",
            &["Product", "Use", "#Used", "#Left", "Next back", "#Interactive wait", "#Batch wait", "State"],
            &rows,
        ))
        p.hint { "Counted in " (snapshot.mode.as_str()) ", as of " (super::parts::instant(ask.now)) "." }
    }
}

fn row(
    name: &str,
    standing: &Standing,
    waits: Option<[usize; 2]>,
    held: Option<std::time::Duration>,
) -> Vec<Markup> {
    let waiting = |nth: usize| match waits {
        Some(waits) => html! { (number(waits[nth] as u64)) },
        None => html! { span.none { "–" } },
    };
    let state = match (held, standing.remaining) {
        (Some(left), _) => badge(Tone::Bad, &format!("held for {}", span(left))),
        (None, 0) => badge(Tone::Warn, "used up"),
        (None, _) => badge(Tone::Good, "free"),
    };
    vec![
        html! { (name) },
        meter(&format!("{name}: permits in use"), standing.used.into(), standing.limit.into()),
        html! { (standing.used) " / " (standing.limit) },
        html! { (standing.remaining) },
        html! { @if standing.used == 0 { span.none { "–" } } @else { (span(standing.next_free_in)) } },
        waiting(0),
        waiting(1),
        state,
    ]
}

fn of(snapshot: &Snapshot, product: Product, priority: Priority) -> usize {
    let mut all = snapshot.waiting.iter();
    all.find(|(of, p, _)| (*of, *p) == (product, priority)).map_or(0, |(.., count)| *count)
}

/// How many wait for a product, in both lines.
pub(super) fn waiting(snapshot: &Snapshot, product: Product) -> String {
    number(Priority::ALL.into_iter().map(|p| of(snapshot, product, p) as u64).sum())
}

//! The vault's connections, a page at a time: found by customer or id, and by status.

use super::form::encoded;
use super::parts::{View, ago, choice, connection, customer, empty, field, or_dash, problem, status, table};
use super::{Ask, in_time};
use crate::store::connections::Sought;
use crate::types::ConnectionId;
use crate::vault::{Connection, Status};
use maud::{Markup, html};

/// How many stand on one page.
const PAGE: u32 = 100;

/// The view.
pub(super) async fn view(ask: &Ask<'_>) -> View {
    let sought = Sought {
        part: ask.fields.filled("q").map(str::to_owned),
        status: ask.fields.filled("status").and_then(Status::parse),
        after: ask.fields.filled("after").and_then(|id| ConnectionId::new(id).ok()),
        customer: None,
    };
    let is_filtered = sought.part.is_some() || sought.status.is_some() || sought.after.is_some();
    let found = in_time(ask.engine.vault.page(sought, PAGE)).await;
    let words = Status::ALL.map(|status| (status.as_str(), status.as_str()));
    let body = html! {
        form.filters method="get" action="/connections" role="search" aria-label="Connections" {
            (field("q", "Customer or connection", ask.fields.get("q"), None))
            (choice("status", "Status", ask.fields.get("status"), "Any", &words))
            p.buttons { button type="submit" { "Search" } a.button.quiet href="/connections" { "Show all" } }
        }
        @match &found {
            Err(why) => (problem("The connections", why)),
            Ok(page) if page.connections.is_empty() && is_filtered => {
                (empty("No connection is like that. Part of the customer's or the connection's id is enough."))
            }
            Ok(page) if page.connections.is_empty() => {
                (empty("No customer is connected yet. New ones come through POST /auth/token; existing ones with: perch connections import"))
            }
            Ok(page) => {
                (list(ask, &page.connections))
                @if let (false, Some(last)) = (page.is_last, page.connections.last()) {
                    p.buttons {
                        a.button href={ "/connections?" (ask.fields.with("after", last.connection_id.as_str())) } rel="next" {
                            "Next " (PAGE)
                        }
                    }
                }
            }
        }
    };
    View::new("Connections", body)
}

fn list(ask: &Ask<'_>, all: &[Connection]) -> Markup {
    let rows: Vec<Vec<Markup>> = all
        .iter()
        .map(|facts| {
            vec![
                or_dash(facts.customer_id.as_ref(), |id| customer(id.as_str())),
                connection(facts.connection_id.as_str()),
                status(facts.status),
                or_dash(facts.provider_id.as_ref(), |id| html! { (id) }),
                or_dash(facts.account_status.as_ref(), |word| html! { (word) }),
                or_dash(facts.introspected_at.or(facts.status_at), |at| ago(at, ask.now)),
                or_dash(facts.last_used_at, |at| ago(at, ask.now)),
                deeds(ask, facts),
            ]
        })
        .collect();
    let heads =
        ["Customer", "Connection", "Status", "Provider", "Finch says", "Learnt", "Last used", "To do"];
    table("Connections, oldest first", &heads, &rows)
}

/// What most often comes next.
fn deeds(ask: &Ask<'_>, facts: &Connection) -> Markup {
    let path = format!("/connections/{}", encoded(facts.connection_id.as_str()));
    match (facts.status, ask.who.may_act()) {
        (Status::NeedsReauth, true) => html! { a href={ (path) "/reauth-link" } { "Reauth link" } },
        (Status::Held, _) => html! { a href=(path) { "Decide" } },
        _ => html! { span.none { "–" } },
    }
}

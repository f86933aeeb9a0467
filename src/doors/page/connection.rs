//! One connection: what is known of it, what was done to it, what holds it, and what can be done.

use super::form::encoded;
use super::parts::{View, ago, ago_in_full, customer, empty, facts, id, or_dash, problem, status, table};
use super::{Ask, in_time};
use crate::doors::admin::connections::decoded;
use crate::store::audit::Deed;
use crate::store::requests::Search;
use crate::types::ConnectionId;
use crate::vault::{Connection, Status, VaultError};
use maud::{Markup, html};

/// How many of its calls are shown.
const CALLS: u32 = 10;

/// The connection that a path is about.
pub(super) fn id_of(path: &str) -> Option<ConnectionId> {
    let part = path.strip_prefix("/connections/").filter(|part| !part.contains('/'))?;
    ConnectionId::new(decoded(part)?).ok()
}

/// The view; `None` when there is no such connection.
pub(super) async fn view(ask: &Ask<'_>, id: &ConnectionId) -> Option<View> {
    let engine = ask.engine;
    let known = tokio::time::timeout(super::VIEW_MAX, engine.vault.connection(id)).await;
    let entry = match known {
        Ok(Ok(entry)) => entry,
        Ok(Err(VaultError::UnknownConnection | VaultError::OtherEnvironment { .. })) => return None,
        Ok(Err(error)) => return Some(View::new("Connection", problem("This connection", &error))),
        Err(_) => {
            return Some(View::new(
                "Connection",
                problem("This connection", &"the store did not answer within 5 s"),
            ));
        }
    };
    let calls = Search { connection: Some(id.clone()), limit: CALLS, ..Search::default() };
    let (deeds, calls) =
        tokio::join!(in_time(engine.vault.deeds(id)), in_time(engine.search_requests(&calls)));
    let held: Vec<_> = engine
        .standstills()
        .into_iter()
        .filter(|hold| hold.connection_id.as_deref() == Some(id.as_str()))
        .collect();
    let known = &entry.facts;
    let body = html! {
        section.card aria-labelledby="facts" {
            h2 #facts { "What is known" }
            (about(ask, known))
            (doing(ask, known))
        }
        @if !held.is_empty() { (super::overview::holds(ask, &held)) }
        section.card aria-labelledby="calls" {
            h2 #calls { "Latest calls" }
            @match &calls {
                Err(why) => (problem("The latest calls", why)),
                Ok(all) if all.is_empty() => (empty("No call used it lately.")),
                Ok(all) => {
                    (super::requests::list(ask, "Calls of this connection, newest first", all))
                    p { a href={ "/requests?connection=" (encoded(id.as_str())) } { "All its calls" } }
                }
            }
        }
        section.card aria-labelledby="deeds" {
            h2 #deeds { "Audit trail" }
            @match &deeds {
                Err(why) => (problem("The audit trail", why)),
                Ok(all) if all.is_empty() => (empty("Nothing was done to it lately.")),
                Ok(all) => (trail(ask, all)),
            }
        }
    };
    let title = match &known.customer_id {
        Some(customer) => format!("Connection of {customer}"),
        None => "Connection without a customer".to_owned(),
    };
    Some(View::new(title, body))
}

fn about(ask: &Ask<'_>, known: &Connection) -> Markup {
    let list = |all: &[String]| html! { @if all.is_empty() { span.none { "–" } } @else { (all.join(", ")) } };
    let entities: Vec<String> = known.entity_ids.iter().map(ToString::to_string).collect();
    html! {
        (facts(&[
            ("Connection", id(&known.connection_id)),
            ("Customer", or_dash(known.customer_id.as_ref(), |c| customer(c.as_str()))),
            ("Status", html! {
                (status(known.status))
                @if let Some(why) = &known.held_reason { " " (why) }
            }),
            ("Finch says", or_dash(known.account_status.as_ref(), |word| html! { (word) })),
            ("Learnt", or_dash(known.status_at, |at| ago_in_full(at, ask.now))),
            ("Asked by perch", or_dash(known.introspected_at, |at| ago_in_full(at, ask.now))),
            ("Last used", or_dash(known.last_used_at, |at| ago_in_full(at, ask.now))),
            ("Provider", or_dash(known.provider_id.as_ref(), |p| html! { (p) })),
            ("Company", or_dash(known.company_id.as_ref(), id)),
            ("Entities", list(&entities)),
            ("Products", list(&known.products)),
            ("Stored", ago_in_full(known.created_at, ask.now)),
            ("Changed", ago_in_full(known.updated_at, ask.now)),
            ("Token version", html! { (known.version) }),
        ]))
        @if let Some(note) = &known.note { p.notice { strong { "Note. " } (note) } }
    }
}

fn doing(ask: &Ask<'_>, known: &Connection) -> Markup {
    let path = format!("/connections/{}", encoded(known.connection_id.as_str()));
    let is_gone = known.status == Status::Disconnected;
    html! {
        @if known.status == Status::Held && known.customer_id.is_none() {
            p { "Give it to a customer with: " code { "perch connections assign" } }
        }
        p.buttons {
            a.button href={ "/support/" (encoded(known.connection_id.as_str())) } { "Support bundle" }
            @if ask.who.may_act() && !is_gone {
                a.button href={ (path) "/introspect" } { "Ask Finch" }
                a.button href={ (path) "/reauth-link" } { "Reauth link" }
                @if let Some(customer) = &known.customer_id {
                    a.button href={ "/pauses/pause?scope=customer&name=" (encoded(customer.as_str())) } { "Pause customer" }
                }
                a.button.danger href={ (path) "/disconnect" } { "Disconnect" }
            }
        }
    }
}

fn trail(ask: &Ask<'_>, all: &[Deed]) -> Markup {
    let rows: Vec<Vec<Markup>> = all
        .iter()
        .map(|deed| {
            vec![
                ago(deed.at, ask.now),
                html! { (deed.action.replace('_', " ")) },
                html! { (deed.actor) },
                html! { (deed.version) },
            ]
        })
        .collect();
    table("What was done to it, newest first", &["When", "What", "By", "#Version after"], &rows)
}

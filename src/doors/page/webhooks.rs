//! What Finch told by webhook, and what the app did not take. Bodies of events are never shown.

use super::form::encoded;
use super::parts::{
    Tone, View, ago, badge, choice, connection, empty, facts, id, number, or_dash, problem, table,
};
use super::{Ask, in_time};
use crate::store::webhooks::{Listed, State};
use maud::{Markup, html};

/// How many stand on the page; `perch webhooks list` has more.
const ROWS: u32 = 100;

/// The view.
pub(super) async fn view(ask: &Ask<'_>) -> View {
    let only_dead = ask.fields.get("show") != "all";
    let (depth, list) = tokio::join!(
        in_time(ask.engine.vault.webhook_depth()),
        in_time(ask.engine.vault.list_webhooks(only_dead, ROWS))
    );
    let dead = depth.as_ref().map_or(0, |depth| depth.dead);
    let shown = if only_dead { "dead" } else { "all" };
    let body = html! {
        section.card aria-labelledby="queue" {
            h2 #queue { "Queue" }
            @match &depth {
                Err(why) => (problem("The queue", why)),
                Ok(depth) => (facts(&[
                    ("New", html! { (number(depth.new)) }),
                    ("Waiting for the app", html! { (number(depth.waiting)) }),
                    ("Dead letters", html! {
                        (badge(if depth.dead > 0 { Tone::Warn } else { Tone::Good }, &number(depth.dead)))
                    }),
                ])),
            }
            @if !ask.engine.delivers_webhooks() {
                p { "No app is told: " code { "webhooks.deliver_to" } " is empty. perch acts on what Finch tells all the same." }
            } @else if dead > 0 && ask.who.may_act() {
                p.buttons { a.button href="/webhooks/replay" { "Offer all dead letters again" } }
            }
        }
        form.filters method="get" action="/webhooks" {
            (choice("show", "Show", shown, "", &[("dead", "Dead letters"), ("all", "All that are kept")]))
            p.buttons { button type="submit" { "Show" } }
        }
        @match &list {
            Err(why) => (problem("The events", why)),
            Ok(all) if all.is_empty() && only_dead => (empty("No dead letters: the app took everything it was offered.")),
            Ok(all) if all.is_empty() => {
                (empty("Finch has told nothing yet. Turn its webhooks on with listen.webhooks and finch.webhook_secret."))
            }
            Ok(all) => {
                (events(ask, all))
                @if all.len() >= ROWS as usize { p.hint { "The newest " (ROWS) ". " code { "perch webhooks list" } " has more." } }
            }
        }
    };
    View::new("Webhooks", body)
}

fn events(ask: &Ask<'_>, all: &[Listed]) -> Markup {
    let may_replay = ask.who.may_act() && ask.engine.delivers_webhooks();
    let rows: Vec<Vec<Markup>> = all
        .iter()
        .map(|event| {
            vec![
                html! { (event.event_type) },
                state(event.state),
                or_dash(event.connection_id.as_ref(), |id| connection(id)),
                ago(event.received_at, ask.now),
                html! { (event.attempts) },
                or_dash(event.failure.as_ref(), |why| html! { (why) }),
                id(&event.event_id),
                html! {
                    @if may_replay && event.state == State::Dead {
                        a href={ "/webhooks/replay?id=" (encoded(&event.event_id)) } { "Offer again" }
                    } @else { span.none { "–" } }
                },
            ]
        })
        .collect();
    let heads = ["Event", "State", "Connection", "Came", "#Attempts", "Last failure", "Id", "To do"];
    table("Events, newest first", &heads, &rows)
}

fn state(state: State) -> Markup {
    let tone = match state {
        State::New | State::Waiting => Tone::Plain,
        State::Done => Tone::Good,
        State::Dead => Tone::Warn,
    };
    badge(tone, state.as_str())
}

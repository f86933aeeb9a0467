//! What is paused, by whom and why; and the two switches.

use super::Ask;
use super::form::encoded;
use super::parts::{Tone, View, ago, badge, choice, customer, empty, field, or_dash, table};
use crate::policy::brake::PauseScope;
use crate::vault::pauses::Paused;
use maud::{Markup, html};

/// The view.
pub(super) fn view(ask: &Ask<'_>) -> View {
    let all = ask.engine.pauses();
    let scopes = PauseScope::ALL.map(|scope| (scope.as_str(), scope.as_str()));
    let body = html! {
        p {
            "Calls of what is paused are refused, here at once and at every gateway on the same store within two seconds, until somebody resumes them. Connecting and disconnecting go on."
        }
        @if ask.who.may_act() {
            // A question only: nothing is paused before it is confirmed.
            form.filters method="get" action="/pauses/pause" aria-label="Pause" {
                (choice("scope", "Pause a", ask.fields.get("scope"), "", &scopes))
                (field("name", "Called", ask.fields.get("name"), None))
                p.buttons { button type="submit" { "Pause…" } }
            }
        }
        @if all.is_empty() {
            (empty("Nothing is paused."))
        } @else {
            (list(ask, &all))
        }
    };
    View::new("Pauses", body)
}

fn list(ask: &Ask<'_>, all: &[Paused]) -> Markup {
    let rows: Vec<Vec<Markup>> = all
        .iter()
        .map(|paused| {
            let is_ours = paused.by != "configuration";
            vec![
                html! {
                    (badge(Tone::Warn, paused.scope.as_str())) " "
                    @if paused.scope == PauseScope::Customer { (customer(&paused.name)) } @else { (paused.name) }
                },
                or_dash(paused.since, |at| ago(at, ask.now)),
                html! { (paused.by) },
                or_dash(paused.reason.as_ref(), |why| html! { (why) }),
                html! {
                    @if ask.who.may_act() && is_ours {
                        a href={ "/pauses/resume?scope=" (paused.scope.as_str()) "&name=" (encoded(&paused.name)) } { "Resume" }
                    } @else if !is_ours {
                        span.hint { "ends in the configuration" }
                    } @else { span.none { "–" } }
                },
            ]
        })
        .collect();
    table("What is paused", &["What", "Since", "By", "Why", "To do"], &rows)
}

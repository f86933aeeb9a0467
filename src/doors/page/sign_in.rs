//! The way in and out: the admin token once, then a session.

use super::form::{cookie, next_of};
use super::parts::{View, frame};
use super::{Ask, Served, Who, refuse};
use crate::doors::admin::AdminDoor;
use http::HeaderMap;
use maud::{Markup, html};

/// The form.
pub(super) fn show(ask: &Ask<'_>) -> Served {
    if ask.who.is_inside() {
        return Served::see(next_of(&ask.fields));
    }
    Served::html(200, frame(ask, &form(ask, html! {}), None))
}

/// Takes the token, and opens a session if it is the one.
pub(super) fn try_token(door: &AdminDoor, ask: &Ask<'_>, headers: &HeaderMap) -> Served {
    if ask.who.is_inside() {
        return Served::see("/");
    }
    let now = door.engine.quota.now();
    if !door.is_token(ask.fields.get("token").as_bytes()) {
        return match door.page.wrong_token(now) {
            None => {
                let why = html! { p.notice.bad role="alert" { strong { "That is not the admin token. " } "It is what " code { "admin.token" } " refers to." } };
                Served::html(401, frame(ask, &form(ask, why), None))
            }
            Some(wait) => {
                let why = html! { p.notice.bad role="alert" { strong { "Too many wrong tokens. " } "Wait a few seconds; the right one works at any time." } };
                Served::html(429, frame(ask, &form(ask, why), None))
                    .with("Retry-After", wait.as_secs().to_string())
            }
        };
    }
    let (mut name, mut key) = ([0; 32], [0; 32]);
    if getrandom::fill(&mut name).and_then(|()| getrandom::fill(&mut key)).is_err() {
        return refuse(
            ask,
            503,
            "No session can be opened",
            "The system gives no random numbers; see the log of the machine.",
        );
    }
    let session = door.page.sessions.open(&name, key, now);
    tracing::info!("an operator signed in at the page");
    Served::see(next_of(&ask.fields)).with("Set-Cookie", cookie(&session, headers))
}

/// Ends the session.
pub(super) fn leave(ask: &Ask<'_>, headers: &HeaderMap) -> Served {
    let Who::Operator(visit) = &ask.who else { return Served::see("/") };
    if !visit.fits("/sign-out", ask.fields.get("seal")) {
        return refuse(
            ask,
            403,
            "That form is not of this session",
            "Open the page anew and use its own button.",
        );
    }
    ask.page.sessions.close(visit);
    Served::see("/sign-in").with("Set-Cookie", cookie("", headers))
}

fn form(ask: &Ask<'_>, why: Markup) -> View {
    let body = html! {
        (why)
        form.card.narrow method="post" action="/sign-in" {
            input type="hidden" name="next" value=(next_of(&ask.fields));
            // Password managers want to know for whom.
            input type="text" name="username" value="operator" autocomplete="username" readonly hidden;
            div.field {
                label for="token" { "Admin token" }
                input #token type="password" name="token" autocomplete="current-password" required autofocus;
                span.hint { "What " code { "admin.token" } " of this perch refers to." }
            }
            button type="submit" { "Sign in" }
        }
    };
    View::new("Sign in", body)
}

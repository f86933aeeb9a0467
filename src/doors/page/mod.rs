//! The page of the admin door: what an operator sees and may do in a browser. It is written here, on the server; it needs
//! no build, nothing from elsewhere, no script and no mouse.
//!
//! With an admin token every view needs it, by a session that signing in opens. Without one (a door on loopback) the views
//! can be read, and nothing can be done. What changes something is a form in two steps: the first says what will
//! happen, the second carries a seal of its session and deed, and comes from this very page.

mod act;
mod configuration;
mod connection;
mod connections;
mod form;
mod overview;
mod parts;
mod pauses;
mod quota;
mod requests;
mod session;
mod sign_in;
mod support;
mod webhooks;

use super::admin::AdminDoor;
use crate::engine::Engine;
use crate::telemetry::clock::unix_now;
use crate::types::{Moment, UnixMillis};
use act::Act;
use form::{Fields, encoded, is_our_own, session_of};
use http::{HeaderMap, Method, Response};
use maud::{Markup, html};
use parts::{View, frame};
use session::{Sessions, Visit};
use std::sync::Arc;
use std::time::Duration;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");
const ICON: &str = include_str!("icon.svg");
const HTML: &str = "text/html; charset=utf-8";

/// The part of the quota's view that a script asks for again and again.
const LIVE: &str = "/quota/now";

/// How long the store may take over a view; what is later is said to be missing.
const VIEW_MAX: Duration = Duration::from_secs(5);

/// What a browser may load and do on these pages: this door's own style, script and icon, forms to this door, nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What the page remembers.
#[derive(Debug)]
pub(super) struct Page {
    sessions: Sessions,
    /// When this gateway began.
    since: UnixMillis,
}

impl Page {
    /// A page on which nobody has signed in.
    pub(super) fn new(since: UnixMillis) -> Self {
        Self { sessions: Sessions::default(), since }
    }

    /// Counts a wrong token, wherever it was shown. `Some`: there were too many; how long until the next is listened to.
    pub(super) fn wrong_token(&self, now: Moment) -> Option<Duration> {
        self.sessions.wrong_token(now)
    }
}

/// What a deed has left to say on the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    is_error: bool,
    text: String,
    /// A link to hand on.
    link: Option<String>,
}

impl Told {
    /// It is done.
    pub(super) fn done(text: impl Into<String>) -> Self {
        Self { is_error: false, text: text.into(), link: None }
    }

    /// It is not.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self { is_error: true, text: text.into(), link: None }
    }
}

/// Who looks.
#[derive(Debug, Clone)]
enum Who {
    /// Anybody, where there is no token: may look.
    Reader,
    /// Somebody who has signed in.
    Operator(Visit),
    /// Somebody who has not.
    Stranger,
}

impl Who {
    /// Whether there is anything for them beside the way in.
    fn is_inside(&self) -> bool {
        !matches!(self, Who::Stranger)
    }

    /// Whether they may do anything.
    fn may_act(&self) -> bool {
        matches!(self, Who::Operator(_))
    }
}

/// What is asked of a view.
#[derive(Debug)]
struct Ask<'a> {
    engine: &'a Arc<Engine>,
    page: &'a Page,
    who: Who,
    path: &'a str,
    /// The query of a GET, the form of a POST.
    fields: Fields,
    now: UnixMillis,
}

/// What the door hands out for this page.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    /// Further headers, by name.
    pub(super) headers: Vec<(&'static str, String)>,
}

impl Served {
    fn html(status: u16, page: Markup) -> Self {
        Self { status, content_type: HTML, body: page.into_string().into_bytes(), headers: Vec::new() }
    }

    /// Go and look there: a reload does not send the form again.
    fn see(path: &str) -> Self {
        let headers = vec![("Location", path.to_owned())];
        Self { status: 303, content_type: HTML, body: Vec::new(), headers }
    }

    fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer, with what keeps other pages out of this one.
    pub(super) fn into_answer(self, is_head: bool) -> Response<Vec<u8>> {
        let mut answer = Response::builder()
            .status(self.status)
            .header("Content-Type", self.content_type)
            .header("Content-Length", self.body.len())
            .header("Cache-Control", "no-store")
            .header("Content-Security-Policy", POLICY)
            // Not `no-referrer`: under that a browser calls the origin of this page's own forms `null`.
            .header("Referrer-Policy", "same-origin")
            .header("X-Content-Type-Options", "nosniff")
            .header("X-Frame-Options", "DENY")
            .header("Cross-Origin-Opener-Policy", "same-origin")
            .header("Cross-Origin-Resource-Policy", "same-origin")
            .header("Permissions-Policy", "camera=(), geolocation=(), microphone=()");
        for (name, value) in self.headers {
            answer = answer.header(name, value);
        }
        answer
            .body(if is_head { Vec::new() } else { self.body })
            .unwrap_or_else(|_| Response::new(Vec::new()))
    }
}

/// Whether a path is one of the page's.
pub(super) fn is_here(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|rest| rest.split('/').next());
    path == "/"
        || matches!(
            first,
            Some(
                "connections"
                    | "quota"
                    | "requests"
                    | "webhooks"
                    | "pauses"
                    | "configuration"
                    | "support"
                    | "page"
                    | "sign-in"
                    | "sign-out"
            )
        ) && path != "/page"
}

/// Answers; `path` is one for which [`is_here`] holds.
pub(super) async fn answer(
    door: &AdminDoor,
    method: &Method,
    (path, query): (&str, Option<&str>),
    body: &Result<Vec<u8>, ()>,
    headers: &HeaderMap,
) -> Served {
    if let Some(asset) = asset(path) {
        return match method {
            &Method::GET | &Method::HEAD => asset,
            _ => only("GET, HEAD"),
        };
    }
    let (page, steady) = (&door.page, door.engine.quota.now());
    let visit = session_of(headers).and_then(|name| page.sessions.visit(name, path != LIVE, steady));
    let who = match (&door.token, visit) {
        (None, _) => Who::Reader,
        (Some(_), Some(visit)) => Who::Operator(visit),
        (Some(_), None) => Who::Stranger,
    };
    let is_post = method == Method::POST;
    let fields = match (is_post, body) {
        (false, _) => Fields::of(query.unwrap_or_default()),
        (true, Ok(form)) => Fields::of(&String::from_utf8_lossy(form)),
        (true, Err(())) => Fields::default(),
    };
    let ask = Ask { engine: &door.engine, page, who, path, fields, now: unix_now() };
    if !is_post && !matches!(*method, Method::GET | Method::HEAD) {
        return only("GET, HEAD, POST");
    }
    if is_post && body.is_err() {
        return refuse(&ask, 413, "The form is too large, or did not come in time", "Go back and try again.");
    }
    if is_post && !is_our_own(headers) {
        return refuse(
            &ask,
            403,
            "That form is not from this page",
            "Only forms of this very door, under the name in the address bar, do anything here. Open the page anew and use its own form.",
        );
    }
    match (path, is_post) {
        ("/sign-in", false) => sign_in::show(&ask),
        ("/sign-in", true) => sign_in::try_token(door, &ask, headers),
        _ if !ask.who.is_inside() => {
            let whole = query.filter(|_| !is_post).map_or(path.to_owned(), |query| format!("{path}?{query}"));
            Served::see(&format!("/sign-in?next={}", encoded(&whole)))
        }
        ("/sign-out", true) => sign_in::leave(&ask, headers),
        ("/sign-out", false) => Served::see("/"),
        _ => match Act::of(path, &ask.fields) {
            Some(act) => act::answer(&ask, &act, is_post).await,
            None if is_post => only("GET, HEAD"),
            None => view(&ask, method == Method::HEAD).await,
        },
    }
}

/// What can only be looked at.
async fn view(ask: &Ask<'_>, is_head: bool) -> Served {
    let view = match ask.path {
        "/" => overview::view(ask).await,
        "/connections" => connections::view(ask).await,
        "/quota" => quota::view(ask),
        LIVE => return Served::html(200, quota::now(ask)),
        "/webhooks" => webhooks::view(ask).await,
        "/pauses" => pauses::view(ask),
        "/configuration" => configuration::view(ask),
        "/requests" => requests::view(ask).await,
        path => match one_of(ask, path).await {
            Some(view) => view,
            None => {
                let advice = "It was never here, or is gone by now. The navigation leads to all there is.";
                return refuse(ask, 404, "There is no such page", advice);
            }
        },
    };
    let told = match &ask.who {
        Who::Operator(visit) if !is_head => ask.page.sessions.take_told(visit),
        _ => None,
    };
    Served::html(200, frame(ask, &view, told.as_ref()))
}

/// The view of one thing; `None` when it is not there.
async fn one_of(ask: &Ask<'_>, path: &str) -> Option<View> {
    if let Some(id) = requests::id_of(path) {
        return requests::one(ask, &id).await;
    }
    if let Some(id) = support::id_of(path) {
        return support::view(ask, &id).await;
    }
    connection::view(ask, &connection::id_of(path)?).await
}

/// A page that says no, and what to do.
fn refuse(ask: &Ask<'_>, status: u16, title: &str, advice: &str) -> Served {
    let body = html! { p { (advice) } p { a href="/" { "Back to the overview" } } };
    Served::html(status, frame(ask, &View::new(title, body), None))
}

fn only(allowed: &'static str) -> Served {
    let body = format!("only {allowed}\n").into_bytes();
    let headers = vec![("Allow", allowed.to_owned())];
    Served { status: 405, content_type: "text/plain; charset=utf-8", body, headers }
}

fn asset(path: &str) -> Option<Served> {
    let (content_type, text) = match path {
        "/page/style.css" => ("text/css; charset=utf-8", STYLE),
        "/page/page.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "/page/icon.svg" => ("image/svg+xml", ICON),
        _ => return None,
    };
    Some(Served { status: 200, content_type, body: text.as_bytes().to_vec(), headers: Vec::new() })
}

/// Waits for the store, but not for long: a view without one part is better than none.
async fn in_time<T, E: std::fmt::Display>(answer: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(VIEW_MAX, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store did not answer within 5 s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_are_its_own_and_the_apis_are_not() {
        for path in
            ["/", "/connections", "/connections/c1/disconnect", "/page/style.css", "/sign-in", "/requests"]
        {
            assert!(is_here(path), "{path}");
        }
        for path in [
            "",
            "/api/connections",
            "/metrics",
            "/livez",
            "/readyz",
            "/connectionsx",
            "/page",
            "//connections",
        ] {
            assert!(!is_here(path), "{path}");
        }
    }

    #[test]
    fn nothing_of_the_page_comes_from_elsewhere_or_stands_in_line() {
        for text in [STYLE, SCRIPT, ICON] {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("@import"));
            assert!(!text.contains("eval(") && !text.contains("innerHTML"));
        }
        assert!(!POLICY.contains("unsafe"));
    }
}

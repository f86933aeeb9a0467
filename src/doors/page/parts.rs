//! What all views are made of: the frame, tables, times, badges, notices. Text becomes markup only through `maud`, which
//! escapes it; nothing here writes markup by hand.

use super::form::encoded;
use super::{Ask, Told, Who};
use crate::types::UnixMillis;
use crate::vault::Status;
use maud::{DOCTYPE, Markup, html};
use std::fmt::Display;
use std::time::Duration;

/// The views, as the navigation lists them.
const VIEWS: [(&str, &str); 7] = [
    ("/", "Overview"),
    ("/connections", "Connections"),
    ("/quota", "Quota"),
    ("/requests", "Requests"),
    ("/webhooks", "Webhooks"),
    ("/pauses", "Pauses"),
    ("/configuration", "Configuration"),
];

/// A view on its way into the frame.
#[derive(Debug)]
pub(super) struct View {
    /// The only `h1`, and the window's title.
    pub(super) title: String,
    /// Everything below it.
    pub(super) body: Markup,
}

impl View {
    /// A view of this name.
    pub(super) fn new(title: impl Into<String>, body: Markup) -> Self {
        Self { title: title.into(), body }
    }
}

/// The whole page around a view. `told` is what the deed before it has left to say.
pub(super) fn frame(ask: &Ask<'_>, view: &View, told: Option<&Told>) -> Markup {
    let environment = ask.engine.settings.now().environment.as_str();
    let is_current = |path: &str| match path {
        "/" => ask.path == "/",
        path => ask.path == path || ask.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (view.title) " · perch" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="/page/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/page/style.css";
                script src="/page/page.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    p.brand {
                        a href="/" { "perch" }
                        span.env data-env=(environment) { (environment) }
                    }
                    @if ask.who.is_inside() {
                        nav aria-label="Views" {
                            ul {
                                @for (path, name) in VIEWS {
                                    li {
                                        a href=(path) aria-current=[is_current(path).then_some("page")] { (name) }
                                    }
                                }
                            }
                        }
                    }
                    @if let Who::Operator(visit) = &ask.who {
                        form.sign-out method="post" action="/sign-out" {
                            input type="hidden" name="seal" value=(visit.seal_of("/sign-out"));
                            button.quiet type="submit" { "Sign out" }
                        }
                    }
                }
                main #main tabindex="-1" {
                    h1 { (view.title) }
                    @if let Some(told) = told { (told_part(told)) }
                    @if matches!(ask.who, Who::Reader) && ask.path == "/" {
                        p.notice {
                            strong { "Read only. " }
                            "Without an admin token anybody who reaches this door may look, so nothing can be done from here. Set "
                            code { "admin.token" } " to act from this page, or use the " code { "perch" } " command."
                        }
                    }
                    (view.body)
                }
                footer {
                    "perch " (env!("CARGO_PKG_VERSION")) " · as of " (instant(ask.now))
                }
            }
        }
    }
}

fn told_part(told: &Told) -> Markup {
    let role = if told.is_error { "alert" } else { "status" };
    html! {
        div.notice.bad[told.is_error].good[!told.is_error] role=(role) {
            p { strong { (if told.is_error { "Not done. " } else { "Done. " }) } (told.text) }
            @if let Some(link) = &told.link {
                div.copy {
                    label for="link" { "Link for the customer" }
                    div.row {
                        input #link type="text" readonly value=(link);
                        button type="button" data-copy="link" hidden { "Copy" }
                    }
                    p.hint { "It is shown once. Send it to the customer, who signs in again at the employment system." }
                }
            }
        }
    }
}

/// The most columns that fit a phone as they are.
const SLIM_MAX: usize = 3;

/// A table that scrolls on a desk; on a phone each row of a wide one becomes a card. A head that begins with `#` is a column of numbers; the
/// first cell of a row names it.
pub(super) fn table(caption: &str, heads: &[&str], rows: &[Vec<Markup>]) -> Markup {
    let is_number = |head: &str| head.starts_with('#');
    let name = |head: &'_ str| head.trim_start_matches('#').to_owned();
    html! {
        div.table.cards[heads.len() > SLIM_MAX] role="region" aria-label=(caption) tabindex="0" {
            table role="table" {
                caption { (caption) }
                thead role="rowgroup" {
                    tr role="row" {
                        @for head in heads {
                            th role="columnheader" scope="col" .num[is_number(head)] { (name(head)) }
                        }
                    }
                }
                tbody role="rowgroup" {
                    @for row in rows {
                        tr role="row" {
                            @for (nth, (cell, head)) in row.iter().zip(heads).enumerate() {
                                @if nth == 0 {
                                    th role="rowheader" scope="row" data-label=(name(head)) { div.cell { (cell) } }
                                } @else {
                                    td role="cell" data-label=(name(head)) .num[is_number(head)] { div.cell { (cell) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Names and what they are.
pub(super) fn facts(all: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in all {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// What is said where there is nothing to list: also what to do about it.
pub(super) fn empty(text: &str) -> Markup {
    html! { p.empty { (text) } }
}

/// What could not be shown, in its place.
pub(super) fn problem(what: &str, why: &dyn Display) -> Markup {
    html! {
        p.notice.bad role="alert" { strong { (what) " cannot be shown: " } (why) ". Reload to try again; the log has more." }
    }
}

/// Something that may be missing.
pub(super) fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> Markup) -> Markup {
    match value {
        Some(value) => show(value),
        None => html! { span.none { "–" } },
    }
}

/// An id, as it is copied and pasted.
pub(super) fn id(text: impl Display) -> Markup {
    html! { code.id { (text) } }
}

/// The page of a connection.
pub(super) fn connection_path(id: &str) -> String {
    format!("/connections/{}", encoded(id))
}

/// A connection's id, as a link to it.
pub(super) fn connection(id: &str) -> Markup {
    html! { a.id href=(connection_path(id)) { (id) } }
}

/// A customer, as a link to its connections.
pub(super) fn customer(id: &str) -> Markup {
    html! { a href={ "/connections?q=" (encoded(id)) } { (id) } }
}

/// A mark that says the same by shape, colour and word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Somebody should look.
    Warn,
    /// It does not work.
    Bad,
    /// Neither.
    Plain,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Warn => "warn",
            Tone::Bad => "bad",
            Tone::Plain => "plain",
        }
    }

    const fn shape(self) -> &'static str {
        match self {
            Tone::Good => "●",
            Tone::Warn => "▲",
            Tone::Bad => "■",
            Tone::Plain => "○",
        }
    }
}

/// A word in a tone.
pub(super) fn badge(tone: Tone, word: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { span.shape aria-hidden="true" { (tone.shape()) } " " (word) } }
}

/// Where a connection is in its life.
pub(super) fn status(status: Status) -> Markup {
    let tone = match status {
        Status::Active => Tone::Good,
        Status::NeedsReauth | Status::Disconnecting => Tone::Warn,
        Status::Held => Tone::Bad,
        Status::Disconnected => Tone::Plain,
    };
    badge(tone, &status.as_str().replace('_', " "))
}

/// A class of errors, or `ok`.
pub(super) fn class(word: &str) -> Markup {
    let tone = match word {
        "ok" => Tone::Good,
        "partial" | "not_ready" | "rate_limited" | "reauthentication_required" | "account_setup_required" => {
            Tone::Warn
        }
        "disconnected" | "abandoned" | "invalid_request" | "not_supported" | "unknown_customer"
        | "caller_refused" | "permission_denied" => Tone::Plain,
        _ => Tone::Bad,
    };
    badge(tone, &word.replace('_', " "))
}

/// A time, as it stands to now; the whole of it is on the element, in UTC.
pub(super) fn ago(at: UnixMillis, now: UnixMillis) -> Markup {
    let whole = at.to_string();
    html! { time datetime=(whole) title=(whole) { (relative(at, now)) } }
}

/// A time in full, in UTC.
pub(super) fn instant(at: UnixMillis) -> Markup {
    let whole = at.to_string();
    let (date, rest) = whole.split_once('T').unwrap_or((&whole, ""));
    let time = rest.split('.').next().unwrap_or_default();
    html! { time datetime=(whole) { (date) " " (time) " UTC" } }
}

/// Both.
pub(super) fn ago_in_full(at: UnixMillis, now: UnixMillis) -> Markup {
    html! { (relative(at, now)) " " span.hint { (instant(at)) } }
}

fn relative(at: UnixMillis, now: UnixMillis) -> String {
    let apart = Duration::from_millis(now.0.abs_diff(at.0));
    if apart < Duration::from_secs(1) {
        return "now".to_owned();
    }
    let span = span(apart);
    if at > now { format!("in {span}") } else { format!("{span} ago") }
}

/// A span in its largest unit.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A number with its thousands apart.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A bar of how much of something is used, for eyes; beside it stands the number.
pub(super) fn meter(label: &str, used: u64, limit: u64) -> Markup {
    let (most, high) = (limit.max(1), limit.saturating_mul(4) / 5);
    html! {
        meter min="0" max=(most) value=(used.min(most)) low=(high) high=(most) optimum="0" aria-label=(label) {}
    }
}

/// One field of a form with its label.
pub(super) fn field(name: &str, label: &str, value: &str, hint: Option<&str>) -> Markup {
    let hint_id = hint.map(|_| format!("{name}-hint"));
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) name=(name) value=(value) autocomplete="off" autocapitalize="off" spellcheck="false"
                maxlength="255" aria-describedby=[hint_id.as_deref()];
            @if let (Some(hint), Some(id)) = (hint, &hint_id) { span.hint id=(id) { (hint) } }
        }
    }
}

/// One of several.
pub(super) fn choice(name: &str, label: &str, value: &str, any: &str, options: &[(&str, &str)]) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @if !any.is_empty() { option value="" { (any) } }
                @for (word, shown) in options {
                    option value=(word) selected[*word == value] { (shown) }
                }
            }
        }
    }
}

/// A link that leaves this page, if it is one a browser may follow: Finch's words are not trusted to be.
pub(super) fn is_link(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_wrote_is_text_wherever_it_stands() {
        let hostile = "\"><script>alert(1)</script>'&";
        let all = [
            id(hostile),
            connection(hostile),
            customer(hostile),
            badge(Tone::Bad, hostile),
            class(hostile),
            table(hostile, &[hostile], &[vec![id(hostile)]]),
            facts(&[(hostile, id(hostile))]),
            problem(hostile, &hostile),
            field("f", hostile, hostile, Some(hostile)),
            choice("c", hostile, "", hostile, &[(hostile, hostile)]),
            meter(hostile, 1, 2),
        ];
        for markup in all {
            let text = markup.into_string();
            assert!(!text.contains("<script") && !text.contains("\"><"), "{text}");
        }
    }

    #[test]
    fn times_and_numbers_are_said_as_people_say_them() {
        let now = UnixMillis(1_000_000_000);
        for (at, said) in [
            (now.0, "now"),
            (now.0 - 90_000, "90 s ago"),
            (now.0 - 150_000, "2 min ago"),
            (now.0 + 10_000, "in 10 s"),
            (now.0 - 3 * 3_600_000, "3 h ago"),
            (now.0 - 3 * 86_400_000, "3 days ago"),
        ] {
            assert_eq!(relative(UnixMillis(at), now), said);
        }
        assert_eq!(instant(UnixMillis(0)).into_string().matches("1970-01-01 00:00:00 UTC").count(), 1);
        for (n, text) in
            [(0, "0"), (999, "999"), (1000, "1\u{202f}000"), (1_234_567, "1\u{202f}234\u{202f}567")]
        {
            assert_eq!(number(n), text);
        }
        assert!(is_link("https://x") && !is_link("javascript:alert(1)") && !is_link("data:text/html,x"));
    }
}

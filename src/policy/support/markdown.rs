//! A bundle as Markdown. Every text that is not perch's own stands in a code span, where nothing of it is read as Markdown
//! or HTML; what could end the span, the line or the cell is taken out.

use super::{Bundle, Call, Facts, ForFinch};
use crate::types::UnixMillis;
use std::fmt::Write as _;

/// The longest text shown.
const SHOWN_CHARS_MAX: usize = 255;

/// The whole bundle.
pub(super) fn of(bundle: &Bundle) -> String {
    let mut out = String::from("# Support bundle\n\n## For Finch's support\n\n");
    for_finch(&mut out, &bundle.for_finch);
    out.push_str("---\n\n## For us\n\nNot for Finch: from here on there are names of our own.\n\n");
    for_us(&mut out, &bundle.for_us);
    out
}

fn for_finch(out: &mut String, part: &ForFinch) {
    line(
        out,
        format_args!("Application {} ({}). Times are UTC.", code(&part.application), code(&part.environment)),
    );
    if !part.connections.is_empty() {
        out.push_str("### Connections\n\n");
        table(out, &["connection_id", "company_id", "provider", "products", "status", "as of"]);
        for it in &part.connections {
            row(
                out,
                &[
                    code(&it.connection_id),
                    some(it.company_id.as_deref()),
                    some(it.provider.as_deref()),
                    some(Some(&it.products.join(" "))),
                    some(it.status.as_deref()),
                    time(it.status_at),
                ],
            );
        }
        out.push('\n');
    }
    out.push_str("### Requests\n\n");
    if part.requests.is_empty() {
        out.push_str("None of the calls below was sent to Finch.\n\n");
        return;
    }
    table(
        out,
        &[
            "time",
            "endpoint",
            "status",
            "finch_code",
            "Finch-Request-ID",
            "took",
            "connection_id",
            "company_id",
        ],
    );
    for it in &part.requests {
        let status = match (it.status, &it.failed) {
            (Some(status), _) => status.to_string(),
            (None, Some(why)) => format!("no answer: {}", code(why)),
            (None, None) => "no answer".to_owned(),
        };
        row(
            out,
            &[
                it.at.to_string(),
                code(&it.endpoint),
                status,
                some(it.finch_code.as_deref()),
                some(it.finch_request_id.as_deref()),
                format!("{} ms", it.took_ms),
                some(it.connection_id.as_deref()),
                some(it.company_id.as_deref()),
            ],
        );
    }
    out.push('\n');
}

fn for_us(out: &mut String, facts: &Facts) {
    let (about, id) = (facts.about.as_str(), code(&facts.id));
    line(out, format_args!("About {about} {id}, made {} by perch {}.", facts.made_at, facts.perch));
    out.push_str("### Connections\n\n");
    connections(out, facts);
    out.push_str("### Calls, newest first\n\n");
    match (&facts.without_calls, facts.calls.is_empty()) {
        (Some(why), _) => line(out, format_args!("Not known: {}.", code(why))),
        (None, true) => out.push_str("None are kept.\n\n"),
        (None, false) => {}
    }
    facts.calls.iter().for_each(|it| call(out, it));
    if facts.has_more_calls {
        out.push_str("There are older ones; `perch requests` shows them.\n\n");
    }
    events(out, facts);
    limiter(out, facts);
    out.push_str("### Configuration\n\n");
    table(out, &["setting", "value"]);
    for (key, value) in &facts.settings {
        row(out, &[code(key), some(Some(value))]);
    }
}

fn connections(out: &mut String, facts: &Facts) {
    if facts.connections.is_empty() {
        out.push_str("None is known.\n\n");
        return;
    }
    table(
        out,
        &[
            "connection",
            "customer",
            "provider",
            "status",
            "Finch says",
            "as of",
            "asked at",
            "stored",
            "changed",
            "last used",
            "notes",
        ],
    );
    for it in &facts.connections {
        row(
            out,
            &[
                code(&it.connection_id),
                some(it.customer.as_deref()),
                some(it.provider.as_deref()),
                code(&it.status),
                some(it.finch_says.as_deref()),
                time(it.said_at),
                time(it.asked_at),
                it.created_at.to_string(),
                it.updated_at.to_string(),
                time(it.last_used_at),
                it.notes.iter().map(|note| code(note)).collect::<Vec<_>>().join(" "),
            ],
        );
    }
    out.push('\n');
    if facts.has_more_connections {
        out.push_str(
            "There are more, which changed longer ago; what was done to them and told of them is not looked for. \
             `perch connections list` shows them.\n\n",
        );
    }
}

fn call(out: &mut String, it: &Call) {
    let title = format!("{} {}", it.method, it.path);
    line(out, format_args!("#### {} {}: {} {}", it.ts, code(&title), it.status, code(&it.class)));
    let facts = [
        ("perch's id", Some(it.request_id.as_str())),
        ("app", it.app.as_deref()),
        ("customer", it.customer.as_deref()),
        ("connection", it.connection_id.as_deref()),
        ("refused with", it.refusal.as_deref()),
        ("Finch's code", it.finch_code.as_deref()),
        ("answer by", it.cache.as_deref()),
        ("outcome of", it.resend_of.as_deref()),
        ("carried by", it.carried_by.as_deref()),
    ];
    for (name, value) in facts.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let _ = writeln!(out, "- {name} {}", code(value));
    }
    for id in &it.finch_request_id {
        let _ = writeln!(out, "- Finch-Request-ID {}", code(id));
    }
    let _ = writeln!(
        out,
        "- requests sent: {}; {} ms for quota, {} ms at Finch, {} ms in all{}\n",
        it.attempts,
        it.wait_ms,
        it.finch_ms,
        it.total_ms,
        if it.client_gone { "; its client had left" } else { "" }
    );
    if !it.steps.is_empty() {
        table(out, &["at", "took", "what", "details"]);
        for step in &it.steps {
            let (at, took) = (format!("+{} ms", step.at_ms), format!("{} ms", step.lasted_ms));
            row(out, &[at, took, code(&step.what), some(Some(&step.details))]);
        }
        out.push('\n');
    }
}

fn events(out: &mut String, facts: &Facts) {
    out.push_str("### Done to the connections lately\n\n");
    match facts.deeds.is_empty() {
        true => out.push_str("Nothing.\n\n"),
        false => {
            table(out, &["time", "connection", "what", "who"]);
            for it in &facts.deeds {
                row(out, &[it.at.to_string(), code(&it.connection_id), code(&it.action), code(&it.actor)]);
            }
            out.push('\n');
        }
    }
    out.push_str("### Told by webhook lately\n\n");
    match facts.webhooks.is_empty() {
        true => out.push_str("Nothing.\n\n"),
        false => {
            table(out, &["time", "event", "type", "connection", "state", "not taken because"]);
            for it in &facts.webhooks {
                let failure = some(it.failure.as_deref());
                let (event, kind) = (code(&it.event_id), code(&it.event_type));
                row(
                    out,
                    &[
                        it.received_at.to_string(),
                        event,
                        kind,
                        code(&it.connection_id),
                        code(&it.state),
                        failure,
                    ],
                );
            }
            out.push('\n');
        }
    }
}

fn limiter(out: &mut String, facts: &Facts) {
    out.push_str("### Limits now\n\n");
    let Some(limiter) = &facts.limiter else {
        out.push_str("Not known: no gateway was asked.\n\n");
        return;
    };
    line(out, format_args!("Counted in {}.", code(&limiter.mode)));
    table(out, &["limit", "used", "of", "waiting"]);
    for it in &limiter.standings {
        row(out, &[code(&it.of), it.used.to_string(), it.limit.to_string(), it.waiting.to_string()]);
    }
    out.push('\n');
    if !limiter.holds.is_empty() {
        table(out, &["held", "of", "answered with", "until"]);
        for it in &limiter.holds {
            row(out, &[code(&it.scope), some(it.of.as_deref()), code(&it.class), time(it.until)]);
        }
        out.push('\n');
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}\n");
}

fn table(out: &mut String, headings: &[&str]) {
    let _ = writeln!(out, "| {} |\n|{}", headings.join(" | "), "---|".repeat(headings.len()));
}

fn row(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn some(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).map(code).unwrap_or_default()
}

fn time(at: Option<UnixMillis>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// A text from outside, as a code span. A grave accent could end it and a bar a cell, so others that look alike take their
/// places; what cannot be seen does, too.
fn code(text: &str) -> String {
    let plain = |c: char| match c {
        '`' => '\u{2cb}',
        '|' => '\u{a6}',
        c if c.is_control() || is_unseen(c) => '\u{fffd}',
        c => c,
    };
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(plain).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    // A span of blanks alone is none.
    match shown.trim().is_empty() {
        true => String::new(),
        false => format!("`{shown}`"),
    }
}

/// Whether a character has no shape, or changes the direction of others.
const fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_its_code_span_its_cell_or_its_line() {
        for (text, shown) in [
            ("f-1", "`f-1`"),
            ("a`b``c", "`a\u{2cb}b\u{2cb}\u{2cb}c`"),
            ("a|b", "`a\u{a6}b`"),
            ("a\n\n# b", "`a\u{fffd}\u{fffd}# b`"),
            ("<img src=x onerror=1>", "`<img src=x onerror=1>`"),
            ("a\u{202e}b", "`a\u{fffd}b`"),
            ("  ", ""),
            ("", ""),
        ] {
            assert_eq!(code(text), shown, "{text:?}");
        }
        assert_eq!(code(&"é".repeat(300)).chars().count(), SHOWN_CHARS_MAX + 3);
    }
}

//! What an operator wants of Finch for a connection: to know how it is, a link that renews its login, its end.

use super::gateway::AdminClient;
use crate::cli::exit::Failure;
use crate::cli::output::Format;
use crate::types::ConnectionId;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

/// How many connections are asked for at once.
const PAGE: usize = 1000;

/// The path of a connection at the admin door.
fn path(id: &str, errand: &str) -> String {
    format!("/api/connections/{}/{errand}", encoded(id))
}

/// An id as it may stand in a path or a query.
fn encoded(id: &str) -> String {
    let mut text = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte))
            }
            // A `String` takes everything.
            byte => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

fn print(value: &Value, text: &str, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Text => writeln!(out, "{text}")?,
        Format::Json => writeln!(out, "{value}")?,
    }
    Ok(())
}

fn told(facts: &Value) -> String {
    let word = |name: &str| facts[name].as_str().unwrap_or("-").to_owned();
    let note = facts["note"].as_str().map(|note| format!("; note: {note}")).unwrap_or_default();
    format!("{}  {}  Finch says {}{note}", word("connection_id"), word("status"), word("account_status"))
}

/// Asks Finch about one connection and keeps what it says.
pub(super) async fn introspect(
    gateway: &AdminClient,
    id: &ConnectionId,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let facts = gateway.ask("POST", &path(id.as_str(), "introspect"), "").await?;
    print(&facts, &told(&facts), format, out)
}

/// The same for every connection that is in use, one after the other.
pub(super) async fn introspect_all(
    gateway: &AdminClient,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let is_in_use = |facts: &Value| matches!(facts["status"].as_str(), Some("active" | "needs_reauth"));
    let (mut all, mut next) = (Vec::new(), format!("/api/connections?limit={PAGE}"));
    loop {
        let page = gateway.ask("GET", &next, "").await?;
        let page = page.as_array().cloned().unwrap_or_default();
        // A page may be shorter because one of its rows is damaged; only an empty one is the end.
        let Some(last) = page.last().and_then(|facts| facts["connection_id"].as_str()) else { break };
        next = format!("/api/connections?limit={PAGE}&after={}", encoded(last));
        all.extend(page.into_iter().filter(is_in_use));
    }
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(all.len() as u64).with_message("asking Finch"),
        false => ProgressBar::hidden(),
    };
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for facts in &all {
        let id = facts["connection_id"].as_str().unwrap_or_default();
        match gateway.ask("POST", &path(id, "introspect"), "").await {
            Ok(facts) => done.push(facts),
            Err(failure) => failed.push((id.to_owned(), failure)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    match format {
        Format::Text => {
            for facts in &done {
                writeln!(out, "{}", told(facts))?;
            }
            writeln!(out, "asked about {} connections; {} failed", all.len(), failed.len())?;
        }
        Format::Json => {
            let why =
                |(id, failure): &(String, Failure)| json!({ "connection_id": id, "why": failure.message });
            let failed: Vec<Value> = failed.iter().map(why).collect();
            writeln!(out, "{}", json!({ "connections": done, "failed": failed }))?;
        }
    }
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let each: Vec<String> = failed.iter().map(|(id, failure)| format!("{id}: {failure}")).collect();
    Err(Failure { exit: first.exit, message: each.join("\n") })
}

/// Prints a link through which the customer renews the login.
pub(super) async fn reauth_link(
    gateway: &AdminClient,
    id: &ConnectionId,
    redirect_uri: Option<&str>,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let wanted = redirect_uri.map(|uri| json!({ "redirect_uri": uri }).to_string()).unwrap_or_default();
    let link = gateway.ask("POST", &path(id.as_str(), "reauth-link"), &wanted).await?;
    print(&link, link["reauth_url"].as_str().unwrap_or_default(), format, out)
}

/// Ends a connection.
pub(super) async fn disconnect(
    gateway: &AdminClient,
    id: &ConnectionId,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let facts = gateway.ask("POST", &path(id.as_str(), "disconnect"), "").await?;
    let text = format!("connection {id} is {}", facts["status"].as_str().unwrap_or("disconnected"));
    print(&facts, &text, format, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_any_kind_stands_in_a_path() {
        assert_eq!(path("c-1", "introspect"), "/api/connections/c-1/introspect");
        assert_eq!(path("a/b ä", "disconnect"), "/api/connections/a%2Fb%20%C3%A4/disconnect");
    }
}

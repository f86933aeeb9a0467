//! How apps are shown.

use crate::cli::exit::Failure;
use crate::cli::output::Format;
use crate::cli::table;
use crate::policy::apps::Among;
use crate::types::{AppKey, AppName};
use crate::vault::AppFacts;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;

/// The app that was added, with its key where it is not in a file. As a text the key stands alone.
pub(super) fn added(
    facts: &AppFacts,
    key: Option<&AppKey>,
    key_file: Option<&Path>,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match format {
        Format::Text => match (key, key_file) {
            (Some(key), _) => writeln!(out, "{}", key.expose())?,
            (None, Some(path)) => writeln!(out, "wrote the key of app {} to {}", facts.name, path.display())?,
            (None, None) => writeln!(out, "app {} is known by {}", facts.name, known_by(facts))?,
        },
        Format::Json => {
            let mut answer = json_of(facts)?;
            if let Some(key) = key {
                answer["key"] = key.expose().into();
            }
            if let Some(path) = key_file {
                answer["key_file"] = path.display().to_string().into();
            }
            writeln!(out, "{answer}")?;
        }
    }
    Ok(())
}

/// A table of all, or a JSON array.
pub(super) fn list(all: &[AppFacts], format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *out, all).map_err(Failure::failed)?;
            writeln!(out)?;
        }
        Format::Text => {
            let headings = ["APP", "KNOWN BY", "CUSTOMERS", "PRODUCTS", "MAY", "CREATED", "STATE"];
            table::print(headings, all.iter().map(row_of), out)?;
            if all.is_empty() {
                writeln!(out, "no apps yet: \"perch apps add NAME\" adds one and prints its key")?;
            }
        }
    }
    Ok(())
}

/// One app: a line for each fact, or a JSON object.
pub(super) fn show(facts: &AppFacts, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json => writeln!(out, "{}", json_of(facts)?)?,
        Format::Text => {
            let policy = &facts.policy;
            let lines = [
                ("app", facts.name.to_string()),
                ("known by", known_by(facts)),
                ("customers", all_of(&policy.customers, usize::MAX)),
                ("connections", all_of(&policy.connections, usize::MAX)),
                ("products", all_of(&policy.products, usize::MAX)),
                ("may", may(facts).to_owned()),
                ("most urgent", policy.priority.as_str().to_owned()),
                ("created", facts.created_at.to_string()),
                ("state", state(facts)),
            ];
            for (name, value) in lines {
                writeln!(out, "{name:14}{value}")?;
            }
        }
    }
    Ok(())
}

/// That an app has ended.
pub(super) fn revoked(name: &AppName, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Text => writeln!(
            out,
            "app {name} is revoked; a running gateway refuses it within two seconds, calls that wait too"
        )?,
        Format::Json => writeln!(out, "{}", serde_json::json!({ "name": name, "state": "revoked" }))?,
    }
    Ok(())
}

fn json_of(facts: &AppFacts) -> Result<serde_json::Value, Failure> {
    serde_json::to_value(facts).map_err(Failure::failed)
}

fn row_of(facts: &AppFacts) -> [String; 7] {
    const SHOWN_MAX: usize = 3;
    [
        facts.name.to_string(),
        known_by(facts),
        all_of(&facts.policy.customers, SHOWN_MAX),
        all_of(&facts.policy.products, SHOWN_MAX),
        may(facts).to_owned(),
        facts.created_at.to_string(),
        state(facts),
    ]
}

/// All by which the app can be known.
fn known_by(facts: &AppFacts) -> String {
    let key = facts.key_id.as_ref().map(|id| format!("key {id}"));
    let certificate = facts.certificate.as_ref().map(|name| format!("certificate {name}"));
    let uid = facts.uid.map(|uid| format!("uid {uid}"));
    let all: Vec<String> = [key, certificate, uid].into_iter().flatten().collect();
    all.join(", ")
}

fn may(facts: &AppFacts) -> &'static str {
    if facts.policy.writes { "read, connect, write" } else { "read, connect" }
}

fn state(facts: &AppFacts) -> String {
    facts.revoked_at.map_or_else(|| "good".to_owned(), |at| format!("revoked {at}"))
}

/// The entries of a list, or as many as fit and how many more there are.
fn all_of(among: &Among<impl Display>, most: usize) -> String {
    match among {
        Among::All => "all".to_owned(),
        Among::Only(list) => {
            let mut shown: Vec<String> = list.iter().take(most).map(ToString::to_string).collect();
            if list.len() > most {
                shown.push(format!("{} more", list.len() - most));
            }
            shown.join(", ")
        }
    }
}

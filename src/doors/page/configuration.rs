//! The configuration in force: every setting as it was written, and by whom. Secrets are references, as they are in the
//! file.

use super::Ask;
use super::parts::{Tone, View, ago_in_full, badge, facts, or_dash, table};
use crate::engine::Reading;
use crate::telemetry::metrics::Reloaded;
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;

/// The view.
pub(super) fn view(ask: &Ask<'_>) -> View {
    let shown = ask.engine.written.shown(ask.engine.quota.counts_alone());
    let only_set = ask.fields.get("show") != "all";
    let mut sections: BTreeMap<&str, Vec<(&str, &Value)>> = BTreeMap::new();
    for (key, setting) in &shown.settings {
        if only_set && setting["from"] == "default" {
            continue;
        }
        let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
        sections.entry(section).or_default().push((name, setting));
    }
    let body = html! {
        section.card aria-labelledby="reading" {
            h2 #reading { "Reading" }
            (facts(&[
                ("In force since", ago_in_full(shown.read_at, ask.now)),
                ("Last read anew", or_dash(shown.last_reload.as_ref(), |reading| reread(ask, reading))),
            ]))
            @if let Some(reading) = shown.last_reload.as_ref().filter(|reading| !reading.why.is_empty()) {
                ul { @for why in &reading.why { li { (why) } } }
            }
            p.hint { "Secrets are shown as what they are in a configuration: references. The manual of every key: " code { "perch config --defaults" } "." }
        }
        p.buttons {
            @if only_set {
                a.button.quiet href="/configuration?show=all" { "Show defaults too" }
            } @else {
                a.button.quiet href="/configuration" { "Show only what was written" }
            }
        }
        @for (section, settings) in &sections {
            section.card.settings {
                h2 { code { "[" (section) "]" } }
                (list(section, settings))
            }
        }
    };
    View::new("Configuration", body)
}

fn reread(ask: &Ask<'_>, reading: &Reading) -> Markup {
    let word = match reading.outcome {
        Reloaded::Changed => badge(Tone::Good, "changed"),
        Reloaded::Unchanged => badge(Tone::Plain, "unchanged"),
        Reloaded::Refused => badge(Tone::Bad, "refused"),
    };
    html! {
        (word) " " (ago_in_full(reading.at, ask.now))
        @if !reading.changed.is_empty() { " " span.hint { (reading.changed.join(", ")) } }
    }
}

fn list(section: &str, settings: &[(&str, &Value)]) -> Markup {
    let rows: Vec<Vec<Markup>> = settings
        .iter()
        .map(|(name, setting)| {
            vec![
                html! { code { (name) } },
                html! { code { (written(&setting["value"])) } @if setting["set"] == true { " " span.hint { "(set)" } } },
                html! { (from(setting)) },
                html! { (if setting["live"] == true { "while perch runs" } else { "at a restart" }) },
            ]
        })
        .collect();
    table(&format!("Settings of {section}"), &["Key", "Value", "From", "Can change"], &rows)
}

/// A value as TOML writes it, near enough to be read.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// `default`, the file and its line, or the variable's name.
fn from(setting: &Value) -> String {
    let place = &setting["place"];
    let file = place["file"].as_str();
    match (file, place["line"].as_u64(), place["variable"].as_str()) {
        (Some(file), Some(line), _) => format!("{file}:{line}"),
        (Some(file), None, _) => file.to_owned(),
        (None, _, Some(variable)) => variable.to_owned(),
        (None, ..) => setting["from"].as_str().unwrap_or_default().to_owned(),
    }
}

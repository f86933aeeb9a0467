//! The store's keys, as far as they may be seen.

use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Format;
use crate::cli::table;
use crate::vault::{KeyFacts, Vault};
use serde_json::{Value, json};
use std::io::Write;

/// Prints every key: a table, or a JSON array.
///
/// # Errors
/// [`Failure`] with the exit code.
pub(super) async fn list(vault: &Vault, format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let keys = vault.keys().await?;
    match format {
        Format::Json => {
            let told: Vec<Value> = keys.iter().map(told).collect();
            writeln!(out, "{}", Value::from(told))?;
        }
        Format::Text => {
            let headings = ["KEY", "PURPOSE", "STATE", "ROWS", "WRAPPED BY", "CREATED"];
            table::print(headings, keys.iter().map(row_of), out)?;
        }
    }
    Ok(Exit::Done)
}

fn told(key: &KeyFacts) -> Value {
    json!({
        "key": key.id,
        "purpose": key.purpose.as_str(),
        "state": key.state.as_str(),
        "rows": key.rows,
        "kek": key.kek,
        "kek_fingerprint": key.kek_fingerprint.to_string(),
        "created_at": key.created_at.to_string(),
    })
}

fn row_of(key: &KeyFacts) -> [String; 6] {
    [
        key.id.to_string(),
        key.purpose.as_str().to_owned(),
        key.state.as_str().to_owned(),
        key.rows.to_string(),
        format!("{} {}", key.kek, key.kek_fingerprint),
        key.created_at.to_string(),
    ]
}

//! Looking at connections, and giving one to a customer.

use crate::cli::exit::Failure;
use crate::cli::output::Format;
use crate::cli::table;
use crate::store::audit::Deed;
use crate::types::{ConnectionId, CustomerId, UnixMillis};
use crate::vault::{Connection, Vault};
use std::io::Write;

#[derive(serde::Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    facts: &'a Connection,
    deeds: &'a [Deed],
}

/// Prints every connection: a table, or a JSON array.
///
/// # Errors
/// [`Failure`] with the exit code.
pub async fn list(vault: &Vault, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    let all = vault.list().await?;
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &all).map_err(Failure::failed)?;
            writeln!(out)?;
        }
        Format::Text => {
            let headings = ["CONNECTION", "CUSTOMER", "PROVIDER", "STATUS", "UPDATED", "FINCH SAYS"];
            table::print(headings, all.iter().map(row_of), out)?;
            if all.is_empty() {
                writeln!(
                    out,
                    "no connections yet: they come with a code exchange or \"perch connections import\""
                )?;
            }
        }
    }
    Ok(())
}

/// Prints one connection: a line for each fact, or a JSON object.
///
/// # Errors
/// [`Failure`] with the exit code; also when its token cannot be opened, which is worth knowing.
pub async fn show(
    vault: &Vault,
    id: &ConnectionId,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let entry = vault.connection(id).await?;
    let (facts, deeds) = (&entry.facts, vault.deeds(id).await?);
    match format {
        Format::Json => {
            let shown = Shown { facts, deeds: &deeds };
            serde_json::to_writer(&mut *out, &shown).map_err(Failure::failed)?;
            writeln!(out)?;
        }
        Format::Text => {
            let lines = [
                ("connection", facts.connection_id.to_string()),
                ("customer", or_none(facts.customer_id.as_ref(), "unassigned")),
                ("company", or_none(facts.company_id.as_ref(), "-")),
                ("provider", or_none(facts.provider_id.as_ref(), "-")),
                ("products", facts.products.join(", ")),
                ("entities", facts.entity_ids.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", ")),
                ("environment", facts.client_type.to_string()),
                ("status", facts.status.to_string()),
                ("held because", or_none(facts.held_reason.as_ref(), "")),
                ("finch says", or_none(facts.account_status.as_ref(), "")),
                ("said at", or_none(facts.status_at.as_ref(), "")),
                ("asked at", or_none(facts.introspected_at.as_ref(), "")),
                ("note", or_none(facts.note.as_ref(), "")),
                ("version", facts.version.to_string()),
                ("created", facts.created_at.to_string()),
                ("updated", facts.updated_at.to_string()),
                ("last used", or_none(facts.last_used_at.as_ref(), "not known")),
            ];
            for (name, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
                writeln!(out, "{name:14}{value}")?;
            }
            for (at, deed) in deeds.iter().enumerate() {
                let name = if at == 0 { "lately" } else { "" };
                writeln!(out, "{name:14}{}  {}  by {}", deed.at, deed.action, deed.actor)?;
            }
        }
    }
    Ok(())
}

/// Gives the connection to the customer and says so.
///
/// # Errors
/// [`Failure`] with the exit code.
pub async fn assign(
    vault: &Vault,
    id: &ConnectionId,
    customer: &CustomerId,
    now: UnixMillis,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    vault.assign(id, customer, now).await?;
    match format {
        Format::Json => show(vault, id, format, out).await,
        Format::Text => {
            let status = vault.connection(id).await?.facts.status;
            writeln!(out, "connection {id} belongs to customer {customer} now; its status is {status}")?;
            Ok(())
        }
    }
}

fn row_of(facts: &Connection) -> [String; 6] {
    [
        facts.connection_id.to_string(),
        or_none(facts.customer_id.as_ref(), "(unassigned)"),
        or_none(facts.provider_id.as_ref(), "-"),
        facts.status.to_string(),
        facts.updated_at.to_string(),
        or_none(facts.account_status.as_ref(), "-"),
    ]
}

fn or_none(value: Option<&impl std::fmt::Display>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), ToString::to_string)
}

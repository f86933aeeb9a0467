//! `perch webhooks`: what Finch told, and dead letters offered again.

use super::exit::{Exit, Failure};
use super::output::Format;
use super::{serve, table};
use crate::app;
use crate::config::Environ;
use crate::engine::webhooks::{LIST_MAX, Webhooks};
use crate::store::StoreError;
use crate::store::webhooks::Listed;
use crate::telemetry::clock::unix_now;
use crate::types::{EventId, InvalidId, UnixMillis};
use crate::vault::webhooks::Revived;
use crate::vault::{Actor, Vault};
use std::io::Write;
use std::path::Path;

/// What Finch told.
#[derive(Debug, clap::Args)]
pub struct WebhooksArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WebhooksCommand,
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, global = true, default_value_t = Format::Text)]
    pub output: Format,
}

/// What can be done with webhooks.
#[derive(Debug, clap::Subcommand)]
pub enum WebhooksCommand {
    /// The newest ones that are kept, newest first: a thousand at most
    List {
        /// Only those that the app did not take
        #[arg(long)]
        dead: bool,
    },
    /// Offer dead letters to the app again; a running gateway does it within seconds
    Replay {
        /// Its id at Finch, as `perch webhooks list` shows it
        #[arg(value_parser = event_id, required_unless_present = "all_dead")]
        id: Option<EventId>,
        /// All of them
        #[arg(long, conflicts_with = "id")]
        all_dead: bool,
    },
}

fn event_id(text: &str) -> Result<EventId, InvalidId> {
    EventId::new(text)
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with its exit code.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &WebhooksArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = serve::load(named, env)?;
    let has_app = config.webhooks.deliver.is_some();
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        match &args.command {
            WebhooksCommand::List { dead } => list(&vault, *dead, args.output, out).await,
            WebhooksCommand::Replay { .. } if !has_app => Err(Failure::failed(Webhooks::NOWHERE)),
            WebhooksCommand::Replay { id, .. } => {
                replay(&vault, id.clone(), unix_now(), args.output, out).await
            }
        }
    })
}

async fn list(vault: &Vault, dead: bool, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    let all = vault.list_webhooks(dead, LIST_MAX).await?;
    match format {
        Format::Json => {
            serde_json::to_writer(&mut *out, &all).map_err(Failure::failed)?;
            writeln!(out)?;
        }
        Format::Text if all.is_empty() && dead => writeln!(out, "no dead letters: the app took everything")?,
        Format::Text if all.is_empty() => {
            writeln!(out, "no webhooks yet: they come through listen.webhooks")?;
        }
        Format::Text => {
            let headings = ["EVENT", "TYPE", "STATE", "CONNECTION", "RECEIVED", "ATTEMPTS", "NEXT", "WHY"];
            table::print(headings, all.iter().map(row_of), out)?;
        }
    }
    Ok(())
}

fn row_of(event: &Listed) -> [String; 8] {
    [
        event.event_id.clone(),
        event.event_type.clone(),
        event.state.as_str().to_owned(),
        event.connection_id.clone().unwrap_or_else(|| "-".to_owned()),
        event.received_at.to_string(),
        event.attempts.to_string(),
        event.due_at.as_ref().map_or_else(|| "-".to_owned(), UnixMillis::to_string),
        event.failure.clone().unwrap_or_default(),
    ]
}

async fn replay(
    vault: &Vault,
    id: Option<EventId>,
    now: UnixMillis,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let name = id.clone();
    let count = match (vault.revive_webhooks(id, Actor::Operator, now).await?, name) {
        (Revived::These(count), _) => count,
        (Revived::Unknown, Some(id)) => {
            return Err(Failure::failed(format_args!(
                "no webhook {id} is kept; \"perch webhooks list\" shows those there are"
            )));
        }
        (Revived::NotDead(state), Some(id)) => {
            return Err(Failure::failed(format_args!(
                "webhook {id} is {}, not dead: there is nothing to replay",
                state.as_str()
            )));
        }
        (Revived::Unknown | Revived::NotDead(_), None) => 0,
    };
    match format {
        Format::Json => writeln!(out, "{}", serde_json::json!({ "replayed": count }))?,
        Format::Text if count == 0 => writeln!(out, "no dead letters: the app took everything")?,
        Format::Text => writeln!(out, "{count} will be offered to the app again")?,
    }
    Ok(())
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { exit: Exit::Unavailable, message: error.to_string() }
    }
}

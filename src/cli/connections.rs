//! `perch connections`: what the vault holds, seen and changed by an operator.
//!
//! No command prints a token, and none takes one from the command line or the environment, where
//! others of the machine could read it: an import reads standard input or a file.

mod import;
mod show;
mod verify;

pub use import::{
    IMPORT_BYTES_MAX, ImportLine, Introspected, LINE_BYTES_MAX, LINES_MAX, import_unverified, import_verified,
};
pub use show::{assign, list, show};

use super::exit::Failure;
use super::output::Format;
use super::serve;
use crate::app;
use crate::config::Environ;
use crate::telemetry::clock::unix_now;
use crate::types::{ConnectionId, CustomerId, InvalidId};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use verify::Verifier;

/// The vault's connections.
#[derive(Debug, clap::Args)]
pub struct ConnectionsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConnectionsCommand,
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, global = true, default_value_t = Format::Text)]
    pub output: Format,
}

/// What can be done with connections.
#[derive(Debug, clap::Subcommand)]
pub enum ConnectionsCommand {
    /// Store tokens from JSON lines: all of them, or none when one is not right
    Import {
        /// The file to read; standard input when left out
        file: Option<PathBuf>,
        /// Do not ask Finch whose tokens these are
        #[arg(long)]
        no_verify: bool,
    },
    /// Every connection, oldest first
    List,
    /// One connection
    Show {
        /// The connection's id
        #[arg(value_parser = connection_id)]
        id: ConnectionId,
    },
    /// Give a connection that is unassigned or held to a customer
    Assign {
        /// The connection's id
        #[arg(value_parser = connection_id)]
        id: ConnectionId,
        /// The customer, by your own id
        #[arg(long, value_parser = customer_id)]
        customer: CustomerId,
    },
}

fn connection_id(text: &str) -> Result<ConnectionId, InvalidId> {
    ConnectionId::new(text)
}

fn customer_id(text: &str) -> Result<CustomerId, InvalidId> {
    CustomerId::new(text)
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with its exit code.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &ConnectionsArgs,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        let format = args.output;
        match &args.command {
            ConnectionsCommand::List => list(&vault, format, out).await,
            ConnectionsCommand::Show { id } => show(&vault, id, format, out).await,
            ConnectionsCommand::Assign { id, customer } => {
                assign(&vault, id, customer, unix_now(), format, out).await
            }
            ConnectionsCommand::Import { file, no_verify } => {
                let source = open(file.as_deref())?;
                if *no_verify {
                    return import_unverified(&vault, source, unix_now(), format, out).await;
                }
                let verifier = Verifier::new(&config)?;
                let verify = async |line: &ImportLine| verifier.ask(line).await;
                import_verified(&vault, source, unix_now(), format, out, verify).await
            }
        }
    })
}

fn open(file: Option<&Path>) -> Result<Box<dyn BufRead>, Failure> {
    let Some(path) = file else { return Ok(Box::new(std::io::stdin().lock())) };
    match std::fs::File::open(path) {
        Ok(file) => Ok(Box::new(BufReader::new(file))),
        Err(why) => Err(Failure::failed(format_args!("{} cannot be read: {why}", path.display()))),
    }
}

#[cfg(test)]
mod tests;

//! `perch connections`: what the vault holds, seen and changed by an operator.
//!
//! No command prints a token, and none takes one from the command line or the environment, where
//! others of the machine could read it: an import reads standard input or a file.

mod errands;
pub(super) mod gateway;
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
use crate::config::{Config, Environ};
use crate::telemetry::clock::unix_now;
use crate::types::{ConnectionId, CustomerId, InvalidId};
use gateway::AdminClient;
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
    /// Ask Finch how connections are, and keep what it says
    #[command(group(clap::ArgGroup::new("which").required(true)))]
    Introspect {
        /// The connection's id
        #[arg(value_parser = connection_id, group = "which")]
        id: Option<ConnectionId>,
        /// Every connection that is in use
        #[arg(long, group = "which")]
        all: bool,
    },
    /// A link through which the customer renews the login; it works for 30 days
    ReauthLink {
        /// The connection's id
        #[arg(value_parser = connection_id)]
        id: ConnectionId,
        /// Where the customer lands, when not where the configuration says
        #[arg(long)]
        redirect_uri: Option<String>,
    },
    /// End a connection at Finch, for ever: the customer would have to connect again, as a new connection
    Disconnect {
        /// The connection's id
        #[arg(value_parser = connection_id)]
        id: ConnectionId,
        /// Yes, for ever
        #[arg(long)]
        yes: bool,
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
        if let Some(errand) = Wanted::of(&args.command)? {
            return errand.run(config, args.output, out).await;
        }
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
            // Done above: they need a gateway, not the store.
            ConnectionsCommand::Introspect { .. }
            | ConnectionsCommand::ReauthLink { .. }
            | ConnectionsCommand::Disconnect { .. } => Ok(()),
        }
    })
}

/// What is asked of a gateway.
enum Wanted<'a> {
    Introspect(Option<&'a ConnectionId>),
    ReauthLink(&'a ConnectionId, Option<&'a str>),
    Disconnect(&'a ConnectionId),
}

impl<'a> Wanted<'a> {
    fn of(command: &'a ConnectionsCommand) -> Result<Option<Self>, Failure> {
        Ok(match command {
            ConnectionsCommand::Introspect { id, all: _ } => Some(Wanted::Introspect(id.as_ref())),
            ConnectionsCommand::ReauthLink { id, redirect_uri } => {
                Some(Wanted::ReauthLink(id, redirect_uri.as_deref()))
            }
            ConnectionsCommand::Disconnect { id, yes: true } => Some(Wanted::Disconnect(id)),
            ConnectionsCommand::Disconnect { id, yes: false } => {
                return Err(Failure::failed(format_args!(
                    "nothing was done: disconnecting {id} cannot be undone, and its customer would have to connect again; \
                     add --yes"
                )));
            }
            ConnectionsCommand::Import { .. }
            | ConnectionsCommand::List
            | ConnectionsCommand::Show { .. }
            | ConnectionsCommand::Assign { .. } => None,
        })
    }

    async fn run(self, config: Config, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
        let gateway = AdminClient::open(config, &mut std::io::stderr()).await?;
        let done = match self {
            Wanted::Introspect(Some(id)) => errands::introspect(&gateway, id, format, out).await,
            Wanted::Introspect(None) => errands::introspect_all(&gateway, format, out).await,
            Wanted::ReauthLink(id, redirect_uri) => {
                errands::reauth_link(&gateway, id, redirect_uri, format, out).await
            }
            Wanted::Disconnect(id) => errands::disconnect(&gateway, id, format, out).await,
        };
        gateway.close().await;
        done
    }
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

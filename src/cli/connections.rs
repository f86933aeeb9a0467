//! `perch connections`: what the vault holds, seen and changed by an operator.
//!
//! No command prints a token, and none takes one from the command line or the environment, where
//! others of the machine could read it: an import reads standard input or a file.

mod import;
mod show;

pub use import::{
    IMPORT_BYTES_MAX, ImportLine, Introspected, LINE_BYTES_MAX, LINES_MAX, import_unverified, import_verified,
};
pub use show::{assign, list, show};

use crate::types::{ConnectionId, CustomerId, InvalidId};
use crate::vault::{OpenError, VaultError};
use std::fmt;
use std::path::PathBuf;

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

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why a command did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the process exits with.
    pub code: u8,
    /// What happened and what to do; one line or several, never a token.
    pub message: String,
}

impl Failure {
    /// It failed: exit code 1.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        let code = match error {
            VaultError::Store(_) | VaultError::Damaged(_) => 69,
            VaultError::UnknownConnection
            | VaultError::OtherEnvironment { .. }
            | VaultError::Unreadable { .. }
            | VaultError::TokenElsewhere { .. }
            | VaultError::BelongsToAnother { .. }
            | VaultError::Disconnected { .. }
            | VaultError::Invalid { .. } => 1,
        };
        Self { code, message: error.to_string() }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self { code: error.exit_code(), message: error.to_string() }
    }
}

/// The output went away.
impl From<std::io::Error> for Failure {
    fn from(cause: std::io::Error) -> Self {
        Self::failed(format_args!("the answer could not be written: {cause}"))
    }
}

#[cfg(test)]
mod tests;

//! How commands end. A closed set of exit codes, so that scripts can rely on them.

use crate::app::StartError;
use crate::vault::{OpenError, VaultError};
use std::fmt;
use std::process::ExitCode;

/// How perch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Done,
    /// It did not work: 1.
    Failed,
    /// A wrong command line: 2, as clap says it.
    Usage,
    /// Bad configuration: 64.
    BadConfiguration,
    /// A needed service is unavailable: 69.
    Unavailable,
    /// The sealing key is wrong or missing: 78.
    Key,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::BadConfiguration => 64,
            Exit::Unavailable => 69,
            Exit::Key => 78,
        })
    }
}

/// Why a command did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What happened and what to do; one line or several, never a token.
    pub message: String,
}

impl Failure {
    /// It failed.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Failed, message: message.to_string() }
    }

    /// Something it needs is not to be had.
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Unavailable, message: message.to_string() }
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
        let exit = match error {
            VaultError::Store(_) | VaultError::Damaged(_) => Exit::Unavailable,
            VaultError::UnknownConnection
            | VaultError::OtherEnvironment { .. }
            | VaultError::Unreadable { .. }
            | VaultError::TokenElsewhere { .. }
            | VaultError::BelongsToAnother { .. }
            | VaultError::Disconnected { .. }
            | VaultError::Invalid { .. } => Exit::Failed,
        };
        Self { exit, message: error.to_string() }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        StartError::from(error).into()
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let exit = match error {
            StartError::Configuration(_) => Exit::BadConfiguration,
            StartError::Key(_) => Exit::Key,
            StartError::Unavailable(_) => Exit::Unavailable,
        };
        Self { exit, message: error.to_string() }
    }
}

/// The output went away.
impl From<std::io::Error> for Failure {
    fn from(cause: std::io::Error) -> Self {
        Self::failed(format_args!("the answer could not be written: {cause}"))
    }
}

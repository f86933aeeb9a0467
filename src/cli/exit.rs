//! Exit codes. A closed set, so that scripts can rely on it.

use crate::app::StartError;
use std::process::ExitCode;

/// How perch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Done,
    /// It did not work: 1.
    Failed,
    /// Bad configuration: 64.
    BadConfiguration,
    /// A needed service is unavailable: 69.
    Unavailable,
    /// The sealing key is wrong or missing: 78.
    Key,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::BadConfiguration => 64,
            Exit::Unavailable => 69,
            Exit::Key => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

impl From<&StartError> for Exit {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::Key(_) => Exit::Key,
            StartError::Unavailable(_) => Exit::Unavailable,
        }
    }
}

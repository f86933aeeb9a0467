//! Why perch does not start: one of three, and each has its exit code.

use crate::config;
use crate::doors::ListenError;
use crate::store::redis::TrustError;
use crate::telemetry::metrics::MetricsError;
use crate::upstream::RootsError;
use crate::vault::{KeyError, OpenError};

/// Why perch does not start.
#[derive(Debug)]
pub enum StartError {
    /// What a setting names cannot be used.
    Configuration(String),
    /// The sealing key is missing, unreadable or wrong.
    Key(String),
    /// The store, a door or a certificate is not to be had.
    Unavailable(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Configuration(why) | StartError::Key(why) | StartError::Unavailable(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        StartError::Key(error.to_string())
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Key(_) => StartError::Key(error.to_string()),
            OpenError::Store(_) => StartError::Unavailable(error.to_string()),
        }
    }
}

impl From<ListenError> for StartError {
    fn from(error: ListenError) -> Self {
        StartError::Unavailable(error.to_string())
    }
}

impl From<config::TlsError> for StartError {
    fn from(error: config::TlsError) -> Self {
        StartError::Configuration(error.to_string())
    }
}

impl From<RootsError> for StartError {
    fn from(error: RootsError) -> Self {
        StartError::Unavailable(error.to_string())
    }
}

impl From<TrustError> for StartError {
    fn from(error: TrustError) -> Self {
        StartError::Unavailable(error.to_string())
    }
}

impl From<MetricsError> for StartError {
    fn from(error: MetricsError) -> Self {
        StartError::Unavailable(error.to_string())
    }
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        StartError::Unavailable(error.to_string())
    }
}

//! The command line: one file per command.

pub mod connections;
pub mod keys;

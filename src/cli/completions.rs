//! `perch completions SHELL`: for bash, zsh, fish and others.

use super::Cli;
use super::exit::Failure;
use clap::CommandFactory;
use clap_complete::Shell;
use std::io::Write;

/// What `perch completions` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// The output went away; writing to it directly would be a panic of `clap_complete`'s.
pub fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "perch", &mut script);
    Ok(out.write_all(&script)?)
}

//! `perch completions SHELL`: for bash, zsh, fish and others.

use super::Cli;
use clap::CommandFactory;
use clap_complete::Shell;

/// What `perch completions` can be told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args) {
    clap_complete::generate(args.shell, &mut Cli::command(), "perch", &mut std::io::stdout());
}

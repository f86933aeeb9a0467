//! The command line: one file per command. This one reads the words, hands them over and turns the end
//! of a command into an exit code.

pub mod check;
pub mod completions;
pub mod config;
pub mod demo;
pub mod exit;
pub mod serve;
pub mod sim;

use crate::config::Environ;
use clap::{Parser, Subcommand};
use exit::Exit;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The gateway to the Finch API: it keeps the tokens, the limits and the evidence.
#[derive(Debug, Parser)]
#[command(name = "perch", version, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration; else `PERCH_CONFIG`, else config/perch.toml when it is there
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What perch can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gateway
    Serve,
    /// Say everything that is wrong with the configuration, as starting would
    Check(check::CheckArgs),
    /// Print the configuration in force, and who wrote each value
    Config(config::ConfigArgs),
    /// Run the Finch simulator alone
    Sim(sim::Args),
    /// Show what perch does: a simulator, a gateway, two customers and a small sync
    Demo(demo::Args),
    /// Print completions for a shell
    Completions(completions::Args),
}

/// Reads the words and does it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let env = Environ::of_process();
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let named = cli.config.as_deref();
    let code = match cli.command {
        Command::Serve => serve::run(named, &env),
        Command::Check(args) => code_of(check::run(named, &env, &args, &mut out, &mut err)),
        Command::Config(args) => code_of(config::run(named, &env, &args, &mut out, &mut err)),
        Command::Sim(args) => return sim::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    match code {
        Ok(exit) => exit.into(),
        Err((exit, why)) => {
            // Nothing can be done about a stderr that is gone.
            let _ = writeln!(err, "perch: {why}");
            exit.into()
        }
    }
}

/// How a command ends: well, or with a code and a reason.
pub type End = Result<Exit, (Exit, String)>;

fn code_of(done: std::io::Result<u8>) -> End {
    match done {
        Ok(0) => Ok(Exit::Done),
        Ok(_) => Ok(Exit::BadConfiguration),
        Err(error) => Err((Exit::Failed, format!("cannot write: {error}"))),
    }
}

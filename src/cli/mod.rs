//! The command line: one file per command. This one reads the words, hands them over and turns the end
//! of a command into an exit code.

pub mod apps;
pub mod check;
pub mod completions;
pub mod config;
pub mod connections;
pub mod demo;
pub mod exit;
pub mod keys;
mod online;
pub mod output;
pub mod pauses;
pub mod plan;
pub mod requests;
pub mod serve;
mod signals;
pub mod sim;
pub mod simulate;
mod source;
pub mod support;
mod table;
pub mod usage;
pub mod vault;
pub mod webhooks;

use crate::config::Environ;
use crate::vault::process;
use clap::{Parser, Subcommand};
use exit::{Exit, Failure};
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
    Serve(serve::Args),
    /// Say everything that is wrong with the configuration, as starting would
    Check(check::CheckArgs),
    /// Print the configuration in force, and who wrote each value
    Config(config::ConfigArgs),
    /// Run the Finch simulator alone
    Sim(sim::Args),
    /// Simulate load on the limiter, and on others, in virtual time
    Simulate(simulate::Args),
    /// Forecast how long a sync takes under the limits, what binds, and what to ask Finch for
    Plan(plan::Args),
    /// Show what perch does: a simulator, a gateway, two customers and a small sync
    Demo(demo::Args),
    /// The connections in the vault
    Connections(connections::ConnectionsArgs),
    /// Who may call, and what each may do
    Apps(apps::AppsArgs),
    /// The sealing keys
    Keys(keys::KeysArgs),
    /// Stop the calls of a customer, a product or a provider
    Pause(pauses::PauseArgs),
    /// Let them go on
    Resume(pauses::ResumeArgs),
    /// What is paused
    Pauses(pauses::PausesArgs),
    /// The store as a whole: verify, backup, restore
    Vault(vault::VaultArgs),
    /// What Finch told by webhook
    Webhooks(webhooks::WebhooksArgs),
    /// What became of calls, from the request ledger
    Requests(requests::RequestsArgs),
    /// What is known of a request, a connection or a customer, ready to paste into a ticket
    Support(support::SupportArgs),
    /// Active connections and calls of a month, to hold against Finch's bill
    Usage(usage::UsageArgs),
    /// Print completions for a shell
    Completions(completions::Args),
}

/// Reads the words and does it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Before any secret is read: no core files, no reading of our memory by others of our user, no
    // values in panics. An import holds as many tokens as the gateway does.
    let warnings = process::harden();
    process::hush_panics();
    let env = Environ::of_process();
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let named = cli.config.as_deref();
    let done = |done: Result<(), Failure>| done.map(|()| Exit::Done);
    let ended = match cli.command {
        Command::Serve(args) => done(serve::run(named, &env, args, &warnings)),
        Command::Check(args) => check::run(named, &env, &args, &mut out, &mut err),
        Command::Config(args) => config::run(named, &env, &args, &mut out, &mut err).map_err(Failure::from),
        Command::Sim(args) => done(sim::run(&args, &mut out)),
        Command::Simulate(args) => simulate::run(&args, &mut out),
        Command::Plan(args) => done(plan::run(named, &env, &args, &mut out)),
        Command::Demo(args) => done(demo::run(&args, &mut out)),
        Command::Connections(args) => done(connections::run(named, &env, &args, &mut out)),
        Command::Apps(args) => done(apps::run(named, &env, &args, &mut out, &mut err)),
        Command::Keys(args) => keys::run(named, &env, &args, &mut out),
        Command::Pause(args) => done(pauses::pause(named, &env, &args, &mut out)),
        Command::Resume(args) => done(pauses::resume(named, &env, &args, &mut out)),
        Command::Pauses(args) => done(pauses::list(named, &env, &args, &mut out)),
        Command::Vault(args) => vault::run(named, &env, &args, &mut out),
        Command::Webhooks(args) => done(webhooks::run(named, &env, &args, &mut out)),
        Command::Requests(args) => done(requests::run(named, &env, &args, &mut out)),
        Command::Support(args) => done(support::run(named, &env, &args, &mut out, &mut err)),
        Command::Usage(args) => done(usage::run(named, &env, &args, &mut out)),
        Command::Completions(args) => done(completions::run(&args, &mut out)),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Nothing can be done about a stderr that is gone.
            let _ = writeln!(err, "perch: {failure}");
            failure.exit.into()
        }
    }
}

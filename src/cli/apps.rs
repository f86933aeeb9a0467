//! `perch apps`: who may call, and what each may do. A key is shown once, when it is made, and is nowhere after that.

mod print;

use super::exit::{Exit, Failure};
use super::output::Format;
use super::serve;
use crate::app;
use crate::config::{AppAuth, Config, Environ};
use crate::policy::Policy;
use crate::policy::apps::{Among, Customers, product};
use crate::telemetry::clock::unix_now;
use crate::types::{AppKey, AppName, ConnectionId, InvalidId, Priority};
use crate::vault::{AppError, AppFacts, Vault};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The apps.
#[derive(Debug, clap::Args)]
pub struct AppsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AppsCommand,
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, global = true, default_value_t = Format::Text)]
    pub output: Format,
}

/// What can be done with apps.
#[derive(Debug, clap::Subcommand)]
pub enum AppsCommand {
    /// Add an app and print its key, once
    Add(Box<AddArgs>),
    /// Every app, oldest first, revoked ones too
    List,
    /// One app and what it may do
    Show {
        /// The app's name
        #[arg(value_parser = app_name)]
        name: AppName,
    },
    /// End an app's key: a running gateway refuses it within two seconds
    Revoke {
        /// The app's name
        #[arg(value_parser = app_name)]
        name: AppName,
    },
}

/// What an app is to be allowed. Without any of this it reads, for everyone, and connects customers.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// The app's name, as it will stand in logs
    #[arg(value_parser = app_name)]
    pub name: AppName,
    /// For whom it may act: all, ids, or beginnings such as acme-*
    #[arg(long, value_delimiter = ',', default_value = "all", value_name = "IDS")]
    pub customers: Vec<String>,
    /// Through which connections of theirs: all, or ids
    #[arg(long, value_delimiter = ',', default_value = "all", value_name = "IDS")]
    pub connections: Vec<String>,
    /// Which products it may call: all, or names such as directory
    #[arg(long, value_delimiter = ',', default_value = "all", value_name = "NAMES")]
    pub products: Vec<String>,
    /// Let it do more than read and connect: disconnect, start jobs, use the sandbox; and change employment systems where
    /// apps.writes is "allow"
    #[arg(long)]
    pub writes: bool,
    /// None of its calls goes before those with a person behind them
    #[arg(long)]
    pub batch_only: bool,
    /// Write the key to this new file that only its owner may read, and do not print it
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

fn app_name(text: &str) -> Result<AppName, InvalidId> {
    AppName::new(text)
}

/// Runs the command. What is worth knowing beside the answer goes to `err`, so that a script gets the key alone.
///
/// # Errors
/// [`Failure`] with its exit code.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &AppsArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    // What is wrong with the words is said before anything is opened.
    let policy = match &args.command {
        AppsCommand::Add(add) => Some(policy_of(add)?),
        AppsCommand::List | AppsCommand::Show { .. } | AppsCommand::Revoke { .. } => None,
    };
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        let format = args.output;
        match (&args.command, policy) {
            (AppsCommand::Add(args), policy) => {
                let key_file = args.key_file.as_deref();
                let policy = policy.unwrap_or_default();
                let (key, facts) = add(&vault, args.name.clone(), policy, key_file).await?;
                print::added(&facts, key_file.is_none().then_some(&key), key_file, format, out)?;
                advise(&config, &facts, err)
            }
            (AppsCommand::List, _) => print::list(&vault.list_apps().await?, format, out),
            (AppsCommand::Show { name }, _) => {
                let mut all = vault.list_apps().await?;
                // The newest of the name: the one that is good, else the one that was.
                all.sort_by_key(|app| (app.revoked_at.is_some(), std::cmp::Reverse(app.created_at)));
                match all.iter().find(|app| app.name == *name) {
                    Some(facts) => print::show(facts, format, out),
                    None => Err(AppError::Unknown(name.clone()).into()),
                }
            }
            (AppsCommand::Revoke { name }, _) => {
                vault.revoke_app(name.clone(), unix_now()).await?;
                print::revoked(name, format, out)
            }
        }
    })
}

fn policy_of(args: &AddArgs) -> Result<Policy, Failure> {
    let wrong = |option: &str| {
        let option = option.to_owned();
        move |why: String| Failure::failed(format_args!("{option} {why}; no app was added"))
    };
    Ok(Policy {
        customers: Among::parse(&args.customers, Customers::parse).map_err(wrong("--customers"))?,
        connections: Among::parse(&args.connections, |id| ConnectionId::new(id))
            .map_err(wrong("--connections"))?,
        products: Among::parse(&args.products, product).map_err(wrong("--products"))?,
        writes: args.writes,
        priority: if args.batch_only { Priority::Batch } else { Priority::Interactive },
    })
}

/// Adds the app. The file is made first: a key that cannot be written down is not made.
async fn add(
    vault: &Vault,
    name: AppName,
    policy: Policy,
    key_file: Option<&Path>,
) -> Result<(AppKey, AppFacts), Failure> {
    let failed = |path: &Path, why: std::io::Error| {
        Failure::failed(format_args!("{} cannot be written: {why}; no app was added", path.display()))
    };
    let mut file: Option<(&Path, File)> = match key_file {
        Some(path) => Some((path, new_file(path).map_err(|why| failed(path, why))?)),
        None => None,
    };
    let added = vault.add_app(name.clone(), policy, unix_now()).await;
    let written = match (&added, &mut file) {
        (Ok((key, _)), Some((_, file))) => writeln!(file, "{}", key.expose()).and_then(|()| file.sync_all()),
        (Ok(_), None) | (Err(_), _) => Ok(()),
    };
    if let (Some((path, _)), true) = (&file, added.is_err() || written.is_err()) {
        let _ = fs::remove_file(path);
    }
    if let (Err(why), Some((path, _))) = (written, &file) {
        // Nobody has the key, so it must not be good.
        vault.revoke_app(name, unix_now()).await?;
        return Err(failed(path, why));
    }
    Ok(added?)
}

fn new_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn advise(config: &Config, facts: &AppFacts, err: &mut dyn Write) -> Result<(), Failure> {
    writeln!(
        err,
        "app {} sends this key in Perch-App-Key. It is not shown again: whoever loses it revokes the app and adds it anew.",
        facts.name
    )?;
    if config.apps.auth == AppAuth::Loopback {
        writeln!(
            err,
            "Keys are not asked for yet: set apps.auth = \"key\" and restart the gateway when every app sends one."
        )?;
    }
    Ok(())
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Vault(error) => error.into(),
            AppError::Exists(_) | AppError::Unknown(_) | AppError::TooMany => Self::failed(error),
            AppError::NoChance => Self { exit: Exit::Unavailable, message: error.to_string() },
        }
    }
}

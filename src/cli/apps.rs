//! `perch apps`: who may call, and what each may do. A key is shown once, when it is made, and is nowhere after that.

mod print;

use super::exit::{Exit, Failure};
use super::output::Format;
use super::serve;
use crate::app;
use crate::config::{AppAuth, Config, Environ};
use crate::policy::Policy;
use crate::policy::apps::{Among, Customers, product};
use crate::policy::certificate::CertificateName;
use crate::policy::proof::{Marks, Uid};
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
    /// Add an app: its key is printed, once, unless it is known by a certificate or a user
    Add(Box<AddArgs>),
    /// Every app, oldest first, revoked ones too
    List,
    /// One app and what it may do
    Show {
        /// The app's name
        #[arg(value_parser = app_name)]
        name: AppName,
    },
    /// Change what an app may do or is known by, and only what is named; its key stays
    Change {
        /// The app's name
        #[arg(value_parser = app_name)]
        name: AppName,
        /// What it is known by from now on
        #[command(flatten)]
        shows: Shows,
        /// What it may do from now on
        #[command(flatten)]
        may: May,
    },
    /// End an app: a running gateway refuses it within two seconds
    Revoke {
        /// The app's name
        #[arg(value_parser = app_name)]
        name: AppName,
    },
}

/// A new app. Without more words it reads, for everyone, and connects customers.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// The app's name, as it will stand in logs
    #[arg(value_parser = app_name)]
    pub name: AppName,
    /// What it is known by, in the place of a key.
    #[command(flatten)]
    pub shows: Shows,
    /// What it may do.
    #[command(flatten)]
    pub may: May,
    /// Write the key to this new file that only its owner may read, and do not print it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["certificate", "uid"])]
    pub key_file: Option<PathBuf>,
}

/// What an app is known by beside a key.
#[derive(Debug, Clone, clap::Args)]
pub struct Shows {
    /// A name in its client certificate, for apps.auth = "mtls": spiffe://… or another URI, a DNS name, or cn:NAME
    #[arg(long, value_name = "NAME")]
    pub certificate: Option<String>,
    /// The user it runs as, for apps.auth = "uid"
    #[arg(long, value_name = "NUMBER")]
    pub uid: Option<u32>,
}

impl Shows {
    fn read(&self) -> Result<Marks, Failure> {
        let wrong = |option: &'static str, why: &str| {
            Failure::failed(format_args!("{option} {why}; nothing was changed"))
        };
        let certificate = self.certificate.as_deref().map(CertificateName::parse).transpose();
        let uid = self.uid.map(Uid::new).transpose();
        Ok(Marks {
            certificate: certificate.map_err(|why| wrong("--certificate", why))?,
            uid: uid.map_err(|why| wrong("--uid", why))?,
        })
    }
}

/// What an app may do, as far as it is said.
#[derive(Debug, clap::Args)]
pub struct May {
    /// For whom it may act: all, ids, or beginnings such as acme-*
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub customers: Option<Vec<String>>,
    /// Through which connections of theirs: all, or ids
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    pub connections: Option<Vec<String>>,
    /// Which products it may call: all, or names such as directory
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub products: Option<Vec<String>>,
    /// Let it do more than read and connect: disconnect, start jobs, use the sandbox; and change employment systems where
    /// apps.writes is "allow"
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub writes: Option<bool>,
    /// None of its calls goes before those with a person behind them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub batch_only: Option<bool>,
}

impl May {
    /// What of a policy is said, for any policy.
    fn read(&self) -> Result<impl FnOnce(Policy) -> Policy + Send + 'static, Failure> {
        let wrong = |option: &'static str| {
            move |why: String| Failure::failed(format_args!("{option} {why}; nothing was changed"))
        };
        let customers = self.customers.as_ref().map(|words| Among::parse(words, Customers::parse));
        let connections =
            self.connections.as_ref().map(|words| Among::parse(words, |id| ConnectionId::new(id)));
        let products = self.products.as_ref().map(|words| Among::parse(words, product));
        let customers = customers.transpose().map_err(wrong("--customers"))?;
        let connections = connections.transpose().map_err(wrong("--connections"))?;
        let products = products.transpose().map_err(wrong("--products"))?;
        let (writes, batch_only) = (self.writes, self.batch_only);
        let priority = batch_only.map(|only| if only { Priority::Batch } else { Priority::Interactive });
        Ok(move |policy: Policy| Policy {
            customers: customers.unwrap_or(policy.customers),
            connections: connections.unwrap_or(policy.connections),
            products: products.unwrap_or(policy.products),
            writes: writes.unwrap_or(policy.writes),
            priority: priority.unwrap_or(policy.priority),
        })
    }
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
    let said = match &args.command {
        AppsCommand::Add(add) => Some((add.shows.read()?, add.may.read()?)),
        AppsCommand::Change { shows, may, .. } => Some((shows.read()?, may.read()?)),
        AppsCommand::List | AppsCommand::Show { .. } | AppsCommand::Revoke { .. } => None,
    };
    let (marks, change) = said.unzip();
    let marks = marks.unwrap_or_default();
    let change = move |policy: Policy| match change {
        Some(change) => change(policy),
        None => policy,
    };
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        let format = args.output;
        match &args.command {
            AppsCommand::Add(args) => {
                let key_file = args.key_file.as_deref();
                let (name, policy) = (args.name.clone(), change(Policy::default()));
                if !marks.are_none() {
                    let facts = vault.add_marked_app(name, policy, marks, unix_now()).await?;
                    print::added(&facts, None, None, format, out)?;
                    return advise(&config, &facts, err);
                }
                let (key, facts) = add(&vault, name, policy, key_file).await?;
                print::added(&facts, key_file.is_none().then_some(&key), key_file, format, out)?;
                advise(&config, &facts, err)
            }
            AppsCommand::List => print::list(&vault.list_apps().await?, format, out),
            AppsCommand::Show { name } => print::show(&find(&vault, name).await?, format, out),
            AppsCommand::Change { name, .. } => {
                vault.change_app(name.clone(), marks, change).await?;
                print::show(&find(&vault, name).await?, format, out)
            }
            AppsCommand::Revoke { name } => {
                vault.revoke_app(name.clone(), unix_now()).await?;
                print::revoked(name, format, out)
            }
        }
    })
}

/// The newest app of this name: the one that is good, else the one that was.
async fn find(vault: &Vault, name: &AppName) -> Result<AppFacts, Failure> {
    let mut all = vault.list_apps().await?;
    all.retain(|app| app.name == *name);
    let newest =
        all.into_iter().min_by_key(|app| (app.revoked_at.is_some(), std::cmp::Reverse(app.created_at)));
    newest.ok_or_else(|| AppError::Unknown(name.clone()).into())
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

/// What whoever added the app has to do next.
fn advise(config: &Config, facts: &AppFacts, err: &mut dyn Write) -> Result<(), Failure> {
    let AppFacts { name, key_id, certificate, uid, .. } = facts;
    if key_id.is_some() {
        writeln!(
            err,
            "app {name} sends this key in Perch-App-Key. It is not shown again: whoever loses it revokes the app and adds it anew."
        )?;
    }
    let can = [
        (AppAuth::Key, key_id.is_some()),
        (AppAuth::Mtls, certificate.is_some()),
        (AppAuth::Uid, uid.is_some()),
    ];
    let auth = config.apps.auth;
    if let Some((needed, _)) = can.into_iter().find(|(_, has)| *has)
        && !can.contains(&(auth, true))
    {
        writeln!(
            err,
            "Nobody is known by that yet, for apps.auth is \"{}\": set it to \"{}\" and restart the gateway when every app is ready.",
            auth.as_str(),
            needed.as_str()
        )?;
    }
    Ok(())
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Vault(error) => error.into(),
            AppError::Exists(_)
            | AppError::Unknown(_)
            | AppError::Taken { .. }
            | AppError::Damaged(_)
            | AppError::TooMany => Self::failed(error),
            AppError::NoChance => Self { exit: Exit::Unavailable, message: error.to_string() },
        }
    }
}

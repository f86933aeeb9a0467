//! `perch vault`: the store as a whole. Look at it, copy it, put a copy back.

use super::exit::{Exit, Failure};
use super::output::Format;
use super::serve;
use crate::app;
use crate::config::{Config, Environ, Store};
use crate::store::connections::Place;
use crate::store::tables::Found;
use crate::vault::audit::Broken;
use crate::vault::{self, OpenError, RestoreOptions, Restored, Vault, restore};
use indicatif::ProgressBar;
use serde_json::json;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// The store as a whole.
#[derive(Debug, clap::Args)]
pub struct VaultArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: VaultCommand,
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, global = true, default_value_t = Format::Text)]
    pub output: Format,
}

/// What can be done with the store.
#[derive(Debug, clap::Subcommand)]
pub enum VaultCommand {
    /// Open every row and follow the audit trail; name the rows that do not hold
    Verify,
    /// Write a copy into a new file, beside a running gateway. It is sealed: back up the key apart from it
    Backup {
        /// The file to make
        file: PathBuf,
    },
    /// Make or renew the tables of a PostgreSQL store. Sign in as a role that may; gateways then need no such right
    Migrate {
        /// A role that gateways sign in as, which may use the tables from then on and nothing else; more than once for more
        #[arg(long, value_name = "ROLE")]
        grant: Vec<String>,
    },
    /// Put a backup in the place of the store. No gateway may run
    Restore {
        /// The backup
        file: PathBuf,
        /// Do it although the backup is older than the store; what came since is lost, and named
        #[arg(long)]
        accept_rollback: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] with its exit code.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &VaultArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let config = serve::load(named, env)?;
    let format = args.output;
    serve::runtime()?.block_on(async {
        match &args.command {
            VaultCommand::Verify => {
                found(&config).await?;
                verify(&*app::open_vault(&config, false).await?, format, out).await
            }
            VaultCommand::Backup { file } => {
                let generation = match found(&config).await? {
                    Found::Older { .. } => {
                        let store = &config.vault.store;
                        vault::backup_as_it_is(store, file).await.map_err(OpenError::from)?
                    }
                    Found::Known | Found::Nothing => app::open_vault(&config, false).await?.backup(file).await?,
                };
                let file = file.display().to_string();
                match format {
                    Format::Json => writeln!(out, "{}", json!({ "file": file, "generation": generation }))?,
                    Format::Text => writeln!(
                        out,
                        "wrote {file} (change {generation} of the store). It opens with vault.key only; keep that \
                         elsewhere"
                    )?,
                }
                Ok(Exit::Done)
            }
            VaultCommand::Migrate { grant } => migrate(&config.vault.store, grant, format, out).await,
            VaultCommand::Restore { file, accept_rollback } => {
                let restored = restore(options(config, file, *accept_rollback).await?).await?;
                tell(&restored, format, out)
            }
        }
    })
}

/// What is there. A store that is not there is no sound one: opening would make a new one, and find nothing wrong with it.
async fn found(config: &Config) -> Result<Found, Failure> {
    match Found::at(&config.vault.store).await.map_err(OpenError::from)? {
        Found::Nothing => Err(Failure::unavailable(format_args!(
            "there is no store at {}; see vault.store, or put a backup there with \"perch vault restore FILE\"",
            config.vault.store
        ))),
        there @ (Found::Older { .. } | Found::Known) => Ok(there),
    }
}

async fn migrate(
    store: &Store,
    roles: &[String],
    format: Format,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let Store::Postgres(server) = store else {
        return Err(Failure::failed(
            "vault.store is a file, whose tables a gateway renews when it starts; this is for postgres://",
        ));
    };
    let version = crate::store::Store::migrate(server, roles).await.map_err(OpenError::from)?;
    match format {
        Format::Json => writeln!(out, "{}", json!({ "version": version, "granted": roles }))?,
        Format::Text => {
            writeln!(out, "the tables of {} are of version {version}", server.url)?;
            for role in roles {
                writeln!(out, "{role} may use them")?;
            }
        }
    }
    Ok(Exit::Done)
}

async fn options(config: Config, file: &Path, accept_rollback: bool) -> Result<RestoreOptions, Failure> {
    let keys = vault::wrappers(&config.vault).await.map_err(app::StartError::from)?;
    Ok(RestoreOptions {
        store: config.vault.store,
        backup: file.to_owned(),
        keys,
        application: config.finch.client_id,
        generation_file: config.vault.generation_file,
        accept_rollback,
    })
}

async fn verify(vault: &Vault, format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner().with_message("opening"),
        false => ProgressBar::hidden(),
    };
    let found = vault.verify(|seen| bar.set_position(seen)).await?;
    bar.set_message("holding the audit trail against its MACs");
    let trail = vault.verify_audit().await;
    bar.finish_and_clear();
    let trail = match trail {
        Err(Broken::Store(error)) => return Err(error.into()),
        Ok(chain) => Ok(chain),
        Err(broken @ Broken::At(_)) => Err(broken),
    };
    let is_ok = found.unsound.is_empty() && trail.is_ok();
    match format {
        Format::Json => {
            let unsound: Vec<_> =
                found.unsound.iter().map(|(id, why)| json!({ "connection_id": id, "why": why })).collect();
            let audit = match &trail {
                Ok(chain) => json!({ "ok": true, "rows": chain.rows, "newest": chain.newest }),
                Err(broken) => json!({ "ok": false, "broken_at": broken.seq(), "why": broken.to_string() }),
            };
            let told = json!({
                "ok": is_ok, "opened": found.opened, "erased": found.erased, "unsound": unsound, "audit": audit,
            });
            writeln!(out, "{told}")?;
        }
        Format::Text => {
            for (id, why) in &found.unsound {
                writeln!(out, "no  connection {id}: {why}")?;
            }
            let (opened, erased, unsound) = (found.opened, found.erased, found.unsound.len());
            writeln!(out, "{opened} tokens open, {erased} are erased, {unsound} do not open")?;
            match &trail {
                Ok(chain) => {
                    writeln!(out, "the audit trail holds: {} rows up to {}", chain.rows, chain.newest)?
                }
                Err(broken) => writeln!(out, "no  {broken}")?,
            }
        }
    }
    Ok(if is_ok { Exit::Done } else { Exit::Failed })
}

fn tell(restored: &Restored, format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Restored { kept, generations: (before, backup), lost, back, revoked } = restored;
    let ids = |places: &[Place]| places.iter().map(|place| place.connection_id.clone()).collect::<Vec<_>>();
    let kept = kept.as_ref().map(|path| path.display().to_string());
    match format {
        Format::Json => writeln!(
            out,
            "{}",
            json!({
                "generation": backup, "generation_before": before, "kept": kept, "lost": ids(lost), "back": ids(back),
                "revoked": revoked,
            })
        )?,
        Format::Text => {
            writeln!(out, "the store is the backup of change {backup} now; before, it had had {before}")?;
            if let Some(kept) = kept {
                writeln!(out, "what was there is kept in {kept}; remove it when it is no longer needed")?;
            }
            for id in ids(lost) {
                writeln!(
                    out,
                    "lost: the token of connection {id}, which came after the backup. Finch still bills it; the customer \
                     has to connect again"
                )?;
            }
            for id in ids(back) {
                writeln!(
                    out,
                    "back: the token of connection {id}, which was disconnected after the backup. At Finch it stays dead"
                )?;
            }
            for name in revoked {
                writeln!(
                    out,
                    "revoked: the key of app {name}, as it was before; the backup still had it as good"
                )?;
            }
        }
    }
    Ok(Exit::Done)
}

//! `perch vault`: the store as a whole. Look at it, copy it, put a copy back.

use super::exit::{Exit, Failure};
use super::output::Format;
use super::serve;
use crate::app;
use crate::config::{Config, Environ, Store};
use crate::store::connections::Place;
use crate::vault::audit::Broken;
use crate::vault::{self, RestoreOptions, Restored, Vault, restore};
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
    /// Open every row, and name those that do not
    Verify,
    /// Write a copy into a new file, beside a running gateway. It is sealed: back up the key apart from it
    Backup {
        /// The file to make
        file: PathBuf,
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
            VaultCommand::Verify => verify(&*app::open_vault(&config, false).await?, format, out).await,
            VaultCommand::Backup { file } => {
                let vault = app::open_vault(&config, false).await?;
                let generation = vault.backup(file).await?;
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
            VaultCommand::Restore { file, accept_rollback } => {
                let restored = restore(options(config, file, *accept_rollback).await?).await?;
                tell(&restored, format, out)
            }
        }
    })
}

async fn options(config: Config, file: &Path, accept_rollback: bool) -> Result<RestoreOptions, Failure> {
    let keys = vault::wrappers(&config.vault).await.map_err(app::StartError::from)?;
    let Store::Sqlite(path) = config.vault.store;
    Ok(RestoreOptions {
        path,
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
    bar.finish_and_clear();
    let trail = match vault.verify_audit().await {
        Ok(chain) => Ok(chain.rows),
        Err(broken @ Broken::At(_)) => Err(broken.to_string()),
        Err(Broken::Store(cause)) => return Err(Failure::unavailable(cause)),
    };
    match format {
        Format::Json => {
            let unsound: Vec<_> =
                found.unsound.iter().map(|(id, why)| json!({ "connection_id": id, "why": why })).collect();
            let ok = unsound.is_empty() && trail.is_ok();
            let told = json!({
                "ok": ok, "opened": found.opened, "erased": found.erased, "unsound": unsound,
                "audit": { "ok": trail.is_ok(), "rows": trail.as_ref().ok(), "why": trail.as_ref().err() },
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
                Ok(rows) => writeln!(out, "the audit trail holds, {rows} rows")?,
                Err(why) => writeln!(out, "no  {why}")?,
            }
        }
    }
    Ok(if found.unsound.is_empty() && trail.is_ok() { Exit::Done } else { Exit::Failed })
}

fn tell(restored: &Restored, format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let Restored { kept, generations: (before, backup), lost, back } = restored;
    let ids = |places: &[Place]| places.iter().map(|place| place.connection_id.clone()).collect::<Vec<_>>();
    let kept = kept.as_ref().map(|path| path.display().to_string());
    match format {
        Format::Json => writeln!(
            out,
            "{}",
            json!({
                "generation": backup, "generation_before": before, "kept": kept, "lost": ids(lost), "back": ids(back),
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
        }
    }
    Ok(Exit::Done)
}

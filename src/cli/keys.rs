//! `perch keys`: the key that wraps the store's keys, and the store's keys.
//!
//! Nothing prints a key. Everything but `generate` works on the store, beside a running gateway or without.

mod list;
mod rotate;

use super::exit::{Exit, Failure};
use super::output::Format;
use super::serve;
use crate::app;
use crate::config::Environ;
use crate::telemetry::clock::unix_now;
use crate::vault::{KeysError, OpenError, kek};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Sealing keys.
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
    /// How to print.
    #[arg(short = 'o', long = "output", value_enum, global = true, default_value_t = Format::Text)]
    pub output: Format,
}

/// What can be done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Write a new random key to a new file that only its owner may read
    Generate {
        /// The file to make; one that exists is never overwritten
        file: PathBuf,
    },
    /// The store's keys: their states, what wraps them, how many rows each has sealed
    List,
    /// Make a new key the one that seals, and seal every row with it; finishes a rotation that was cut off
    Rotate,
    /// Seal the rows of older keys with the newest one
    Reseal,
    /// Take a key out of use that no row needs any more
    Retire {
        /// The key's number
        id: u64,
    },
    /// Erase a retired key. Rows in old backups that it sealed stay closed for ever
    Destroy {
        /// The key's number
        id: u64,
        /// Yes, erase it
        #[arg(long)]
        confirm: bool,
    },
    /// Move the store's keys from under the wrapping key before to the one that is configured now
    RotateKek,
}

/// Runs the command. No key is printed anywhere.
///
/// # Errors
/// [`Failure`] with the exit code.
pub fn run(
    named: Option<&Path>,
    env: &Environ,
    args: &KeysArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let format = args.output;
    if let KeysCommand::Generate { file } = &args.command {
        return generate(file, format, out);
    }
    let config = serve::load(named, env)?;
    serve::runtime()?.block_on(async {
        let vault = app::open_vault(&config, false).await?;
        let done = match &args.command {
            KeysCommand::Generate { file } => generate(file, format, out),
            KeysCommand::List => list::list(&vault, format, out).await,
            KeysCommand::Rotate => rotate::rotate(&vault, format, out).await,
            KeysCommand::Reseal => rotate::reseal(&vault, format, out).await,
            KeysCommand::Retire { id } => {
                vault.retire_key(*id, unix_now()).await?;
                let text = format!("key {id} is retired; \"perch keys destroy {id} --confirm\" erases it");
                say(out, format, &text, &json!({ "key": id, "state": "retired" }))
            }
            KeysCommand::Destroy { id, confirm: false } => Err(Failure {
                exit: Exit::Failed,
                message: format!(
                    "key {id} is left as it is: whatever it sealed in old backups could never be opened again; \
                     add --confirm to erase it"
                ),
            }),
            KeysCommand::Destroy { id, confirm: true } => {
                let is_gone = vault.destroy_key(*id).await?;
                let rest = match is_gone {
                    true => "no trace of it is left in the store's files",
                    false => "its wrapped bytes leave the write-ahead log when the gateway next empties it",
                };
                let text = format!("key {id} is destroyed; {rest}. Backups keep what they have.");
                say(out, format, &text, &json!({ "key": id, "state": "destroyed", "log_emptied": is_gone }))
            }
            KeysCommand::RotateKek => {
                let count = vault.rewrap_keys().await?;
                let text = match count {
                    0 => "every key of the store is under vault.key already; nothing was changed".to_owned(),
                    n => format!(
                        "{n} keys of the store are under vault.key now. Once every gateway has been restarted with it, \
                         take vault.key_previous out; older backups still need the older key"
                    ),
                };
                say(out, format, &text, &json!({ "rewrapped": count }))
            }
        };
        // For vault.generation_file.
        vault.refresh().await?;
        done
    })
}

fn generate(file: &Path, format: Format, out: &mut dyn Write) -> Result<Exit, Failure> {
    let fingerprint = kek::generate(file).map_err(Failure::failed)?;
    let text = format!(
        "wrote a new key to {} (fingerprint {fingerprint}). Back it up apart from the store: \
         without it the stored tokens cannot be opened.",
        file.display()
    );
    let told = json!({ "file": file.display().to_string(), "fingerprint": fingerprint.to_string() });
    say(out, format, &text, &told)
}

/// One answer, for people or for programs.
fn say(out: &mut dyn Write, format: Format, text: &str, told: &serde_json::Value) -> Result<Exit, Failure> {
    match format {
        Format::Text => writeln!(out, "{text}")?,
        Format::Json => writeln!(out, "{told}")?,
    }
    Ok(Exit::Done)
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Refused(why) => Failure::failed(why),
            KeysError::Open(error @ (OpenError::Key(_) | OpenError::Store(_))) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        keys: KeysArgs,
    }

    fn perch(args: &[&str]) -> (Result<Exit, Failure>, String) {
        let parsed = Program::try_parse_from(args).unwrap();
        let mut out = Vec::new();
        let done = run(None, &Environ::default(), &parsed.keys, &mut out);
        (done, String::from_utf8(out).unwrap())
    }

    #[test]
    fn generate_makes_a_key_once_and_never_prints_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("perch.key");
        let name = file.to_str().unwrap();
        let (done, said) = perch(&["keys", "generate", name, "-o", "json"]);
        assert_eq!(done, Ok(Exit::Done));
        let key = std::fs::read_to_string(&file).unwrap();
        assert!(!said.contains(key.trim()), "{said}");
        let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
        let opened = kek::from_file(&file, false).unwrap();
        assert_eq!(answer["fingerprint"], kek::Fingerprint::of(&opened).to_string());

        let (done, said) = perch(&["keys", "generate", name]);
        let failure = done.unwrap_err();
        assert_eq!((failure.exit, said.as_str()), (Exit::Failed, ""));
        assert!(failure.message.contains("exists already"), "{failure}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
    }
}

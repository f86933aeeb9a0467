//! `perch keys`: the key that wraps the store's keys.

use super::exit::Failure;
use super::output::Format;
use crate::vault::kek;
use std::io::Write;
use std::path::PathBuf;

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
}

/// Runs the command. The key itself is printed nowhere.
///
/// # Errors
/// [`Failure`] with the exit code.
pub fn run(args: &KeysArgs, out: &mut dyn Write) -> Result<(), Failure> {
    match &args.command {
        KeysCommand::Generate { file } => {
            let fingerprint = kek::generate(file).map_err(Failure::failed)?;
            match args.output {
                Format::Text => writeln!(
                    out,
                    "wrote a new key to {} (fingerprint {fingerprint}). Back it up apart from the store: \
                     without it the stored tokens cannot be opened.",
                    file.display()
                )?,
                Format::Json => writeln!(
                    out,
                    "{}",
                    serde_json::json!({"file": file.display().to_string(), "fingerprint": fingerprint.to_string()})
                )?,
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        keys: KeysArgs,
    }

    fn perch(args: &[&str]) -> (Result<(), Failure>, String) {
        let parsed = Program::try_parse_from(args).unwrap();
        let mut out = Vec::new();
        let done = run(&parsed.keys, &mut out);
        (done, String::from_utf8(out).unwrap())
    }

    #[test]
    fn generate_makes_a_key_once_and_never_prints_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("perch.key");
        let name = file.to_str().unwrap();
        let (done, said) = perch(&["keys", "generate", name, "-o", "json"]);
        assert_eq!(done, Ok(()));
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

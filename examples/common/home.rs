//! `perch serve`, the program as it ships: a folder with a key, a vault that holds a few sealed
//! connections, and a configuration.

use super::brood::Brood;
use super::{Outcome, machine};
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The secret of the application, for whoever plays Finch.
pub(crate) const CLIENT_SECRET: &str = "example-secret";

/// A folder that `perch serve` can be started in.
pub(crate) struct Home {
    program: PathBuf,
    folder: PathBuf,
    /// Where it will listen.
    pub(crate) door: SocketAddr,
}

impl Home {
    /// Makes the folder and fills it with perch's own commands.
    pub(crate) fn furnish(
        folder: &Path,
        door: SocketAddr,
        settings: &str,
        connections: &[Value],
    ) -> Outcome<Self> {
        let program = machine::program()?;
        std::fs::create_dir(folder)?;
        let home = Self { program, folder: folder.to_owned(), door };
        std::fs::write(folder.join("perch.toml"), settings)?;
        home.tell(&["keys", "generate", "perch.key"], "")?;
        let lines: Vec<String> = connections.iter().map(Value::to_string).collect();
        home.tell(&["connections", "import", "--no-verify"], &lines.join("\n"))?;
        Ok(home)
    }

    /// Starts the gateway; its access lines go to `lines`.
    pub(crate) fn serve(&self, brood: &Brood, lines: impl Into<Stdio>) -> Outcome<u32> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        brood.start(self.command(&["serve"]).stdin(Stdio::null()).stdout(lines).stderr(log))
    }

    /// The end of the gateway's log, for a person who wants to know why it failed.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // No PERCH_* of whoever runs this.
        command.args(args).current_dir(&self.folder).env_clear();
        command.env("PERCH_CONFIG", "perch.toml").env("FINCH_CLIENT_SECRET", CLIENT_SECRET);
        command
    }

    fn tell(&self, args: &[&str], input: &str) -> Outcome<()> {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let done = child.wait_with_output()?;
        match done.status.success() {
            true => Ok(()),
            false => {
                Err(format!("perch {}: {}", args.join(" "), String::from_utf8_lossy(&done.stderr)).into())
            }
        }
    }
}

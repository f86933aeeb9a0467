//! `perch serve`, the program as it ships: a folder with a key, a vault that holds one sealed
//! connection, and a configuration.

use super::brood::{Brood, free_port};
use super::{Outcome, machine, upstream};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whose connection the vault holds.
pub(crate) const CUSTOMER: &str = "acme";

/// A folder that `perch serve` can be started in.
pub(crate) struct Home {
    program: PathBuf,
    folder: PathBuf,
    /// Where it will listen.
    pub(crate) door: SocketAddr,
}

impl Home {
    /// Makes the folder and fills it with perch's own commands.
    pub(crate) fn furnish(folder: &Path, finch: SocketAddr) -> Outcome<Self> {
        let program = machine::target_folder()?.join("release").join("perch");
        if !program.is_file() {
            let name = program.display();
            return Err(format!("{name} is not there: it is what is measured. Build it with: cargo build --release --bin perch, or run: make bench").into());
        }
        std::fs::create_dir(folder)?;
        let (door, admin) = (free_port()?, free_port()?);
        let home = Self { program, folder: folder.to_owned(), door };
        std::fs::write(folder.join("perch.toml"), settings(finch, door, admin))?;
        home.tell(&["keys", "generate", "perch.key"], "")?;
        let connection = serde_json::json!({
            "customer_id": CUSTOMER,
            "connection_id": "5f4b7c1e-0000-4000-8000-000000000001",
            "access_token": upstream::TOKEN,
            "company_id": "5f4b7c1e-0000-4000-8000-000000000002",
            "provider_id": "gusto",
        });
        home.tell(&["connections", "import", "--no-verify"], &connection.to_string())?;
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
        // No PERCH_* of whoever runs the bench.
        command.args(args).current_dir(&self.folder).env_clear();
        command.env("PERCH_CONFIG", "perch.toml").env("FINCH_CLIENT_SECRET", "bench-secret");
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

/// Limits that nothing here reaches, in a window of a second: the ledger keeps one permit for each
/// call of a window, so its memory stays that of a second's calls. It still holds thousands where
/// Finch's own limits would let it hold twenty, so what it costs here is an upper bound.
fn settings(finch: SocketAddr, door: SocketAddr, admin: SocketAddr) -> String {
    format!(
        r#"[finch]
base_url = "http://{finch}"
environment = "sandbox"
client_id = "bench"

[listen]
proxy = "{door}"
admin = "{admin}"

[limits]
window = "1s"
[limits.products]
default = 100000
[limits.ip]
requests = 100000
window = "1s"
"#
    )
}

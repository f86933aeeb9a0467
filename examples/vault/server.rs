//! A private server of PostgreSQL for the length of the run, on a socket in a folder of its own. It syncs at each commit.

use super::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User, chown, geteuid};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// The server. It ends with this.
pub(crate) struct Server {
    process: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts one; `None` when PostgreSQL is not installed.
    pub(crate) fn start(folder: &Path) -> Outcome<Option<Self>> {
        let Some(programs) = programs() else { return Ok(None) };
        let folder = folder.join("postgres");
        std::fs::create_dir(&folder)?;
        let runner = runner()?;
        if let Some((uid, gid)) = runner {
            chown(&folder, Some(uid), Some(gid))?;
        }
        let command = |program: &str| {
            let mut command = Command::new(programs.join(program));
            if let Some((uid, gid)) = runner {
                command.uid(uid.as_raw()).gid(gid.as_raw());
            }
            command.current_dir(&folder).stdout(Stdio::null()).stderr(Stdio::null()).env("LC_ALL", "C");
            command
        };
        let mut make = command("initdb");
        make.args(["--locale=C", "--encoding=UTF8", "--auth=trust", "--username=perch", "-D", "data"]);
        if !make.status()?.success() {
            return Err("initdb failed".into());
        }
        let mut serve = command("postgres");
        serve.args(["-D", "data", "-c", "listen_addresses=", "-k"]).arg(&folder);
        let server = Self { process: serve.spawn()?, folder };
        let began = Instant::now();
        while !server.folder.join("data/postmaster.pid").exists() || !server.is_ready() {
            if began.elapsed() > START_MAX {
                return Err("PostgreSQL does not start".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(server))
    }

    /// Its last line says so.
    fn is_ready(&self) -> bool {
        let told = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        told.lines().last().is_some_and(|line| line.trim() == "ready")
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://perch@{folder}/postgres")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGQUIT);
        }
        let _ = self.process.wait();
    }
}

fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(debian.map(|version| version.path().join("bin")))
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// As whom it runs: it refuses to be root.
fn runner() -> Outcome<Option<(Uid, Gid)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some((user.uid, user.gid)));
        }
    }
    Err("there is no user that is not root".into())
}

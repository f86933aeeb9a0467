//! A private PostgreSQL, a private Redis and a small disk.

use super::Outcome;
use nix::unistd::{Gid, Uid, User, chown, geteuid};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Bytes of the small disk.
const SMALL_DISK: &str = "size=48m,mode=0700";

/// Runs a command to its good end.
pub(crate) fn done(command: &mut Command) -> Outcome<Output> {
    let output = command.output().map_err(|why| format!("{command:?}: {why}"))?;
    match output.status.success() {
        true => Ok(output),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// The processes that a process has started.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Puts a small disk here; `false` where that is not allowed.
pub(crate) fn mount_small(folder: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", SMALL_DISK, "perch-chaos"]).arg(folder);
    geteuid().is_root() && done(&mut mount).is_ok()
}

/// Takes small disks below this folder away again.
pub(crate) fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(mount).starts_with(folder) {
            let _ = done(Command::new("umount").arg("-l").arg(mount));
        }
    }
}

/// Where a Redis runs, or ran.
pub(crate) struct Redis {
    folder: PathBuf,
    door: SocketAddr,
}

impl Redis {
    /// Makes its folder.
    pub(crate) fn make(folder: &Path, door: SocketAddr) -> Outcome<Self> {
        std::fs::create_dir(folder)?;
        Ok(Self { folder: folder.to_owned(), door })
    }

    /// What starts it, with what it saved last.
    pub(crate) fn command(&self) -> Outcome<Command> {
        let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
        let program = ["redis-server", "valkey-server"].into_iter().find(is_there);
        let mut command = Command::new(program.ok_or("no redis-server: run scripts/setup.sh chaos")?);
        command.args(["--port", &self.door.port().to_string(), "--bind", "127.0.0.1", "--save", ""]);
        command.args(["--appendonly", "no", "--daemonize", "no", "--dir"]).arg(&self.folder);
        Ok(command)
    }

    /// Lets the next one begin with nothing.
    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_file(self.folder.join("dump.rdb"));
    }

    /// One command; its answer when that is no error.
    pub(crate) async fn ask(&self, command: &str) -> Outcome<String> {
        let mut stream = BufReader::new(TcpStream::connect(self.door).await?);
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.starts_with('+') {
            true => Ok(line.trim_end().to_owned()),
            false => Err(format!("redis-server answers {line:?} to {command}").into()),
        }
    }
}

/// Where a PostgreSQL runs, or ran.
pub(crate) struct Postgres {
    /// Its folder.
    pub(crate) folder: PathBuf,
    door: SocketAddr,
}

/// Where the server's programs are.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| PathBuf::from(name))
}

/// As whom it runs: it refuses to be root.
fn runner() -> Option<(Uid, Gid)> {
    let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    user.filter(|_| geteuid().is_root()).map(|user| (user.uid, user.gid))
}

fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if let Some((uid, gid)) = runner() {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command.env("LC_ALL", "C");
    command
}

impl Postgres {
    /// Makes an empty cluster with perch's user and database.
    pub(crate) fn make(folder: &Path, door: SocketAddr) -> Outcome<Self> {
        std::fs::create_dir(folder)?;
        if let Some((uid, gid)) = runner() {
            chown(folder, Some(uid), Some(gid))?;
        }
        let data = folder.join("data");
        let mut initdb = command("initdb");
        initdb.args([
            "--no-sync",
            "--locale=C",
            "--encoding=UTF8",
            "--auth=trust",
            "--username=postgres",
            "-D",
        ]);
        done(initdb.arg(&data).current_dir(folder))?;
        // Nobody is there yet, so a server for one user makes what is needed.
        for (database, statement) in
            [("postgres", "CREATE ROLE perch LOGIN"), ("postgres", "CREATE DATABASE perch OWNER perch")]
        {
            let mut single = command("postgres");
            single.arg("--single").arg("-D").arg(&data).arg(database).current_dir(folder);
            let (reader, mut writer) = std::io::pipe()?;
            std::io::Write::write_all(&mut writer, format!("{statement}\n").as_bytes())?;
            drop(writer);
            done(single.stdin(reader))?;
        }
        Ok(Self { folder: folder.to_owned(), door })
    }

    /// What starts it. `fsync` stays on.
    pub(crate) fn command(&self) -> Command {
        let mut server = command("postgres");
        server.current_dir(&self.folder).arg("-D").arg(self.folder.join("data"));
        server.arg("-k").arg(&self.folder).arg("-p").arg(self.door.port().to_string());
        for option in ["listen_addresses=127.0.0.1", "shared_buffers=16MB", "max_connections=100"] {
            server.args(["-c", option]);
        }
        server
    }

    /// Whether it takes statements.
    pub(crate) async fn is_ready(&self) -> bool {
        let mut ask = command("pg_isready");
        ask.args(["-q", "-h", "127.0.0.1", "-p", &self.door.port().to_string()]).current_dir(&self.folder);
        let asked = tokio::task::spawn_blocking(move || ask.status().is_ok_and(|status| status.success()));
        asked.await.unwrap_or(false)
    }
}

//! Real servers of PostgreSQL: private ones in folders of their own, on sockets of their own.

use super::process::{Process, within};
use nix::sys::signal::Signal::{SIGCONT, SIGQUIT, SIGSTOP};
use nix::unistd::{Gid, Uid, User, chown, geteuid};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// One server. It is killed when it is dropped.
pub struct PostgresServer {
    process: Option<Process>,
    folder: TempDir,
    options: Vec<String>,
    port: u16,
}

/// Where the server's programs are: a distribution keeps them out of the way, one folder for each version.
fn programs() -> PathBuf {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .expect("PostgreSQL's server is not installed: run scripts/setup.sh test")
}

/// As whom the server runs: it refuses to be root.
fn runner() -> Option<(Uid, Gid)> {
    if !geteuid().is_root() {
        return None;
    }
    let user = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = user.expect("a user that is not root");
    Some((user.uid, user.gid))
}

fn command(program: &str) -> Command {
    let mut command = Command::new(programs().join(program));
    if let Some((uid, gid)) = runner() {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    command.env("LC_ALL", "C");
    command
}

fn hand_over(path: &Path) {
    if let Some((uid, gid)) = runner() {
        chown(path, Some(uid), Some(gid)).expect("root may");
    }
}

fn done(mut command: Command) {
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An empty cluster that was made once for all tests: making one takes a second.
fn template() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{}", geteuid()));
    if target.join("PG_VERSION").exists() {
        return target;
    }
    let folder = TempDir::new().expect("a folder");
    hand_over(folder.path());
    let data = folder.path().join("data");
    let mut initdb = command("initdb");
    initdb.args(["--no-sync", "--locale=C", "--encoding=UTF8", "--auth=trust", "--username=postgres", "-D"]);
    initdb.arg(&data).current_dir(folder.path());
    done(initdb);
    let mut copy = Command::new("cp");
    let own = target.with_extension(std::process::id().to_string());
    copy.arg("-a").arg(&data).arg(&own);
    done(copy);
    // Another test may have been faster; then its own is as good.
    if std::fs::rename(&own, &target).is_err() {
        std::fs::remove_dir_all(&own).expect("it is ours");
    }
    target
}

impl PostgresServer {
    /// An empty server.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// An empty server with more options, such as `ssl=on`.
    pub async fn with(options: &[&str]) -> Self {
        let mut server = Self::folder();
        server.options = options.iter().map(|option| (*option).to_owned()).collect();
        server.open().await;
        server
    }

    /// A server that is not started yet; its folder can be written to.
    pub fn folder() -> Self {
        let folder = TempDir::new().expect("a folder");
        hand_over(folder.path());
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(template()).arg(folder.path().join("data"));
        done(copy);
        Self { process: None, folder, options: Vec::new(), port: 5432 }
    }

    /// Listens on this port of loopback too, with these options.
    pub fn on_port(mut self, port: u16, options: &[&str]) -> Self {
        self.port = port;
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
        self.options.push("listen_addresses=127.0.0.1".to_owned());
        self
    }

    /// A file for the server alone.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a writable folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        hand_over(&path);
        path
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a line that is looked at first to who may sign in how.
    pub fn admit(&self, line: &str) {
        let path = self.folder.path().join("data/pg_hba.conf");
        let rest = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, format!("{line}\n{rest}")).expect("a writable file");
    }

    /// Starts the process and waits until it takes calls.
    pub async fn open(&mut self) {
        assert!(self.try_open().await, "the server does not start");
    }

    /// The same; `false` when it ends instead.
    pub async fn try_open(&mut self) -> bool {
        let mut command = command("postgres");
        command.current_dir(self.folder.path()).arg("-D").arg(self.folder.path().join("data"));
        command.arg("-k").arg(self.folder.path()).arg("-p").arg(self.port.to_string());
        for option in [
            "listen_addresses=",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
            "max_connections=100",
            "autovacuum=off",
            "log_min_messages=log",
        ] {
            command.args(["-c", option]);
        }
        for option in &self.options {
            command.args(["-c", option]);
        }
        let process = Process::spawn(command, None);
        let is_open = process.err.says("ready to accept connections").await;
        if is_open {
            self.process = Some(process);
        }
        is_open
    }

    /// A new database, by its URL.
    pub async fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE {name}")).await;
        self.url("postgres", name)
    }

    /// The URL of a database, for one who signs in as `user`.
    pub fn url(&self, user: &str, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://{user}@{folder}:{}/{database}", self.port)
    }

    /// A connection of the test's own, as the server's master.
    pub async fn client(&self, database: &str) -> Client {
        let url = self.url("postgres", database);
        let (client, connection) =
            tokio_postgres::connect(&url, NoTls).await.unwrap_or_else(|e| panic!("{e}"));
        tokio::spawn(async move { drop(connection.await) });
        client
    }

    /// Carries out statements.
    pub async fn sql(&self, database: &str, statements: &str) {
        let client = self.client(database).await;
        let carried = within(statements, client.batch_execute(statements)).await;
        carried.unwrap_or_else(|error| panic!("{statements}: {:?}", error.as_db_error()));
    }

    /// Stops it where it is: connections stay open and nothing is answered. The processes that serve connections are
    /// frozen with it.
    pub fn freeze(&self) {
        self.signal_all(SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_all(SIGCONT);
    }

    fn signal_all(&self, signal: nix::sys::signal::Signal) {
        let main = self.process.as_ref().expect("it runs").id();
        let children =
            std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        for pid in
            std::iter::once(main).chain(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()))
        {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(pid).expect("an id")),
                signal,
            );
        }
    }

    /// Ends it at once, connections and all.
    pub async fn kill(&mut self) {
        let process = self.process.take().expect("it runs");
        process.end_by(SIGQUIT).await;
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(SIGCONT);
            // Its children end with it, at once; killed, it would leave them.
            process.stop(SIGQUIT);
        }
    }
}

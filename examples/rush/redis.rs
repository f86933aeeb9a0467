//! A private Redis: a process in a folder of its own, without persistence, and as much of a client as
//! its own accounts need.

use super::Outcome;
use super::brood::{Brood, free_port};
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(10);
/// The longest answer read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where a Redis runs, or ran.
pub(crate) struct Redis {
    brood: Arc<Brood>,
    folder: PathBuf,
    pid: Mutex<Option<u32>>,
    /// Where it listens, before and after a kill.
    pub(crate) door: SocketAddr,
}

impl Redis {
    /// Starts one.
    pub(crate) async fn start(brood: &Arc<Brood>, folder: &Path) -> Outcome<Self> {
        std::fs::create_dir(folder)?;
        let (brood, folder) = (Arc::clone(brood), folder.to_owned());
        let redis = Self { brood, folder, pid: Mutex::default(), door: free_port()? };
        redis.return_empty().await?;
        Ok(redis)
    }

    /// Starts it again, with nothing in it.
    pub(crate) async fn return_empty(&self) -> Outcome<()> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = Command::new(program()?);
        command.args(["--port", &self.door.port().to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]).arg(&self.folder);
        let pid = self.brood.start(command.stdin(Stdio::null()).stdout(log).stderr(Stdio::inherit()))?;
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
        let answers = async {
            while self.ask("PING").await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(START_MAX, answers)
            .await
            .map_err(|_| "redis-server does not answer; see its log")?;
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        let pid = self.pid.lock().unwrap_or_else(PoisonError::into_inner).take();
        pid.into_iter().for_each(|pid| self.brood.end(pid));
    }

    /// How often each command was carried out since its start, and how long that took in all.
    pub(crate) async fn commands(&self) -> Outcome<BTreeMap<String, Used>> {
        let told = self.ask("INFO commandstats").await?;
        Ok(told.lines().filter_map(used).collect())
    }

    /// One inline command with a text for an answer.
    async fn ask(&self, command: &str) -> Outcome<String> {
        let mut stream = BufReader::new(TcpStream::connect(self.door).await?);
        stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+", text)) => Ok(text.to_owned()),
            Some(("$", length)) => {
                let mut body = vec![0; length.parse::<usize>()?.min(ANSWER_BYTES_MAX)];
                stream.read_exact(&mut body).await?;
                Ok(String::from_utf8_lossy(&body).into_owned())
            }
            _ => Err(format!("redis-server answers {line:?} to {command}").into()),
        }
    }
}

/// The server's program, whichever is installed.
fn program() -> Outcome<&'static str> {
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|done| done.status.success());
    let found = ["redis-server", "valkey-server"].into_iter().find(is_there);
    found.ok_or_else(|| {
        "neither redis-server nor valkey-server is installed: run scripts/setup.sh smoke".into()
    })
}

/// What a command has cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    /// How often.
    pub(crate) calls: u64,
    /// How long in all, in µs.
    pub(crate) micros: u64,
}

impl Used {
    /// The increase since an earlier look; all of it when the process is another.
    pub(crate) fn since(self, before: Used) -> Used {
        match self.calls >= before.calls {
            true => {
                Used { calls: self.calls - before.calls, micros: self.micros.saturating_sub(before.micros) }
            }
            false => self,
        }
    }
}

/// `cmdstat_evalsha:calls=8,usec=52,…`
fn used(line: &str) -> Option<(String, Used)> {
    let (name, told) = line.trim_end().strip_prefix("cmdstat_")?.split_once(':')?;
    let field = |wanted: &str| -> Option<u64> {
        told.split(',').find_map(|field| field.strip_prefix(wanted)?.strip_prefix('=')?.parse().ok())
    };
    Some((name.to_owned(), Used { calls: field("calls")?, micros: field("usec")? }))
}

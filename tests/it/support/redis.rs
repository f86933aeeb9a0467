//! A private Redis: a process of its own at a socket in a test's folder.

use super::process::until;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// It is killed when it is dropped.
pub struct Redis {
    folder: PathBuf,
    child: Child,
}

impl Redis {
    /// Starts one, with nothing in it.
    pub async fn start(folder: &Path) -> Self {
        let redis = Self { folder: folder.to_owned(), child: spawn(folder) };
        redis.answers().await;
        redis
    }

    /// What a configuration calls it.
    pub fn url(&self) -> String {
        format!("redis+unix:{}", socket(&self.folder).display())
    }

    /// SIGKILL; everything in it is lost.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again at the same place, with nothing in it.
    pub async fn start_again(&mut self) {
        self.kill();
        self.child = spawn(&self.folder);
        self.answers().await;
    }

    async fn answers(&self) {
        until("redis-server answers", async || ping(&socket(&self.folder)).await.is_ok()).await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn spawn(folder: &Path) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("redis.log"));
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    command.arg("--unixsocket").arg(socket(folder));
    command.stdin(Stdio::null()).stdout(log.expect("a writable folder"));
    command.spawn().expect("redis-server is installed; scripts/setup.sh test installs it")
}

async fn ping(socket: &Path) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    match &answer == b"+PONG\r\n" {
        true => Ok(()),
        false => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

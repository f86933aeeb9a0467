//! The real program: `perch` as a process of its own, with what it says in hand.

use super::World;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::sync::watch;

/// Far beyond whatever a test waits for on a busy machine; it only turns a hang into a message.
const HANG: Duration = Duration::from_secs(60);

/// Waits, but not forever.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(HANG, future).await {
        Ok(value) => value,
        Err(_) => panic!("this did not happen: {what}"),
    }
}

/// Asks again and again until it is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    within(what, asking).await;
}

/// What comes out of a pipe, as far as it has come. It is read to its end, whoever listens.
#[derive(Clone)]
pub struct Stream(watch::Receiver<Vec<u8>>);

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                sender.send_modify(|bytes| bytes.extend_from_slice(&buffer[..n]));
            }
        });
        Self(receiver)
    }

    /// The bytes so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.borrow().clone()
    }

    /// The same as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("it writes text")
    }

    /// Waits until the text has this in it; `false` when the stream ended without.
    pub async fn says(&self, text: &str) -> bool {
        let is_said = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).contains(text);
        within(text, self.0.clone().wait_for(is_said)).await.is_ok()
    }

    /// Waits for its end.
    async fn end(&self) {
        let mut bytes = self.0.clone();
        within("the process ends", async { while bytes.changed().await.is_ok() {} }).await;
    }
}

/// How a process ended, and what it had said.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// Both outputs.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Each line of standard output as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines.map(|line| serde_json::from_str(line).expect("every line is one JSON object")).collect()
    }
}

/// A process. It is killed when it is dropped.
pub struct Process {
    child: Child,
    /// Held open where the process shall wait for more.
    input: Option<ChildStdin>,
    pub out: Stream,
    pub err: Stream,
}

impl Process {
    /// Starts a program with this on its standard input; with `None` nothing comes there, nor the end.
    pub fn spawn(mut command: Command, input: Option<Vec<u8>>) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it can be started");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = match input {
            Some(bytes) => {
                // Who does not read may close it.
                std::thread::spawn(move || stdin.write_all(&bytes));
                None
            }
            None => Some(stdin),
        };
        let out = Stream::of(child.stdout.take().expect("a pipe"));
        let err = Stream::of(child.stderr.take().expect("a pipe"));
        Self { child, input, out, err }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    /// Sends a signal. The process is not waited for elsewhere, so its id is still its own.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).expect("an id");
        kill(Pid::from_raw(id), signal).expect("it is our child");
    }

    /// Waits until it ends by itself.
    pub async fn end(mut self) -> Ended {
        drop(self.input.take());
        self.out.end().await;
        self.err.end().await;
        let status = self.child.wait().expect("it is our child");
        super::panics::assert_none_told(&self.err.text());
        Ended { code: status.code(), out: self.out.text(), err: self.err.text() }
    }

    /// Sends a signal and blocks until it has ended.
    pub fn stop(&mut self, signal: Signal) {
        self.signal(signal);
        let _ = self.child.wait();
    }

    /// Sends a signal and waits for the end.
    pub async fn end_by(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.end().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            super::panics::assert_none_told(&String::from_utf8_lossy(&self.err.bytes()));
        }
    }
}

/// Where a gateway that is starting listens: for apps, and for operators.
pub async fn doors(process: &Process) -> (SocketAddr, SocketAddr) {
    assert!(process.err.says("perch listens").await, "{}", process.err.text());
    let log = process.err.text();
    let line = log.lines().find(|line| line.contains("perch listens")).expect("it was said");
    let line: Value = serde_json::from_str(line).expect("the log is JSON");
    let address = |name: &str| -> SocketAddr {
        line[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{line}"))
    };
    (address("proxy"), address("admin"))
}

impl World {
    /// `perch` with these words, this world's folder, environment and settings.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_perch"));
        command.args(words).current_dir(self.dir.path()).env_clear();
        command.env("PERCH_CONFIG", &self.settings).env("FINCH_CLIENT_ID", "sim-client");
        command.env("FINCH_CLIENT_SECRET", super::CLIENT_SECRET).envs(super::hooks::VARIABLES);
        command.envs(self.own.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    /// Runs a command to its end.
    pub async fn perch(&self, words: &[&str]) -> Ended {
        self.perch_reading("", words).await
    }

    /// Runs a command that reads this from a pipe.
    pub async fn perch_reading(&self, input: &str, words: &[&str]) -> Ended {
        Process::spawn(self.command(words), Some(input.into())).end().await
    }

    /// Runs a command as it was made.
    pub async fn run(&self, command: Command) -> Ended {
        Process::spawn(command, None).end().await
    }

    /// Starts a command whose input does not come.
    pub fn perch_waiting(&self, words: &[&str]) -> Process {
        Process::spawn(self.command(words), None)
    }

    /// Runs a command whose output nobody reads: the pipe is closed before it is started.
    pub async fn perch_unread(&self, words: &[&str]) -> Ended {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = self.command(words);
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let mut child = command.spawn().expect("perch can be started");
        let err = Stream::of(child.stderr.take().expect("a pipe"));
        err.end().await;
        let status = child.wait().expect("it is our child");
        super::panics::assert_none_told(&err.text());
        Ended { code: status.code(), out: String::new(), err: err.text() }
    }

    /// Starts the gateway as a process; the world's apps and operators call it from now on.
    pub async fn serve(&mut self) -> Process {
        self.serve_with(&["serve"]).await
    }

    /// The same, with these words.
    pub async fn serve_with(&mut self, words: &[&str]) -> Process {
        let process = Process::spawn(self.command(words), None);
        (self.proxy, self.admin) = doors(&process).await;
        process
    }

    /// A file of the world's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds to the settings; a running gateway does not notice.
    pub fn set(&self, toml: &str) {
        let text = std::fs::read_to_string(&self.settings).expect("settings");
        std::fs::write(&self.settings, format!("{text}\n{toml}\n")).expect("a writable folder");
    }
}

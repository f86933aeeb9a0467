//! A connection to one run of the server, and the one thing it is for: calling the script.

use super::info::{Info, Mode};
use super::reply::{LinkError, Reply};
use super::socket::Wire;
use crate::config::Seed;
use crate::telemetry::metrics::ScriptTimes;
use redis::{Cmd, RedisError, Value};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Calls without an answer after which a link takes no more: the server has stopped, and each would be kept until it
/// answers.
const UNANSWERED_MAX: u32 = 64;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which run of the server; a restarted one has another.
    pub run_id: String,
    /// Product and version.
    pub version: String,
    /// How it stands among others; never a sentinel.
    pub mode: Mode,
    /// Where it is.
    pub address: Seed,
}

/// One connection to one run of one server. Calls may overlap; they are answered in the order of their asking.
pub struct Link {
    wire: Wire,
    server: Server,
    script: &'static str,
    sha: String,
    key: String,
    unanswered: AtomicU32,
    times: Option<Arc<ScriptTimes>>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Link {
    /// A connection that has been looked at, and a script that its server knows by `sha`.
    pub(super) fn new(wire: Wire, server: Server, script: &'static str, sha: String, key: String) -> Self {
        Self { wire, server, script, sha, key, unanswered: AtomicU32::new(0), times: None }
    }

    /// The same, telling how long its calls take.
    pub(super) fn measured(self, times: Option<Arc<ScriptTimes>>) -> Self {
        Self { times, ..self }
    }

    /// Which run of the server this link is bound to.
    pub fn run_id(&self) -> &str {
        &self.server.run_id
    }

    /// Who is at the other end.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Calls the script once: `KEYS[1]` is the key of the namespace, `ARGV` are these. Nothing is tried again, but for a
    /// server that has forgotten the script, which is told it once more: it had done nothing.
    ///
    /// # Errors
    /// [`LinkError`]. Unless it is a [`LinkError::BadReply`], make a new link. After [`LinkError::TimedOut`] and
    /// [`LinkError::Broken`] the call may have been done, or may yet be.
    pub async fn call(&self, args: &[&[u8]], within: Duration) -> Result<Reply, LinkError> {
        let began = Instant::now();
        let answer = self.call_once(args, within).await;
        if let Some(times) = &self.times {
            times.called(began.elapsed());
            if let Err(error) = &answer {
                times.failed(error.kind());
            }
        }
        answer
    }

    async fn call_once(&self, args: &[&[u8]], within: Duration) -> Result<Reply, LinkError> {
        if self.unanswered.load(Ordering::Relaxed) >= UNANSWERED_MAX {
            return Err(LinkError::Broken("it left too many calls without an answer".to_owned()));
        }
        let calling = async {
            match self.send("EVALSHA", &self.sha, args).await {
                Ok(Value::ServerError(error)) if error.code() == "NOSCRIPT" => {
                    self.send("EVAL", self.script, args).await
                }
                answer => answer,
            }
        };
        let Ok(answer) = timeout_at(Instant::now() + within, calling).await else {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return Err(LinkError::TimedOut);
        };
        self.unanswered.store(0, Ordering::Relaxed);
        answer.map_err(|error| LinkError::of(&error)).and_then(Reply::try_from)
    }

    async fn send(&self, command: &str, script: &str, args: &[&[u8]]) -> Result<Value, RedisError> {
        let mut call = Cmd::new();
        call.arg(command).arg(script).arg(1).arg(&self.key);
        for arg in args {
            call.arg(*arg);
        }
        // A clone is a handle to the same connection.
        self.wire.connection.clone().send_packed_command(&call).await
    }

    /// One round trip that does nothing. The caller bounds the time.
    pub(super) async fn ping(&self) -> Result<(), LinkError> {
        ask(&self.wire, Cmd::new().arg("PING")).await.map(drop)
    }

    /// Asks for a part of the configuration. The caller bounds the time.
    pub(super) async fn config(&self, pattern: &str) -> Result<Reply, LinkError> {
        ask(&self.wire, Cmd::new().arg("CONFIG").arg("GET").arg(pattern)).await
    }

    /// What the server says of itself. The caller bounds the time.
    pub(super) async fn info(&self) -> Result<Info, LinkError> {
        info(&self.wire).await
    }
}

/// Sends one command. The caller bounds the time.
pub(super) async fn ask(wire: &Wire, command: &Cmd) -> Result<Reply, LinkError> {
    let answer = wire.connection.clone().send_packed_command(command).await;
    answer.map_err(|error| LinkError::of(&error)).and_then(Reply::try_from)
}

/// What the server says of itself. The caller bounds the time.
pub(super) async fn info(wire: &Wire) -> Result<Info, LinkError> {
    let reply = ask(wire, Cmd::new().arg("INFO")).await?;
    let Some(text) = reply.as_str() else {
        return Err(LinkError::BadReply("no text where INFO was asked".to_owned()));
    };
    Ok(Info::parse(text))
}

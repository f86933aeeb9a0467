//! The shared ledger's script in a server of its own, under a clock that the test sets: a whole day of traffic takes
//! seconds.

use super::redis::RedisServer;
use perch::store::redis::codec::SCRIPT;
use redis::Cmd;
use redis::aio::MultiplexedConnection;
use std::fmt::Display;
use std::time::Duration;

/// How the script reads the server's clock, and how it reads the test's.
const CLOCK: (&str, &str) = ("redis.call('TIME')", "{ string.match(KEYS[2], '^(%d+)%.(%d+)$') }");

/// The script as the tests run it, known to a server.
pub struct ClockedScript {
    _server: RedisServer,
    pub connection: MultiplexedConnection,
    sha: String,
}

impl ClockedScript {
    pub async fn start() -> Self {
        assert_eq!(SCRIPT.matches(CLOCK.0).count(), 1, "the script asks for the time once");
        let server = RedisServer::start().await;
        let sha = server.text(&["SCRIPT", "LOAD", &SCRIPT.replace(CLOCK.0, CLOCK.1)]).await;
        let mut connection = server.connection().await;
        // Many operations are one call, and the machine may be busy.
        connection.set_response_timeout(Duration::from_secs(60));
        Self { _server: server, connection, sha }
    }

    /// One call in this namespace, at this time in microseconds.
    pub fn command(&self, namespace: impl Display, at: u64, args: &[&[u8]]) -> Cmd {
        let mut command = Cmd::new();
        let clock = format!("{}.{:06}", at / 1_000_000, at % 1_000_000);
        command
            .arg("EVALSHA")
            .arg(&self.sha)
            .arg(2)
            .arg(format!("perch:{{{namespace}}}"))
            .arg(clock)
            .arg(args);
        command
    }
}

//! The shared ledger's script against the ledger in memory: the same operations at the same times, and every answer
//! has to be the same. The script's clock is replaced by the test's, so a whole day of traffic takes seconds.

mod chance;
mod play;

use crate::support::redis::RedisServer;
use play::{Play, Step};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};

/// The script as it lies in the tree.
fn ledger() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/redis/ledger.lua"))
        .expect("the script")
}

/// How the script reads the server's clock, and how it reads the test's.
const CLOCK: (&str, &str) =
    ("local t = redis.call('TIME')", "local t = { string.match(KEYS[2], '^(%d+)%.(%d+)$') }");

/// How many operations of one play are sent at once.
const BATCH: usize = 500;

/// The script as the test runs it, known to a server.
struct Twin {
    _server: RedisServer,
    connection: MultiplexedConnection,
    sha: String,
}

impl Twin {
    async fn start() -> Self {
        let ledger = ledger();
        assert_eq!(ledger.matches("'TIME'").count(), 1, "the script asks for the time once");
        let script = ledger.replace(CLOCK.0, CLOCK.1);
        assert_ne!(script, ledger, "the script reads the clock in another way than the test expects");
        let server = RedisServer::start().await;
        let sha = server.text(&["SCRIPT", "LOAD", &script]).await;
        let connection = server.connection().await;
        Self { _server: server, connection, sha }
    }

    /// Sends these steps of one play and compares.
    async fn follow(&mut self, play: &Play, steps: &[Step]) {
        let mut pipeline = Pipeline::with_capacity(steps.len());
        for step in steps {
            let mut call = Cmd::new();
            let clock = format!("{}.{:06}", step.now / 1_000_000, step.now % 1_000_000);
            call.arg("EVALSHA").arg(&self.sha).arg(2).arg(format!("perch:{{{}}}", play.seed)).arg(clock);
            call.arg(step.name).arg(&step.run).arg(0).arg(&play.rules_text).arg(&step.args);
            pipeline.add_command(call);
        }
        let count = steps.len();
        let answers =
            self.connection.send_packed_commands(&pipeline, 0, count).await.expect("the server answers");
        for (at, (step, answer)) in steps.iter().zip(answers).enumerate() {
            let heard = step.heard(&words(answer));
            assert_eq!(
                heard,
                step.expected,
                "play {} ({}): step {} of this batch, after\n{}",
                play.seed,
                play.rules_text,
                at,
                steps[at.saturating_sub(12)..=at].iter().map(|s| format!("  {s}\n")).collect::<String>()
            );
        }
    }
}

/// The values of an answer, in order.
fn words(answer: Value) -> Vec<String> {
    match answer {
        Value::Array(values) => values.into_iter().flat_map(words).collect(),
        Value::Int(n) => vec![n.to_string()],
        Value::BulkString(bytes) => vec![String::from_utf8(bytes).expect("text")],
        Value::SimpleString(text) => vec![text],
        Value::Okay => vec!["OK".to_owned()],
        Value::Nil => vec!["nil".to_owned()],
        Value::ServerError(error) => vec![error.to_string()],
        other => vec![format!("{other:?}")],
    }
}

async fn compare(plays: std::ops::Range<u64>, steps: usize) {
    let mut twin = Twin::start().await;
    for seed in plays {
        let mut play = Play::new(seed);
        let mut done = 0;
        while done < steps {
            let batch: Vec<Step> = (0..BATCH.min(steps - done)).map(|_| play.step()).collect();
            twin.follow(&play, &batch).await;
            done += batch.len();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_the_script_answers_as_the_ledger_in_memory_does() {
    let plays = std::env::var("PLAYS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    compare(0..plays, 500).await;
}

//! The members of a shared ledger, in the script and in memory: replicas come, beat, fall silent, restart and lie, the
//! server restarts and forgets, calls are asked for in between, and every answer has to be the same. The script's clock
//! is the test's.

#[path = "twin/chance.rs"]
mod chance;
#[path = "redis_members/play.rs"]
mod play;

use crate::support::redis::RedisServer;
use perch::store::redis::codec::{self, SCRIPT};
use perch::store::redis::{LinkError, Reply};
use play::{Met, Play, Step};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use std::fmt::Write as _;

/// How the script reads the server's clock, and how it reads the test's.
const CLOCK: (&str, &str) = ("redis.call('TIME')", "{ string.match(KEYS[2], '^(%d+)%.(%d+)$') }");

/// How many operations are sent at once.
const BATCH: usize = 200;

/// A server that knows the script.
struct Twin {
    _server: RedisServer,
    connection: MultiplexedConnection,
    sha: String,
}

impl Twin {
    async fn start() -> Self {
        assert_eq!(SCRIPT.matches(CLOCK.0).count(), 1, "the script asks for the time once");
        let server = RedisServer::start().await;
        let sha = server.text(&["SCRIPT", "LOAD", &SCRIPT.replace(CLOCK.0, CLOCK.1)]).await;
        let connection = server.connection().await;
        Self { _server: server, connection, sha }
    }

    /// Sends these steps of one play and compares.
    async fn follow(&mut self, play: &Play, steps: &[Step]) {
        let mut pipeline = Pipeline::with_capacity(steps.len());
        let rules = codec::rules(&play.rules);
        for step in steps {
            let clock = format!("{}.{:06}", step.now / 1_000_000, step.now % 1_000_000);
            let head = codec::head(&step.run, 0, &rules);
            let mut call = Cmd::new();
            call.arg("EVALSHA").arg(&self.sha).arg(2).arg(format!("perch:{{{}}}", play.seed)).arg(clock);
            call.arg(codec::args(&head, &step.call));
            pipeline.add_command(call);
        }
        let answers = self.connection.send_packed_commands(&pipeline, 0, steps.len()).await;
        let answers: Vec<Value> = answers.expect("the server answers");
        for (at, (step, answer)) in steps.iter().zip(answers).enumerate() {
            let heard = match Reply::try_from(answer) {
                Ok(reply) => step.kind.read(&reply, &play.rules),
                Err(LinkError::BadReply(error)) => error,
                Err(error) => format!("{error:?}"),
            };
            if heard != step.expected {
                let mut story = String::new();
                for step in &steps[at.saturating_sub(20)..=at] {
                    let _ = writeln!(story, "  {step}");
                }
                panic!("play {}, step {at} of this batch, after\n{story}heard:\n  {heard}", play.seed);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i7_the_script_knows_its_members_as_the_ledger_in_memory_does() {
    let mut twin = Twin::start().await;
    let mut met = Met::default();
    for seed in 0..60 {
        let mut play = Play::new(seed);
        for _ in 0..3 {
            let batch: Vec<Step> = (0..BATCH).map(|_| play.step()).collect();
            twin.follow(&play, &batch).await;
        }
        met.add(&play.met);
    }
    assert_eq!(met.missed(), [""; 0], "{met:?}");
}

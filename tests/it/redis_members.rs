//! The members of a shared ledger, in the script and in memory: replicas come, beat, fall silent, restart and lie, the
//! server restarts and forgets, calls are asked for in between, and every answer has to be the same. The script's clock
//! is the test's.

#[path = "redis_members/play.rs"]
mod play;

use crate::support::redis::RedisServer;
use crate::support::script::ClockedScript;
use crate::twin::chance;
use perch::limit::beat::{Beat, Incarnation, Pools, Pulse, Stance};
use perch::limit::{PerProduct, Rules, Scope};
use perch::store::redis::codec::{self, Call, Heard, SCRIPT};
use perch::store::redis::{LinkError, Reply};
use play::{Met, Play, Step};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many operations are sent at once.
const BATCH: usize = 200;

/// The script next to the ledger.
struct Twin(ClockedScript);

impl Twin {
    /// Sends these steps of one play and compares.
    async fn follow(&mut self, play: &Play, steps: &[Step]) {
        let mut pipeline = Pipeline::with_capacity(steps.len());
        let rules = codec::rules(&play.rules);
        for step in steps {
            let head = codec::head(&step.run, 0, &rules);
            let args = codec::args(&head, &step.call);
            pipeline.add_command(self.0.command(play.seed, step.now, &args));
        }
        let answers = self.0.connection.send_packed_commands(&pipeline, 0, steps.len()).await;
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
    let mut twin = Twin(ClockedScript::start().await);
    let mut met = Met::default();
    // In the last one the server restarts at the moment when learning would have been given up.
    for seed in (0..24).chain([5070]) {
        let mut play = Play::new(seed);
        for _ in 0..3 {
            let batch: Vec<Step> = (0..BATCH).map(|_| play.step()).collect();
            twin.follow(&play, &batch).await;
        }
        met.add(&play.met);
    }
    assert_eq!(met.missed(), [""; 0], "{met:?}");
}

/// A heartbeat like any other.
fn heartbeat(number: u64) -> Beat {
    Beat {
        member: "pod-1".to_owned(),
        incarnation: Incarnation(7),
        number,
        acked: number - 1,
        stance: Stance::Joined,
        lease: Pools::none(),
        demand: Pools::none(),
        uptime: Duration::from_secs(500),
        peers: 1,
        away: (Pools::none(), Duration::ZERO),
        replay: Some(Vec::new()),
    }
}

/// What the ledger under this key answers to a call of the server's real script.
async fn call(link: &mut MultiplexedConnection, expected: u64, call: &Call) -> Reply {
    let head = codec::head("run", expected, &codec::rules(&rules()));
    let mut eval = Cmd::new();
    eval.arg("EVAL").arg(SCRIPT).arg(1).arg("perch:{a}").arg(codec::args(&head, call));
    Reply::try_from(link.send_packed_command(&eval).await.expect("the server answers")).expect("an answer")
}

fn rules() -> Rules {
    Rules::with_limits(PerProduct::from_fn(|_| NonZeroU32::new(20)))
}

async fn pulse(link: &mut MultiplexedConnection, number: u64) -> Pulse {
    let reply = call(link, 0, &codec::beat(&heartbeat(number))).await;
    match codec::read_beat(&reply, &rules()) {
        Ok(Heard::Told(told)) => told.what.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i11_a_server_that_drops_what_is_known_of_members_learns_anew() {
    let server = RedisServer::start().await;
    let mut link = server.connection().await;
    for key in ["perch:{a}:m", "perch:{a}:g"] {
        let mut number = 0;
        let mut next = || {
            number += 1;
            number
        };
        server.ask(&["FLUSHALL"]).await;
        assert!(!pulse(&mut link, next()).await.learns_for.is_zero(), "a first run");
        assert!(pulse(&mut link, next()).await.learns_for.is_zero(), "everybody has replayed");
        assert_eq!(server.text(&["DEL", key]).await, "1");
        assert!(!pulse(&mut link, next()).await.learns_for.is_zero(), "{key} is gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_clock_is_ahead_does_nothing() {
    let server = RedisServer::start().await;
    let mut link = server.connection().await;
    let asked = codec::hold(Scope::EgressIp, Duration::from_secs(1));
    let reply = call(&mut link, 1_000_000, &asked).await;
    assert!(matches!(codec::read_done(&reply), Ok(Heard::Skewed { now }) if now > 1_600_000_000_000_000));
    assert_eq!(server.text(&["DBSIZE"]).await, "0");
    let reply = call(&mut link, u64::from(u32::MAX) * 1_000_000, &asked).await;
    assert!(matches!(codec::read_done(&reply), Ok(Heard::Told(_))), "{reply:?}");
}

//! A gateway whose quota is in a store that all replicas share: what it does when the store is lost, flushed, moved or
//! set to another time, and that it gives back what it does not use.

use crate::identity::assert_refused;
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::script::ClockedScript;
use crate::support::{World, process};
use perch::limit::beat::{Beat, Incarnation, Pools, Sent, Stance};
use perch::limit::{Admission, Ask, PerProduct, Rules, Ticket};
use perch::store::redis::Reply;
use perch::store::redis::codec::{self, Call, Heard};
use perch::types::{Priority, Product};
use serde_json::json;
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::time::interval;

const SCENARIO: &str = "[[customer]]\nid = \"a\"\n[[customer]]\nid = \"b\"\n";
const DIRECTORY: &str = "/employer/directory";
const KEY: &str = "perch:{test}";

/// A short window, so that a start that knows nothing is over soon.
fn settings(store: &str) -> String {
    format!(
        "limits.store = \"{store}\"\nlimits.replicas = 2\nlimits.namespace = \"test\"\nlimits.window = \"1s\"\n\
         limits.arrival_bound = \"1s\"\nlimits.ip.window = \"1s\""
    )
}

async fn world(store: &str) -> World {
    let scenario = format!("{SCENARIO}[limits]\nwindow = \"1s\"\n");
    let world = World::with().scenario(&scenario).settings(&settings(store)).start().await;
    world.import().await;
    world
}

async fn is_in_mode(world: &World, mode: &str) {
    let mut pace = interval(Duration::from_millis(20));
    process::until(&format!("the limiter's mode is {mode}"), async || {
        pace.tick().await;
        world.operator().get("/readyz").await.text() == format!("ok\nlimiter: {mode}\n")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i18_quota_is_counted_in_a_cluster_and_after_its_scripts_are_flushed() {
    let cluster = RedisCluster::start().await;
    let world = world(&format!("redis://127.0.0.1:{}", cluster.nodes[0].port())).await;
    is_in_mode(&world, "redis").await;
    assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200);
    for node in &cluster.nodes {
        node.ask(&["SCRIPT", "FLUSH"]).await;
    }
    let answer = world.for_customer("b").get(DIRECTORY).await;
    assert_eq!((answer.status, answer.header("ratelimit-policy")), (200, "\"directory\";q=20;w=1"));
    let (owner, _) = cluster.owner(KEY).await;
    for (at, node) in cluster.nodes.iter().enumerate() {
        let keys = node.text(&["DBSIZE"]).await;
        assert_eq!(keys != "0", at == owner, "node {at} has {keys} keys, the slot's owner is {owner}");
    }
    assert_eq!(world.report().await["rate_limited"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_store_a_new_replica_sends_nothing_and_says_so() {
    let mut redis = RedisServer::start().await;
    redis.kill().await;
    let world = world(&redis.url()).await;
    is_in_mode(&world, "degraded").await;
    let refused = world.for_customer("a").with("perch-max-wait", "0").get(DIRECTORY).await;
    let perch = assert_refused(&refused, 503, "perch_no_ledger", "perch_unavailable");
    assert!(!refused.header("retry-after").is_empty() && perch["retry_at"].is_string(), "{perch}");
    assert_eq!(world.report().await["requests"].as_array().map_or(0, Vec::len), 0, "nothing reached Finch");
    redis.start_again().await;
    is_in_mode(&world, "redis").await;
    assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200, "back without help");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i13_a_flushed_store_grants_nothing_that_was_spent_already() {
    let redis = RedisServer::start().await;
    let world = world(&redis.url()).await;
    is_in_mode(&world, "redis").await;
    for _ in 0..6 {
        for _ in 0..10 {
            let answer = world.for_customer("a").get(DIRECTORY).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        redis.ask(&["FLUSHALL"]).await;
    }
    let report = world.report().await;
    // Twenty a second: three times what may be sent at once, had each flush been believed.
    let directory = &report["products"]["directory"];
    assert_eq!((&directory["arrivals"], &directory["within"]), (&json!(60), &json!(true)), "{report:#}");
    assert_eq!(report["rate_limited"], json!({}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i5_who_hangs_up_while_waiting_leaves_nothing_in_the_store() {
    let redis = RedisServer::start().await;
    let world = world(&redis.url()).await;
    is_in_mode(&world, "redis").await;
    world.fault(json!({ "operation": "list_directory", "preset": "app_limit", "times": 1 })).await;
    let held = world.for_customer("a").with("perch-max-wait", "0").get(DIRECTORY).await;
    assert_eq!(held.status, 429);
    let waiting = {
        let app = world.for_customer("b").with("perch-max-wait", "60");
        // Each 429 makes the product rest; many make it rest for long.
        world.fault(json!({ "operation": "list_directory", "preset": "app_limit", "times": 100 })).await;
        tokio::spawn(async move { app.get(DIRECTORY).await })
    };
    let tickets = format!("{KEY}:t");
    process::until("the call stands in line", async || redis.text(&["HLEN", &tickets]).await != "0").await;
    waiting.abort();
    process::until("its place is given up", async || redis.text(&["HLEN", &tickets]).await == "0").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_every_attempt_has_a_permit_of_its_own() {
    let redis = RedisServer::start().await;
    let world = world(&redis.url()).await;
    is_in_mode(&world, "redis").await;
    world.fault(json!({ "operation": "list_directory", "preset": "app_limit", "times": 2 })).await;
    let answer = world.for_customer("a").get(DIRECTORY).await;
    assert_eq!((answer.status, answer.header("perch-attempts")), (200, "3"), "{}", answer.text());
    assert_eq!(world.report().await["products"]["directory"]["arrivals"], 3);
    // Three attempts, and one permit for each refusal that taught something.
    let place = Product::Directory as usize;
    assert_eq!(redis.text(&["ZCARD", &format!("{KEY}:{place}:e")]).await, "5");
}

/// The script under a clock that the test sets, and the rules that it is called with.
struct Clocked {
    script: ClockedScript,
    rules: Rules,
}

impl Clocked {
    async fn start() -> Self {
        let limits = PerProduct::from_fn(|p| NonZeroU32::new(2).filter(|_| p == Product::Directory));
        Self { script: ClockedScript::start().await, rules: Rules::with_limits(limits) }
    }

    async fn call<T>(
        &self,
        at: u64,
        expected: u64,
        call: Call,
        read: impl Fn(&Reply) -> Result<Heard<T>, perch::store::redis::LinkError>,
    ) -> Heard<T> {
        let head = codec::head("run", expected, &codec::rules(&self.rules));
        let command = self.script.command("test", at, &codec::args(&head, &call));
        let answer = self.script.connection.clone().send_packed_command(&command).await.expect("an answer");
        read(&Reply::try_from(answer).expect("a value")).expect("a sound answer")
    }

    /// Asks for a permit, as a caller that expects the clock to show at most `expected`.
    async fn ask(&self, number: u64, at: u64, expected: u64) -> Option<Admission> {
        let ask = Ask {
            ticket: Ticket::new(Incarnation(7), number),
            product: Product::Directory,
            customer: None,
            priority: Priority::Interactive,
            weight: NonZeroU32::MIN,
            patience: Duration::from_secs(600),
            tag: None,
        };
        let read = |reply: &Reply| codec::read_ask(reply, Product::Directory, &self.rules);
        match self.call(at, expected, codec::ask(&ask), read).await {
            Heard::Told(told) => Some(told.what.0),
            Heard::Skewed { .. } => None,
        }
    }

    async fn beat(&self, number: u64, at: u64, replay: Option<Vec<Sent>>) {
        let beat = Beat {
            member: "one".to_owned(),
            incarnation: Incarnation(7),
            number,
            acked: number - 1,
            stance: Stance::Joined,
            lease: Pools::none(),
            demand: Pools::none(),
            uptime: Duration::from_secs(3600),
            peers: 1,
            away: (Pools::none(), Duration::ZERO),
            replay,
        };
        let read = |reply: &Reply| codec::read_beat(reply, &self.rules);
        assert!(matches!(self.call(at, 0, codec::beat(&beat), read).await, Heard::Told(_)));
    }
}

/// An hour, in microseconds.
const HOUR: u64 = 3_600_000_000;
const SECOND: u64 = 1_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i16_a_clock_that_is_set_an_hour_on_or_back_cools_no_permit() {
    for ahead in [true, false] {
        let store = Clocked::start().await;
        let start = 100 * HOUR;
        store.beat(1, start, None).await;
        store.beat(2, start + 2 * SECOND, Some(Vec::new())).await;
        store.beat(3, start + 4 * SECOND, Some(Vec::new())).await;
        let spent = start + 70 * SECOND;
        // A member that is not heard of takes its lease off the limit.
        store.beat(4, spent - 2 * SECOND, None).await;
        store.beat(5, spent - SECOND, None).await;
        for number in 0..2 {
            let granted = store.ask(number, spent, spent + SECOND).await;
            assert!(matches!(granted, Some(Admission::Granted { .. })), "{granted:?}");
        }
        // One second later on every other clock, the server's shows another hour.
        let real = spent + SECOND;
        let shown = if ahead { real + HOUR } else { real - HOUR };
        if ahead {
            assert_eq!(
                store.ask(2, shown, real + SECOND / 10).await,
                None,
                "not believed, and nothing is done"
            );
            let done = store.call(shown, 0, codec::skew(), codec::read_done).await;
            assert!(matches!(done, Heard::Told(_)));
        }
        for (number, after) in [(3, 0), (4, 30), (5, 60)] {
            let answer = store.ask(number, shown + after * SECOND, 0).await;
            assert!(
                matches!(answer, Some(Admission::Wait { .. } | Admission::Refused { .. })),
                "{after} s after the clock was set, {ahead}: {answer:?}"
            );
        }
        // The first has not come back at its time, so the second is next.
        let answer = store.ask(4, shown + 68 * SECOND, 0).await;
        let is_granted = matches!(answer, Some(Admission::Granted { .. }));
        assert!(is_granted, "a window later the clock is believed as it is, {ahead}: {answer:?}");
    }
}

//! Replicas with one store and one vault: they read once for all of them, keep one another's answers, and none serves what
//! another has changed. The store sees digests and sealed bytes, and may be lost.

use crate::redis::url;
use crate::support::client::{Answer, App};
use crate::support::fleet::{Fleet, copy_vault};
use crate::support::hooks::{DOOR, event};
use crate::support::process::{until, within};
use crate::support::raw::{Act, RawFinch, answer, good};
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::{Setup, World};
use perch::store::redis::answers::{self, Ask, Asked, Place, SCRIPT, Stage, read_asked, read_flag};
use perch::store::redis::{Link, Redis};
use redis::Value as Stored;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

const COMPANY: &str = "/employer/company";
const DIRECTORY: &str = "/employer/directory";
const BENEFITS: &str = "/employer/benefits";
const CACHE: &str = "merge.cache = { company = \"1h\" }\n";
const SECRET_BODY: &str = "{\"legal_name\":\"CANARY-of-payroll\"}";

/// A short window, so that a start that knows nothing is over soon.
fn settings(store: &str) -> String {
    format!(
        "limits.store = \"{store}\"\nlimits.replicas = 2\nlimits.namespace = \"test\"\nlimits.window = \"1s\"\n\
         limits.arrival_bound = \"1s\"\nlimits.ip.window = \"1s\"\nlimits.products.default = 1000\n\
         apps.writes = \"allow\"\nretry.attempts = 1\nshield.probe = \"off\"\n"
    )
}

fn replica(store: &str, finch: &RawFinch, more: &str) -> Setup {
    World::with().settings(&settings(store)).settings(more).finch(&finch.url())
}

/// Two replicas with one vault.
async fn pair(store: &str, more: &str) -> (World, World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    let setup = replica(store, &finch, more).connection("acme", "CANARY-token-of-acme");
    let mut one = setup.connection("globex", "CANARY-token-of-globex").without_gateway().await;
    let mut other = replica(store, &finch, more).without_gateway().await;
    for name in ["perch.db", "perch.key"] {
        copy_vault(&one.path(name), &other.path(name));
    }
    for world in [&mut one, &mut other] {
        world.open().await;
        is_joined(world).await;
    }
    (one, other, finch)
}

async fn is_joined(world: &World) {
    let mut pace = interval(Duration::from_millis(20));
    until("quota is shared", async || {
        pace.tick().await;
        world.operator().get("/readyz").await.text() == "ok\nlimiter: redis\n"
    })
    .await;
}

fn of(answer: &Answer) -> (u16, &str, &str) {
    (answer.status, answer.header("perch-cache"), answer.header("finch-request-id"))
}

fn read(app: &App, path: &'static str) -> JoinHandle<Answer> {
    let app = app.clone();
    tokio::spawn(async move { app.get(path).await })
}

fn later(finch: &RawFinch, act: Act) -> Arc<Notify> {
    let gate = Arc::new(Notify::new());
    finch.next([Act::Wait(Arc::clone(&gate)), act]);
    gate
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_keeps_another_serves() {
    let redis = RedisServer::start().await;
    let (one, other, finch) = pair(&redis.url(), CACHE).await;
    assert_eq!(of(&one.for_customer("acme").get(COMPANY).await), (200, "miss", "f-good"));
    let shared = other.for_customer("acme").get(COMPANY).await;
    assert_eq!((of(&shared), shared.header("perch-attempts")), ((200, "shared", "f-good"), "0"));
    assert!(shared.header("age").parse::<u64>().is_ok());
    assert_eq!(of(&other.for_customer("acme").get(COMPANY).await).1, "hit");
    assert_eq!(of(&one.for_customer("acme").get(COMPANY).await).1, "hit");
    assert_eq!(of(&other.for_customer("globex").get(COMPANY).await).1, "miss");
    assert_eq!(
        of(&other.for_customer("acme").with("cache-control", "no-cache").get(COMPANY).await).1,
        "bypass"
    );
    assert_eq!(finch.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_under_way_at_one_replica_is_shared_by_another_whether_it_is_kept_or_not() {
    for more in ["", CACHE] {
        let redis = RedisServer::start().await;
        let (one, other, finch) = pair(&redis.url(), more).await;
        let gate = later(&finch, good());
        let first = read(&one.for_customer("acme"), COMPANY);
        finch.arrived(1).await;
        let joined = [read(&other.for_customer("acme"), COMPANY), read(&other.for_customer("acme"), COMPANY)];
        other.metric_becomes("perch_calls_joined", 2.0).await;
        gate.notify_one();
        assert_eq!(first.await.expect("it ran").status, 200);
        for call in joined {
            let told = call.await.expect("it ran");
            assert_eq!((of(&told), told.text()), ((200, "shared", "f-good"), "{\"id\":\"c\"}".to_owned()));
        }
        assert_eq!(finch.requests().len(), 1);
        assert_eq!(
            other.metric("perch_calls_merged_total{how=\"coalesced\"}").await,
            if more.is_empty() { 2.0 } else { 1.0 }
        );
        // What is not kept is gone for whoever comes later.
        let later = other.for_customer("acme").get(COMPANY).await;
        assert_eq!(of(&later).1, if more.is_empty() { "" } else { "hit" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_told_to_share_nothing_any_more_reads_by_itself() {
    let redis = RedisServer::start().await;
    let (one, other, finch) = pair(&redis.url(), "").await;
    assert_eq!(other.reload("merge.coalesce = false").changed, ["merge.coalesce"]);
    let gate = later(&finch, good());
    let first = read(&one.for_customer("acme"), COMPANY);
    finch.arrived(1).await;
    let told = within("it does not wait", other.for_customer("acme").get(COMPANY)).await;
    assert_eq!((of(&told), finch.requests().len()), ((200, "", "f-good"), 2));
    gate.notify_one();
    assert_eq!(first.await.expect("it ran").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_at_one_replica_is_not_waited_for_again() {
    let redis = RedisServer::start().await;
    let (one, other, finch) = pair(&redis.url(), CACHE).await;
    let gate = later(&finch, answer("502 Bad Gateway", "", ""));
    let first = read(&one.for_customer("acme"), COMPANY);
    finch.arrived(1).await;
    let joined = read(&other.for_customer("acme"), COMPANY);
    other.metric_becomes("perch_calls_joined", 1.0).await;
    gate.notify_one();
    assert_eq!(first.await.expect("it ran").status, 502);
    assert_eq!(of(&joined.await.expect("it ran")), (200, "miss", "f-good"));
    assert_eq!(finch.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_at_one_replica_ends_what_every_other_keeps_and_what_is_under_way() {
    let redis = RedisServer::start().await;
    let (one, other, finch) = pair(&redis.url(), CACHE).await;
    let (acme, there) = (one.for_customer("acme"), other.for_customer("acme"));
    for _ in 0..5 {
        acme.get(COMPANY).await;
        there.get(COMPANY).await;
        assert_eq!((of(&acme.get(COMPANY).await).1, of(&there.get(COMPANY).await).1), ("hit", "hit"));
        assert_eq!(acme.post(BENEFITS, &json!({})).await.status, 200);
        assert_eq!(of(&there.get(COMPANY).await).1, "miss", "who was told of the write reads what it did");
    }
    // Read before the write and answered after it: kept by nobody, and nobody who comes later waits for it.
    assert_eq!(there.post(BENEFITS, &json!({})).await.status, 200);
    let before = finch.requests().len();
    let gate = later(&finch, answer("200 OK", "Finch-Request-Id: f-old\r\n", "{}"));
    let slow = read(&there, COMPANY);
    finch.arrived(before + 1).await;
    assert_eq!(acme.post(BENEFITS, &json!({})).await.status, 200);
    assert_eq!(of(&acme.get(COMPANY).await), (200, "miss", "f-good"));
    gate.notify_one();
    assert_eq!(of(&slow.await.expect("it ran")), (200, "miss", "f-old"));
    assert_eq!(of(&there.get(COMPANY).await), (200, "shared", "f-good"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_the_store_could_not_hear_of_is_told_when_it_is_back() {
    let redis = RedisServer::start().await;
    let (one, other, _finch) = pair(&redis.url(), &format!("{CACHE}{DOOR}")).await;
    one.for_customer("acme").get(COMPANY).await;
    assert_eq!(of(&other.for_customer("acme").get(COMPANY).await).1, "shared");
    redis.freeze();
    one.tell("m1", &event("company.updated", "c-acme")).await;
    one.webhooks_are_settled().await;
    // By itself, a replica serves what it has.
    assert_eq!(of(&other.for_customer("acme").get(COMPANY).await).1, "hit");
    redis.thaw();
    let mut pace = interval(Duration::from_millis(20));
    until("the other hears of it", async || {
        pace.tick().await;
        of(&other.for_customer("acme").get(COMPANY).await).1 == "miss"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_lost_takes_with_it_what_replicas_cannot_be_sure_of() {
    let mut redis = RedisServer::start().await;
    let (one, other, finch) = pair(&redis.url(), CACHE).await;
    one.for_customer("acme").get(COMPANY).await;
    other.for_customer("acme").get(COMPANY).await;
    redis.kill().await;
    for world in [&one, &other] {
        let mut pace = interval(Duration::from_millis(20));
        assert_eq!(of(&world.for_customer("acme").get(COMPANY).await).1, "hit", "each has its own");
        pace.tick().await;
    }
    redis.start_again().await;
    for world in [&one, &other] {
        is_joined(world).await;
    }
    let mut pace = interval(Duration::from_millis(20));
    until("a change may have been lost", async || {
        pace.tick().await;
        of(&one.for_customer("acme").get(COMPANY).await).1 != "hit"
    })
    .await;
    assert!(finch.requests().len() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_sees_neither_ids_nor_answers() {
    let redis = RedisServer::start().await;
    let (one, other, finch) = pair(&redis.url(), CACHE).await;
    let gate = later(&finch, answer("200 OK", "Finch-Request-Id: CANARY-request\r\n", SECRET_BODY));
    let first = read(&one.for_customer("acme"), "/employer/company?entity_ids[]=CANARY-entity");
    finch.arrived(1).await;
    let joined = read(&other.for_customer("acme"), "/employer/company?entity_ids[]=CANARY-entity");
    other.metric_becomes("perch_calls_joined", 1.0).await;
    let mut seen = everything(&redis).await;
    gate.notify_one();
    assert_eq!(first.await.expect("it ran").text(), SECRET_BODY);
    assert_eq!(joined.await.expect("it ran").text(), SECRET_BODY);
    one.for_customer("acme").post(BENEFITS, &json!({})).await;
    seen.extend(everything(&redis).await);
    let has = |text: &str| seen.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has(":x:k:") && has(":x:e:") && has(":x:f:"), "what is passed on was looked at");
    for canary in ["CANARY", "c-acme", "legal_name", "/employer/company"] {
        assert!(!has(canary), "{canary} lies in the store");
    }
    assert_eq!(other.for_customer("acme").get(COMPANY).await.status, 200);
}

/// Every key under which answers are passed on, and all that lies there.
async fn everything(redis: &RedisServer) -> Vec<u8> {
    let Stored::Array(keys) = redis.ask(&["KEYS", "*"]).await else { panic!("no list of keys") };
    let mut all = Vec::new();
    for key in keys {
        let Stored::BulkString(key) = key else { panic!("no key") };
        let name = String::from_utf8(key.clone()).expect("keys are text");
        all.extend_from_slice(&key);
        if name.contains(":x:") {
            let kind = redis.text(&["TYPE", &name]).await;
            let words: &[&str] = match kind.as_str() {
                "hash" => &["HGETALL", &name],
                "zset" => &["ZRANGE", &name, "0", "-1"],
                "string" => &["GET", &name],
                _ => continue,
            };
            flatten(redis.ask(words).await, &mut all);
        }
    }
    all
}

fn flatten(value: Stored, all: &mut Vec<u8>) {
    match value {
        Stored::BulkString(bytes) => all.extend_from_slice(&bytes),
        Stored::Array(list) => list.into_iter().for_each(|value| flatten(value, all)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_whose_vaults_have_other_keys_share_nothing_but_changes() {
    let redis = RedisServer::start().await;
    let finch = RawFinch::start().await;
    let store = redis.url();
    let start = async || {
        let setup = replica(&store, &finch, CACHE).connection("acme", "CANARY-token-of-acme");
        let world = setup.start().await;
        is_joined(&world).await;
        world
    };
    let (one, other) = (start().await, start().await);
    for world in [&one, &other] {
        assert_eq!(of(&world.for_customer("acme").get(COMPANY).await).1, "miss");
        assert_eq!(of(&world.for_customer("acme").get(COMPANY).await).1, "hit");
    }
    assert_eq!(one.for_customer("acme").post(BENEFITS, &json!({})).await.status, 200);
    assert_eq!(of(&other.for_customer("acme").get(COMPANY).await).1, "miss");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_passes_answers_too() {
    let cluster = RedisCluster::start().await;
    let store = format!("redis://127.0.0.1:{}", cluster.nodes[0].port());
    let (one, other, finch) = pair(&store, CACHE).await;
    assert_eq!(of(&one.for_customer("acme").get(COMPANY).await).1, "miss");
    assert_eq!(of(&other.for_customer("acme").get(COMPANY).await).1, "shared");
    assert_eq!(one.for_customer("acme").post(BENEFITS, &json!({})).await.status, 200);
    assert_eq!(of(&other.for_customer("acme").get(COMPANY).await).1, "miss");
    assert_eq!(finch.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_says_again_and_again_that_it_is_there_and_is_soon_forgotten_when_it_does_not() {
    let redis = RedisServer::start().await;
    let (one, _other, finch) = pair(&redis.url(), CACHE).await;
    let gate = later(&finch, good());
    let slow = read(&one.for_customer("acme"), COMPANY);
    finch.arrived(1).await;
    let Stored::Array(keys) = redis.ask(&["KEYS", "*:x:f:*"]).await else { panic!("no list of keys") };
    let [Stored::BulkString(key)] = keys.as_slice() else { panic!("no claim") };
    let key = String::from_utf8(key.clone()).expect("keys are text");
    let left = async || redis.text(&["PTTL", &key]).await.parse::<i64>().expect("milliseconds");
    let mut before = left().await;
    assert!((1..=3000).contains(&before), "{before}");
    let mut pace = interval(Duration::from_millis(20));
    until("the claim is made longer", async || {
        pace.tick().await;
        left().await > std::mem::replace(&mut before, left().await)
    })
    .await;
    assert_eq!(redis.text(&["HGET", &key, "s"]).await, "s", "it has been sent");
    gate.notify_one();
    assert_eq!(slow.await.expect("it ran").status, 200);
    assert_eq!(redis.text(&["EXISTS", &key]).await, "0");
}

/// The script by itself.
struct Script {
    link: Link,
    _server: RedisServer,
}

impl Script {
    async fn start() -> Self {
        let server = RedisServer::start().await;
        let redis = Redis::new(url(&server.url()), "test", SCRIPT).expect("no TLS, no trust");
        let link = redis.connect(Duration::from_secs(10)).await.expect("it is there");
        Self { link, _server: server }
    }

    async fn call(&self, call: answers::Call) -> perch::store::redis::Reply {
        let words: Vec<&[u8]> = call.iter().map(Vec::as_slice).collect();
        self.link.call(&words, Duration::from_secs(10)).await.expect("an answer")
    }

    async fn flag(&self, call: answers::Call) -> bool {
        read_flag(&self.call(call).await).expect("a flag")
    }

    async fn ask(&self, place: &Place, me: &str, lease: Duration, follows: Option<&str>) -> Asked {
        let (stage, have) = (Stage::Interactive, None);
        let ask = Ask { place, me, lease, stage, have, looks: true, claims: true, follows };
        read_asked(self.call(answers::ask(&ask)).await).expect("an answer")
    }
}

fn place(name: &str) -> Place {
    Place { name: name.to_owned(), connection: "c".to_owned() }
}

const HOUR: Duration = Duration::from_secs(3600);

fn epoch_of(asked: Asked) -> String {
    match asked {
        Asked::Lead(epoch) => epoch,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_holds_no_more_than_its_bound() {
    let script = Script::start().await;
    let kept = async |n: usize| {
        matches!(script.ask(&place(&n.to_string()), "r", HOUR, None).await, Asked::Answer { .. })
    };
    for n in 0..100 {
        let at = place(&n.to_string());
        let epoch = epoch_of(script.ask(&at, "me", HOUR, None).await);
        let put = answers::put(&at, ("me", &epoch), Some(HOUR), 10_000, vec![7; 1_000]);
        assert!(script.flag(put).await);
    }
    let mut count = 0;
    for n in 0..100 {
        count += usize::from(kept(n).await);
    }
    assert_eq!((count, kept(99).await, kept(0).await), (10, true, false));
    let at = place("large");
    let epoch = epoch_of(script.ask(&at, "me", HOUR, None).await);
    let put = answers::put(&at, ("me", &epoch), Some(HOUR), 10_000, vec![7; 10_001]);
    assert!(!script.flag(put).await, "more than there is room for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_lost_its_claim_tells_nobody_anything() {
    let script = Script::start().await;
    let at = place("a");
    let short = Duration::from_millis(1);
    let epoch = epoch_of(script.ask(&at, "old", short, None).await);
    until("the claim runs out", async || !script.flag(answers::hold(&at, "old", short, Stage::Sent)).await)
        .await;
    assert_eq!(epoch_of(script.ask(&at, "new", HOUR, Some("old")).await), epoch);
    let waits = script.ask(&at, "third", HOUR, None).await;
    assert_eq!(waits, Asked::Wait { who: "new".to_owned(), stage: Stage::Interactive, epoch: epoch.clone() });
    let put =
        |me: &'static str, epoch: &str, span| answers::put(&at, (me, epoch), span, 10_000, b"x".to_vec());
    assert!(!script.flag(put("old", &epoch, None)).await, "nobody waits for it");
    assert!(!script.flag(answers::fail(&at, "old", true)).await);
    assert!(script.flag(answers::done(&at, "new")).await, "somebody waits");
    assert!(script.flag(put("new", &epoch, None)).await);
    assert!(matches!(
        script.ask(&at, "third", HOUR, Some("new")).await,
        Asked::Answer { is_kept: false, .. }
    ));
    // Whoever comes later reads anew; what was asked before a change is kept by nobody.
    let epoch = epoch_of(script.ask(&at, "fourth", HOUR, None).await);
    assert!(script.flag(answers::moved("c", HOUR)).await);
    assert!(!script.flag(put("fourth", &epoch, Some(HOUR))).await);
    let epoch = epoch_of(script.ask(&at, "fifth", HOUR, None).await);
    assert!(script.flag(answers::all_moved()).await);
    assert_ne!(epoch_of(script.ask(&at, "sixth", HOUR, None).await), epoch, "a new claim in a new epoch");
    assert!(!script.flag(put("fifth", &epoch, Some(HOUR))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_before_anything_was_sent_leaves_its_claim_to_another() {
    let script = Script::start().await;
    let at = place("a");
    for (was_sent, is_led) in [(false, true), (true, false)] {
        epoch_of(script.ask(&at, "one", HOUR, None).await);
        assert!(matches!(script.ask(&at, "two", HOUR, None).await, Asked::Wait { .. }));
        assert!(script.flag(answers::fail(&at, "one", was_sent)).await);
        let next = script.ask(&at, "two", HOUR, Some("one")).await;
        assert_eq!(matches!(next, Asked::Lead(_)), is_led, "{next:?}");
        script.flag(answers::fail(&at, "two", false)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn ten_gateways_that_poll_one_directory_make_one_attempt_in_each_interval() {
    let scenario = "limits.window = \"1s\"\n[[customer]]\nid = \"acme\"";
    let more = "limits.window = \"1s\"\nlimits.arrival_bound = \"1s\"\nlimits.ip.window = \"1s\"\n\
                limits.ip.requests = 10000\nmerge.cache = { directory = \"2s\" }";
    let world = World::with().scenario(scenario).settings(more).without_gateway().await;
    let fleet = Fleet::of_one_vault(world, 10).await;
    fleet.mode_becomes("redis").await;
    let mut polling = JoinSet::new();
    for number in 0..10 {
        polling.spawn(poll(fleet.door(number)));
    }
    let arrivals = async || -> Vec<i64> {
        let seen = fleet.world.straight().get("/_sim/arrivals").await.json();
        let times = seen["products"]["directory"]["at_ms"].as_array().cloned().unwrap_or_default();
        times.iter().filter_map(Value::as_i64).collect()
    };
    let mut pace = interval(Duration::from_millis(50));
    until("the directory is read five times", async || {
        pace.tick().await;
        arrivals().await.len() >= 5
    })
    .await;
    let (mut calls, mut by_cache) = (0, std::collections::BTreeMap::new());
    polling.abort_all();
    let times = arrivals().await;
    for number in 0..10 {
        for (sample, value) in fleet.metrics(number).await {
            if sample.starts_with("perch_cache_calls_total{product=\"directory\"") {
                *by_cache.entry(sample).or_insert(0.0) += value;
                calls += value as u64;
            }
        }
    }
    let gaps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!(
        "{calls} calls at ten gateways, {} attempts at Finch, ms between them: {gaps:?}; {by_cache:?}",
        times.len()
    );
    // Kept for two seconds from its answer on; the milliseconds are whole ones.
    assert!(gaps.iter().all(|gap| *gap >= 1_990), "{gaps:?}");
    let report = fleet.world.report().await;
    assert_eq!((&report["rate_limited"], &report["suspicious"]["count"]), (&json!({}), &json!(0)));
}

/// Polls as fast as it is answered, as many apps do after a deployment.
async fn poll(door: impl Fn() -> SocketAddr) {
    loop {
        let app = App::at(door()).with("perch-customer", "acme");
        let told = app.get(DIRECTORY).await;
        assert_eq!(told.status, 200, "{}", told.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_killed_while_it_reads_for_others_is_succeeded_by_one_of_them() {
    let scenario = "limits.window = \"1s\"\n[[customer]]\nid = \"acme\"";
    let more = "limits.window = \"1s\"\nlimits.arrival_bound = \"1s\"\nlimits.ip.window = \"1s\"\n\
                limits.ip.requests = 10000\nmerge.cache = { directory = \"1h\" }";
    let world = World::with().scenario(scenario).settings(more).without_gateway().await;
    let mut fleet = Fleet::of_one_vault(world, 3).await;
    fleet.mode_becomes("redis").await;
    fleet.world.fault(json!({ "operation": "list_directory", "stall": true, "times": 1 })).await;
    let ask = |door: SocketAddr| {
        let app = App::at(door).with("perch-customer", "acme");
        tokio::spawn(async move { app.try_call("GET", DIRECTORY, "".into()).await })
    };
    let lost = ask(fleet.door(0)());
    let arrived = async |count: usize| {
        let mut pace = interval(Duration::from_millis(20));
        until("it arrives at Finch", async || {
            pace.tick().await;
            let seen = fleet.world.straight().get("/_sim/arrivals").await.json();
            seen["products"]["directory"]["arrivals"] == json!(count)
        })
        .await;
    };
    arrived(1).await;
    let waiting = [ask(fleet.door(1)()), ask(fleet.door(2)())];
    for number in [1, 2] {
        let mut pace = interval(Duration::from_millis(20));
        until("it waits", async || {
            pace.tick().await;
            fleet.metrics(number).await.get("perch_calls_joined").copied() == Some(1.0)
        })
        .await;
    }
    fleet.kill(0).await;
    assert!(lost.await.expect("it ran").is_err());
    for call in waiting {
        assert_eq!(call.await.expect("it ran").expect("an answer").status, 200);
    }
    let seen = fleet.world.straight().get("/_sim/arrivals").await.json();
    assert_eq!(seen["products"]["directory"]["arrivals"], 2, "the one that was lost, and one for both");
}

//! What replicas that share a store tell each other, and what one among them does alone: against real servers, through
//! the whole quota, and the script by itself under a clock that the test sets.

use crate::redis::url;
use crate::support::process::{until, within};
use crate::support::redis::{RedisCluster, RedisServer};
use crate::support::script::ClockedScript;
use perch::engine::quota::{Member, Quota};
use perch::limit::beat::Incarnation;
use perch::limit::{Ailment, Notice, OnOutage, PerProduct, Rules, Subject};
use perch::store::redis::codec::notices::{self, News, read_news};
use perch::store::redis::codec::{self, Call, Heard, SCRIPT};
use perch::store::redis::{LinkError, Redis, Reply};
use perch::types::{ConnectionId, EntityId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

type Ear = mpsc::Receiver<(Notice, Duration)>;

const MINUTE: Duration = Duration::from_secs(60);

/// Replicas of one application on one store. They stop when it is dropped.
struct Replicas {
    store: String,
    stop: watch::Sender<bool>,
    born: u64,
}

impl Replicas {
    fn on(store: &str) -> Self {
        Self { store: store.to_owned(), stop: watch::Sender::new(false), born: 0 }
    }

    /// One more, and what it hears.
    fn start(&mut self) -> (Arc<Quota>, Ear) {
        self.born += 1;
        let redis = Redis::new(url(&self.store), "test", SCRIPT).expect("no TLS, no trust");
        let member = Member {
            name: format!("replica-{}", self.born),
            incarnation: Incarnation(self.born),
            on_outage: OnOutage::Refuse,
        };
        let quota = Quota::shared(redis, rules(), member, self.stop.subscribe());
        let ear = quota.news();
        (quota, ear)
    }
}

fn rules() -> Rules {
    Rules::with_limits(PerProduct::from_fn(|_| None))
}

fn ill(connection: &str) -> Notice {
    let (connection, entity) = (ConnectionId::new(connection), EntityId::new("\"e\\ | \u{2028}ü"));
    Notice::Ill {
        connection: connection.expect("an id"),
        entity: Some(entity.expect("an id")),
        ailment: Ailment::Reauthentication,
        version: 7,
    }
}

fn well(connection: &str) -> Notice {
    Notice::Well { connection: ConnectionId::new(connection).expect("an id"), entity: None }
}

fn held() -> Notice {
    Notice::Hold { subject: Subject::Application, span: MINUTE }
}

async fn next(ear: &mut Ear) -> Notice {
    let (notice, left) = within("a notice is heard", ear.recv()).await.expect("the channel is open");
    assert!(left > Duration::ZERO && left <= MINUTE, "{notice:?} lasts {left:?}");
    notice
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_hear_each_other_in_order_and_who_comes_late_hears_what_lasts() {
    let server = RedisServer::start().await;
    let mut replicas = Replicas::on(&server.url());
    let ((one, mut ear_of_one), (two, mut ear_of_two)) = (replicas.start(), replicas.start());
    for notice in [ill("a"), well("a"), held(), ill("b")] {
        one.post(notice.clone(), MINUTE);
        assert_eq!(next(&mut ear_of_two).await, notice);
    }
    two.post(well("b"), MINUTE);
    assert_eq!(next(&mut ear_of_one).await, well("b"), "and nothing of what it said itself");

    let (_three, mut ear_of_three) = replicas.start();
    for notice in [ill("a"), well("a"), held(), ill("b"), well("b")] {
        assert_eq!(next(&mut ear_of_three).await, notice);
    }
    replicas.stop.send_replace(true);
    assert_eq!(within("the end", ear_of_two.recv()).await, None, "the channel ends with the gateway");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_starts_again_hears_its_earlier_run() {
    let server = RedisServer::start().await;
    let mut replicas = Replicas::on(&server.url());
    let ((one, _), (_two, mut ear)) = (replicas.start(), replicas.start());
    one.post(ill("a"), MINUTE);
    next(&mut ear).await;
    let member = |run| Member {
        name: "replica-1".to_owned(),
        incarnation: Incarnation(run),
        on_outage: OnOutage::Refuse,
    };
    let redis = Redis::new(url(&server.url()), "test", SCRIPT).expect("no TLS, no trust");
    let again = Quota::shared(redis, rules(), member(100), replicas.stop.subscribe());
    assert_eq!(next(&mut again.news()).await, ill("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_is_heard_after_the_store_was_flushed_or_started_again_or_was_out_meanwhile() {
    let mut server = RedisServer::start().await;
    let mut replicas = Replicas::on(&server.url());
    let ((one, _), (_two, mut ear)) = (replicas.start(), replicas.start());
    one.post(ill("a"), MINUTE);
    assert_eq!(next(&mut ear).await, ill("a"));
    server.ask(&["FLUSHALL"]).await;
    one.post(ill("b"), MINUTE);
    assert_eq!(next(&mut ear).await, ill("b"));
    server.kill().await;
    one.post(ill("c"), MINUTE);
    one.post(well("c"), MINUTE);
    server.start_again().await;
    assert_eq!(next(&mut ear).await, ill("c"));
    assert_eq!(next(&mut ear).await, well("c"), "in the order of its saying");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_gets_what_all_claim() {
    let server = RedisServer::start().await;
    let mut replicas = Replicas::on(&server.url());
    let two = [replicas.start(), replicas.start()];
    // A claim falls back to the replica itself while there is no connection.
    for (quota, _) in &two {
        let is_shared = || quota.mode() == perch::engine::quota::Mode::Redis;
        until("the store is used", async || is_shared()).await;
    }
    for name in ["probe:a", "probe:b"] {
        let mut claims = JoinSet::new();
        for n in 0..100 {
            let quota = two[n % 2].0.clone();
            claims.spawn(async move { quota.claim(name, MINUTE).await });
        }
        let won = claims.join_all().await.into_iter().filter(|is_first| *is_first).count();
        assert_eq!(won, 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_store_each_replica_claims_once_for_itself() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let mut replicas = Replicas::on(&server.url());
    for (quota, _ear) in [replicas.start(), replicas.start()] {
        assert!(quota.claim("probe", MINUTE).await);
        assert!(!quota.claim("probe", MINUTE).await);
        assert!(quota.claim("another", MINUTE).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_hear_each_other_through_a_cluster() {
    let cluster = RedisCluster::start().await;
    let mut replicas = Replicas::on(&cluster.nodes[0].url());
    replicas.store = cluster.nodes[1].url();
    let (one, _) = replicas.start();
    replicas.store = cluster.nodes[2].url();
    let (_two, mut ear) = replicas.start();
    one.post(ill("a"), MINUTE);
    assert_eq!(next(&mut ear).await, ill("a"));
    assert!(one.claim("probe", MINUTE).await);
}

#[tokio::test]
async fn a_replica_that_shares_nothing_hears_nothing_and_claims_for_itself() {
    let quota = Quota::new(rules());
    let mut ear = quota.news();
    quota.post(held(), MINUTE);
    assert_eq!(ear.recv().await, None);
    assert!(quota.claim("probe", MINUTE).await);
    assert!(!quota.claim("probe", MINUTE).await);
}

/// The script under a clock that the test sets, as one replica calls it.
struct Clocked(ClockedScript);

/// When it begins, in microseconds.
const START: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;

impl Clocked {
    async fn call<T>(&self, at: u64, call: Call, read: impl Fn(&Reply) -> Result<Heard<T>, LinkError>) -> T {
        let head = codec::head("run", 0, &codec::rules(&rules()));
        let command = self.0.command("test", at, &codec::args(&head, &call));
        let answer = self.0.connection.clone().send_packed_command(&command).await.expect("an answer");
        match read(&Reply::try_from(answer).expect("a value")).expect("a sound answer") {
            Heard::Told(told) => told.what,
            Heard::Skewed { .. } => panic!("no time is expected"),
        }
    }

    async fn post(&self, at: u64, notice: &Notice, span: Duration) {
        self.call(at, notices::post(Incarnation(1), notice, span), codec::read_done).await;
    }

    /// One page.
    async fn page(&self, at: u64, cursor: u64) -> News {
        self.call(at, notices::news(Incarnation(2), cursor), read_news).await
    }

    async fn claim(&self, at: u64, span: Duration) -> bool {
        self.call(at, notices::claim("probe", span), codec::read_flag).await
    }

    async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut self.0.connection.clone())
            .await
            .expect("the names of all keys");
        keys.sort();
        keys
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_run_out_is_not_heard_wherever_the_clock_was_set() {
    let store = Clocked(ClockedScript::start().await);
    store.post(START, &ill("short"), Duration::from_secs(5)).await;
    store.post(START, &ill("long"), MINUTE).await;
    let early = store.page(START + 4 * SECOND, 0).await;
    let told = [(ill("short"), Duration::from_secs(1)), (ill("long"), Duration::from_secs(56))];
    assert_eq!((early.told.as_slice(), early.has_more), (&told[..], false));
    let later = store.page(START + 5 * SECOND, 0).await;
    assert_eq!(later.told, [(ill("long"), Duration::from_secs(55))]);
    assert_eq!(store.page(START + 6 * SECOND, early.cursor).await.told, [], "nothing is told twice");

    // The clock goes back by an hour: nothing lasts longer than was said, and what follows is heard.
    let back = START - 3600 * SECOND;
    assert_eq!(store.page(back, 0).await.told[1], (ill("long"), MINUTE));
    store.post(back, &well("long"), MINUTE).await;
    let told = store.page(back, early.cursor).await;
    assert_eq!(told.told, [(well("long"), MINUTE)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_heard_more_than_the_store_knows_begins_anew() {
    let store = Clocked(ClockedScript::start().await);
    store.post(START, &ill("a"), MINUTE).await;
    let heard = store.page(START, 0).await.cursor;
    let () = redis::cmd("FLUSHALL").query_async(&mut store.0.connection.clone()).await.expect("flushed");
    // The store comes back with an earlier clock than it had.
    let back = START - 3600 * SECOND;
    let nothing = store.page(back, heard).await;
    assert_eq!(nothing.told, []);
    store.post(back + SECOND, &ill("b"), MINUTE).await;
    assert_eq!(store.page(back + SECOND, heard).await.told, [(ill("b"), MINUTE)], "from the old cursor");
    assert_eq!(store.page(back + SECOND, nothing.cursor).await.told, [(ill("b"), MINUTE)], "from the new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_4096_are_kept_and_told_page_by_page() {
    let store = Clocked(ClockedScript::start().await);
    const POSTED: usize = 4_096 + 300;
    for n in 0..POSTED {
        store.post(START, &ill(&n.to_string()), MINUTE).await;
    }
    let (mut cursor, mut heard, mut pages) = (0, VecDeque::new(), 0);
    loop {
        let page = store.page(START + SECOND, cursor).await;
        assert!(page.told.len() <= 256);
        heard.extend(page.told.into_iter().map(|(notice, _)| notice));
        (cursor, pages) = (page.cursor, pages + 1);
        if !page.has_more {
            break;
        }
    }
    assert_eq!((heard.len(), pages), (4_096, 17));
    assert_eq!(heard.front(), Some(&ill("300")));
    assert_eq!(heard.back(), Some(&ill(&(POSTED - 1).to_string())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_free_again_when_its_span_is_over_or_its_clock_is_not_believed() {
    let store = Clocked(ClockedScript::start().await);
    assert!(store.claim(START, MINUTE).await);
    assert!(!store.claim(START + 59 * SECOND, MINUTE).await);
    assert!(store.claim(START + 60 * SECOND, MINUTE).await);
    let back = START - 3600 * SECOND;
    assert!(store.claim(back, MINUTE).await, "not an hour late");
    assert!(!store.claim(back + SECOND, MINUTE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notices_and_claims_have_two_keys_and_both_end() {
    let store = Clocked(ClockedScript::start().await);
    let before = store.page(START, 0).await;
    assert_eq!((before.cursor, before.told.len()), (0, 0));
    let ledgers = store.keys().await;
    store.post(START, &held(), 5 * MINUTE).await;
    store.post(START, &held(), MINUTE).await;
    store.claim(START, MINUTE).await;
    let mut added = store.keys().await;
    added.retain(|key| !ledgers.contains(key));
    assert_eq!(added, ["perch:{test}:c", "perch:{test}:n"]);
    for (key, least) in [("perch:{test}:c", 60), ("perch:{test}:n", 300)] {
        let ttl: i64 = redis::cmd("TTL")
            .arg(key)
            .query_async(&mut store.0.connection.clone())
            .await
            .expect("a time to live");
        assert!(ttl >= least && ttl <= least + 60, "{key} lives {ttl} s; what it holds lasts {least} s");
    }
}

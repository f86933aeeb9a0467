//! Limits that look on: every call is sent at once, and what they would have done is counted.

use crate::redis::url;
use crate::support::World;
use crate::support::process::{until, within};
use crate::support::redis::RedisServer;
use perch::engine::quota::{AskFacts, Member, Quota, Refusal};
use perch::limit::beat::Incarnation;
use perch::limit::{OnOutage, PerProduct, Rules, Scope};
use perch::store::redis::Redis;
use perch::store::redis::codec::SCRIPT;
use perch::types::{Priority, Product};
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::sync::watch;

const SCENARIO: &str = "[[customer]]\nid = \"a\"\n[[customer]]\nid = \"b\"\n\
                        [limits]\nwindow = \"60s\"\n[limits.products]\ndirectory = 4\n";
const DIRECTORY: &str = "/employer/directory";

async fn world(settings: &str) -> World {
    let settings = format!(
        "merge.coalesce = false\nmerge.resend_memory = \"0s\"\nlimits.products.directory = 2\n{settings}"
    );
    let world = World::with().scenario(SCENARIO).settings(&settings).start().await;
    world.import().await;
    world
}

fn would(what: &str) -> String {
    format!("perch_limiter_observed_total{{product=\"directory\",would=\"{what}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_beyond_a_limit_are_sent_at_once_and_counted() {
    let world = world("limits.mode = \"observe\"").await;
    for n in 0..4 {
        // The third and fourth would wait for a minute: one would, and one has not the patience.
        let wait = if n == 2 { "120" } else { "1" };
        let app = world.for_customer("a").with("perch-max-wait", wait).with("perch-priority", "batch");
        let answer = within("it is sent at once", app.get(DIRECTORY)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let samples = world.metrics().await;
    let counted = |what: &str| samples.get(&would(what)).copied().unwrap_or_default();
    assert!(counted("wait") >= 1.0 && counted("refuse") >= 1.0, "{samples:?}");
    assert!((counted("wait") + counted("refuse") - 3.0).abs() <= 1.0, "{samples:?}");
    assert_eq!(samples["perch_limiter_observes"], 1.0);
    let ready = world.operator().get("/readyz").await.text();
    assert!(ready.contains("limits: observe"), "{ready}");
    // Finch's own limit is four: its 429 is passed on, and not sent again and again.
    let answer = world.for_customer("b").get(DIRECTORY).await;
    assert_eq!((answer.status, answer.class()), (429, "rate_limited"), "{}", answer.text());
    assert_eq!(answer.header("perch-attempts"), "1");
    assert!(
        (world.metric("perch_finch_429_total{finch_code=\"finch_application_rl\"}").await - 1.0).abs() < 1e-9
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_while_looking_on_counts_when_the_limits_are_kept_again() {
    let world = world("").await;
    world.reload("limits.mode = \"observe\"");
    for _ in 0..3 {
        assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200);
    }
    world.reload("");
    let app = world.for_customer("a").with("perch-max-wait", "0");
    assert_eq!(app.get(DIRECTORY).await.status, 429, "three of two are spent");
    assert_eq!(world.report().await["products"]["directory"]["arrivals"], 3);
    assert_eq!(world.metric("perch_limiter_observes").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_is_sent_when_looking_on_begins() {
    let world = world("").await;
    for _ in 0..2 {
        assert_eq!(world.for_customer("a").get(DIRECTORY).await.status, 200);
    }
    let app = world.for_customer("b").with("perch-max-wait", "120");
    let waiting = tokio::spawn(async move { app.get(DIRECTORY).await });
    world.metric_becomes("perch_queue_depth{priority=\"interactive\",product=\"directory\"}", 1.0).await;
    world.reload("limits.mode = \"observe\"");
    assert_eq!(within("it is sent", waiting).await.expect("it ran").status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_block_of_the_address_one_call_goes_first_among_replicas_that_look_on() {
    const HOLD: Duration = Duration::from_secs(2);
    const LONG: Duration = Duration::from_secs(120);
    let server = RedisServer::start().await;
    let stop = watch::Sender::new(false);
    let one_only = |product| (product == Product::Directory).then_some(NonZeroU32::MIN);
    // A short window, so that a start that knows nothing is over soon.
    let mut rules = Rules::with_limits(PerProduct::from_fn(one_only));
    (rules.window, rules.ip.window) = (Duration::from_secs(1), Duration::from_secs(1));
    rules.arrival_bound = Some(Duration::from_secs(1));
    let start = |born: u64| {
        let redis = Redis::new(url(&server.url()), "test", SCRIPT).expect("no TLS, no trust");
        let (name, on_outage) = (format!("replica-{born}"), OnOutage::Refuse);
        let member = Member { name, incarnation: Incarnation(born), on_outage };
        Quota::shared(redis, rules.clone(), member, stop.subscribe())
    };
    let (one, two) = (start(1), start(2));
    let ask = |product, patience| AskFacts {
        product,
        customer: None,
        priority: Priority::Interactive,
        patience,
        tag: None,
    };
    // What was sent before is not known for a window; then the one permit is spent.
    let first = within("a permit", one.admit(ask(Product::Directory, LONG))).await.expect("granted");
    first.arrived(false);
    one.observe(true);
    two.observe(true);
    let spent = two.admit(ask(Product::Directory, Duration::ZERO)).await;
    assert!(spent.is_ok(), "it is sent although the limit is spent: {spent:?}");
    one.hold(Scope::EgressIp, HOLD);
    let directory = Scope::Product(Product::Directory);
    two.hold(directory, LONG);
    let knows = |quota: &Quota, of| quota.snapshot().holds.iter().any(|(scope, _)| *scope == of);
    let is_told = async || knows(&two, Scope::EgressIp) && knows(&one, directory);
    until("each replica hears of the other's hold", is_told).await;
    let probe = within("the block ends", one.admit(ask(Product::Company, LONG))).await.expect("granted");
    // While it is under way nobody else goes, and another hold that lasts longer does not hide that.
    let hasty = two.admit(ask(Product::Directory, Duration::ZERO)).await;
    assert!(matches!(hasty, Err(Refusal::Limited { .. })), "{hasty:?}");
    let patient = tokio::spawn({
        let (two, ask) = (two.clone(), ask(Product::Company, LONG));
        async move { two.admit(ask).await.is_ok() }
    });
    until("it waits", async || two.waiting(Product::Company, Priority::Interactive) == 1).await;
    probe.arrived(false);
    assert!(within("the address is open", patient).await.expect("it ran"));
    let sent = two.admit(ask(Product::Directory, Duration::ZERO)).await;
    assert!(sent.is_ok(), "{sent:?}");
}

//! Limits that look on: every call is sent at once, and what they would have done is counted.

use crate::support::World;
use crate::support::process::within;

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

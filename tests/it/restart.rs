//! What one run sent, the next one knows: Finch counts on while perch restarts.

use crate::identity::assert_refused;
use crate::support::{Process, World, until};
use nix::sys::signal::Signal::SIGKILL;
use serde_json::json;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const CUSTOMER: &str = "[[customer]]\nid = \"a\"\n";
const COMPANY: &str = "/employer/company";
const DIRECTORY: &str = "/employer/directory";
/// Calls of one window, at Finch and at perch.
const LIMIT: u64 = 10;
/// How often perch is killed while it sends.
const ROUNDS: u64 = 3;

impl World {
    /// A world with one customer and short windows, whose gateway was never started.
    async fn before_the_first_start(limit: u64, window: &str) -> World {
        let limits = format!("[limits]\nwindow = \"{window}\"\n[limits.products]\ncompany = {limit}\n");
        let world = World::with()
            .scenario(&format!("{CUSTOMER}{limits}"))
            .settings(&format!("limits.window = \"{window}\"\nlimits.arrival_bound = \"2s\""))
            .settings(&format!("limits.products.company = {limit}"))
            // Every call of a burst is meant to reach Finch.
            .settings("merge.coalesce = false")
            .without_gateway()
            .await;
        world.import().await;
        world
    }

    /// How many calls for the company have come to Finch.
    async fn arrivals(&self) -> u64 {
        self.report().await["products"]["company"]["arrivals"].as_u64().unwrap_or_default()
    }
}

/// A call whose gateway may die at any moment: the answer's status, if it came.
async fn try_company(proxy: SocketAddr) -> Option<u16> {
    let request =
        "GET /employer/company HTTP/1.1\r\nhost: perch\r\nperch-customer: a\r\nconnection: close\r\n\r\n";
    let mut socket = TcpStream::connect(proxy).await.ok()?;
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn burst(world: &World) -> JoinSet<Option<u16>> {
    (0..2 * LIMIT).map(|_| try_company(world.proxy)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_at_finch_overflows_when_perch_is_killed_in_the_middle_of_a_burst() {
    let mut world = World::before_the_first_start(LIMIT, "3s").await;
    for round in 0..ROUNDS {
        let perch: Process = world.serve().await;
        let before = world.arrivals().await;
        let calls = burst(&world);
        // Each time at another point of it.
        let enough = before + 1 + round * (LIMIT - 1) / (ROUNDS - 1);
        until("Finch has part of the burst", async || world.arrivals().await >= enough).await;
        let killed = perch.end_by(SIGKILL).await;
        assert_eq!(killed.code, None, "it did not end by itself: {}", killed.err);
        let answers = calls.join_all().await;
        assert!(answers.iter().flatten().all(|status| *status == 200), "{answers:?}");
        assert!(answers.contains(&None), "it was killed in the middle");
    }
    let _perch = world.serve().await;
    let answers = burst(&world).join_all().await;
    let report = world.report().await;
    assert_eq!(report["rate_limited"], json!({}), "Finch refused");
    let worst = report["products"]["company"]["worst_window"].as_u64().expect("a number");
    assert!(worst <= LIMIT, "{worst} calls in one window");
    assert!(answers.iter().all(|status| *status == Some(200)), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_sends_at_once_and_a_restarted_one_knows_what_it_sent() {
    let mut world = World::before_the_first_start(3, "30s").await;
    let perch = world.serve().await;
    for _ in 0..2 {
        let answer = world.for_customer("a").with("perch-max-wait", "0").get(COMPANY).await;
        assert_eq!((answer.status, answer.header("perch-attempts")), (200, "1"), "{}", answer.text());
    }
    perch.end_by(SIGKILL).await;
    let _perch = world.serve().await;
    assert_eq!(world.metric("perch_quota_used{product=\"company\"}").await, 2.0);
    assert_eq!(world.metric("perch_quota_used{product=\"egress-ip\"}").await, 2.0);
    let hurried = world.for_customer("a").with("perch-max-wait", "0");
    assert_eq!(hurried.get(COMPANY).await.status, 200, "one was left");
    let refused = hurried.get(COMPANY).await;
    assert_refused(&refused, 429, "perch_rate_limited", "rate_limited");
    let seconds: u64 = refused.header("retry-after").parse().expect("whole seconds");
    assert!((1..=40).contains(&seconds), "{seconds}");
    assert_eq!(hurried.get(DIRECTORY).await.status, 200, "another product has its own");
    assert_eq!(world.arrivals().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_address_stays_blocked_through_a_restart() {
    let mut world = World::before_the_first_start(3, "1s").await;
    let perch = world.serve().await;
    world.fault(json!({ "operation": "get_company", "preset": "ip_limit", "times": 1 })).await;
    let blocked = world.for_customer("a").get(COMPANY).await;
    assert_eq!(
        (blocked.status, &blocked.json()["perch"]["scope"]),
        (429, &json!("ip")),
        "{}",
        blocked.text()
    );
    let journal = world.journal();
    until("the hold is written", async || {
        journal.query_row("SELECT count(*) FROM hold", [], |row| row.get::<_, i64>(0)).expect("a count") == 1
    })
    .await;
    perch.end_by(SIGKILL).await;
    let before = world.report().await["requests"].clone();
    let _perch = world.serve().await;
    for path in [COMPANY, DIRECTORY, "/providers"] {
        let answer = world.for_customer("a").get(path).await;
        let perch = assert_refused(&answer, 429, "perch_rate_limited", "rate_limited");
        assert_eq!(perch["scope"], "ip", "{path}: {perch}");
    }
    assert_eq!(world.metric("perch_holds{scope=\"ip\"}").await, 1.0);
    assert_eq!(world.report().await["requests"], before, "nothing reached Finch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reboot_perch_sits_out_a_window() {
    let mut world = World::before_the_first_start(3, "2s").await;
    let perch = world.serve().await;
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 200);
    perch.end_by(SIGKILL).await;
    world.journal().execute("UPDATE journal SET epoch = 'another boot'", []).expect("a second hand");
    let perch = world.serve().await;
    assert!(perch.err.says("before the machine started anew").await, "{}", perch.err.text());
    let hurried = world.for_customer("a").with("perch-max-wait", "0").get(COMPANY).await;
    assert_refused(&hurried, 429, "perch_rate_limited", "rate_limited");
    let patient = world.for_customer("a").get(COMPANY).await;
    assert_eq!(patient.status, 200, "{}", patient.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_counted_in_a_shared_store_does_not_trust_its_own_journal() {
    let mut world = World::before_the_first_start(3, "1s").await;
    // Nobody listens there; whether anything was sent makes no difference.
    world.set("limits.store = \"redis://127.0.0.1:1\"");
    world.serve().await.end_by(SIGKILL).await;
    let settings = std::fs::read_to_string(world.path("perch.toml")).expect("settings");
    let settings = settings.replace("limits.store =", "#");
    std::fs::write(world.path("perch.toml"), settings).expect("a writable folder");
    let perch = world.serve().await;
    assert!(perch.err.says("that the journal does not tell of").await, "{}", perch.err.text());
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 200, "after a window");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_written_down_is_not_sent() {
    let mut world = World::before_the_first_start(3, "1m").await;
    let perch = world.serve().await;
    let journal = world.journal();
    journal.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    for _ in 0..2 {
        let answer = world.for_customer("a").get(COMPANY).await;
        assert_refused(&answer, 503, "perch_no_ledger", "perch_unavailable");
        assert_eq!((answer.header("retry-after"), answer.header("perch-attempts")), ("5", "0"));
    }
    assert_eq!(world.arrivals().await, 0, "nothing was sent");
    assert_eq!(world.metric("perch_no_ledger_total").await, 2.0);
    assert_eq!(world.metric("perch_quota_used{product=\"company\"}").await, 0.0, "nothing is spent");
    journal.execute_batch("COMMIT").expect("it was begun");
    assert_eq!(world.for_customer("a").get(COMPANY).await.status, 200, "it recovers by itself");
    assert!(perch.err.says("the quota journal is written again").await, "{}", perch.err.text());
    let log = perch.err.text();
    assert_eq!(log.matches("the quota journal cannot be written").count(), 1, "{log}");
}

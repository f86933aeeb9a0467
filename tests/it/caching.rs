//! Answers that are kept: who gets them, for how long, what ends them, and how much memory they take.

use crate::support::client::{Answer, App};
use crate::support::hooks::{DOOR, event, status};
use crate::support::process::within;
use crate::support::raw::{Act, RawFinch, answer, say};
use crate::support::{Setup, World, until};
use perch::telemetry::clock::unix_now;
use perch::types::ConnectionId;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const COMPANY: &str = "/employer/company";
const DIRECTORY: &str = "/employer/directory";
const INDIVIDUAL: &str = "/employer/individual";
const BENEFITS: &str = "/employer/benefits";
const CACHED: &str = "perch_calls_merged_total{how=\"cached\"}";
const KEPT: &str = "perch_cache_entries";
/// Everything that the tests here read.
const CACHE: &str = "merge.cache = { company = \"1h\", directory = \"1h\", individual = \"1h\" }\n\
                     limits.products.default = 1000\napps.writes = \"allow\"\nretry.attempts = 1\n";

fn setup(settings: &str) -> Setup {
    let tokens = World::with().connection("acme", "CANARY-token-of-acme");
    tokens.connection("globex", "CANARY-token-of-globex").settings(CACHE).settings(settings)
}

async fn world(settings: &str) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    (setup(settings).finch(&finch.url()).start().await, finch)
}

fn of(answer: &Answer) -> (u16, &str, &str) {
    (answer.status, answer.header("perch-cache"), answer.header("finch-request-id"))
}

/// An answer of Finch's of this name, with more headers.
fn named(name: &str, headers: &str) -> Act {
    let headers = format!("Content-Type: application/json\r\nFinch-Request-Id: {name}\r\n{headers}");
    answer("200 OK", &headers, "{\"id\":\"c\"}")
}

fn read(app: &App) -> JoinHandle<Answer> {
    let app = app.clone();
    tokio::spawn(async move { app.get(COMPANY).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_answer_is_finchs_own_with_a_request_id_and_an_age_of_its_own() {
    let (mut world, finch) = world("").await;
    let acme = world.for_customer("acme");
    finch.next([named("f-1", "Finch-Data-Retrieved: 2026-01-01T00:00:00Z\r\n")]);
    let first = acme.get(COMPANY).await;
    assert_eq!(
        (of(&first), first.header("age"), first.header("perch-attempts")),
        ((200, "miss", "f-1"), "", "1")
    );
    let again = acme.get(COMPANY).await;
    assert_eq!((of(&again), again.header("perch-attempts")), ((200, "hit", "f-1"), "0"));
    assert_eq!(
        (&again.bytes, again.class(), again.header("content-type")),
        (&first.bytes, "ok", "application/json")
    );
    assert_eq!(again.header("finch-data-retrieved"), "2026-01-01T00:00:00Z");
    assert!(again.header("age").parse::<u64>().expect("seconds") < 60);
    assert_ne!(again.header("perch-request-id"), first.header("perch-request-id"));
    assert!(!again.header("perch-request-id").is_empty() && !again.header("ratelimit").is_empty());
    assert_eq!((finch.requests().len(), world.metric(CACHED).await, world.metric(KEPT).await), (1, 1.0, 1.0));
    let (hits, misses) = ("result=\"hit\"", "result=\"miss\"");
    for result in [hits, misses] {
        let sample = format!("perch_cache_calls_total{{product=\"company\",{result}}}");
        assert_eq!(world.metric(&sample).await, 1.0);
    }
    world.stop().await;
    let mut lines = world.lines.all();
    // A line is written when its answer has left.
    lines.sort_by_key(|line| line["ts"].to_string());
    let told: Vec<(&Value, &Value, &Value)> =
        lines.iter().map(|line| (&line["cache"], &line["attempts"], &line["finch_request_id"])).collect();
    assert_eq!(
        told,
        [(&json!("miss"), &json!(1), &json!(["f-1"])), (&json!("hit"), &json!(0), &json!(["f-1"]))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_same_question_about_the_same_connection_finds_it() {
    let (world, finch) = world("").await;
    let (acme, globex) = (world.for_customer("acme"), world.for_customer("globex"));
    let ask = |id: &str| json!({ "requests": [{ "individual_id": id }] });
    for _ in 0..2 {
        acme.get(COMPANY).await;
        globex.get(COMPANY).await;
        acme.get("/employer/company?entity_ids[]=1").await;
        acme.clone().with("accept", "text/csv").get(COMPANY).await;
        acme.clone().with("finch-api-version", "2031-01-01").get(COMPANY).await;
        acme.get(DIRECTORY).await;
        acme.post(INDIVIDUAL, &ask("a")).await;
        acme.post(INDIVIDUAL, &ask("b")).await;
    }
    assert_eq!(finch.requests().len(), 8);
    // What is written otherwise and means the same.
    let alike = acme.get("/employer/company?entity_ids%5B%5D=1").await;
    assert_eq!(of(&alike).1, "hit");
    let alike = acme.clone().with("perch-priority", "batch").with("user-agent", "x");
    assert_eq!(of(&alike.get(COMPANY).await).1, "hit");
    let body = b"{ \"requests\": [ {\"individual_id\":\"a\"} ] }".to_vec();
    assert_eq!(of(&acme.call("POST", INDIVIDUAL, body.into()).await).1, "hit");
    // A product that is not named is not kept, and says nothing of it.
    for _ in 0..2 {
        let payments = acme.get("/employer/payment?start_date=2026-01-01&end_date=2026-02-01").await;
        assert_eq!(of(&payments), (200, "", "f-good"));
    }
    assert_eq!(finch.requests().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_has_its_say_on_what_is_kept() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let says = |words: &str| acme.clone().with("cache-control", words);
    finch.next([named("f-1", "")]);
    // It leaves nothing behind.
    assert_eq!(of(&says("no-store").get(COMPANY).await), (200, "bypass", "f-1"));
    finch.next([named("f-2", "")]);
    assert_eq!(of(&acme.get(COMPANY).await), (200, "miss", "f-2"));
    finch.next([named("f-3", "")]);
    assert_eq!(of(&says("no-cache").get(COMPANY).await), (200, "bypass", "f-3"));
    assert_eq!(of(&acme.get(COMPANY).await), (200, "hit", "f-3"), "the newest is kept");
    assert_eq!(of(&says("max-age=600").get(COMPANY).await), (200, "hit", "f-3"));
    finch.next([named("f-4", "")]);
    assert_eq!(of(&says("max-age=0").get(COMPANY).await), (200, "bypass", "f-4"));
    // A name asks for the exchange of that name.
    finch.next([named("f-5", "")]);
    assert_eq!(
        of(&acme.clone().with("perch-idempotency-key", "k").get(COMPANY).await),
        (200, "bypass", "f-5")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_good_is_not_kept() {
    let (world, finch) = world("shield.probe = \"off\"").await;
    let acme = world.for_customer("acme");
    let json = "Content-Type: application/json\r\nFinch-Request-Id: f-bad\r\n";
    let error = "{\"code\":502,\"name\":\"bad_gateway_error\",\"finch_code\":\"upstream_provider_error\",\"message\":\"m\"}";
    for (act, class) in [
        (answer("502 Bad Gateway", json, error), "provider_error"),
        (answer("404 Not Found", json, "{\"code\":404,\"message\":\"m\"}"), "invalid_request"),
        (answer("202 Accepted", "Finch-Request-Id: f-bad\r\n", ""), "not_ready"),
    ] {
        finch.next([act]);
        assert_eq!(acme.get(COMPANY).await.class(), class);
        let next = acme.clone().with("cache-control", "no-store").get(COMPANY).await;
        assert_eq!(of(&next), (200, "bypass", "f-good"), "{class}");
        assert_eq!(world.metric(KEPT).await, 0.0, "{class}");
    }
    let items = |code: u16| {
        let body = if code == 200 {
            json!({ "id": "b" })
        } else {
            json!({ "code": code, "name": "n", "message": "m" })
        };
        let body = json!({ "responses": [
            { "individual_id": "a", "code": 200, "body": { "id": "a" } },
            { "individual_id": "b", "code": code, "body": body },
        ]});
        answer("200 OK", json, &body.to_string())
    };
    for (code, class, kept) in [(500, "partial", 0.0), (202, "partial", 0.0), (200, "ok", 1.0)] {
        finch.next([items(code)]);
        let asked = json!({ "requests": [{ "individual_id": "a" }, { "individual_id": "b" }] });
        let told = acme.post(INDIVIDUAL, &asked).await;
        assert_eq!((told.class(), world.metric(KEPT).await), (class, kept), "{code}");
    }
    let asked = json!({ "requests": [{ "individual_id": "a" }, { "individual_id": "b" }] });
    let again = acme.post(INDIVIDUAL, &asked).await;
    assert_eq!((of(&again).1, again.header("perch-batch")), ("hit", "total=2, failed=0, pending=0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_does_not_go_back_in_time() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let fresh = acme.clone().with("cache-control", "no-cache");
    finch.next([named("f-new", "Finch-Data-Retrieved: 2026-02-02T00:00:00Z\r\n")]);
    assert_eq!(of(&acme.get(COMPANY).await), (200, "miss", "f-new"));
    finch.next([named("f-old", "Finch-Data-Retrieved: 2026-02-01T00:00:00Z\r\n")]);
    assert_eq!(of(&fresh.get(COMPANY).await), (200, "bypass", "f-old"));
    assert_eq!(of(&acme.get(COMPANY).await), (200, "hit", "f-new"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_ends_what_is_kept_of_its_connection_even_when_it_fails() {
    let (world, finch) = world("").await;
    let (acme, globex) = (world.for_customer("acme"), world.for_customer("globex"));
    let wants = json!({ "type": "457", "description": "plan" });
    let made = answer("201 Created", "Content-Type: application/json\r\n", "{\"benefit_id\":\"b\"}");
    for act in [made, answer("500 Oh", "", ""), Act::Close] {
        globex.get(COMPANY).await;
        acme.get(COMPANY).await;
        assert_eq!(of(&acme.get(COMPANY).await).1, "hit");
        finch.next([act]);
        acme.post(BENEFITS, &wants).await;
        assert_eq!(of(&acme.get(COMPANY).await).1, "miss");
        assert_eq!(of(&globex.get(COMPANY).await).1, "hit", "another connection has not changed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_was_asked_for_before_a_write_is_not_kept_after_it() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let gate = Arc::new(Notify::new());
    finch.next([Act::Wait(Arc::clone(&gate)), named("f-before", "")]);
    let slow = read(&acme);
    finch.arrived(1).await;
    assert_eq!(acme.post(BENEFITS, &json!({})).await.status, 200);
    gate.notify_one();
    assert_eq!(of(&slow.await.expect("it ran")), (200, "miss", "f-before"));
    assert_eq!(of(&acme.get(COMPANY).await), (200, "miss", "f-good"));
    assert_eq!(of(&acme.get(COMPANY).await).1, "hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_after_a_write_does_not_share_a_read_from_before_it() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let gate = Arc::new(Notify::new());
    finch.next([Act::Wait(Arc::clone(&gate)), named("f-before", "")]);
    let slow = read(&acme);
    finch.arrived(1).await;
    assert_eq!(acme.post(BENEFITS, &json!({})).await.status, 200);
    let after = within("it does not wait for the slow one", acme.get(COMPANY)).await;
    assert_eq!(of(&after).2, "f-good");
    gate.notify_one();
    assert_eq!(of(&slow.await.expect("it ran")).2, "f-before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_ends_what_is_kept_of_its_connection() {
    let (world, _finch) = world(DOOR).await;
    let (acme, globex) = (world.for_customer("acme"), world.for_customer("globex"));
    globex.get(COMPANY).await;
    let events = [
        ("directory.updated", event("directory.updated", "c-acme")),
        ("job.data_sync_all.completed", event("job.data_sync_all.completed", "c-acme")),
        ("account.updated", status("c-acme", "connected")),
        ("a word of next year", event("a word of next year", "c-acme")),
    ];
    for (nth, (what, event)) in events.iter().enumerate() {
        acme.get(COMPANY).await;
        assert_eq!(of(&acme.get(COMPANY).await).1, "hit");
        world.tell(&format!("m{nth}"), event).await;
        world.webhooks_are_settled().await;
        assert_eq!(of(&acme.get(COMPANY).await).1, "miss", "{what}");
        assert_eq!(of(&globex.get(COMPANY).await).1, "hit", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_served_for_a_login_that_is_dead_or_a_connection_that_is_gone() {
    let scenario = "[[customer]]\nid = \"acme\"\n[[customer]]\nid = \"globex\"\n";
    let mut world = World::with().scenario(scenario).settings(CACHE).without_gateway().await;
    world.import().await;
    world.open().await;
    let acme = world.for_customer("acme");
    assert_eq!(of(&acme.get(COMPANY).await).1, "miss");
    assert_eq!(of(&acme.get(COMPANY).await).1, "hit");
    // Another product finds out.
    world.fault(json!({ "customer": "acme", "preset": "reauth" })).await;
    assert_eq!(acme.get("/employer/pay-groups").await.class(), "reauthentication_required");
    let shielded = acme.get(COMPANY).await;
    assert_eq!((shielded.status, shielded.class()), (401, "reauthentication_required"));

    let globex = world.for_customer("globex");
    assert_eq!(of(&globex.get(COMPANY).await).1, "miss");
    assert_eq!(globex.post("/disconnect", &json!({})).await.status, 200);
    assert_eq!(globex.get(COMPANY).await.class(), "disconnected");
    assert_eq!(world.metric(KEPT).await, 1.0, "nothing of the one that is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_another_process_ended_leaves_nothing_in_memory() {
    let (world, _finch) = world("").await;
    for customer in ["acme", "globex"] {
        assert_eq!(of(&world.for_customer(customer).get(COMPANY).await).1, "miss");
    }
    let (id, now) = (ConnectionId::new("c-acme").expect("an id"), unix_now());
    world.vault().await.mark_disconnected(&id, now).await.expect("it was there");
    world.metric_becomes(KEPT, 1.0).await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.class(), "disconnected");
    assert_eq!(of(&world.for_customer("globex").get(COMPANY).await).1, "hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_ends_what_was_read_with_the_old_one() {
    let mut world = World::with().settings(CACHE).start().await;
    world.connect("acme", "gusto").await;
    let acme = world.for_customer("acme");
    assert_eq!(of(&acme.get(COMPANY).await).1, "miss");
    assert_eq!(of(&acme.get(COMPANY).await).1, "hit");
    let connection = world.connections().await[0]["connection_id"].as_str().expect("an id").to_owned();
    let session = json!({ "connection_id": connection });
    let session = world.app().post("/connect/sessions/reauthenticate", &session).await;
    let code = world.log_in(&session).await;
    assert_eq!(world.app().post("/auth/token", &json!({ "code": code })).await.status, 200);
    assert_eq!(of(&acme.get(COMPANY).await).1, "miss");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_gets_what_is_kept_of_those_alone_for_whom_it_may_act() {
    let scenario = "[[customer]]\nid = \"acme\"\n[[customer]]\nid = \"globex\"\n";
    let settings = format!("{CACHE}apps.auth = \"key\"\n");
    let mut world = World::with().scenario(scenario).settings(&settings).without_gateway().await;
    world.import().await;
    let payroll = world.add_app("payroll", &["--customers", "acme"]).await;
    let hr = world.add_app("hr", &["--products", "directory"]).await;
    let all = world.add_app("all", &[]).await;
    world.open().await;
    let ask = |key: &str, customer: &str| world.with_key(key).with("perch-customer", customer);
    assert_eq!(of(&ask(&all, "globex").get(COMPANY).await).1, "miss");
    assert_eq!(of(&ask(&all, "acme").get(COMPANY).await).1, "miss");
    assert_eq!(of(&ask(&payroll, "acme").get(COMPANY).await).1, "hit", "apps share what both may have");
    let refused = ask(&payroll, "globex").get(COMPANY).await;
    assert_eq!(
        (refused.class(), refused.header("perch-cache"), refused.header("age")),
        ("unknown_customer", "", "")
    );
    assert_eq!(ask(&hr, "acme").get(COMPANY).await.class(), "caller_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_which_not_all_is_held_is_not_kept() {
    let (world, finch) = world("listen.inspect_bytes_max = \"2KiB\"").await;
    let acme = world.for_customer("acme");
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(4096));
    for _ in 0..2 {
        finch.next([answer("200 OK", "Content-Type: application/json\r\n", &large)]);
        let told = acme.get(COMPANY).await;
        assert_eq!((of(&told).1, told.bytes.len()), ("miss", large.len()));
    }
    finch.next([say(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\nabc",
    )]);
    assert_eq!(of(&acme.get(COMPANY).await).1, "miss");
    assert_eq!((world.metric(KEPT).await, finch.requests().len()), (0.0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
async fn memory_has_its_bound_under_a_flood_of_distinct_requests() {
    let settings =
        "merge.cache_bytes = \"1MiB\"\nlimits.products.company = 100000\nlimits.ip.requests = 100000\n";
    let (world, finch) = world(settings).await;
    let acme = world.for_customer("acme");
    let (mut highest, mut sent) = (0.0_f64, 0);
    let body = format!("{{\"id\":\"{}\"}}", "p".repeat(20_000));
    for n in 0..400 {
        finch.next([answer("200 OK", "Content-Type: application/json\r\n", &body)]);
        assert_eq!(of(&acme.get(&format!("{COMPANY}?n={n}")).await).1, "miss");
        sent += body.len();
        if n % 10 == 0 {
            highest = highest.max(world.metric("perch_cache_bytes").await);
        }
    }
    let kept = world.metric(KEPT).await;
    println!(
        "memory bound 1048576 bytes: {sent} bytes answered, {highest} kept at most, {kept} answers at the end"
    );
    assert!(highest <= 1_048_576.0, "{highest}");
    assert!(highest > 900_000.0 && kept > 40.0, "it is used: {highest} bytes, {kept} answers");
    assert_eq!(of(&acme.get(&format!("{COMPANY}?n=399")).await).1, "hit", "the newest stay");
    assert_eq!(of(&acme.get(&format!("{COMPANY}?n=0")).await).1, "miss", "the oldest went");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_ends_with_its_time() {
    let finch = RawFinch::start().await;
    let tokens = World::with().connection("acme", "CANARY-token-of-acme");
    let world = tokens.settings("merge.cache = { company = \"50ms\" }").finch(&finch.url()).start().await;
    let acme = world.for_customer("acme");
    assert_eq!(of(&acme.get(COMPANY).await).1, "miss");
    until("its time is over", async || of(&acme.get(COMPANY).await).1 == "miss").await;
    assert_eq!(finch.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_unless_an_operator_says_so() {
    let finch = RawFinch::start().await;
    let tokens = World::with().connection("acme", "CANARY-token-of-acme");
    let world = tokens.finch(&finch.url()).start().await;
    for _ in 0..2 {
        assert_eq!(of(&world.for_customer("acme").get(COMPANY).await), (200, "", "f-good"));
    }
    assert_eq!((finch.requests().len(), world.metric(KEPT).await), (2, 0.0));
}

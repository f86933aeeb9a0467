//! Calls that are sent again, and reads that several want at once: one exchange with Finch, and each client
//! gets its outcome.

use crate::support::client::{Answer, App};
use crate::support::raw::{Act, RawFinch, answer, good};
use crate::support::socket::Socket;
use crate::support::{Setup, TOKEN_MARKER, World, until};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const COMPANY: &str = "/employer/company";
const BENEFITS: &str = "/employer/benefits";
const RESENT: &str = "perch_calls_merged_total{how=\"resend\"}";
const JOINED: &str = "perch_calls_joined";
const SHARED: &str = "perch_calls_merged_total{how=\"coalesced\"}";

fn setup() -> Setup {
    let tokens = World::with().connection("acme", "CANARY-token-of-acme");
    tokens.connection("globex", "CANARY-token-of-globex").settings("apps.writes = \"allow\"")
}

async fn world(settings: &str) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    (setup().settings(settings).finch(&finch.url()).start().await, finch)
}

/// What Finch answers once the test lets it.
fn later(finch: &RawFinch, act: Act) -> Arc<Notify> {
    let gate = Arc::new(Notify::new());
    finch.next([Act::Wait(Arc::clone(&gate)), act]);
    gate
}

/// Finch's answer to a write.
fn made(id: &str) -> Act {
    let headers = format!("Content-Type: application/json\r\nFinch-Request-Id: f-{id}\r\n");
    answer("201 Created", &headers, &format!("{{\"benefit_id\":\"{id}\"}}"))
}

fn wants() -> Value {
    json!({ "type": "457", "description": "plan" })
}

fn write(app: &App) -> JoinHandle<Answer> {
    let app = app.clone();
    tokio::spawn(async move { app.post(BENEFITS, &wants()).await })
}

fn read(app: &App) -> JoinHandle<Answer> {
    let app = app.clone();
    tokio::spawn(async move { app.get(COMPANY).await })
}

/// The same app, sending again as an SDK does.
fn again(app: &App) -> App {
    app.clone().with("x-stainless-retry-count", "1")
}

/// A client hangs up; perch may notice a moment later.
async fn hangs_up(call: JoinHandle<Answer>) {
    call.abort();
    let _ = call.await;
}

/// How many calls perch has not answered yet.
async fn running(world: &World, count: usize) {
    let engine = world.gateway.as_ref().expect("it runs");
    until("so many calls run", async || engine.running() == count).await;
}

fn assert_made(answer: &Answer, id: &str) {
    assert_eq!((answer.status, answer.class()), (201, "ok"), "{}", answer.text());
    assert_eq!(
        (&answer.json()["benefit_id"], answer.header("finch-request-id")),
        (&json!(id), &*format!("f-{id}"))
    );
    assert_eq!(answer.header("perch-attempts"), "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_sent_again_while_it_runs_is_carried_out_once() {
    let (mut world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let gate = later(&finch, made("b1"));
    let first = write(&acme.clone().with("x-stainless-retry-count", "0"));
    finch.arrived(1).await;
    hangs_up(first).await;
    let resends = [write(&again(&acme)), write(&acme.clone().with("x-stainless-retry-count", "2"))];
    world.metric_becomes(JOINED, 2.0).await;
    gate.notify_one();
    let mut ids = Vec::new();
    for resend in resends {
        let answer = resend.await.expect("it ran");
        assert_made(&answer, "b1");
        ids.push(answer.header("perch-request-id").to_owned());
    }
    assert_ne!(ids[0], ids[1]);
    assert_eq!(finch.requests().len(), 1);
    // And what was carried out is not carried out again after its end.
    let late = again(&acme).post(BENEFITS, &wants()).await;
    assert_made(&late, "b1");
    assert_eq!(finch.requests().len(), 1);
    assert_eq!((world.metric(RESENT).await, world.metric(SHARED).await), (3.0, 0.0));
    assert_eq!(
        world.metric("perch_quota_used{product=\"benefits\"}").await,
        1.0,
        "who is not sent spends nothing"
    );
    world.stop().await;
    let lines = world.lines.all();
    assert_eq!(lines.len(), 4);
    let leads: Vec<&Value> = lines.iter().filter(|l| l["resend_of"].is_null()).collect();
    assert_eq!(leads.len(), 1);
    assert_eq!((&leads[0]["attempts"], &leads[0]["client_gone"]), (&json!(1), &json!(true)));
    for line in lines.iter().filter(|l| !l["resend_of"].is_null()) {
        assert_eq!(line["resend_of"], leads[0]["request_id"]);
        assert_eq!(
            (&line["attempts"], &line["status"], &line["class"]),
            (&json!(0), &json!(201), &json!("ok"))
        );
        assert_eq!((&line["finch_request_id"], &line["customer"]), (&json!(["f-b1"]), &json!("acme")));
        assert_eq!((&line["connection_id"], &line["provider"]), (&json!("c-acme"), &json!("gusto")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_intended_writes_stay_two_and_each_client_gets_its_own() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let mut gates = Vec::new();
    let mut calls = Vec::new();
    for (at, id) in ["b1", "b2"].into_iter().enumerate() {
        gates.push(later(&finch, made(id)));
        calls.push(write(&acme));
        finch.arrived(at + 1).await;
    }
    for call in calls {
        hangs_up(call).await;
    }
    let resends = [write(&again(&acme)), write(&again(&acme))];
    world.metric_becomes(JOINED, 2.0).await;
    gates.iter().for_each(|gate| gate.notify_one());
    let mut made = Vec::new();
    for resend in resends {
        let answer = resend.await.expect("it ran");
        made.push(answer.json()["benefit_id"].as_str().expect("an id").to_owned());
    }
    made.sort();
    assert_eq!(made, ["b1", "b2"], "no outcome twice");
    assert_eq!(finch.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_not_marked_is_never_joined() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    for id in ["b1", "b2"] {
        finch.next([made(id)]);
        assert_made(&acme.post(BENEFITS, &wants()).await, id);
    }
    assert_eq!(finch.requests().len(), 2);
    assert_eq!(world.metric(RESENT).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_customer_connection_path_query_or_body_is_another_write() {
    let (world, finch) = world("apps.pass_through = true").await;
    finch.next([made("b1")]);
    let acme = world.for_customer("acme");
    assert_made(&acme.post(BENEFITS, &wants()).await, "b1");
    let wants = wants();
    let brought = |token: &str| again(&world.app()).with("authorization", &format!("Bearer {token}"));
    for (at, (app, path, body)) in [
        (again(&world.for_customer("globex")), BENEFITS, &wants),
        (again(&acme), "/employer/benefits/x", &wants),
        (again(&acme), "/employer/benefits?entity_ids[]=1", &wants),
        (again(&acme), BENEFITS, &json!({ "type": "401k" })),
        (again(&acme).with("finch-api-version", "2031-01-01"), BENEFITS, &wants),
        (brought("0123456789abcdef0123456789abcdef-a"), BENEFITS, &wants),
        (brought("0123456789abcdef0123456789abcdef-b"), BENEFITS, &wants),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = app.post(path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(finch.requests().len(), at + 2, "{path} {body} was joined");
    }
    // However the customer is named, it is the same write.
    let by_reference = again(&world.app()).with("authorization", "Bearer connection:c-acme");
    assert_made(&by_reference.post(BENEFITS, &wants).await, "b1");
    assert_eq!(world.metric(RESENT).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_makes_calls_one_exchange_and_stands_for_one_body() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let named = acme.clone().with("perch-idempotency-key", "order-66");
    let gate = later(&finch, made("b1"));
    let both = [write(&named), write(&named)];
    world.metric_becomes(JOINED, 1.0).await;
    finch.arrived(1).await;
    let other = named.post(BENEFITS, &json!({ "type": "401k" })).await;
    assert_eq!((other.status, other.code().as_str()), (422, "perch_idempotency_key_reused"));
    assert_eq!((other.class(), other.header("x-should-retry")), ("invalid_request", "false"));
    gate.notify_one();
    for call in both {
        assert_made(&call.await.expect("it ran"), "b1");
    }
    assert_made(&again(&named).post(BENEFITS, &wants()).await, "b1");
    let requests = finch.requests();
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].to_ascii_lowercase().contains("idempotency"), "{}", requests[0]);
    // Another customer's is another one, and so is another name.
    let globex = world.for_customer("globex").with("perch-idempotency-key", "order-66");
    assert_eq!(globex.post(BENEFITS, &wants()).await.status, 200);
    assert_eq!(
        acme.clone().with("perch-idempotency-key", "order-67").post(BENEFITS, &wants()).await.status,
        200
    );
    assert_eq!(finch.requests().len(), 3);
    for bad in ["", "a b", &"k".repeat(256)] {
        let answer = acme.clone().with("perch-idempotency-key", bad).post(BENEFITS, &wants()).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "perch_invalid_header"), "{bad:?}");
    }
    assert_eq!(finch.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_memory_only_what_runs_is_joined() {
    let (world, finch) = world("merge.resend_memory = \"0s\"").await;
    let acme = world.for_customer("acme");
    let gate = later(&finch, made("b1"));
    let first = write(&acme);
    finch.arrived(1).await;
    hangs_up(first).await;
    let joined = write(&again(&acme));
    world.metric_becomes(JOINED, 1.0).await;
    gate.notify_one();
    assert_made(&joined.await.expect("it ran"), "b1");
    finch.next([made("b2")]);
    assert_made(&again(&acme).post(BENEFITS, &wants()).await, "b2");
    assert_eq!(finch.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_carried_out_is_not_tried_again() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    finch.next([Act::Close]);
    let first = acme.post(BENEFITS, &wants()).await;
    assert_eq!((first.status, first.code().as_str()), (502, "perch_finch_unreachable"), "{}", first.text());
    assert_eq!(first.header("x-should-retry"), "false");
    let resent = again(&acme).post(BENEFITS, &wants()).await;
    assert_eq!((resent.status, resent.code().as_str()), (502, "perch_finch_unreachable"));
    assert_eq!((resent.header("x-should-retry"), resent.header("perch-attempts")), ("false", "1"));
    let told = resent.json();
    assert_eq!(told["perch"]["request_id"], resent.header("perch-request-id"));
    assert_ne!(resent.header("perch-request-id"), first.header("perch-request-id"));
    assert_eq!(finch.requests().len(), 1);
    // A new intention is a new write.
    assert_eq!(acme.post(BENEFITS, &wants()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_client_was_invited_to_send_again_is_sent_again() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    // A provider's own limit: nothing was carried out.
    let limited = "{\"code\":429,\"name\":\"rate_limit_exceeded_error\",\"finch_code\":\"upstream_rate_limit_exceeded\"}";
    let head = "Content-Type: application/json\r\nRetry-After: 1\r\n";
    finch.next([answer("429 Too Many Requests", head, limited)]);
    let first = acme.post(BENEFITS, &wants()).await;
    assert_eq!((first.status, first.header("x-should-retry")), (429, ""), "{}", first.text());
    finch.next([made("b1")]);
    assert_made(&again(&acme).post(BENEFITS, &wants()).await, "b1");
    assert_eq!(finch.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_was_paid_for_is_delivered_once() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let gate = later(&finch, good());
    let mut first = Socket::to(world.proxy).await;
    first
        .write(
            b"GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nAccept: */*\r\n\r\n",
        )
        .await;
    finch.arrived(1).await;
    first.hang_up().await;
    running(&world, 1).await;
    gate.notify_one();
    running(&world, 0).await;
    let resent = again(&acme).with("accept", "*/*").get(COMPANY).await;
    assert_eq!((resent.status, resent.header("finch-request-id")), (200, "f-good"));
    assert_eq!(finch.requests().len(), 1);
    assert_eq!(again(&acme).with("accept", "*/*").get(COMPANY).await.status, 200);
    assert_eq!(finch.requests().len(), 2, "payroll data does not stay in memory");
    // Nor does what its client got.
    assert_eq!(acme.get(COMPANY).await.status, 200);
    assert_eq!(again(&acme).get(COMPANY).await.status, 200);
    assert_eq!(finch.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identical_reads_at_once_are_one() {
    let (mut world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let gate = later(&finch, good());
    let mut calls = vec![read(&acme)];
    finch.arrived(1).await;
    calls.extend((0..9).map(|_| read(&acme)));
    calls.push(read(&again(&acme)));
    world.metric_becomes(JOINED, 10.0).await;
    // Not with these: another customer's, one that wants its own, another query.
    assert_eq!(world.for_customer("globex").get(COMPANY).await.status, 200);
    assert_eq!(acme.clone().with("cache-control", "no-cache").get(COMPANY).await.status, 200);
    assert_eq!(acme.get("/employer/company?entity_ids[]=1").await.status, 200);
    // One that leaves disturbs nobody.
    hangs_up(calls.pop().expect("a call")).await;
    world.metric_becomes(JOINED, 9.0).await;
    gate.notify_one();
    let mut ids = std::collections::HashSet::new();
    for call in calls {
        let answer = call.await.expect("it ran");
        assert_eq!((answer.status, answer.class(), answer.json()), (200, "ok", json!({ "id": "c" })));
        assert_eq!((answer.header("finch-request-id"), answer.header("perch-attempts")), ("f-good", "1"));
        ids.insert(answer.header("perch-request-id").to_owned());
    }
    assert_eq!(ids.len(), 10);
    assert_eq!(finch.requests().len(), 4);
    assert_eq!((world.metric(SHARED).await, world.metric(RESENT).await), (9.0, 0.0));
    assert_eq!(world.metric("perch_quota_used{product=\"company\"}").await, 4.0);
    world.stop().await;
    let lines = world.lines.all();
    let shared: Vec<&Value> = lines.iter().filter(|l| l["cache"] == "coalesced").collect();
    assert_eq!(shared.len(), 9);
    assert!(shared.iter().all(|l| l["attempts"] == 0 && l["finch_request_id"] == json!(["f-good"])));
    let left: Vec<&Value> = lines.iter().filter(|l| l["class"] == "abandoned").collect();
    assert_eq!((left.len(), &left[0]["attempts"]), (1, &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_not_shared_when_the_operator_says_so() {
    let (world, finch) = world("merge.coalesce = false").await;
    let acme = world.for_customer("acme");
    let gate = later(&finch, good());
    let first = read(&acme);
    finch.arrived(1).await;
    assert_eq!(acme.get(COMPANY).await.status, 200);
    gate.notify_one();
    assert_eq!(first.await.expect("it ran").status, 200);
    assert_eq!((finch.requests().len(), world.metric(SHARED).await), (2, 0.0));
}

/// A world where the company may be read once in a minute, and that one read is out.
async fn spent() -> (World, Arc<RawFinch>) {
    let (world, finch) = world("limits.products.company = 1\nlimits.wait.interactive = \"10m\"").await;
    assert_eq!(world.for_customer("acme").with("cache-control", "no-cache").get(COMPANY).await.status, 200);
    (world, finch)
}

async fn in_line(world: &World, priority: &str, count: usize) {
    let depth = format!("perch_queue_depth{{priority=\"{priority}\",product=\"company\"}}");
    world.metric_becomes(&depth, count as f64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_a_read_that_is_not_sent_goes_on_by_itself() {
    let (world, finch) = spent().await;
    let acme = world.for_customer("acme");
    let leader = read(&acme.clone().with("perch-max-wait", "300"));
    in_line(&world, "interactive", 1).await;
    let follower = read(&acme.clone().with("perch-max-wait", "400"));
    world.metric_becomes(JOINED, 1.0).await;
    // The one it waits for leaves; the follower takes a place of its own in the line.
    hangs_up(leader).await;
    running(&world, 1).await;
    in_line(&world, "interactive", 1).await;
    assert_eq!((finch.requests().len(), world.metric(SHARED).await), (1, 0.0));
    follower.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_quota_longer_than_its_own_patience() {
    let (world, finch) = spent().await;
    let acme = world.for_customer("acme");
    let patient = read(&acme.clone().with("perch-max-wait", "300"));
    in_line(&world, "interactive", 1).await;
    let hurried = acme.clone().with("perch-max-wait", "0").get(COMPANY).await;
    assert_eq!((hurried.status, hurried.code().as_str()), (429, "perch_rate_limited"), "{}", hurried.text());
    // A named call has to be one exchange with the other; its patience is its own all the same.
    let named = acme.clone().with("perch-idempotency-key", "k");
    let first = read(&named.clone().with("perch-max-wait", "300"));
    in_line(&world, "interactive", 2).await;
    let second = named.with("perch-max-wait", "0").get(COMPANY).await;
    assert_eq!((second.status, second.code().as_str()), (429, "perch_rate_limited"), "{}", second.text());
    assert_eq!(second.header("retry-after"), hurried.header("retry-after"));
    assert!(second.json()["perch"]["retry_at"].is_string() && second.header("perch-attempts") == "0");
    assert_eq!(finch.requests().len(), 1);
    [patient, first].iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interactive_read_does_not_wait_behind_a_batch() {
    let (world, _finch) = spent().await;
    let acme = world.for_customer("acme");
    let batch = read(&acme.clone().with("perch-priority", "batch"));
    in_line(&world, "batch", 1).await;
    let urgent = read(&acme);
    in_line(&world, "interactive", 1).await;
    // The other way round it may: what is more urgent is there sooner.
    let more = read(&acme.clone().with("perch-priority", "batch").with("perch-max-wait", "900"));
    world.metric_becomes(JOINED, 1.0).await;
    in_line(&world, "batch", 1).await;
    [batch, urgent, more].iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_drain_who_joined_is_answered_and_nothing_is_sent() {
    let (mut world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let gate = later(&finch, made("b1"));
    let first = write(&acme);
    finch.arrived(1).await;
    let joined = write(&again(&acme));
    world.metric_becomes(JOINED, 1.0).await;
    let gateway = world.gateway.take().expect("it runs");
    let stopping = tokio::spawn(gateway.stop());
    until("it says that it stops", async || world.operator().get("/readyz").await.status == 503).await;
    assert!(!stopping.is_finished());
    gate.notify_one();
    assert_made(&first.await.expect("it ran"), "b1");
    assert_made(&joined.await.expect("it ran"), "b1");
    assert_eq!(stopping.await.expect("no panic"), 0);
    assert_eq!(finch.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_large_to_share_is_for_one() {
    let (world, finch) = world("listen.inspect_bytes_max = \"1KiB\"").await;
    let acme = world.for_customer("acme");
    let large = || {
        answer("200 OK", "Content-Type: application/json\r\nFinch-Request-Id: f-large\r\n", &" ".repeat(5000))
    };
    let gate = later(&finch, large());
    finch.next([large()]);
    let first = read(&acme);
    finch.arrived(1).await;
    let second = read(&acme);
    world.metric_becomes(JOINED, 1.0).await;
    gate.notify_one();
    for call in [first, second] {
        assert_eq!(call.await.expect("it ran").bytes.len(), 5000);
    }
    assert_eq!(finch.requests().len(), 2, "each read by itself");

    finch.next([large()]);
    assert_eq!(acme.post(BENEFITS, &wants()).await.status, 200);
    let lost = again(&acme).post(BENEFITS, &wants()).await;
    assert_eq!((lost.status, lost.code().as_str()), (502, "perch_outcome_lost"), "{}", lost.text());
    assert_eq!((lost.header("x-should-retry"), lost.header("finch-request-id")), ("false", "f-large"));
    assert!(lost.json()["message"].as_str().is_some_and(|m| m.contains("f-large")), "{}", lost.text());
    assert_eq!(finch.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_too_large_to_remember_is_shared_while_it_runs() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let large = " ".repeat((1 << 20) + 1);
    let gate = later(&finch, answer("200 OK", "Finch-Request-Id: f-large\r\n", &large));
    let first = write(&acme);
    finch.arrived(1).await;
    let joined = write(&again(&acme));
    world.metric_becomes(JOINED, 1.0).await;
    gate.notify_one();
    for call in [first, joined] {
        assert_eq!(call.await.expect("it ran").bytes.len(), large.len());
    }
    let late = again(&acme).post(BENEFITS, &wants()).await;
    assert_eq!((late.status, late.code().as_str()), (502, "perch_outcome_lost"), "{}", late.text());
    assert_eq!(finch.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_is_sent_again_while_it_is_exchanged_is_exchanged_once() {
    let mut world = World::new().await;
    let code = world.code("acme", "gusto").await;
    world.fault(json!({ "operation": "create_access_token", "delay": "300ms" })).await;
    let body = json!({ "client_id": "x", "client_secret": "x", "code": code });
    let exchange = |app: App| {
        let body = body.clone();
        tokio::spawn(async move { app.post("/auth/token", &body).await })
    };
    let first = exchange(world.app());
    until("it is on its way", async || world.report().await["products"]["auth"]["arrivals"] == 1).await;
    let resent = exchange(world.app().with("x-stainless-retry-count", "1"));
    let (first, resent) = (first.await.expect("it ran"), resent.await.expect("it ran"));
    assert_eq!((first.status, resent.status), (200, 200), "{} {}", first.text(), resent.text());
    assert_eq!(first.bytes, resent.bytes);
    let connection = first.json()["connection_id"].as_str().expect("an id").to_owned();
    assert_eq!(first.json()["access_token"], format!("connection:{connection}"));
    assert_eq!(
        world.app().with("x-stainless-retry-count", "2").post("/auth/token", &body).await.bytes,
        first.bytes
    );
    let report = world.report().await;
    assert_eq!(report["products"]["auth"]["arrivals"], 1, "{report:#}");
    world.stop().await;
    let lines = world.lines.all();
    let resends: Vec<&Value> = lines.iter().filter(|l| l["resend_of"].is_string()).collect();
    assert_eq!(resends.len(), 2);
    assert!(
        resends.iter().all(|l| l["connection_id"] == connection && l["customer"] == "acme"),
        "{resends:#?}"
    );
    assert!(!String::from_utf8(world.lines.bytes()).expect("text").contains(TOKEN_MARKER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_finch_is_told_again_under_the_calls_own_id() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let refused = "{\"code\":422,\"name\":\"unprocessable_entity_error\",\"finch_code\":\"not_supported_by_provider\",\"x\":1e2}";
    finch.next([answer("422 Unprocessable Entity", "Finch-Request-Id: f-no\r\n", refused)]);
    let first = acme.post(BENEFITS, &wants()).await;
    let resent = again(&acme).post(BENEFITS, &wants()).await;
    for answer in [&first, &resent] {
        assert_eq!((answer.status, answer.class()), (422, "not_supported"), "{}", answer.text());
        assert_eq!(answer.json()["perch"]["request_id"], answer.header("perch-request-id"));
        assert_eq!(answer.json()["perch"]["finch_request_id"], "f-no");
        assert!(answer.text().contains("\"x\":1e2"));
    }
    assert_ne!(first.header("perch-request-id"), resent.header("perch-request-id"));
    assert_eq!(finch.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_that_is_sent_again_gets_its_answer() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let none = json!({});
    finch.next([answer("200 OK", "Content-Type: application/json\r\n", "{\"status\":\"success\"}")]);
    let first = acme.post("/disconnect", &none).await;
    assert_eq!((first.status, first.class()), (200, "ok"), "{}", first.text());
    let resent = again(&acme).post("/disconnect", &none).await;
    assert_eq!((resent.status, resent.bytes), (200, first.bytes));
    // What was not sent before is refused as ever.
    for app in [acme.clone(), again(&acme).with("accept", "*/*")] {
        let refused = app.post("/disconnect", &none).await;
        assert_eq!((refused.status, refused.code().as_str()), (401, "perch_disconnected"));
    }
    assert_eq!(finch.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_a_read_that_has_to_wait_again_waits_no_longer_than_its_own_patience() {
    let (world, finch) = world("").await;
    let acme = world.for_customer("acme");
    let limited = r#"{"code":429,"name":"rate_limit_exceeded_error","finch_code":"finch_application_rl","message":"m"}"#;
    let gate = later(
        &finch,
        answer("429 Too Many Requests", "Content-Type: application/json\r\nRetry-After: 250\r\n", limited),
    );
    let leader = read(&acme.clone().with("perch-priority", "batch").with("perch-max-wait", "300"));
    finch.arrived(1).await;
    let follower = read(&acme.with("perch-max-wait", "0"));
    world.metric_becomes(JOINED, 1.0).await;
    gate.notify_one();
    let told = follower.await.expect("it ran");
    assert_eq!((told.status, told.code().as_str()), (429, "perch_rate_limited"), "{}", told.text());
    assert_eq!(finch.requests().len(), 1);
    leader.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_answer_without_data_is_told_under_the_calls_own_id() {
    let (world, finch) = world("merge.not_ready = \"error\"").await;
    let acme = world.for_customer("acme");
    let gate = later(&finch, answer("202 Accepted", "Content-Type: application/json\r\n", "{}"));
    let leader = read(&acme);
    finch.arrived(1).await;
    let follower = read(&acme);
    world.metric_becomes(JOINED, 1.0).await;
    gate.notify_one();
    for call in [leader, follower] {
        let answer = call.await.expect("it ran");
        assert_eq!((answer.status, answer.class()), (503, "not_ready"));
        assert_eq!(answer.json()["perch"]["request_id"], answer.header("perch-request-id"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_refused_for_quota_is_sent_when_it_comes_again() {
    let settings = "limits.window = \"1s\"\nlimits.arrival_bound = \"1s\"\nlimits.products.benefits = 1";
    let (world, finch) = world(settings).await;
    let acme = world.for_customer("acme");
    finch.next([made("b1")]);
    finch.next([made("b2")]);
    assert_made(&acme.post(BENEFITS, &wants()).await, "b1");
    // A second one, intended as well; its client is asked to come back.
    let refused = acme.clone().with("perch-max-wait", "0").post(BENEFITS, &wants()).await;
    assert_eq!(
        (refused.status, refused.header("retry-after").is_empty()),
        (429, false),
        "{}",
        refused.text()
    );
    assert_made(&again(&acme).post(BENEFITS, &wants()).await, "b2");
    assert_eq!(finch.requests().len(), 2);
}

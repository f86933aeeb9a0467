//! Calls that wait for quota share a request, and an over-size one becomes several: what each app gets, what Finch sees,
//! and what the log says of it.

use crate::support::client::{Answer, App};
use crate::support::{Setup, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::task::JoinHandle;

const INDIVIDUAL: &str = "/employer/individual";
const STATEMENT: &str = "/employer/pay-statement";
const JOINED: &str = "perch_calls_joined";
const BATCHED: &str = "perch_calls_merged_total{how=\"batched\"}";
/// The quota of the product that is tried here.
const LIMIT: usize = 20;
const SETTINGS: &str = "limits.window = \"3s\"\nlimits.pacing = false\nmerge.coalesce = false\nretry.attempts = 1\n\
    shield.probe = \"off\"\n";
const FINCH: &str =
    "[limits.products]\nindividual = 0\npay-statement = 0\nauth = 0\nconnect = 0\nintrospect = 0\n";

fn setup() -> Setup {
    plain().settings("merge.batch = true\nretry.budget = \"100%\"")
}

/// A world with this budget of retries.
async fn world_of(budget: &str) -> World {
    world(plain().settings(&format!("merge.batch = true\nretry.budget = \"{budget}\""))).await
}

fn plain() -> Setup {
    World::with().scenario(FINCH).settings(SETTINGS)
}

/// A world with a customer to try, and one who spends.
async fn world(setup: Setup) -> World {
    let world = setup.start().await;
    world.connect("acme", "gusto").await;
    world.connect("spender", "gusto").await;
    world
}

/// The ids of the customer's people.
async fn people(world: &World) -> Vec<String> {
    let directory = world.for_customer("acme").get("/employer/directory").await.json();
    let people = directory["individuals"].as_array().expect("people");
    people.iter().map(|person| person["id"].as_str().expect("an id").to_owned()).collect()
}

/// Spends what is free, so that whoever comes next waits.
async fn spend(world: &World) {
    for _ in 0..LIMIT {
        let answer = world.for_customer("spender").post(INDIVIDUAL, &json!({ "requests": [] })).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

fn asking<T: AsRef<str>>(ids: &[T]) -> Value {
    json!({ "requests": ids.iter().map(|id| json!({ "individual_id": id.as_ref() })).collect::<Vec<_>>() })
}

fn call(app: &App, body: &Value) -> JoinHandle<Answer> {
    let (app, body) = (app.clone(), body.clone());
    tokio::spawn(async move { app.post(INDIVIDUAL, &body).await })
}

/// What all of them get, once so many follow others.
async fn gathered(world: &World, bodies: &[Value], following: f64) -> Vec<Answer> {
    let acme = world.for_customer("acme");
    let calls: Vec<_> = bodies.iter().map(|body| call(&acme, body)).collect();
    world.metric_becomes(JOINED, following).await;
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("it ran"));
    }
    answers
}

/// How many attempts perch has made so far.
async fn attempts(world: &World) -> f64 {
    let is_one =
        |name: &str| name.starts_with("perch_attempts_total") && name.contains("product=\"individual\"");
    world.metrics().await.iter().filter(|(name, _)| is_one(name)).map(|(_, count)| count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_share_a_request_and_each_gets_what_it_would_have_got_alone() {
    let mut world = world(setup()).await;
    let ids = people(&world).await;
    let mut bodies: Vec<Value> = ids[..8].iter().map(|id| asking(&[id])).collect();
    bodies.push(asking(&["nobody"]));
    bodies.push(asking(&[&ids[9], &ids[0], &ids[8]]));
    // One that asks in another way, and one whose answer could not be told apart.
    let mut other = asking(&[&ids[0]]);
    other["options"] = json!({ "include": [] });
    bodies.extend([other, asking(&[&ids[1], &ids[1]])]);
    spend(&world).await;
    let before = attempts(&world).await;
    let answers = gathered(&world, &bodies, 9.0).await;
    assert_eq!(attempts(&world).await - before, 3.0);
    assert_eq!(world.metric(BATCHED).await, 9.0);
    assert_eq!(world.metric("perch_finch_429_total").await, 0.0);
    let id = answers[0].header("finch-request-id");
    for (at, (answer, body)) in answers.iter().zip(&bodies).enumerate() {
        let alone = world.for_customer("acme").post(INDIVIDUAL, body).await;
        assert_eq!(answer.text(), alone.text(), "{at}");
        for name in ["perch-batch", "perch-class", "perch-attempts", "finch-data-retrieved", "content-type"] {
            assert_eq!(answer.header(name), alone.header(name), "{at} {name}");
        }
        assert_eq!(answer.header("finch-request-id") == id, at < 10, "{at}");
    }
    assert_eq!(answers[8].header("perch-batch"), "total=1, failed=1, pending=0");
    world.stop().await;
    let lines = world.lines.all();
    let line = |answer: &Answer| {
        let id = answer.header("perch-request-id");
        lines.iter().find(|line| line["request_id"] == id).expect("a line").clone()
    };
    let shared: Vec<Value> = answers[..10].iter().map(line).collect();
    let carriers: Vec<&Value> = shared.iter().filter(|line| line["carried_by"].is_null()).collect();
    assert_eq!(carriers.len(), 1);
    assert_eq!(carriers[0]["attempts"], 1);
    for line in shared.iter().filter(|line| !line["carried_by"].is_null()) {
        assert_eq!((&line["attempts"], &line["cache"]), (&json!(0), &json!("batched")));
        assert_eq!(line["carried_by"], carriers[0]["request_id"]);
        assert_eq!(line["finch_request_id"], json!([id]));
    }
    assert!(answers[10..].iter().all(|answer| line(answer)["carried_by"].is_null()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_spoils_a_shared_request_does_it_for_nobody_else() {
    for status in [400, 500, 502] {
        let world = world(setup()).await;
        let ids = people(&world).await;
        let bodies: Vec<Value> = ids[..10].iter().map(|id| asking(&[id])).collect();
        world.fault(json!({ "operation": "read_individuals", "holding": ids[6], "status": status })).await;
        spend(&world).await;
        let before = attempts(&world).await;
        let answers = gathered(&world, &bodies, 9.0).await;
        let sent = attempts(&world).await - before;
        for (at, (answer, body)) in answers.iter().zip(&bodies).enumerate() {
            let alone = world.for_customer("acme").post(INDIVIDUAL, body).await;
            assert_eq!(answer.status, if at == 6 { status } else { 200 }, "{at} {}", answer.text());
            assert_eq!((answer.status, answer.class()), (alone.status, alone.class()), "{at}");
            if at != 6 {
                assert_eq!(answer.text(), alone.text());
            }
        }
        // 10, 5 and 5, 2 and 3, 1 and 1 (or 1 and 2, 1 and 1).
        assert!((7.0..=9.0).contains(&sent), "{status}: {sent}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_budget_for_retries_each_asks_alone_for_what_finch_does_not_take() {
    let world = world_of("0%").await;
    let ids = people(&world).await;
    let bodies: Vec<Value> = ids[..6].iter().map(|id| asking(&[id])).collect();
    world.fault(json!({ "operation": "read_individuals", "holding": ids[2], "status": 422 })).await;
    spend(&world).await;
    let before = attempts(&world).await;
    let answers = gathered(&world, &bodies, 5.0).await;
    assert_eq!(attempts(&world).await - before, 7.0);
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 200, 422, 200, 200, 200]);
    // Finch may be down: then more requests would not help, and what it says is the answer, as for a call alone.
    let world = world_of("0%").await;
    world.fault(json!({ "operation": "read_individuals", "holding": ids[2], "status": 502 })).await;
    spend(&world).await;
    let before = attempts(&world).await;
    let answers = gathered(&world, &bodies, 5.0).await;
    assert_eq!(attempts(&world).await - before, 1.0);
    assert!(answers.iter().all(|answer| (answer.status, answer.class()) == (502, "provider_error")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_the_token_or_the_limits_is_said_to_everyone() {
    for (preset, status, class, sent) in [
        ("reauth", 401, "reauthentication_required", 1.0),
        ("insufficient_scope", 403, "permission_denied", 1.0),
        // A refusal for the product's limit is waited for, together.
        ("app_limit", 200, "ok", 2.0),
    ] {
        let world = world(setup()).await;
        let ids = people(&world).await;
        let bodies: Vec<Value> = ids[..5].iter().map(|id| asking(&[id])).collect();
        let fault =
            json!({ "operation": "read_individuals", "customer": "acme", "preset": preset, "times": 1 });
        world.fault(fault).await;
        spend(&world).await;
        let before = attempts(&world).await;
        let answers = gathered(&world, &bodies, 4.0).await;
        assert_eq!(attempts(&world).await - before, sent, "{preset}");
        for answer in answers {
            assert_eq!((answer.status, answer.class()), (status, class), "{preset}: {}", answer.text());
            assert_eq!(answer.header("perch-attempts"), sent.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_keeps_its_own_patience_client_and_urgency() {
    let world = world(setup()).await;
    let ids = people(&world).await;
    let acme = world.for_customer("acme");
    spend(&world).await;
    let before = attempts(&world).await;
    // The first one's client leaves, the next one loses patience, and the rest are served, the urgent one among them.
    let leaves = call(&acme.clone().with("perch-priority", "batch"), &asking(&[&ids[0]]));
    world.metric_becomes("perch_queue_depth{priority=\"batch\",product=\"individual\"}", 1.0).await;
    let hasty = call(&acme.clone().with("perch-max-wait", "0.3"), &asking(&[&ids[1]]));
    let patient: Vec<_> =
        (2..6).map(|at| call(&acme.clone().with("perch-priority", "batch"), &asking(&[&ids[at]]))).collect();
    world.metric_becomes(JOINED, 4.0).await;
    let urgent = call(&acme, &asking(&[&ids[6]]));
    leaves.abort();
    let hasty = hasty.await.expect("it ran");
    assert_eq!((hasty.status, hasty.code().as_str()), (429, "perch_rate_limited"), "{}", hasty.text());
    let urgent = urgent.await.expect("it ran");
    assert_eq!((urgent.status, urgent.class()), (200, "ok"), "{}", urgent.text());
    let mut shared = BTreeSet::new();
    for call in patient {
        let answer = call.await.expect("it ran");
        assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
        shared.insert(answer.header("finch-request-id").to_owned());
    }
    // A person does not wait for a job's answer.
    assert!(shared.len() == 1 && !shared.contains(urgent.header("finch-request-id")), "{shared:?}");
    assert_eq!(attempts(&world).await - before, 2.0);
    world.metric_becomes(JOINED, 0.0).await;
    world.metric_becomes("perch_queue_depth{priority=\"batch\",product=\"individual\"}", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_need_not_wait_is_sent_alone_and_so_is_everyone_unless_it_is_wanted() {
    let on = world(setup()).await;
    let ids = people(&on).await;
    for id in &ids[..3] {
        let answer = on.for_customer("acme").post(INDIVIDUAL, &asking(&[id])).await;
        assert_eq!((answer.status, answer.header("perch-attempts")), (200, "1"));
    }
    assert_eq!((attempts(&on).await, on.metric(BATCHED).await), (3.0, 0.0));
    for settings in [
        "merge.batch = false",
        "merge.batch = [\"employment\"]",
        "merge.batch = true\nmerge.batch_apps = [\"sync\"]",
    ] {
        let off = world(plain().settings(settings)).await;
        spend(&off).await;
        let before = attempts(&off).await;
        let acme = off.for_customer("acme");
        let calls: Vec<_> = ids[..3].iter().map(|id| call(&acme, &asking(&[id]))).collect();
        off.metric_becomes("perch_queue_depth{priority=\"interactive\",product=\"individual\"}", 3.0).await;
        for call in calls {
            assert_eq!(call.await.expect("it ran").status, 200);
        }
        assert_eq!(attempts(&off).await - before, 3.0, "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_over_size_call_becomes_several_requests_and_one_answer() {
    let mut world = World::with().scenario(FINCH).start().await;
    world.connect("acme", "gusto").await;
    let acme = world.for_customer("acme");
    let payments = acme.get("/employer/payment?start_date=2020-01-01&end_date=2099-01-01").await.json();
    let mut ids: Vec<String> = payments.as_array().expect("payments")[..22]
        .iter()
        .map(|payment| payment["id"].as_str().expect("an id").to_owned())
        .collect();
    ids.insert(15, "nobody's".to_owned());
    let body = |ids: &[String]| json!({ "requests": ids.iter().map(|id| json!({ "payment_id": id, "limit": 2 })).collect::<Vec<_>>() });
    let whole = acme.post(STATEMENT, &body(&ids)).await;
    assert_eq!((whole.status, whole.class()), (200, "partial"), "{}", whole.text());
    assert_eq!(
        (whole.header("perch-attempts"), whole.header("perch-batch")),
        ("3", "total=23, failed=1, pending=0")
    );
    assert_eq!(whole.headers.get_all("finch-request-id").iter().count(), 3);
    let mut items = Vec::new();
    for chunk in ids.chunks(10) {
        let part = acme.post(STATEMENT, &body(chunk)).await.text();
        let list = part.strip_prefix("{\"responses\":[").and_then(|rest| rest.strip_suffix("]}"));
        items.push(list.expect("a list").to_owned());
    }
    assert_eq!(whole.text(), format!("{{\"responses\":[{}]}}", items.join(",")));
    // When a part fails, half an answer would look like a whole one.
    world.fault(json!({ "operation": "read_pay_statements", "holding": "nobody's", "preset": "insufficient_scope" })).await;
    let failed = acme.post(STATEMENT, &body(&ids)).await;
    assert_eq!((failed.status, failed.class()), (403, "permission_denied"), "{}", failed.text());
    assert_eq!(failed.json()["perch"]["attempts"], 2);
    world.stop().await;
    let id = whole.header("perch-request-id");
    let line = world.lines.all().into_iter().find(|line| line["request_id"] == id).expect("a line");
    assert_eq!(line["finch_request_id"].as_array().map(Vec::len), Some(3));
    assert_eq!(line["batch"]["total"], 23);

    let world = World::with().scenario(FINCH).settings("merge.split = false").start().await;
    world.connect("acme", "gusto").await;
    let refused = world.for_customer("acme").post(STATEMENT, &body(&ids)).await;
    assert_eq!((refused.status, refused.class()), (400, "invalid_request"), "Finch's own word");
}

//! Two worlds, the same calls: one in which requests are shared, one in which each call is sent alone. Whatever is asked
//! for and whatever goes wrong, every app reads the same bytes in both.

use crate::support::World;
use crate::support::client::Answer;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

const CUSTOMERS: [&str; 2] = ["acme", "globex"];
/// Few requests in a short window, so that most calls wait; none of Finch's own, so that only perch counts.
const SHARED: &str = "limits.products.individual = 3\nlimits.products.employment = 3\nlimits.products.pay-statement = 3\n\
    limits.window = \"500ms\"\nlimits.pad = \"1ms\"\nlimits.ip.window = \"1s\"\nmerge.batch = true\n";
const ALONE: &str = "limits.products.individual = 5000\nlimits.products.employment = 5000\n\
    limits.products.pay-statement = 5000\n";
const BOTH: &str = "limits.pacing = false\nlimits.wait.interactive = \"50s\"\nmerge.coalesce = false\n\
    retry.attempts = 1\nretry.budget = \"100%\"\nshield.probe = \"off\"\n";
const FINCH: &str = "employees = 12\n[limits]\nwindow = \"1ms\"\n";

/// A call: to which endpoint, for whom, which items, and how they are asked for.
#[derive(Debug, Clone)]
struct Ask {
    product: usize,
    customer: usize,
    items: Vec<usize>,
    option: usize,
    is_batch: bool,
}

/// What goes wrong with an item, or with a request that holds it.
#[derive(Debug, Clone)]
struct Wrong {
    product: usize,
    item: usize,
    status: u16,
    is_whole: bool,
}

fn ask() -> impl Strategy<Value = Ask> {
    // Items from 12 on are nobody's; an item may stand twice.
    (0..3usize, 0..2usize, prop::collection::vec(0..14usize, 1..4), 0..6usize, any::<bool>()).prop_map(
        |(product, customer, items, option, is_batch)| Ask { product, customer, items, option, is_batch },
    )
}

fn wrong() -> impl Strategy<Value = Wrong> {
    let status = prop::sample::select(vec![400u16, 404, 422, 500, 502, 202]);
    (0..3usize, 0..12usize, status, prop::bool::weighted(0.3))
        .prop_map(|(product, item, status, is_whole)| Wrong { product, item, status, is_whole })
}

const PATHS: [(&str, &str, &str); 3] = [
    ("/employer/individual", "individual_id", "read_individuals"),
    ("/employer/employment", "individual_id", "read_employments"),
    ("/employer/pay-statement", "payment_id", "read_pay_statements"),
];

/// The ids that a customer's items have.
async fn ids(world: &World, customer: &str) -> (Vec<String>, Vec<String>) {
    let app = world.for_customer(customer);
    let people = app.get("/employer/directory").await.json();
    let payments = app.get("/employer/payment?start_date=2020-01-01&end_date=2099-01-01").await.json();
    let of = |list: &Value| -> Vec<String> {
        let named = list.as_array().expect("a list").iter().take(12);
        named.map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
    };
    (of(&people["individuals"]), of(&payments))
}

fn body(ask: &Ask, ids: &[(Vec<String>, Vec<String>)]) -> Value {
    let (people, payments) = &ids[ask.customer];
    let known = if ask.product == 2 { payments } else { people };
    let entry = |item: &usize| {
        let id = known.get(*item).cloned().unwrap_or_else(|| format!("nobody-{item}"));
        match (ask.product, ask.option) {
            (2, 0) => json!({ "payment_id": id, "limit": 2, "offset": 1 }),
            // More than Finch gives: the whole request is refused.
            (2, 1) => json!({ "payment_id": id, "limit": 5001 }),
            (2, _) => json!({ "payment_id": id }),
            _ => json!({ "individual_id": id }),
        }
    };
    let requests: Vec<Value> = ask.items.iter().map(entry).collect();
    match (ask.product, ask.option) {
        // The token does not cover it.
        (0, 0) => json!({ "options": { "include": ["ssn"] }, "requests": requests }),
        _ => json!({ "requests": requests }),
    }
}

/// What an app reads, without what is another thing each time: ids of requests, and how often Finch was asked.
fn read(answer: &Answer) -> (u16, String, String, String) {
    let header = |name| answer.header(name).to_owned();
    let mut text = answer.text();
    if let Some(perch) = answer.json().get("perch") {
        for name in ["request_id", "finch_request_id", "attempts"] {
            text = text.replace(&format!("\"{name}\":{}", perch[name]), "");
        }
    }
    (answer.status, text, header("perch-class"), header("perch-batch"))
}

/// A world in which all of this is asked for at once.
async fn answers(settings: &str, asks: &[Ask], wrongs: &[Wrong]) -> (Vec<Answer>, f64) {
    let world = World::with().scenario(FINCH).settings(settings).settings(BOTH).start().await;
    let mut named = Vec::new();
    for customer in CUSTOMERS {
        world.connect(customer, "gusto").await;
        named.push(ids(&world, customer).await);
    }
    for wrong in wrongs {
        let (_, _, operation) = PATHS[wrong.product];
        for (people, payments) in &named {
            let id = &(if wrong.product == 2 { payments } else { people })[wrong.item];
            let fault = match wrong.is_whole && wrong.status != 202 {
                true => json!({ "operation": operation, "holding": id, "status": wrong.status }),
                false if wrong.status == 202 => {
                    json!({ "operation": operation, "preset": "item_202", "items": [id] })
                }
                false => {
                    json!({ "operation": operation, "preset": "partial", "items": [id], "item_status": wrong.status })
                }
            };
            world.fault(fault).await;
        }
    }
    let calls: Vec<_> = asks
        .iter()
        .map(|ask| {
            let priority = if ask.is_batch { "batch" } else { "interactive" };
            let app = world.for_customer(CUSTOMERS[ask.customer]).with("perch-priority", priority);
            let (path, body) = (PATHS[ask.product].0, body(ask, &named));
            tokio::spawn(async move { app.post(path, &body).await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.expect("it ran"));
    }
    let shared = world.metric("perch_calls_merged_total{how=\"batched\"}").await;
    (answers, shared)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_or_alone_every_app_reads_the_same() {
    /// Pairs of worlds; each takes about a second.
    const CASES: usize = 6;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    // A fault of one request reaches the budget of retries, which never holds more than ten: one of them at most.
    let one_whole = |mut wrongs: Vec<Wrong>| {
        let mut seen = false;
        for wrong in &mut wrongs {
            wrong.is_whole &= !seen;
            seen |= wrong.is_whole;
        }
        wrongs
    };
    let case =
        (prop::collection::vec(ask(), 30..60), prop::collection::vec(wrong(), 0..5).prop_map(one_whole));
    let mut shared = 0.0;
    for _ in 0..CASES {
        let (asks, wrongs) = case.new_tree(&mut runner).expect("a case").current();
        let ((together, merged), (alone, unmerged)) =
            (answers(SHARED, &asks, &wrongs).await, answers(ALONE, &asks, &wrongs).await);
        assert_eq!(unmerged, 0.0);
        shared += merged;
        for (ask, (one, other)) in asks.iter().zip(together.iter().zip(&alone)) {
            assert_eq!(read(one), read(other), "{ask:?} {wrongs:?}");
        }
    }
    assert!(shared > 50.0, "{shared} calls were carried by others");
}

//! The watch for drift, and the shapes it compares with: what the simulator answers is what they say, and what is new is
//! told by its name and never by its value.

use crate::support::World;
use crate::support::client::Answer;
use crate::support::process::within;
use perch::finch::Method;
use perch::finch::endpoints::{ENDPOINTS, Operation, find};
use perch::finch::shape;
use perch::policy::drift::inspect;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Compares an answer with the shape of its endpoint: nothing in it may be new.
fn assert_known(method: Method, path: &str, answer: &Answer, covered: &mut BTreeSet<String>) -> Value {
    assert!(matches!(answer.status, 200 | 207), "{path}: {} {}", answer.status, answer.text());
    let endpoint = find(method, path.split('?').next().expect("a path")).expect("a row of the table");
    covered.insert(format!("{:?}", endpoint.operation));
    let shape = shape::of(endpoint.operation).expect("it has a shape");
    let tally = inspect(shape, &answer.bytes).expect("it is JSON");
    assert!(tally.unknown.is_empty(), "{path}: {:?}", tally.unknown);
    for (field, seen) in &tally.fields {
        assert!(seen.unknown_words == 0 && seen.surprises.is_empty(), "{path}: {field}: {seen:?}");
    }
    assert!(tally.fields.values().any(|seen| seen.values > 0), "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_simulator_answers_has_the_known_shape() {
    let world = World::with().settings("apps.writes = \"allow\"").start().await;
    world.connect("acme", "gusto").await;
    let app = world.for_customer("acme");
    let mut covered = BTreeSet::new();
    let mut get = async |path: &str| {
        let answer = app.get(path).await;
        assert_known(Method::Get, path, &answer, &mut covered)
    };
    let directory = get("/employer/directory").await;
    get("/employer/company").await;
    get("/employer/documents").await;
    get("/introspect").await;
    let payments = get("/employer/payment?start_date=2024-01-01&end_date=2099-01-01").await;
    let groups = get("/employer/pay-groups").await;
    get(&format!("/employer/pay-groups/{}", groups[0]["id"].as_str().expect("an id"))).await;
    let benefit = get("/employer/benefits").await[0]["benefit_id"].as_str().expect("an id").to_owned();
    get(&format!("/employer/benefits/{benefit}")).await;

    let people = directory["individuals"].as_array().expect("a list");
    let requests: Vec<Value> = people.iter().map(|p| json!({ "individual_id": p["id"] })).collect();
    let missing = json!({ "individual_id": "00000000-0000-4000-8000-000000000000" });
    for path in ["/employer/individual", "/employer/employment"] {
        let mut requests = requests.clone();
        requests.push(missing.clone());
        let answer = app.post(path, &json!({ "requests": requests })).await;
        assert_known(Method::Post, path, &answer, &mut covered);
    }
    let path = "/employer/pay-statement";
    let answer = app.post(path, &json!({ "requests": [{ "payment_id": payments[0]["id"] }] })).await;
    assert_known(Method::Post, path, &answer, &mut covered);

    let path = format!("/employer/benefits/{benefit}");
    let configuration = json!({
        "annual_maximum": 100, "catch_up": true, "hsa_contribution_limit": "family",
        "employee_deduction": { "type": "percent", "amount": 500 },
        "company_contribution": { "type": "tiered", "tiers": [{ "match": 1, "threshold": 2 }] },
    });
    let enrolled = json!([{ "individual_id": people[0]["id"], "configuration": configuration }]);
    let answer = app.post(&format!("{path}/individuals"), &enrolled).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for path in [format!("{path}/enrolled"), format!("{path}/individuals")] {
        let answer = app.get(&path).await;
        assert_known(Method::Get, &path, &answer, &mut covered);
    }
    let known = ENDPOINTS.iter().map(|endpoint| endpoint.operation);
    let known: BTreeSet<String> =
        known.filter(|o: &Operation| shape::of(*o).is_some()).map(|o| format!("{o:?}")).collect();
    assert_eq!(covered, known);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_field_is_counted_beside_the_call_and_its_value_is_nowhere() {
    let world = World::new().await;
    world.connect("acme", "gusto").await;
    let app = world.for_customer("acme");
    let change =
        json!({ "founded": "CANARY-value", "legal_name": null, "ein": 7, "primary_email": "x@example.com" });
    let changed = app.call("PUT", "/sandbox/company", change.to_string().into()).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let synced = app.post("/sandbox/jobs", &json!({ "type": "data_sync_all" })).await;
    assert!(synced.status < 300, "{}", synced.text());
    let answer = app.get("/employer/company").await;
    assert_eq!(answer.json()["founded"], "CANARY-value", "the answer crosses as it came: {}", answer.text());
    within("it is compared", world.metric_becomes("perch_drift_samples_total{product=\"company\"}", 1.0))
        .await;
    let metrics = world.operator().get("/metrics").await.text();
    for outcome in ["unknown_field", "type"] {
        let line =
            format!("perch_fields_total{{outcome=\"{outcome}\",product=\"company\",provider=\"gusto\"}} 1");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("CANARY-value") && !metrics.contains("founded"));
}

//! Warm-up: what the first screen of a new customer shows is there before it is asked for.

use crate::support::World;
use crate::support::client::Answer;
use crate::support::hooks::{DOOR, event};
use crate::support::process::until;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::interval;

const COMPANY: &str = "/employer/company";
const DIRECTORY: &str = "/employer/directory";
const INDIVIDUAL: &str = "/employer/individual";
const KEPT: &str = "perch_cache_entries";
const WARM: &str = "merge.warm_up = true\nlimits.products.default = 1000\n\
                    merge.cache = { company = \"1h\", directory = \"1h\", individual = \"1h\" }\n";

fn cache(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.header("perch-cache"))
}

async fn keeps(world: &World, count: f64) {
    let mut pace = interval(Duration::from_millis(20));
    until("what is fetched is kept", async || {
        pace.tick().await;
        (world.metric(KEPT).await - count).abs() < 0.5
    })
    .await;
}

async fn arrivals(world: &World, product: &str) -> Value {
    world.report().await["products"][product]["arrivals"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_screen_of_a_new_customer_needs_no_call_to_finch() {
    let mut world = World::with().settings(WARM).start().await;
    world.connect("acme", "gusto").await;
    keeps(&world, 3.0).await;
    let acme = world.for_customer("acme");
    assert_eq!(cache(&acme.get(COMPANY).await), (200, "hit"));
    let directory = acme.get(DIRECTORY).await;
    assert_eq!(cache(&directory), (200, "hit"));
    let directory = directory.json();
    let people = directory["individuals"].as_array().expect("a list");
    let requests: Vec<Value> = people.iter().map(|person| json!({ "individual_id": person["id"] })).collect();
    let asked = serde_json::to_string_pretty(&json!({ "requests": requests })).expect("JSON");
    // As an SDK sends it.
    let acme = acme.with("content-type", "application/json");
    assert_eq!(cache(&acme.call("POST", INDIVIDUAL, asked.into()).await), (200, "hit"));
    for product in ["company", "directory", "individual"] {
        assert_eq!(arrivals(&world, product).await, 1, "{product}");
    }
    assert_eq!(world.report().await["suspicious"]["count"], 0);
    world.stop().await;
    let lines = world.lines.all();
    let own: Vec<&Value> =
        lines.iter().filter(|line| line["by"] == "perch" && line["product"] != "introspect").collect();
    assert_eq!(own.len(), 3, "each has its line: {own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_data_is_not_there_yet_is_warmed_up_when_finch_says_that_it_is() {
    let world = World::with().settings(WARM).settings(DOOR).start().await;
    world.fault(json!({ "operation": "get_company", "preset": "accepted", "times": 1 })).await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id");
    let mut pace = interval(Duration::from_millis(20));
    until("it has asked once", async || {
        pace.tick().await;
        arrivals(&world, "company").await == 1
    })
    .await;
    assert!((world.metric(KEPT).await).abs() < 0.5);
    world.tell("m1", &event("job.data_sync_all.completed", connection)).await;
    keeps(&world, 3.0).await;
    assert_eq!(cache(&world.for_customer("acme").get(COMPANY).await), (200, "hit"));
    assert_eq!(arrivals(&world, "company").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_legal_entity_of_a_new_connection_is_warmed_up() {
    let world = World::with().scenario("entities = 2").settings(WARM).start().await;
    world.connect("acme", "gusto").await;
    keeps(&world, 6.0).await;
    let entities = world.connections().await[0]["entity_ids"].clone();
    for entity in entities.as_array().expect("a list") {
        let path = format!("{COMPANY}?entity_ids%5B%5D={}", entity.as_str().expect("an id"));
        assert_eq!(cache(&world.for_customer("acme").get(&path).await), (200, "hit"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_fetched_unless_an_operator_says_so() {
    let settings = WARM.replace("warm_up = true", "warm_up = false");
    let mut world = World::with().settings(&settings).start().await;
    world.connect("acme", "gusto").await;
    world.stop().await;
    assert_eq!(arrivals(&world, "company").await, Value::Null);
}

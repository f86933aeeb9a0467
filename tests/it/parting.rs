//! A token is erased when Finch does not take it any more, and for no other word: with it goes the only way to end a
//! connection that Finch may still bill.

use crate::support::hooks::{DOOR, seconds, status};
use crate::support::{TOKEN_MARKER, World, until};
use perch::telemetry::clock::unix_now;
use perch::types::{AccessToken, ConnectionId, CustomerId, Environment, ProviderId};
use perch::vault::{NewConnection, Status};
use serde_json::{Value, json};

const COMPANY: &str = "/employer/company";

/// One customer of each kind, connected, and a door for Finch.
async fn world() -> World {
    let scenario = "[[customer]]\nid = \"acme\"\n\n[[customer]]\nid = \"many\"\nentities = 3\n";
    let world = World::with().settings(DOOR).scenario(scenario).start().await;
    world.import().await;
    world
}

async fn connection_of(world: &World, customer: &str) -> Value {
    let all = world.connections().await;
    all.iter().find(|c| c["customer_id"] == customer).expect("a connection").clone()
}

fn id_of(connection: &Value) -> String {
    connection["connection_id"].as_str().expect("an id").to_owned()
}

/// Finch tells; perch has done about it what it does.
async fn tell(world: &World, name: &str, event: &Value) {
    let answer = world.tell_at(name, seconds() + 5, event.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    world.webhooks_are_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_disconnected_erases_no_token_that_finch_still_takes() {
    let world = world().await;
    let connection = id_of(&connection_of(&world, "acme").await);
    tell(&world, "m1", &status(&connection, "disconnected")).await;
    let entry = world.stored(&connection).await.expect("kept");
    assert_eq!((entry.facts.status, entry.token.is_some()), (Status::Active, true));
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200, "Finch says that it is well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_finch_cannot_be_asked_about_stops_calls_and_erases_nothing() {
    let world = world().await;
    let connection = id_of(&connection_of(&world, "acme").await);
    // A 401 that is about something else than the token is no proof either.
    let other = json!({ "code": 401, "name": "authentication_error", "finch_code": "reauthenticate_user", "message": "m" });
    for (name, fault) in [
        ("m1", json!({ "operation": "introspect", "status": 500, "times": 1 })),
        ("m2", json!({ "operation": "introspect", "status": 401, "body": other, "times": 1 })),
    ] {
        world.fault(fault.clone()).await;
        tell(&world, name, &status(&connection, "disconnected")).await;
        assert!(world.stored(&connection).await.expect("kept").token.is_some(), "{fault}");
        let refused = world.for_customer("acme").get(COMPANY).await;
        assert_eq!((refused.status, refused.header("perch-attempts")), (401, "0"), "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_the_vault_does_not_know_is_not_the_connection() {
    let world = world().await;
    let connection = id_of(&connection_of(&world, "acme").await);
    let mut event = status(&connection, "disconnected");
    event["entity_id"] = json!("6d5b4b3e-0000-4000-8000-00000000e999");
    tell(&world, "m1", &event).await;
    assert!(world.stored(&connection).await.expect("kept").token.is_some());
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_lost_one_entity_serves_the_others_and_keeps_its_token() {
    let world = world().await;
    let many = connection_of(&world, "many").await;
    let (connection, gone) = (id_of(&many), many["entity_ids"][1].clone());
    let body = json!({ "entity_ids": [gone] });
    let parted = world.for_customer("many").post("/disconnect-entity", &body).await;
    assert_eq!(parted.status, 200, "{}", parted.text());
    // Sent before what the vault knows: perch asks, and hears of an entity that is gone.
    let old = status(&connection, "disconnected").to_string();
    assert_eq!(world.tell_at("m1", seconds() - 60, old.as_bytes()).await.status, 200);
    world.webhooks_are_settled().await;
    assert!(world.stored(&connection).await.expect("kept").token.is_some());
    let path = format!("{COMPANY}?entity_ids[]={}", many["entity_ids"][0].as_str().expect("an id"));
    let served = world.for_customer("many").get(&path).await;
    assert_eq!(served.status, 200, "{}", served.text());
}

/// A newer token of a connection, stored by somebody else.
async fn renew(world: &World, connection: &str, customer: &str) {
    let new = NewConnection {
        connection_id: ConnectionId::new(connection).expect("an id"),
        customer_id: CustomerId::new(customer).ok(),
        company_id: None,
        provider_id: ProviderId::new("gusto").ok(),
        products: Vec::new(),
        entity_ids: Vec::new(),
        client_type: Environment::Sandbox,
        account_status: None,
        token: AccessToken::new(format!("{TOKEN_MARKER}-newer")),
        status: Status::Active,
        held_reason: None,
    };
    world.vault().await.seal(new, unix_now()).await.expect("it is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finch_says_of_an_older_token_erases_no_newer_one() {
    let world = world().await;
    let connection = id_of(&connection_of(&world, "acme").await);
    let asked = async |operation: &str| {
        let report = world.report().await;
        let outcomes = report["operations"][operation].as_object().cloned().unwrap_or_default();
        outcomes.values().filter_map(Value::as_u64).sum::<u64>()
    };
    // While Finch is asked to end it, the customer comes back.
    world
        .fault(json!({ "operation": "disconnect", "delay": "700ms", "status": 401, "body": "Unauthorized" }))
        .await;
    let app = world.for_customer("acme");
    let call = tokio::spawn(async move { app.post("/disconnect", &json!({})).await.status });
    until("Finch has it", async || asked("Disconnect").await > 0).await;
    renew(&world, &connection, "acme").await;
    assert_eq!(call.await.expect("it ran"), 401);
    let entry = world.stored(&connection).await.expect("kept");
    assert_eq!((entry.facts.status, entry.token.is_some()), (Status::Active, true), "of the old token");
    // The same while Finch is asked about a word of its own.
    world
        .fault(json!({ "operation": "introspect", "delay": "700ms", "status": 401, "body": "Unauthorized" }))
        .await;
    let before = asked("Introspect").await;
    let body = status(&connection, "disconnected").to_string();
    assert_eq!(world.tell_at("m1", seconds() + 5, body.as_bytes()).await.status, 200);
    until("Finch is asked", async || asked("Introspect").await > before).await;
    renew(&world, &connection, "acme").await;
    world.webhooks_are_settled().await;
    assert!(world.stored(&connection).await.expect("kept").token.is_some());
}

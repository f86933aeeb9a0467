//! Webhooks out of the simulator: what a person with `perch sim` and `perch serve` can try without Finch.

use crate::support::hooks::{DOOR, SECRET, sign};
use crate::support::{App, World};
use perch::config::Address;
use serde_json::{Value, json};

const PATH: &str = "/_sim/webhooks";

/// Where the gateway waits for Finch.
fn door(world: &World) -> String {
    match world.gateway.as_ref().and_then(|gateway| gateway.webhooks()) {
        Some(Address::Tcp(at)) => format!("http://{at}/webhooks/finch"),
        other => panic!("there is no door: {other:?}"),
    }
}

async fn order(world: &World, order: &Value) -> (u16, Value) {
    let answer = App::at(world.finch).post(PATH, order).await;
    (answer.status, answer.json())
}

fn body(shown: &Value) -> Value {
    serde_json::from_str(shown["body"].as_str().expect("a body")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_only_shown_is_signed_as_finch_signs_and_tells_of_the_world_as_it_is() {
    let world = World::with().scenario("[[customer]]\nid = \"acme\"\nstatus = \"reauth\"").start().await;
    let all = App::at(world.finch).get("/_sim/connections").await.json();
    let known = &all["connections"][0];
    let (connection, company) = (&known["connection_id"], &known["company_id"]);
    for (event_type, data) in [
        ("account.updated", &["authentication_method", "status"] as &[&str]),
        ("job.data_sync_all.completed", &["job_id", "job_url"]),
        ("company.updated", &[]),
        ("directory.created", &["individual_id"]),
        ("employment.deleted", &["individual_id"]),
        ("payment.created", &["pay_date", "payment_id"]),
        ("pay_statement.updated", &["individual_id", "payment_id"]),
        ("something.new", &[]),
    ] {
        let (status, shown) =
            order(&world, &json!({ "connection_id": connection, "event_type": event_type })).await;
        assert_eq!(status, 200, "{shown}");
        let header = |name: &str| shown["headers"][name].as_str().unwrap_or_default();
        let (id, at) = (header("finch-event-id"), header("finch-timestamp"));
        let text = shown["body"].as_str().expect("a body");
        assert!(id.starts_with("msg_"), "{shown}");
        assert_eq!(header("finch-signature"), sign(SECRET, id, at, text.as_bytes()), "{shown}");
        let event = body(&shown);
        assert_eq!((&event["connection_id"], &event["company_id"]), (connection, company), "{event}");
        assert_eq!((&event["event_type"], &event["entity_id"]), (&json!(event_type), &Value::Null));
        let told = event["data"].as_object().expect("an object");
        assert_eq!(told.keys().map(String::as_str).collect::<Vec<_>>(), data, "{event_type}");
        assert!(told.values().all(Value::is_string), "{event}");
    }
    let more = json!({ "company_id": company, "event_type": "account.updated", "event_id": "msg_again",
                       "entity_id": "e", "data": { "status": "connected", "new": 1 } });
    let (_, shown) = order(&world, &more).await;
    let event = body(&shown);
    assert_eq!(shown["headers"]["finch-event-id"], "msg_again");
    assert_eq!(
        (&event["connection_id"], &event["entity_id"]),
        (&Value::Null, &json!("e")),
        "by company alone"
    );
    assert_eq!((&event["data"]["status"], &event["data"]["new"]), (&json!("connected"), &json!(1)));
    let (_, shown) = order(&world, &json!({})).await;
    assert_eq!(body(&shown)["event_type"], "test", "as the dashboard's button sends it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_takes_the_simulators_webhooks_and_refuses_each_wrong_one() {
    let world = World::with().settings(DOOR).start().await;
    let connected = world.connect("acme", "gusto").await;
    let base = json!({ "connection_id": connected["connection_id"], "event_type": "company.updated",
                       "to": door(&world) });
    let with = |name: &str, value: &str| {
        let mut order = base.clone();
        order[name] = value.into();
        order
    };
    for fault in ["wrong_secret", "old", "future", "altered", "missing_header", "non_base64"] {
        let (status, shown) = order(&world, &with("fault", fault)).await;
        assert_eq!((status, &shown["delivered"]["status"]), (200, &json!(401)), "{fault}: {shown}");
    }
    assert_eq!(world.operator().get("/api/webhooks").await.json(), json!([]));
    let (status, shown) = order(&world, &with("event_id", "msg_1")).await;
    assert_eq!((status, &shown["delivered"]["status"]), (200, &json!(200)), "{shown}");
    let (_, again) = order(&world, &with("event_id", "msg_1")).await;
    assert_eq!(again["delivered"]["status"], 200, "a redelivery: {again}");
    let kept = world.operator().get("/api/webhooks").await.json();
    assert_eq!((kept.as_array().map(Vec::len), &kept[0]["event_id"]), (Some(1), &json!("msg_1")), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_ends_at_the_simulator_is_known_by_its_webhook_before_a_call_fails() {
    let scenario = "[[customer]]\nid = \"acme\"\ntoken = \"sandbox-token\"";
    let world = World::with().scenario(scenario).settings(DOOR).start().await;
    world.import().await;
    let connection = world.connections().await[0]["connection_id"].clone();
    let sandbox = world.straight().with("authorization", &format!("Bearer {}", live_token(&world).await));
    let set = json!({ "connection_status": "reauth" }).to_string();
    let ended = sandbox.call("PUT", "/sandbox/connections/accounts", set.into()).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    let told = json!({ "connection_id": connection, "event_type": "account.updated", "to": door(&world) });
    let (_, shown) = order(&world, &told).await;
    assert_eq!(body(&shown)["data"]["status"], "reauth", "{shown}");
    world.webhooks_are_settled().await;
    let before = world.report().await["products"]["company"]["arrivals"].clone();
    let refused = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((refused.status, refused.class()), (401, "reauthentication_required"), "{}", refused.text());
    assert_eq!(world.report().await["products"]["company"]["arrivals"], before, "Finch was not asked");
}

async fn live_token(world: &World) -> String {
    let all = App::at(world.finch).get("/_sim/connections").await.json();
    all["connections"][0]["access_token"].as_str().expect("a live token").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_makes_no_sense_is_told_what_is_missing() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = format!("http://{}/", taken.local_addr().expect("an address"));
    drop(taken);
    for (asked, status, why) in [
        (json!([1]), 400, "no order for a webhook"),
        (json!({ "event_type": "account.updated" }), 400, "connection_id, or company_id"),
        (json!({ "connection_id": "nope" }), 404, "no such connection"),
        (json!({ "fault": "rude" }), 400, "wrong_secret"),
        (json!({ "url": "http://127.0.0.1/" }), 400, "unknown field"),
        (json!({ "event_id": "a\r\nx: y" }), 400, "can stand in a header"),
        (json!({ "event_id": "m".repeat(300) }), 400, "can stand in a header"),
        (json!({ "to": "http://192.0.2.1/webhooks" }), 400, "of this machine"),
        (json!({ "to": nobody }), 502, "did not take it"),
    ] {
        let (found, said) = order(&world, &asked).await;
        let message = said["message"].as_str().unwrap_or_default();
        assert!(found == status && message.contains(why), "{asked}: {found} {said}");
    }
    assert_eq!(App::at(world.finch).get(PATH).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulator_does_not_start_with_a_secret_that_signs_nothing() {
    let world = World::with().without_gateway().await;
    let mut command = world.command(&["sim", "--listen", "127.0.0.1:0"]);
    command.env("FINCH_WEBHOOK_SECRET", "%%%");
    let ended = world.run(command).await;
    assert!(ended.code == Some(64) && ended.err.contains("webhook secret is no base64"), "{ended:?}");
}

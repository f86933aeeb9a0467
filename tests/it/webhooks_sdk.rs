//! Webhooks and Finch's official SDKs: perch believes what others sign, and the SDKs believe what perch delivers.

use crate::sdk::{Sdk, step};
use crate::support::hooks::{OWN, SECRET, event, told};
use crate::support::raw::RawFinch;
use crate::support::{World, until};
use perch::config::Address;
use serde_json::{Map, Value, json};

/// A request as the app got it, for the SDK to judge.
fn as_got(customer: &str, request: &str, secret: &str) -> Value {
    let (head, body) = request.split_once("\r\n\r\n").expect("a whole request");
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let headers: Map<String, Value> = lines.map(|(name, value)| (name.to_owned(), json!(value))).collect();
    json!({ "customer": customer, "body": body, "headers": headers, "secret": secret })
}

async fn an_sdk_believes_what_perch_delivers(sdk: Sdk) {
    for (settings, secret, other) in
        [("", SECRET, OWN), ("webhooks.sign_with = \"env:APP_WEBHOOK\"", OWN, SECRET)]
    {
        let app = RawFinch::start().await;
        let world = World::with().settings(&told(&app.url())).settings(settings).start().await;
        let Some(Address::Tcp(door)) = world.gateway.as_ref().expect("it runs").webhooks() else {
            panic!("there is no door")
        };
        let url = format!("http://{door}/webhooks/finch");
        let body = event("payment.created", "c-ü").to_string();
        let tell = |customer: &str, id: &str, secret: &str| json!({ "customer": customer, "url": url, "id": id, "body": body, "secret": secret });
        let plan =
            json!({ "customers": [], "tell": [tell("good", "msg_1", SECRET), tell("bad", "msg_2", OWN)] });
        let report = sdk.drive(world.proxy, plan).await;
        assert_eq!(step(&report, "good", "tell")["status"], 200);
        assert_eq!(step(&report, "bad", "tell")["status"], 401);
        until("it is delivered", async || world.webhook("msg_1").await["state"] == "done").await;
        let request = app.requests()[0].clone();
        let altered = request.replace("payment.created", "payment.deleted");
        let hooks = json!([
            as_got("good", &request, secret),
            as_got("other", &request, other),
            as_got("altered", &altered, secret)
        ]);
        let report = sdk.drive(world.proxy, json!({ "customers": [], "webhooks": hooks })).await;
        let good = step(&report, "good", "webhook");
        assert_eq!(
            (&good["outcome"], &good["event_type"]),
            (&json!("ok"), &json!("payment.created")),
            "{good}"
        );
        assert_eq!(good["connection_id"], "c-ü");
        for customer in ["other", "altered"] {
            let refused = step(&report, customer, "webhook");
            assert_eq!(refused["outcome"], "error", "{refused}");
            assert!(refused["message"].as_str().is_some_and(|why| why.contains("signature")), "{refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_sdk_believes_what_perch_delivers() {
    an_sdk_believes_what_perch_delivers(Sdk::Python).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_sdk_believes_what_perch_delivers() {
    an_sdk_believes_what_perch_delivers(Sdk::Node).await;
}

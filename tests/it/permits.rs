//! Nothing goes to Finch that was not counted first, whoever wanted it and whatever came of it.

use crate::support::hooks::{DOOR, seconds, status};
use crate::support::{World, until};
use serde_json::{Value, json};

/// What perch has counted and what Finch has seen, by product and in all.
async fn counts(world: &World) -> (Vec<(String, f64)>, Vec<(String, f64)>) {
    let (report, metrics) = (world.report().await, world.metrics().await);
    let products = ["company", "directory", "individual"];
    let used = |name: &str| metrics[&format!("perch_quota_used{{product=\"{name}\"}}")];
    let seen = |name: &str| report["products"][name]["arrivals"].as_f64().unwrap_or_default();
    let all: f64 = report["addresses"]
        .as_object()
        .expect("addresses")
        .values()
        .filter_map(|address| address["arrivals"].as_f64())
        .sum();
    let pair = |name: &str, n: f64| (name.to_owned(), n);
    let counted = products.iter().map(|name| pair(name, used(name)));
    let came = products.iter().map(|name| pair(name, seen(name)));
    (counted.chain([pair("all", used("egress-ip"))]).collect(), came.chain([pair("all", all)]).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v16_every_attempt_with_a_token_has_spent_a_permit() {
    // What another test of this machine does in a second is not asked about: the simulator is this world's own.
    let world =
        World::with().settings(DOOR).settings("connections.disconnect_retry = \"50ms\"").start().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    let app = world.for_customer("acme");
    assert_eq!(app.get("/employer/company").await.status, 200);
    let directory = app.get("/employer/directory").await.json();
    let person = directory["individuals"][0]["id"].clone();
    let people = json!({ "requests": [{ "individual_id": person }] });
    assert_eq!(app.post("/employer/individual", &people).await.status, 200);
    // Sent again, cut off, refused.
    for fault in [
        json!({ "operation": "get_company", "status": 503, "times": 1 }),
        json!({ "operation": "get_company", "reset": true, "times": 1 }),
        json!({ "operation": "get_company", "preset": "reauth", "times": 1 }),
    ] {
        world.fault(fault).await;
        app.get("/employer/company").await;
    }
    // What an operator wants, and what perch asks by itself.
    for errand in ["introspect", "reauth-link"] {
        let path = format!("/api/connections/{connection}/{errand}");
        let answer = world.operator().call("POST", &path, Vec::new().into()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let word = status(&connection, "disconnected").to_string();
    assert_eq!(world.tell_at("m1", seconds() + 5, word.as_bytes()).await.status, 200);
    world.webhooks_are_settled().await;
    world.fault(json!({ "operation": "disconnect", "status": 500, "times": 2 })).await;
    app.post("/disconnect", &json!({})).await;
    until("it is over", async || {
        world.stored(&connection).await.expect("its row").facts.status.as_str() == "disconnected"
    })
    .await;
    let (counted, came) = counts(&world).await;
    assert_eq!(counted, came, "counted by perch, seen by Finch");
    let operations = world.report().await["operations"].clone();
    for name in ["GetCompany", "Introspect", "ReauthenticateSession", "CreateAccessToken", "Disconnect"] {
        let times: u64 =
            operations[name].as_object().into_iter().flatten().filter_map(|(_, n)| Value::as_u64(n)).sum();
        assert!(times > 0, "{name} was no part of it: {operations}");
    }
}

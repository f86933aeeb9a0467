//! Bringing connections of before: `perch connections import` through a pipe, beside a real gateway
//! and against the simulator.

use crate::support::{World, until};
use serde_json::{Value, json};

const SCENARIO: &str =
    "[[customer]]\nid = \"acme\"\n[[customer]]\nid = \"birch\"\nproviders = [\"adp_run\"]\n";

/// A world whose customers were connected before perch came.
async fn world() -> World {
    World::with().scenario(SCENARIO).without_gateway().await
}

/// What the company has kept of a customer so far.
async fn kept(world: &World, customer: &str) -> Value {
    let all = world.straight().get("/_sim/connections").await.json();
    let all = all["connections"].as_array().expect("a list").clone();
    let one = all.into_iter().find(|c| c["customer_id"] == customer).expect("the customer is connected");
    json!({
        "customer_id": customer, "connection_id": one["connection_id"], "access_token": one["access_token"],
    })
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

async fn count(world: &World) -> usize {
    let listed = world.perch(&["connections", "list", "-o", "json"]).await;
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    listed.json().as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finch_is_asked_whose_each_token_is_and_a_running_gateway_serves_them() {
    let mut world = world().await;
    let perch = world.serve().await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 404);
    let (acme, birch) = (kept(&world, "acme").await, kept(&world, "birch").await);
    let lines = format!("{acme}\n\n{birch}\n");
    let imported = world.perch_reading(&lines, &["connections", "import"]).await;
    assert_eq!((imported.code, imported.err.as_str()), (Some(0), ""), "{}", imported.err);
    assert_eq!(imported.out, "imported 2 connections: 2 new, 0 replaced\n");
    assert_eq!(world.report().await["operations"]["Introspect"], json!({ "200": 2 }));

    for customer in ["acme", "birch"] {
        let app = world.for_customer(customer);
        until("the gateway notices", async || app.get("/employer/company").await.status == 200).await;
    }
    let listed = world.perch(&["connections", "list"]).await.out;
    assert!(listed.contains("acme") && listed.contains("adp_run") && listed.contains("active"), "{listed}");
    let id = text(&birch["connection_id"]);
    let shown = world.perch(&["connections", "show", id, "-o", "json"]).await;
    let facts = shown.json();
    assert_eq!((&facts["customer_id"], &facts["provider_id"]), (&json!("birch"), &json!("adp_run")));
    assert!(facts["company_id"].is_string() && facts["products"][0].is_string(), "Finch told these: {facts}");
    assert!(world.perch(&["connections", "show", id]).await.out.contains("customer      birch"));

    let again = world.perch_reading(&lines, &["connections", "import", "-o", "json"]).await;
    assert_eq!(again.json(), json!({ "imported": 2, "added": 0, "replaced": 2 }));
    assert_eq!(count(&world).await, 2);
    drop(perch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_read_like_a_pipe_and_unverified_is_believed() {
    let world = world().await;
    let acme = kept(&world, "acme").await;
    std::fs::write(world.path("kept.jsonl"), acme.to_string()).expect("a writable folder");
    let imported = world.perch(&["connections", "import", "--no-verify", "kept.jsonl"]).await;
    assert_eq!(imported.out, "imported 1 connections: 1 new, 0 replaced\n", "{}", imported.err);
    assert_eq!(world.report().await["requests"], 0, "nobody was asked");
    let missing = world.perch(&["connections", "import", "nowhere.jsonl"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("nowhere.jsonl cannot be read"), "{}", missing.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bad_line_is_told_and_nothing_is_stored() {
    let world = world().await;
    let (acme, birch) = (kept(&world, "acme").await, kept(&world, "birch").await);
    let token = text(&acme["access_token"]);
    let changed = |name: &str, value: Value| {
        let mut line = birch.clone();
        line[name] = value;
        line.to_string()
    };
    let lines = [
        acme.to_string(),
        "{\"customer_id\":".to_owned(),
        birch.to_string(),
        format!("\"{token}\""),
        changed("customer", json!("birch")),
        changed("access_token", json!(42)),
        changed("connection_id", json!("")),
        format!("{{\"customer_id\":\"a\",\"customer_id\":\"a\",\"access_token\":\"{token}\"}}"),
        changed("connection_id", json!("another")),
        changed("access_token", json!("another")),
        "{}".to_owned(),
    ]
    .join("\n");
    for words in [&["connections", "import"] as &[&str], &["connections", "import", "--no-verify"]] {
        let refused = world.perch_reading(&lines, words).await;
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
        for told in [
            "nothing was imported:",
            "line 2: is not one JSON object",
            "line 4: is not one JSON object",
            "line 5: has an unknown member; did you mean customer_id?",
            "line 6: access_token is not a text",
            "line 7: connection_id is not a text of 1 to 255 printable characters",
            "line 8: has customer_id twice",
            "line 9: has the access_token of line 3",
            "line 10: has the connection_id of line 3",
            "line 11: has no access_token",
        ] {
            assert!(refused.err.contains(told), "{told:?} is not in: {}", refused.err);
        }
        assert!(!refused.err.contains("line 1:") && !refused.err.contains("line 3:"), "{}", refused.err);
        assert!(!refused.err.contains(token), "a token was repeated: {}", refused.err);
        assert_eq!(count(&world).await, 0);
    }
    assert_eq!(world.report().await["requests"], 0, "Finch is not asked about a file that is not right");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finch_contradicts_is_refused_as_a_whole() {
    let world = world().await;
    let (acme, birch) = (kept(&world, "acme").await, kept(&world, "birch").await);
    let mut unknown = acme.clone();
    unknown["access_token"] = json!("7e965183-9332-423c-9259-3edafb332ad2");
    let mut swapped = acme.clone();
    swapped["access_token"] = birch["access_token"].clone();
    let mut renamed = acme.clone();
    renamed["customer_id"] = json!("ivy");
    let mut other_company = acme.clone();
    other_company["company_id"] = json!("another");
    for (line, told) in [
        (unknown, "line 2: Finch does not accept the token (401)"),
        (swapped, "line 2: the token belongs to connection "),
        (renamed, "line 2: Finch knows the customer as acme, the line says ivy"),
        (other_company, "line 2: Finch names another company than the line"),
    ] {
        // The good line goes with the bad one.
        let good = if line["access_token"] == birch["access_token"] { json!({}) } else { birch.clone() };
        let lines = if good == json!({}) { format!("\n{line}\n") } else { format!("{good}\n{line}\n") };
        let refused = world.perch_reading(&lines, &["connections", "import"]).await;
        assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""), "{told}");
        assert!(refused.err.contains(told), "{told:?} is not in: {}", refused.err);
        assert!(!refused.err.contains("CANARY") && !refused.err.contains("7e965183"), "{}", refused.err);
        assert_eq!(count(&world).await, 0, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_environment_is_refused() {
    let scenario = format!("environment = \"production\"\n{SCENARIO}");
    let world = World::with().scenario(&scenario).without_gateway().await;
    let acme = kept(&world, "acme").await;
    let refused = world.perch_reading(&acme.to_string(), &["connections", "import"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("the token is for production, perch works with sandbox"), "{}", refused.err);
    assert_eq!(count(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_finch_nothing_is_verified_and_nothing_stored() {
    let world = World::with().finch("http://127.0.0.1:1").without_gateway().await;
    let line = json!({ "customer_id": "acme", "connection_id": "c-1", "access_token": "t-1" });
    let refused = world.perch_reading(&line.to_string(), &["connections", "import"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("line 1: Finch could not be reached"), "{}", refused.err);
    assert_eq!(count(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unassigned_connection_is_given_to_a_customer_beside_a_running_gateway() {
    let mut world = world().await;
    let perch = world.serve().await;
    let made = json!({ "provider_id": "gusto", "products": ["company", "directory"] });
    let made = world.app().post("/sandbox/connections", &made).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["connection_id"].as_str().expect("an id").to_owned();
    assert!(world.perch(&["connections", "list"]).await.out.contains("(unassigned)"));
    assert_eq!(world.for_customer("cedar").get("/employer/company").await.status, 404);

    let given = world.perch(&["connections", "assign", &id, "--customer", "cedar"]).await;
    assert_eq!(given.code, Some(0), "{}", given.err);
    assert!(given.out.contains(&format!("connection {id} belongs to customer cedar now")), "{}", given.out);
    let app = world.for_customer("cedar");
    until("the gateway notices", async || app.get("/employer/company").await.status == 200).await;

    let other = world.perch(&["connections", "assign", &id, "--customer", "dogwood"]).await;
    assert_eq!(other.code, Some(1), "{}", other.out);
    assert!(other.err.contains("belongs to another customer"), "{}", other.err);
    let unknown = world.perch(&["connections", "show", "nope"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("there is no such connection"), "{}", unknown.err);
    drop(perch);
}

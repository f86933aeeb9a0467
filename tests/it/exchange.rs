//! The code exchange: a token that Finch gives is kept, whatever else happens, and no app ever sees it.

use crate::support::raw::RawFinch;
use crate::support::{Answer, App, CLIENT_SECRET, TOKEN_MARKER, World};
use serde_json::{Value, json};

const SESSION: &str = "/connect/sessions";
const EXCHANGE: &str = "/auth/token";

fn session_of(customer: &str) -> Value {
    json!({ "customer_id": customer, "customer_name": customer, "products": ["company", "directory"] })
}

/// Exchanges a code as this app.
async fn spend(app: App, code: &str) -> Answer {
    let answer = app.post(EXCHANGE, &json!({ "client_id": "x", "client_secret": "y", "code": code })).await;
    assert_no_secret(&answer);
    answer
}

fn assert_no_secret(answer: &Answer) {
    let seen = format!("{:?} {}", answer.headers, answer.text());
    assert!(!seen.contains(TOKEN_MARKER) && !seen.contains(CLIENT_SECRET), "{seen}");
}

fn id_of(answer: &Answer) -> String {
    answer.json()["connection_id"].as_str().expect("an id").to_owned()
}

/// What perch says of an error.
fn told(answer: &Answer) -> Value {
    answer.json()["perch"].clone()
}

/// How often each token of a connection was used, the living one apart.
async fn uses(world: &World, connection: &str) -> (u64, u64) {
    let all = world.connections().await;
    let found = all.iter().find(|c| c["connection_id"] == connection).expect("the connection");
    let report = world.report().await;
    let used = |print: &Value| {
        let seen = report["authorizations"].as_array().expect("a list").iter();
        seen.filter(|a| a["fingerprint"] == *print).map(|a| a["requests"].as_u64().unwrap_or(0)).sum::<u64>()
    };
    let mut sum = (0, 0);
    for token in found["access_tokens"].as_array().expect("tokens") {
        match token["status"] == "live" {
            true => sum.0 += used(&token["fingerprint"]),
            false => sum.1 += used(&token["fingerprint"]),
        }
    }
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn perch_supplies_the_credentials_whatever_the_app_sends() {
    let world = World::new().await;
    for authorization in ["Basic d3Jvbmc6d3Jvbmc=", "Bearer perch", "Bearer customer:acme", "Digest x"] {
        let app = world.app().with("authorization", authorization);
        let session = app.post(SESSION, &session_of("acme")).await;
        assert_eq!(session.status, 201, "{authorization}: {}", session.text());
        let code = world.log_in(&session).await;
        let answer = spend(app, &code).await;
        assert_eq!(answer.status, 200, "{authorization}: {}", answer.text());
        assert_eq!(answer.json()["access_token"], format!("connection:{}", id_of(&answer)));
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let code = world.code("acme", "gusto").await;
    let answer = world.app().post(EXCHANGE, &json!({ "code": code })).await;
    assert_eq!(answer.status, 200, "no credentials at all will do: {}", answer.text());
    let report = world.report().await;
    assert_eq!(report["suspicious"]["count"], 0, "{report:#}");
    assert_eq!(report["operations"]["CreateSession"], json!({ "201": 5 }));
    assert_eq!(report["operations"]["CreateAccessToken"], json!({ "200": 5 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_codes_in_one_body_finch_gets_the_one_that_the_journal_knows() {
    let finch = RawFinch::start().await;
    let world = World::with().finch(&finch.url()).start().await;
    let body = r#"{"code":"first","redirect_uri":"https://a.test","code":"second"}"#;
    world.app().call("POST", EXCHANGE, body.into()).await;
    finch.arrived(1).await;
    let sent = finch.requests()[0].clone();
    assert!(sent.contains(r#""code":"second""#) && !sent.contains("first"), "{sent}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_finch_does_not_know_is_finchs_to_refuse() {
    let world = World::new().await;
    assert_eq!(spend(world.app(), &world.code("acme", "gusto").await).await.status, 200);
    let again = spend(world.app(), "no-such-code").await;
    assert_eq!((again.status, again.class()), (400, "invalid_request"), "{}", again.text());
    assert_eq!(again.json()["name"], "invalid_grant_error");
    assert_eq!(told(&again)["origin"], "finch");
    assert_eq!(told(&again)["finch_request_id"], again.header("finch-request-id"));
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_names_two_customers_is_not_opened() {
    let world = World::new().await;
    for app in [world.for_customer("globex"), world.app().with("authorization", "Bearer customer:globex")] {
        let answer = app.post(SESSION, &session_of("acme")).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "perch_customer_mismatch"));
    }
    let agreed = world.for_customer("acme").post(SESSION, &session_of("acme")).await;
    assert_eq!(agreed.status, 201, "{}", agreed.text());
    assert_eq!(world.report().await["operations"], json!({ "CreateSession": { "201": 1 } }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_object_is_not_sent() {
    let world = World::new().await;
    for (path, body) in
        [(EXCHANGE, "code=1"), (EXCHANGE, "[]"), (EXCHANGE, ""), (SESSION, "\"acme\""), (SESSION, "{\"a\":")]
    {
        let answer = world.app().call("POST", path, body.into()).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "perch_invalid_body"), "{path} {body:?}");
        assert_eq!(answer.class(), "invalid_request");
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    assert_eq!(world.report().await["recent"], json!([]), "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_of_another_customer_is_refused_after_its_token_is_sealed() {
    let mut world = World::new().await;
    let code = world.code("acme", "gusto").await;
    let refused = spend(world.for_customer("globex"), &code).await;
    assert_eq!(
        (refused.status, refused.code().as_str(), refused.class()),
        (403, "perch_exchange_customer_mismatch", "caller_refused"),
        "{}",
        refused.text()
    );
    assert_eq!(refused.header("x-should-retry"), "false");
    let connection = told(&refused)["connection_id"].as_str().expect("which connection").to_owned();
    assert!(refused.text().contains(&format!("perch connections assign {connection}")), "{}", refused.text());

    // Neither of the two can use it until an operator decides.
    for customer in ["acme", "globex"] {
        let answer = world.for_customer(customer).get("/employer/company").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "perch_unknown_customer"), "{customer}");
    }
    let by_reference = world.app().with("authorization", &format!("Bearer connection:{connection}"));
    let answer = by_reference.get("/employer/company").await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.class()),
        (403, "perch_connection_held", "application_blocked")
    );
    let entry = world.stored(&connection).await.expect("it is kept");
    assert_eq!(entry.facts.status.as_str(), "held");
    assert!(entry.token.is_some() && entry.facts.customer_id.is_none(), "{:?}", entry.facts);

    world.assign(&connection, "acme").await;
    world.restart().await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    assert_eq!(world.for_customer("globex").get("/employer/company").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_known_connection_keeps_its_customer_when_only_the_app_disagrees() {
    let world = World::new().await;
    let connection = id_of(&spend(world.app(), &world.code("acme", "gusto").await).await);
    let refused = spend(world.for_customer("globex"), &world.code("acme", "gusto").await).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "perch_exchange_customer_mismatch"));
    assert_eq!(told(&refused)["connection_id"], connection);
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    assert_eq!(world.for_customer("globex").get("/employer/company").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_environment_is_held_for_good() {
    let mut world = World::with().scenario("environment = \"production\"").start().await;
    let refused = spend(world.app(), &world.code("acme", "gusto").await).await;
    assert_eq!(
        (refused.status, refused.code().as_str(), refused.class()),
        (403, "perch_environment_mismatch", "application_blocked"),
        "{}",
        refused.text()
    );
    let connection = told(&refused)["connection_id"].as_str().expect("which connection").to_owned();
    let entry = world.stored(&connection).await.expect("it is kept");
    assert_eq!(entry.facts.status.as_str(), "held");
    assert!(entry.token.is_some());
    world.assign(&connection, "acme").await;
    world.restart().await;
    let answer = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "perch_connection_held"), "{}", answer.text());
    assert_eq!(world.report().await["operations"].get("GetCompany"), None, "nothing was sent with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_gives_references_too_and_nobodys_connection_is_usable_by_its_own() {
    let world = World::new().await;
    let made = world.app().post("/sandbox/connections", &json!({ "provider_id": "gusto" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_no_secret(&made);
    let connection = id_of(&made);
    let reference = format!("connection:{connection}");
    assert_eq!(made.json()["access_token"], reference);
    let entry = world.stored(&connection).await.expect("it is kept");
    assert_eq!(entry.facts.customer_id, None);
    assert_eq!(entry.facts.provider_id.as_ref().map(ToString::to_string).as_deref(), Some("gusto"));
    let by_reference = world.app().with("authorization", &format!("Bearer {reference}"));
    assert_eq!(by_reference.get("/employer/company").await.status, 200);

    let account = json!({ "company_id": made.json()["company_id"], "provider_id": "gusto" });
    let account = world.app().post("/sandbox/connections/accounts", &account).await;
    assert_eq!(account.status, 201, "{}", account.text());
    assert_no_secret(&account);
    assert_eq!(account.json()["access_token"], reference, "the same connection, so the same reference");

    // An app that names its customer has the connection for that customer.
    let named =
        world.for_customer("acme").post("/sandbox/connections", &json!({ "provider_id": "gusto" })).await;
    assert_eq!(named.status, 201, "{}", named.text());
    let company = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((company.status, company.json()["id"].clone()), (200, named.json()["company_id"].clone()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reauthentication_swaps_the_token_in_place() {
    let world = World::with().scenario("[[customer]]\nid = \"acme\"\nstatus = \"reauth\"\n").start().await;
    world.import().await;
    let ended = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((ended.status, ended.class()), (401, "reauthentication_required"), "{}", ended.text());
    let connection = told(&ended)["connection_id"].as_str().expect("which connection").to_owned();
    assert_eq!(world.stored(&connection).await.expect("it").facts.status.as_str(), "needs_reauth");
    let (before, _) = uses(&world, &connection).await;
    assert_eq!(before, 1);

    let session = json!({ "connection_id": connection });
    let session = world.app().post("/connect/sessions/reauthenticate", &session).await;
    assert_eq!(session.status, 201, "{}", session.text());
    let answer = spend(world.app(), &world.log_in(&session).await).await;
    assert_eq!((answer.status, id_of(&answer)), (200, connection.clone()), "{}", answer.text());
    let company = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((company.status, company.class()), (200, "ok"), "{}", company.text());
    let entry = world.stored(&connection).await.expect("it");
    assert_eq!(entry.facts.status.as_str(), "active");
    assert_eq!(entry.facts.customer_id.as_ref().map(ToString::to_string).as_deref(), Some("acme"));
    let (live, replaced) = uses(&world, &connection).await;
    assert_eq!(
        (live, replaced),
        (2, 1),
        "one introspection and one call with the new token, none with the old"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_tokens_of_one_connection_the_newer_is_used() {
    let world = World::new().await;
    let first = id_of(&spend(world.app(), &world.code("acme", "gusto").await).await);
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    let older: Vec<Value> = world.report().await["authorizations"].as_array().expect("a list").clone();
    let second = id_of(&spend(world.app(), &world.code("acme", "gusto").await).await);
    assert_eq!(first, second);
    for _ in 0..3 {
        assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
    }
    let report = world.report().await;
    let now = report["authorizations"].as_array().expect("a list");
    for old in older.iter().filter(|a| a["connection_ids"][0] == first.as_str()) {
        assert!(now.contains(old), "the older token was used again: {now:?}");
    }
    let newer = now.iter().filter(|a| a["connection_ids"][0] == first.as_str() && !older.contains(a));
    let newer: Vec<_> = newer.collect();
    assert_eq!((newer.len(), &newer[0]["requests"]), (1, &json!(4)), "one introspection and three calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_sealed_although_nobody_tells_whose_it_is() {
    let faults = [
        json!({ "status": 500 }),
        json!({ "reset": true }),
        json!({ "rubbish": true }),
        json!({ "status": 200, "body": "no JSON" }),
        // Longer than an app's patience, far shorter than finch.timeout.
        json!({ "stall": true }),
    ];
    let world = World::new().await;
    for (at, mut fault) in faults.into_iter().enumerate() {
        let customer = format!("customer-{at}");
        fault["operation"] = json!("introspect");
        fault["times"] = json!(1);
        world.fault(fault.clone()).await;
        let answer = spend(world.app(), &world.code(&customer, "gusto").await).await;
        assert_eq!((answer.status, answer.class()), (200, "ok"), "{fault}: {}", answer.text());
        let company = world.for_customer(&customer).get("/employer/company").await;
        assert_eq!(company.status, 200, "{fault}: {}", company.text());
        let entry = world.stored(&id_of(&answer)).await.expect("it is kept");
        assert!(entry.facts.company_id.is_some() && !entry.facts.products.is_empty(), "{:?}", entry.facts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_introspection_tells_what_the_exchange_did_not() {
    let world = World::with().scenario("[[customer]]\nid = \"acme\"\ntoken = \"acme\"\n").start().await;
    let token = format!("{TOKEN_MARKER}-acme");
    let bare = json!({
        "operation": "create_access_token", "times": 1, "status": 200, "headers": { "finch-echo": token },
        "body": { "access_token": token, "again": format!("<{token}>") },
    });
    world.fault(bare).await;
    let answer = spend(world.app(), "any").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let reference = answer.json()["access_token"].as_str().expect("a reference").to_owned();
    assert!(reference.starts_with("connection:"), "{reference}");
    assert_eq!(answer.header("finch-echo"), "", "it held the token");
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_nobody_can_name_is_an_error_without_the_token() {
    let mut world = World::new().await;
    let token = format!("{TOKEN_MARKER}-stray");
    for body in [json!({ "access_token": token }), json!({ "access_token": token, "connection_id": "" })] {
        let bare = json!({ "operation": "create_access_token", "times": 1, "status": 200, "body": body });
        world.fault(bare).await;
        let answer = spend(world.app(), "any").await;
        assert_eq!((answer.status, answer.code().as_str()), (500, "perch_exchange_not_stored"), "{body}");
        assert_eq!((answer.class(), answer.header("x-should-retry")), ("perch_unavailable", "false"));
    }
    for body in [json!({ "token": token }), json!("no JSON"), json!([token]), json!({ "access_token": 7 })] {
        let bare = json!({ "operation": "create_access_token", "times": 1, "status": 200, "body": body });
        world.fault(bare).await;
        let answer = spend(world.app(), "any").await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "perch_bad_answer"), "{body}");
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    world.stop().await;
    assert!(!String::from_utf8(world.lines.bytes()).expect("text").contains(TOKEN_MARKER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_whose_answer_is_lost_is_neither_repeated_nor_asked_for_again() {
    let world = World::new().await;
    for (fault, status) in
        [(json!({ "reset": true, "carried_out": true }), 502), (json!({ "truncated": true }), 502)]
    {
        let mut fault = fault;
        fault["operation"] = json!("create_access_token");
        fault["times"] = json!(1);
        world.fault(fault.clone()).await;
        let answer = spend(world.app(), &world.code("acme", "gusto").await).await;
        assert_eq!(
            (answer.status, answer.class()),
            (status, "finch_unreachable"),
            "{fault}: {}",
            answer.text()
        );
        assert_eq!((answer.header("x-should-retry"), answer.header("perch-attempts")), ("false", "1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_cannot_be_stored_is_told_as_lost_and_not_shown() {
    let mut world = World::new().await;
    let code = world.code("acme", "gusto").await;
    world.database.sql("ALTER TABLE connection RENAME TO gone").await;
    let answer = spend(world.app(), &code).await;
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.class()),
        (500, "perch_exchange_not_stored", "perch_unavailable"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("x-should-retry"), "false");
    assert!(told(&answer)["connection_id"].is_string() || answer.text().contains("Finch gave a token for"));
    world.stop().await;
    assert!(!String::from_utf8(world.lines.bytes()).expect("text").contains(TOKEN_MARKER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnected_connection_is_never_called_again() {
    let world = World::new().await;
    let connection = id_of(&spend(world.app(), &world.code("acme", "gusto").await).await);
    let answer = world.for_customer("acme").post("/disconnect", &json!({})).await;
    assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
    let entry = world.stored(&connection).await.expect("its facts stay for the bill");
    assert_eq!(entry.facts.status.as_str(), "disconnected");
    assert!(entry.token.is_none(), "the token is erased");

    let before = world.report().await["requests"].clone();
    let reference = format!("Bearer connection:{connection}");
    for app in [world.for_customer("acme"), world.app().with("authorization", &reference)] {
        let answer = app.get("/employer/company").await;
        assert_eq!(
            (answer.status, answer.code().as_str(), answer.class()),
            (401, "perch_disconnected", "disconnected"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("x-should-retry"), "false");
        assert_eq!(told(&answer)["connection_id"], connection);
    }
    assert_eq!(world.report().await["requests"], before, "nothing reached Finch");

    // The way back is a new connection.
    let again = spend(world.app(), &world.code("acme", "gusto").await).await;
    assert_ne!(id_of(&again), connection);
    assert_eq!(world.for_customer("acme").get("/employer/company").await.status, 200);
}

//! Connections' lives: codes are spent once, disconnects come to their end, and Finch's newest word holds.

use crate::support::{Answer, App, TOKEN_MARKER, World, until};
use nix::sys::signal::Signal::SIGKILL;
use perch::telemetry::clock::unix_now;
use perch::types::{ConnectionId, CustomerId, Environment, UnixMillis};
use perch::vault::audit::Broken;
use perch::vault::{Learnt, Misfit};
use serde_json::{Value, json};

const FAST: &str = "limits.products.default = 1000\nlimits.window = \"1s\"";

/// A world whose limits do not matter here, and no gateway yet.
async fn quick(settings: &str) -> World {
    let world = World::with().scenario("limits.window = \"1ms\"").settings(FAST).settings(settings);
    world.without_gateway().await
}

async fn spend(app: App, code: &str) -> Answer {
    let answer =
        app.post("/auth/token", &json!({ "client_id": "x", "client_secret": "y", "code": code })).await;
    assert!(!answer.text().contains(TOKEN_MARKER), "{}", answer.text());
    answer
}

fn reference(answer: &Answer) -> String {
    assert_eq!((answer.status, answer.class()), (200, "ok"), "{}", answer.text());
    answer.json()["access_token"].as_str().expect("a reference").to_owned()
}

/// How often an operation reached Finch.
async fn sent(world: &World, operation: &str) -> u64 {
    let report = world.report().await;
    let by_outcome = report["operations"][operation].as_object().cloned().unwrap_or_default();
    by_outcome.values().filter_map(Value::as_u64).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_a_code_that_is_done_is_answered_without_finch_after_a_restart_too() {
    let mut world = quick("").await;
    world.open().await;
    let code = world.code("acme", "gusto").await;
    let first = spend(world.app(), &code).await;
    let again = spend(world.app(), &code).await;
    assert_eq!(reference(&first), reference(&again));
    for member in ["connection_id", "customer_id", "company_id", "provider_id", "client_type", "token_type"] {
        assert_eq!(first.json()[member], again.json()[member], "{member}");
    }
    world.restart().await;
    assert_eq!(reference(&spend(world.app(), &code).await), reference(&first));
    assert_eq!(sent(&world, "CreateAccessToken").await, 1);
    // The check of the first time is made each time.
    let other = spend(world.for_customer("globex"), &code).await;
    assert_eq!((other.status, other.code().as_str()), (403, "perch_exchange_customer_mismatch"));
    assert_eq!(sent(&world, "CreateAccessToken").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_the_same_code_twice_at_once_is_one_exchange() {
    let mut world = quick("").await;
    world.open().await;
    let code = world.code("acme", "gusto").await;
    world.fault(json!({ "operation": "create_access_token", "delay": "300ms" })).await;
    let (one, two) = tokio::join!(spend(world.app(), &code), spend(world.app(), &code));
    assert_eq!(reference(&one), reference(&two));
    assert_eq!(sent(&world, "CreateAccessToken").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_what_finch_did_not_carry_out_may_be_sent_again() {
    let mut world = quick("").await;
    world.open().await;
    let code = world.code("acme", "gusto").await;
    world.fault(json!({ "operation": "create_access_token", "status": 500, "times": 1 })).await;
    assert_eq!(spend(world.app(), &code).await.class(), "finch_error");
    reference(&spend(world.app(), &code).await);
    assert_eq!(sent(&world, "CreateAccessToken").await, 2);
}

/// Where the gateway is killed, what becomes of the code, and how often it is sent to Finch in all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_a_gateway_killed_at_any_point_of_an_exchange_loses_no_token_silently() {
    let mut world = quick("").await;
    let cases = [
        // Finch never carried it out.
        (
            json!({ "operation": "create_access_token", "stall": true, "times": 1 }),
            "CreateAccessToken",
            true,
            2,
        ),
        // Finch spent the code, and its answer found nobody.
        (
            json!({ "operation": "create_access_token", "delay": "60s", "times": 1 }),
            "CreateAccessToken",
            false,
            2,
        ),
        // The token was sealed; only the question whose it is was under way.
        (json!({ "operation": "introspect", "delay": "60s", "times": 1 }), "Introspect", true, 1),
    ];
    for (at, (fault, operation, is_kept, times)) in cases.into_iter().enumerate() {
        let perch = world.serve().await;
        let code = world.code(&format!("customer-{at}"), "gusto").await;
        let (before, exchanged) = (sent(&world, operation).await, sent(&world, "CreateAccessToken").await);
        world.fault(fault.clone()).await;
        let (app, spent) = (world.app(), code.clone());
        let call = tokio::spawn(async move {
            let body = json!({ "client_id": "x", "client_secret": "y", "code": spent }).to_string();
            app.try_call("POST", "/auth/token", body.into()).await
        });
        until("Finch has it", async || sent(&world, operation).await > before).await;
        perch.end_by(SIGKILL).await;
        assert!(call.await.expect("it ran").is_err(), "{fault}: nobody was left to answer");
        world.database.silence_passes().await;
        let perch = world.serve().await;
        let first = spend(world.app(), &code).await;
        match is_kept {
            true => {
                let bearer = format!("Bearer {}", reference(&first));
                let company = world.app().with("authorization", &bearer).get("/employer/company").await;
                assert_eq!((company.status, company.class()), (200, "ok"), "{fault}: {}", company.text());
            }
            false => {
                for answer in [first, spend(world.app(), &code).await] {
                    assert_eq!(
                        (answer.status, answer.code().as_str(), answer.class()),
                        (502, "perch_exchange_outcome_unknown", "perch_unavailable"),
                        "{}",
                        answer.text()
                    );
                    assert_eq!(answer.header("x-should-retry"), "false");
                }
            }
        }
        assert_eq!(sent(&world, "CreateAccessToken").await - exchanged, times, "{fault}");
        drop(perch);
    }
}

/// Every way in is shut, and Finch is not asked.
async fn assert_refused(world: &World, customer: &str) {
    let company = world.for_customer(customer).get("/employer/company").await;
    assert_eq!(
        (company.status, company.code().as_str(), company.class()),
        (401, "perch_disconnected", "disconnected"),
        "{}",
        company.text()
    );
}

async fn becomes(world: &World, connection: &str, status: &str) {
    until(status, async || {
        world.stored(connection).await.expect("it is there").facts.status.as_str() == status
    })
    .await;
}

async fn clear_faults(world: &World) {
    assert_eq!(world.straight().call("DELETE", "/_sim/faults", "".into()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_that_finch_does_not_confirm_is_tried_until_it_does() {
    let mut world = quick("connections.disconnect_retry = \"50ms\"").await;
    world.open().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    world.fault(json!({ "operation": "disconnect", "status": 500, "body": { "code": 500, "name": "server_error", "message": "sorry" } })).await;
    let answer = world.for_customer("acme").post("/disconnect", &json!({})).await;
    assert_eq!((answer.status, answer.class()), (500, "finch_error"), "{}", answer.text());
    assert_eq!(
        (answer.header("x-should-retry"), answer.json()["message"].clone()),
        ("false", json!("sorry"))
    );
    let action = answer.json()["perch"]["action"].as_str().expect("what to do").to_owned();
    assert!(action.contains("goes on asking Finch"), "{action}");
    assert_refused(&world, "acme").await;
    let entry = world.stored(&connection).await.expect("it is there");
    assert_eq!(entry.facts.status.as_str(), "disconnecting");
    assert!(entry.token.is_some(), "Finch needs it");
    assert!((world.metric("perch_disconnects_pending").await - 1.0).abs() < 1e-9);
    until("perch asks by itself", async || sent(&world, "Disconnect").await >= 3).await;
    // Whoever asks meanwhile is answered by Finch, not by what perch believes.
    let again = world.for_customer("acme").post("/disconnect", &json!({})).await;
    assert_eq!(again.status, 500, "{}", again.text());
    clear_faults(&world).await;
    becomes(&world, &connection, "disconnected").await;
    assert!(world.stored(&connection).await.expect("its facts stay").token.is_none());
    assert_refused(&world, "acme").await;
    world.stop().await;
    let lines = world.lines.all();
    let own: Vec<&Value> = lines.iter().filter(|line| line["by"] == "perch").collect();
    assert!(own.len() >= 3 && own.iter().all(|line| line["path"] == "/disconnect"), "{own:#?}");
    assert!(own.iter().all(|line| line["finch_request_id"].as_array().is_some_and(|ids| !ids.is_empty())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_that_was_killed_under_way_is_finished_by_the_next_run() {
    let mut world = quick("connections.disconnect_retry = \"50ms\"").await;
    for carried_out in [false, true] {
        let perch = world.serve().await;
        let customer = format!("customer-{carried_out}");
        let connected = world.connect(&customer, "gusto").await;
        let connection = connected["connection_id"].as_str().expect("an id").to_owned();
        let fault = match carried_out {
            // Finch has done it, and nobody heard.
            true => json!({ "operation": "disconnect", "delay": "60s", "times": 1 }),
            false => json!({ "operation": "disconnect", "stall": true, "times": 1 }),
        };
        world.fault(fault).await;
        let (before, app) = (sent(&world, "Disconnect").await, world.for_customer(&customer));
        let call = tokio::spawn(async move { app.try_call("POST", "/disconnect", "{}".into()).await });
        until("Finch has it", async || sent(&world, "Disconnect").await > before).await;
        perch.end_by(SIGKILL).await;
        assert!(call.await.expect("it ran").is_err());
        assert_eq!(world.stored(&connection).await.expect("its row").facts.status.as_str(), "disconnecting");
        let perch = world.serve().await;
        assert_refused(&world, &customer).await;
        becomes(&world, &connection, "disconnected").await;
        drop(perch);
    }
    let all = world.connections().await;
    let is_gone = |token: &Value| token["status"] == "disconnected";
    assert!(
        all.iter().all(|c| c["access_tokens"].as_array().expect("tokens").iter().all(is_gone)),
        "{all:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_round_finds_what_nobody_told_and_learns_what_was_missing() {
    let mut world = quick("connections.introspect_every = \"400ms\"").await;
    world.open().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    world.database.sql("UPDATE connection SET provider_id = NULL, company_id = NULL").await;
    set_at_finch(&world, "reauth").await;
    until("it is known", async || {
        let facts = world.stored(&connection).await.expect("it is there").facts.clone();
        facts.account_status.as_deref() == Some("reauth")
            && facts.provider_id.is_some()
            && facts.company_id.is_some()
    })
    .await;
    let answer = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((answer.class(), answer.header("perch-attempts")), ("reauthentication_required", "0"));
    set_at_finch(&world, "connected").await;
    until("it works again", async || {
        world.for_customer("acme").get("/employer/company").await.class() == "ok"
    })
    .await;
    world.stop().await;
    let lines = world.lines.all();
    assert!(lines.iter().any(|line| line["by"] == "perch" && line["path"] == "/introspect"));
}

/// Sets the state of the only connection at Finch, behind perch's back.
async fn set_at_finch(world: &World, status: &str) {
    let all = world.connections().await;
    let bearer = format!("Bearer {}", all[0]["access_token"].as_str().expect("a live token"));
    let app = world.straight().with("authorization", &bearer).with("finch-api-version", "2020-09-17");
    let body = json!({ "connection_status": status }).to_string();
    let answer = app.call("PUT", "/sandbox/connections/accounts", body.into()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finchs_newest_word_holds_and_a_dead_token_is_kept() {
    let mut world = quick("").await;
    world.open().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    let before = world.stored(&connection).await.expect("it is there");
    assert_eq!(before.facts.account_status.as_deref(), Some("connected"));
    let known = before.facts.status_at.expect("it was learnt");
    world.fault(json!({ "operation": "get_company", "preset": "disconnected" })).await;
    assert_eq!(world.for_customer("acme").get("/employer/company").await.class(), "disconnected");
    let after = world.stored(&connection).await.expect("it is there");
    assert_eq!(after.facts.account_status.as_deref(), Some("disconnected"));
    assert!(after.token.is_some() && after.facts.status.as_str() == "active", "a 401 erases nothing");
    let (vault, id) = (world.vault().await, ConnectionId::new(&connection).expect("an id"));
    let late = vault.note_account_status(&id, "reauth", UnixMillis(known.0 - 1), unix_now()).await;
    assert_eq!(late, Ok(false));
    let newer = vault.note_account_status(&id, "connected", unix_now(), unix_now()).await;
    assert_eq!(newer, Ok(true));
    // What an answer to an older token showed, comes behind a newer one.
    for (version, word) in [(after.facts.version - 1, "connected"), (after.facts.version, "reauth")] {
        vault.note_token_word(&id, version, "reauth", unix_now()).await.expect("a store");
        let facts = vault.connection(&id).await.expect("it").facts.clone();
        assert_eq!(facts.account_status.as_deref(), Some(word), "of version {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finch_says_of_owner_and_environment_is_told_and_not_obeyed() {
    let world = World::with().connection("acme", "t1").without_gateway().await;
    let (vault, id) = (world.vault().await, ConnectionId::new("c-acme").expect("an id"));
    let told = Learnt { customer: CustomerId::new("globex").ok(), ..Learnt::default() };
    let misfit = vault.learn(&id, 1, told, (unix_now(), unix_now())).await.expect("it is stored");
    assert_eq!(misfit, Misfit { customer: true, environment: false });
    let entry = vault.connection(&id).await.expect("it");
    assert_eq!(entry.facts.customer_id.as_ref().map(CustomerId::as_str), Some("acme"));
    assert!(entry.facts.note.as_deref().is_some_and(|note| note.contains("globex")), "{:?}", entry.facts);
    // Word of an older token is nobody's.
    let told = Learnt { client_type: Some(Environment::Production), ..Learnt::default() };
    vault.learn(&id, 7, told.clone(), (unix_now(), unix_now())).await.expect("nothing is stored");
    assert_eq!(vault.connection(&id).await.expect("it").facts.status.as_str(), "active");
    let misfit = vault.learn(&id, 1, told, (unix_now(), unix_now())).await.expect("it is stored");
    assert!(misfit.environment);
    let entry = vault.connection(&id).await.expect("it");
    assert_eq!(entry.facts.status.as_str(), "held");
    assert!(entry.facts.held_reason.as_deref().is_some_and(|why| why.contains("production")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_trail_names_who_did_what_and_shows_a_forged_row() {
    let mut world = quick("").await;
    world.open().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    assert_eq!(world.for_customer("acme").post("/disconnect", &json!({})).await.status, 200);
    let (vault, id) = (world.vault().await, ConnectionId::new(&connection).expect("an id"));
    let deeds = vault.deeds(&id).await.expect("they are read");
    let told: Vec<(&str, &str)> = deeds.iter().map(|d| (d.actor.as_str(), d.action.as_str())).collect();
    assert_eq!(told[..2], [("perch", "disconnected"), ("app", "disconnect")], "{told:?}");
    assert!(told[2..].iter().all(|deed| *deed == ("app", "seal")) && told.len() > 2, "{told:?}");
    let chain = vault.verify_audit().await.expect("it holds");
    assert_eq!(chain.rows, deeds.len() as u64);
    for (forgery, at) in [
        ("UPDATE audit SET actor = 'operator' WHERE seq = 2", 2),
        ("UPDATE audit SET actor = 'app' WHERE seq = 2", 0),
        ("DELETE FROM audit WHERE seq = 2", 3),
        // The oldest rows do not go before there are a million.
        ("DELETE FROM audit WHERE seq < 4", 4),
    ] {
        world.database.sql(forgery).await;
        let verified = world.perch(&["vault", "verify"]).await;
        let (code, says) =
            if at == 0 { (0, "the audit trail holds") } else { (1, "the audit trail is broken at row") };
        assert!(verified.code == Some(code) && verified.out.contains(says), "{verified:?}");
        match vault.verify_audit().await {
            Ok(_) => assert_eq!(at, 0, "{forgery}"),
            Err(broken) => assert_eq!(broken, Broken::At(at), "{forgery}"),
        }
        let told = world.perch(&["vault", "verify"]).await;
        let as_json = world.perch(&["vault", "verify", "-o", "json"]).await;
        let audit = &as_json.json()["audit"];
        if at == 0 {
            assert!(told.code == Some(0) && told.out.contains("the audit trail holds"), "{told:?}");
            assert_eq!((&as_json.json()["ok"], &audit["rows"]), (&json!(true), &json!(chain.rows)));
        } else {
            assert!(told.code == Some(1) && told.out.contains(&format!("broken at row {at}")), "{told:?}");
            assert_eq!((as_json.code, &as_json.json()["ok"]), (Some(1), &json!(false)), "{as_json:?}");
            assert_eq!(audit["broken_at"], at, "{as_json:?}");
        }
    }
    let told = world.perch(&["vault", "verify", "-o", "json"]).await;
    assert_eq!((told.code, &told.json()["audit"]["broken_at"]), (Some(1), &json!(4)), "{}", told.all());
    assert_eq!(told.json()["ok"], false);
}

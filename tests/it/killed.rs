//! A gateway that dies at a place of its own choosing, between two steps of an exchange or of a disconnect. What it leaves
//! behind is finished by the next one, or said to be lost.

use crate::support::process::doors;
use crate::support::{App, Process, World};
use serde_json::{Value, json};

async fn world() -> World {
    let settings =
        "limits.products.default = 1000\nlimits.window = \"1s\"\nconnections.disconnect_retry = \"50ms\"";
    World::with().scenario("limits.window = \"1ms\"").settings(settings).without_gateway().await
}

/// Starts a gateway that dies at this place.
async fn dying(world: &mut World, place: &str) -> Process {
    let mut command = world.command(&["serve"]);
    command.env("PERCH_FAILPOINT", place);
    let process = Process::spawn(command, None);
    (world.proxy, world.admin) = doors(&process).await;
    process
}

/// Starts the next gateway; of the one before nothing was heard for long enough.
async fn next(world: &mut World) -> Process {
    world.database.silence_passes().await;
    world.serve().await
}

async fn sent(world: &World, operation: &str) -> u64 {
    let report = world.report().await;
    let by_outcome = report["operations"][operation].as_object().cloned().unwrap_or_default();
    by_outcome.values().filter_map(Value::as_u64).sum()
}

/// What the journal, the row and Finch say afterwards is the same at whatever place it died.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn v14_an_exchange_that_dies_between_any_two_steps_is_finished_or_said_to_be_lost() {
    let mut world = world().await;
    for (place, is_kept, times) in [
        // The code was written down and not sent.
        ("exchange:begun", true, 1),
        // Finch gave a token, and nobody has it any more: the one window in which one can be lost.
        ("exchange:answered", false, 2),
        ("exchange:sealed", true, 1),
        ("exchange:completed", true, 1),
    ] {
        let gateway = next(&mut world).await;
        let code = world.code(&format!("customer-{}", place.replace(':', "-")), "gusto").await;
        drop(gateway);
        let exchanged = sent(&world, "CreateAccessToken").await;
        let body = json!({ "client_id": "x", "client_secret": "y", "code": code });
        let gateway = dying(&mut world, place).await;
        let call = world.app().try_call("POST", "/auth/token", body.to_string().into()).await;
        assert!(call.is_err(), "{place}: it did not die");
        assert_eq!(gateway.end().await.code, None, "{place}");
        let gateway = next(&mut world).await;
        for _ in 0..2 {
            let again = world.app().post("/auth/token", &body).await;
            match is_kept {
                true => {
                    assert_eq!(again.status, 200, "{place}: {}", again.text());
                    let bearer =
                        format!("Bearer {}", again.json()["access_token"].as_str().expect("a reference"));
                    let company =
                        App::at(world.proxy).with("authorization", &bearer).get("/employer/company").await;
                    assert_eq!(company.status, 200, "{place}: {}", company.text());
                }
                false => {
                    let told = (again.status, again.code());
                    assert_eq!(told, (502, "perch_exchange_outcome_unknown".to_owned()), "{place}");
                    assert_eq!(again.header("x-should-retry"), "false", "{place}");
                }
            }
        }
        assert_eq!(sent(&world, "CreateAccessToken").await - exchanged, times, "{place}");
        drop(gateway);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disconnect_that_dies_between_any_two_steps_is_brought_to_its_end() {
    let mut world = world().await;
    for (place, status, times) in [
        ("disconnect:begun", "disconnecting", 1),
        // Finch has done it; it is asked once more and says so.
        ("disconnect:answered", "disconnecting", 2),
        ("disconnect:noted", "disconnected", 1),
    ] {
        let gateway = next(&mut world).await;
        let customer = format!("customer-{}", place.replace(':', "-"));
        let connected = world.connect(&customer, "gusto").await;
        let connection = connected["connection_id"].as_str().expect("an id").to_owned();
        drop(gateway);
        let asked = sent(&world, "Disconnect").await;
        let gateway = dying(&mut world, place).await;
        let call = world.for_customer(&customer).try_call("POST", "/disconnect", "{}".into()).await;
        assert!(call.is_err(), "{place}: it did not die");
        assert_eq!(gateway.end().await.code, None, "{place}");
        let left = world.stored(&connection).await.expect("its row");
        assert_eq!(left.facts.status.as_str(), status, "{place}");
        assert_eq!(
            left.token.is_some(),
            status == "disconnecting",
            "{place}: the token is for Finch's /disconnect"
        );
        let gateway = next(&mut world).await;
        crate::support::until("it comes to its end", async || {
            world.stored(&connection).await.expect("its row").facts.status.as_str() == "disconnected"
        })
        .await;
        let refused = world.for_customer(&customer).get("/employer/company").await;
        assert_eq!((refused.status, refused.class()), (401, "disconnected"), "{place}");
        assert_eq!(sent(&world, "Disconnect").await - asked, times, "{place}");
        drop(gateway);
    }
    let all = world.connections().await;
    let tokens = all.iter().flat_map(|c| c["access_tokens"].as_array().expect("tokens"));
    assert!(tokens.map(|token| token["status"].clone()).all(|status| status == "disconnected"), "{all:#?}");
}

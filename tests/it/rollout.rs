//! Roll-out: perch works for some customers and providers, and the others go on as before.

use crate::identity::assert_refused;
use crate::support::World;
use serde_json::json;

const SCENARIO: &str = "[[customer]]\nid = \"acme\"\nproviders = [\"gusto\"]\n\n\
                        [[customer]]\nid = \"globex\"\nproviders = [\"bamboo_hr\"]\n";
const COMPANY: &str = "/employer/company";

async fn world(settings: &str) -> World {
    let world = World::with().scenario(SCENARIO).settings(settings).start().await;
    world.import().await;
    world
}

async fn token_of(world: &World, customer: &str) -> String {
    let all = world.connections().await;
    let one = all.iter().find(|c| c["customer_id"] == customer).expect("a connection");
    one["access_token"].as_str().expect("a token").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_outside_is_refused_and_nothing_is_sent_until_it_is_let_in() {
    let world = world("rollout.customers = [\"acme\"]").await;
    assert_eq!(world.for_customer("acme").get(COMPANY).await.status, 200);
    let before = world.report().await["requests"].clone();
    let answer = world.for_customer("globex").get(COMPANY).await;
    assert_refused(&answer, 403, "perch_not_rolled_out", "caller_refused");
    assert_eq!(answer.header("x-should-retry"), "false");
    assert!(answer.text().contains("rollout.customers"), "{}", answer.text());
    assert_eq!(world.report().await["requests"], before);
    assert!(world.metric("perch_rollout_refused_total").await >= 1.0);
    let unknown = world.for_customer("nobody").get(COMPANY).await;
    assert_refused(&unknown, 404, "perch_unknown_customer", "unknown_customer");
    let taken = world.replace("rollout.customers = [\"acme\"]", "rollout.providers = [\"gusto\"]");
    assert!(taken.why.is_empty(), "{taken:?}");
    let answer = world.for_customer("globex").get(COMPANY).await;
    assert_refused(&answer, 403, "perch_not_rolled_out", "caller_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_grows_without_a_restart_and_nobody_falls_out() {
    let world = world("").await;
    let mut served = Vec::new();
    for percent in [0, 50, 80, 100] {
        world.reload(&format!("rollout.customers = \"{percent}%\""));
        let mut now = Vec::new();
        for customer in ["acme", "globex"] {
            if world.for_customer(customer).get(COMPANY).await.status == 200 {
                now.push(customer);
            }
        }
        assert!(
            served.iter().all(|customer| now.contains(customer)),
            "{percent} %: {served:?}, then {now:?}"
        );
        served = now;
        match percent {
            0 | 50 => assert_eq!(served.len(), 0, "their places are 74 and 94"),
            80 => assert_eq!(served, ["acme"]),
            _ => assert_eq!(served.len(), 2),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_rolled_out_is_connected_and_disconnected_all_the_same() {
    let world = world("rollout.customers = [\"acme\"]").await;
    let connected = world.connect("newcomer", "gusto").await;
    let reference = connected["access_token"].as_str().expect("a reference").to_owned();
    assert!(reference.starts_with("connection:"), "{reference}");
    let app = world.app().with("authorization", &format!("Bearer {reference}"));
    assert_refused(&app.get(COMPANY).await, 403, "perch_not_rolled_out", "caller_refused");
    world.replace("rollout.customers = [\"acme\"]", "rollout.customers = [\"acme\", \"newcomer\"]");
    assert_eq!(app.get(COMPANY).await.status, 200, "the token was kept");
    world.reload("");
    assert_eq!(
        app.post("/disconnect", &json!({})).await.status,
        200,
        "a connection can be ended all the same"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token_of_its_own_a_customer_outside_goes_on_as_before() {
    let world = world("apps.pass_through = true\nrollout.customers = [\"acme\"]").await;
    let token = token_of(&world, "globex").await;
    let old = world.for_customer("globex").with("authorization", &format!("Bearer {token}"));
    let answer = old.get(COMPANY).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!((world.metric("perch_passed_through_total").await - 1.0).abs() < 1e-9, "it is counted");
    // Who is in gets the vault's token, whatever it brought along.
    let wrong = world.for_customer("acme").with("authorization", "Bearer not-a-token-of-anybody");
    assert_eq!(wrong.get(COMPANY).await.status, 200);
    assert!((world.metric("perch_passed_through_total").await - 1.0).abs() < 1e-9);
    // Which of several connections is meant, its token says.
    world.connect("globex", "gusto").await;
    assert_eq!(old.get(COMPANY).await.status, 200);
    let ambiguous = world.for_customer("globex").get(COMPANY).await;
    assert_refused(&ambiguous, 400, "perch_connection_ambiguous", "invalid_request");
    // A customer that the vault does not know has only the old way.
    let unknown = world.for_customer("elsewhere").with("authorization", &format!("Bearer {token}"));
    assert_eq!(unknown.get(COMPANY).await.status, 200);
    // A brake stops the old way too.
    let paused =
        world.operator().post("/api/pauses", &json!({ "scope": "customer", "name": "globex" })).await;
    assert_eq!(paused.status, 200);
    assert_refused(&old.get(COMPANY).await, 503, "perch_paused", "perch_unavailable");
}

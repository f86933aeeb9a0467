//! Many events at once, and a Finch that does not answer what perch asks about them.

use crate::support::World;
use crate::support::hooks::{event, status, told};
use crate::support::raw::RawFinch;
use crate::webhooks::arrived;
use perch::telemetry::clock::unix_now;
use perch::types::UnixMillis;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_is_told_while_perch_still_asks_finch_about_a_word() {
    let app = RawFinch::start().await;
    let mut world = World::with().settings(&told(&app.url())).start().await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    world.stop().await;
    let vault = world.vault().await;
    let keep = async |event| {
        vault.keep_webhook(event, (1000, UnixMillis(0)), unix_now()).await.expect("a store");
    };
    // As many as are acted on in one go, and one that is older than what the vault knows.
    for n in 0..64 {
        keep(arrived(&format!("m{n}"), &event("test", &format!("c{n}")))).await;
    }
    let mut late = arrived("late", &status(&connection, "reauth"));
    late.sent_at = UnixMillis(0);
    keep(late).await;
    world.fault(json!({ "operation": "introspect", "stall": true, "times": 1 })).await;
    world.open().await;
    app.arrived(1).await;
    assert_eq!(world.webhook("late").await["state"], "new", "the app waits for nobody's question");
}

//! What Finch tells: who is believed, what is kept, who is told, and what becomes of a connection.

use crate::support::hooks::{DOOR, OWN, PREVIOUS, SECRET, event, seconds, sign, status, told};
use crate::support::raw::{Act, RawFinch, answer};
use crate::support::{App, Setup, World, until};
use perch::finch::webhook::Event;
use perch::store::webhooks::Arrived;
use perch::telemetry::clock::unix_now;
use perch::types::{EventId, UnixMillis};
use perch::vault::Status;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

const COMPANY: &str = "/employer/company";

/// A world with a door, and an app behind it that takes everything.
async fn world_with_app(more: &str) -> (World, Arc<RawFinch>) {
    let app = RawFinch::start().await;
    let world = World::with().settings(&told(&app.url())).settings(more).start().await;
    (world, app)
}

/// The value of a header of a request as it came.
fn header<'r>(request: &'r str, name: &str) -> Option<&'r str> {
    let head = request.split("\r\n\r\n").next()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finch_has_no_door_unless_an_operator_opens_one() {
    let world = World::new().await;
    assert_eq!(world.gateway.as_ref().expect("it runs").webhooks(), None);
    assert_eq!(world.operator().get("/api/webhooks").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_believed_for_its_signature_and_its_age_alone() {
    let world = World::with().settings(DOOR).start().await;
    let text = br#"{"event_type":"test","connection_id":"c"}"#;
    let at = seconds();
    let (now, old, ahead) = (at.to_string(), (at - 310).to_string(), (at + 310).to_string());
    let fraction = format!("{now}.25");
    let good = |id: &str, at: &str| sign(SECRET, id, at, text);
    let send = async |id: Option<&str>, at: Option<&str>, signature: Option<&str>, body: &[u8]| {
        let named = [("finch-event-id", id), ("finch-timestamp", at), ("finch-signature", signature)];
        let known = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let app = known.fold(world.hooks(), |app, (name, value)| app.with(name, value));
        app.call("POST", "/webhooks/finch", body.to_vec().into()).await.status
    };
    for (nth, (what, at, signature, body, expected)) in [
        ("as Finch sends it", &now, good("m0", &now), text as &[u8], 200),
        ("with the previous secret", &now, sign(PREVIOUS, "m1", &now, text), text, 200),
        ("with two signatures", &now, format!("v1,AAAA {}", good("m2", &now)), text, 200),
        ("with a damaged one first", &now, format!("v1,*** {}", good("m3", &now)), text, 200),
        ("with a fraction", &fraction, good("m4", &fraction), text, 200),
        ("with another secret", &now, sign(OWN, "m5", &now, text), text, 401),
        ("altered", &now, good("m6", &now), br#"{"event_type":"test","connection_id":"d"}"#, 401),
        ("with another event's signature", &now, good("m0", &now), text, 401),
        ("without base64", &now, "v1,%%%".to_owned(), text, 401),
        ("of another version", &now, good("m9", &now).replace("v1", "v2"), text, 401),
        ("too old", &old, good("m10", &old), text, 401),
        ("from the future", &ahead, good("m11", &ahead), text, 401),
        ("at no time", &"soon".to_owned(), good("m12", "soon"), text, 401),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            send(Some(&format!("m{nth}")), Some(at), Some(&signature), body).await,
            expected,
            "{what}"
        );
    }
    let signature = good("x", &now);
    assert_eq!(send(None, Some(&now), Some(&signature), text).await, 401);
    assert_eq!(send(Some("x"), None, Some(&signature), text).await, 401);
    assert_eq!(send(Some("x"), Some(&now), None, text).await, 401);
    let signature = sign(SECRET, "x", &now, b"[1]");
    assert_eq!(send(Some("x"), Some(&now), Some(&signature), b"[1]").await, 400, "Finch's, and no object");
    let large = vec![b' '; (1 << 20) + 1];
    let signature = sign(SECRET, "x", &now, &large);
    assert_eq!(send(Some("x"), Some(&now), Some(&signature), &large).await, 413);
    let twice = world.hooks().with("finch-event-id", "x").with("finch-event-id", "y");
    let twice = twice.with("finch-timestamp", &now).with("finch-signature", &good("x", &now));
    assert_eq!(twice.call("POST", "/webhooks/finch", text.to_vec().into()).await.status, 401);
    for (method, path, expected) in [
        ("GET", "/webhooks/finch", 405),
        ("POST", "/webhooks/finch/", 404),
        ("POST", "/employer/company", 404),
        ("GET", "/metrics", 404),
        ("POST", "/api/webhooks/replay?all_dead=1", 404),
    ] {
        let answer = world.hooks().call(method, path, Vec::new().into()).await;
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
    }
    let outcome = async |event: &str, outcome: &str| {
        world.metric(&format!("perch_webhooks_total{{event=\"{event}\",outcome=\"{outcome}\"}}")).await
    };
    assert_eq!((outcome("test", "accepted").await, outcome("other", "stale").await), (5.0, 2.0));
    assert_eq!((outcome("other", "bad_signature").await, outcome("other", "unreadable").await), (10.0, 1.0));
    let kept = world.operator().get("/api/webhooks").await.json();
    assert_eq!(kept.as_array().map(Vec::len), Some(5), "{kept:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_gets_the_same_bytes_and_headers_and_is_told_whose_they_are() {
    let (world, app) = world_with_app("").await;
    let connected = world.connect("Müller & Söhne", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id");
    let text = format!(
        "{{ \"event_type\" : \"payment.created\",\r\n\t\"connection_id\":\"{connection}\", \"data\":{{\"payment_id\":\"\\u00fc ü\"}} }}\n"
    );
    let at = seconds();
    let answer = world.tell_at("msg_1", at, text.as_bytes()).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok\n"));
    app.arrived(1).await;
    let request = app.requests()[0].clone();
    assert!(request.starts_with("POST /finch HTTP/1.1\r\n"), "{request}");
    assert_eq!(body(&request), text);
    assert_eq!(header(&request, "finch-event-id"), Some("msg_1"));
    assert_eq!(header(&request, "finch-timestamp"), Some(at.to_string().as_str()));
    let signature = sign(SECRET, "msg_1", &at.to_string(), text.as_bytes());
    assert_eq!(header(&request, "finch-signature"), Some(signature.as_str()));
    assert_eq!(header(&request, "perch-customer"), Some("Müller & Söhne"));
    assert_eq!(header(&request, "perch-connection"), Some(connection));
    assert_eq!(header(&request, "content-type"), Some("application/json"));
    world.webhooks_are_settled().await;
    let told = world.webhook("msg_1").await;
    assert_eq!((&told["event_type"], &told["attempts"]), (&json!("payment.created"), &json!(1)));
    let bodies = world.database.ask("SELECT sum(length(body)) FROM webhook").await;
    assert_eq!(bodies.as_deref(), Some("0"), "what the app has is not kept");
    let delivered = "perch_webhooks_total{event=\"payment.created\",outcome=\"delivered\"}";
    world.metric_becomes(delivered, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_names_no_connection_is_told_by_its_company() {
    let (world, app) = world_with_app("").await;
    let connected = world.connect("acme", "gusto").await;
    let entry = world.stored(connected["connection_id"].as_str().expect("an id")).await.expect("it is there");
    let company = entry.facts.company_id.as_ref().expect("a company").as_str();
    world.tell("m1", &json!({ "event_type": "company.updated", "company_id": company, "data": {} })).await;
    app.arrived(1).await;
    assert_eq!(header(&app.requests()[0], "perch-customer"), Some("acme"));
    world.tell("m2", &json!({ "event_type": "company.updated", "company_id": "nobody" })).await;
    app.arrived(2).await;
    assert_eq!(header(&app.requests()[1], "perch-customer"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_comes_twice_is_taken_once() {
    let (mut world, app) = world_with_app("").await;
    world.tell("m1", &event("test", "c")).await;
    world.tell("m1", &event("test", "c")).await;
    app.arrived(1).await;
    world.webhooks_are_settled().await;
    world.restart().await;
    world.tell("m1", &event("test", "c")).await;
    // What comes after it has come shows that it did not come again.
    world.tell("m2", &event("test", "c")).await;
    app.arrived(2).await;
    let ids: Vec<_> = app.requests().iter().map(|r| header(r, "finch-event-id").map(str::to_owned)).collect();
    assert_eq!(ids, [Some("m1".to_owned()), Some("m2".to_owned())]);
    let duplicates = "perch_webhooks_total{event=\"test\",outcome=\"duplicate\"}";
    assert_eq!(world.metric(duplicates).await, 1.0, "since the restart");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_down_is_told_when_it_is_up_again() {
    let (world, app) = world_with_app("").await;
    app.next([answer("500 Internal Server Error", "", "")]);
    // A kept connection that is closed is no failure of the app's: it is asked once more at once.
    app.next([Act::Close]);
    app.next([answer("503 Service Unavailable", "", "")]);
    world.tell("m1", &event("test", "c")).await;
    app.arrived(1).await;
    until("the failure is noted", async || world.webhook("m1").await["attempts"] == 1).await;
    let told = world.webhook("m1").await;
    assert_eq!((&told["state"], &told["failure"]), (&json!("waiting"), &json!("it answered 500")));
    assert!(told["due_at"].is_string(), "{told}");
    assert_eq!(world.metric("perch_webhooks_queue{state=\"waiting\"}").await, 1.0);
    // Its time comes, for whoever moves the clock's hand.
    let make_due = || world.database.sql("UPDATE webhook SET due_at = 1");
    assert_eq!(make_due().await, 1);
    app.arrived(3).await;
    until("the second failure is noted", async || world.webhook("m1").await["attempts"] == 2).await;
    make_due().await;
    app.arrived(4).await;
    world.webhooks_are_settled().await;
    assert_eq!(world.webhook("m1").await["attempts"], 3);
    let retried = "perch_webhooks_total{event=\"test\",outcome=\"retried\"}";
    assert_eq!(world.metric(retried).await, 2.0);
}

/// An app that takes nothing has left one dead letter.
async fn world_with_a_dead_letter(more: &str) -> (World, Arc<RawFinch>) {
    let (world, app) = world_with_app(&format!("webhooks.attempts = 1\n{more}")).await;
    app.next([answer("302 Found", "Location: /elsewhere\r\n", "")]);
    world.tell("m1", &event("test", "c")).await;
    until("it is dead", async || world.webhook("m1").await["state"] == "dead").await;
    (world, app)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_waits_for_an_operator_and_is_replayed() {
    let (world, app) = world_with_a_dead_letter("").await;
    let operator = world.operator();
    let dead = operator.get("/api/webhooks?dead=1").await.json();
    assert_eq!((&dead[0]["event_id"], &dead[0]["failure"]), (&json!("m1"), &json!("it answered 302")));
    assert_eq!(world.metric("perch_webhooks_queue{state=\"dead\"}").await, 1.0);
    assert_eq!(world.metric("perch_webhooks_total{event=\"test\",outcome=\"dead\"}").await, 1.0);
    for (path, expected) in [
        ("/api/webhooks/replay", 400),
        ("/api/webhooks/replay?all=1", 400),
        ("/api/webhooks/replay?id=m9", 404),
        ("/api/webhooks?dead=2", 405),
    ] {
        assert_eq!(operator.call("POST", path, Vec::new().into()).await.status, expected, "{path}");
    }
    let page = operator.clone().with("origin", "http://evil.example");
    let refused = page.call("POST", "/api/webhooks/replay?id=m1", Vec::new().into()).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(operator.get("/api/webhooks/replay?id=m1").await.status, 405, "looking changes nothing");
    let replayed = operator.call("POST", "/api/webhooks/replay?id=m1", Vec::new().into()).await;
    assert_eq!((replayed.status, replayed.json()), (200, json!({ "replayed": 1 })));
    app.arrived(2).await;
    world.webhooks_are_settled().await;
    let again = operator.call("POST", "/api/webhooks/replay?id=m1", Vec::new().into()).await;
    assert_eq!(again.status, 409, "{}", again.text());
    assert_eq!(operator.get("/api/webhooks?dead=1").await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_lists_and_replays_beside_the_gateway() {
    let (world, app) = world_with_a_dead_letter("").await;
    let listed = world.perch(&["webhooks", "list", "--dead"]).await;
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    assert!(listed.out.contains("m1") && listed.out.contains("it answered 302"), "{}", listed.out);
    let listed = world.perch(&["webhooks", "list", "-o", "json"]).await.json();
    assert_eq!((&listed[0]["event_id"], &listed[0]["state"]), (&json!("m1"), &json!("dead")));
    assert!(!listed.to_string().contains("body"), "{listed}");
    let unknown = world.perch(&["webhooks", "replay", "m9"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("no webhook m9 is kept"), "{}", unknown.err);
    assert_eq!(world.perch(&["webhooks", "replay"]).await.code, Some(2), "which?");
    let replayed = world.perch(&["webhooks", "replay", "--all-dead", "-o", "json"]).await;
    assert_eq!((replayed.code, replayed.json()), (Some(0), json!({ "replayed": 1 })));
    app.arrived(2).await;
    world.webhooks_are_settled().await;
    let replayed = world.perch(&["webhooks", "replay", "m1"]).await;
    assert!(replayed.code == Some(1) && replayed.err.contains("is done, not dead"), "{replayed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_shows_the_token_where_there_is_one() {
    let world = World::with().settings("admin.token = \"env:FINCH_CLIENT_SECRET\"").start().await;
    for (method, path) in [("GET", "/api/webhooks"), ("POST", "/api/webhooks/replay?all_dead=1")] {
        assert_eq!(world.operator().call(method, path, Vec::new().into()).await.status, 401, "{path}");
    }
    let known = world.operator().with("authorization", &format!("Bearer {}", crate::support::CLIENT_SECRET));
    assert_eq!(known.get("/api/webhooks").await.status, 200);
    let nowhere = known.call("POST", "/api/webhooks/replay?all_dead=1", Vec::new().into()).await;
    assert_eq!(nowhere.status, 409, "{}", nowhere.text());
    assert!(nowhere.text().contains("webhooks.deliver_to is empty"), "{}", nowhere.text());
}

/// An event as the door keeps it.
pub fn arrived(id: &str, event: &Value) -> Arrived {
    let body = event.to_string().into_bytes();
    let told = Event::parse(&body).expect("an object");
    let at = seconds();
    Arrived {
        event_id: EventId::new(id).expect("an id"),
        timestamp: at.to_string(),
        sent_at: UnixMillis(at * 1000),
        signature: sign(SECRET, id, &at.to_string(), &body),
        event_type: told.event_type,
        connection_id: told.connection_id,
        company_id: told.company_id,
        entity_id: told.entity_id,
        body,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_before_a_crash_is_acted_on_and_delivered_after_it() {
    let (mut world, app) = world_with_app("").await;
    let connected = world.connect("acme", "gusto").await;
    let connection = connected["connection_id"].as_str().expect("an id").to_owned();
    world.stop().await;
    // As a gateway leaves it that was killed right behind its answer to Finch.
    let event = arrived("m1", &status(&connection, "reauth"));
    let bounds = (100, UnixMillis(0));
    world.vault().await.keep_webhook(event, bounds, unix_now()).await.expect("a store");
    world.open().await;
    app.arrived(1).await;
    world.webhooks_are_settled().await;
    let refused = world.for_customer("acme").get(COMPANY).await;
    assert_eq!((refused.status, refused.header("perch-attempts")), (401, "0"), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_a_stop_cuts_off_is_made_again() {
    let (mut world, app) = world_with_app("").await;
    app.next([Act::Hang]);
    world.tell("m1", &event("test", "c")).await;
    app.arrived(1).await;
    world.restart().await;
    app.arrived(2).await;
    world.webhooks_are_settled().await;
    let ids: Vec<_> = app.requests().iter().map(|r| header(r, "finch-event-id").map(str::to_owned)).collect();
    assert_eq!(ids, vec![Some("m1".to_owned()); 2], "at least once, by the same name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_s_events_go_one_by_one_and_others_are_not_held_up() {
    let (world, app) = world_with_app("").await;
    let gate = Arc::new(Notify::new());
    app.next([Act::Wait(Arc::clone(&gate)), answer("200 OK", "", "")]);
    world.tell("a1", &event("test", "a")).await;
    app.arrived(1).await;
    world.tell("a2", &event("test", "a")).await;
    world.tell("b1", &event("test", "b")).await;
    app.arrived(2).await;
    until("b1 is done", async || world.webhook("b1").await["state"] == "done").await;
    assert_eq!(world.webhook("a2").await["state"], "waiting");
    let id = |at: usize| header(&app.requests()[at], "finch-event-id").map(str::to_owned);
    assert_eq!((id(0).as_deref(), id(1).as_deref()), (Some("a1"), Some("b1")));
    gate.notify_one();
    app.arrived(3).await;
    assert_eq!(id(2).as_deref(), Some("a2"));
    world.webhooks_are_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_secret_of_its_own_the_app_gets_a_signature_of_this_moment() {
    let (world, app) = world_with_a_dead_letter("webhooks.sign_with = \"env:APP_WEBHOOK\"").await;
    // An hour passes before somebody replays it.
    let aged = "UPDATE webhook SET sent_at = sent_at - 3600000, \
                sent_text = cast(cast(sent_text AS bigint) - 3600 AS text)";
    assert_eq!(world.database.sql(aged).await, 1);
    world.operator().call("POST", "/api/webhooks/replay?all_dead=1", Vec::new().into()).await;
    app.arrived(2).await;
    for request in app.requests() {
        let at = header(&request, "finch-timestamp").expect("a time").to_owned();
        assert!(at.parse::<i64>().expect("seconds").abs_diff(seconds()) < 60, "{at}");
        let signature = sign(OWN, "m1", &at, body(&request).as_bytes());
        assert_eq!(header(&request, "finch-signature"), Some(signature.as_str()));
    }
    world.webhooks_are_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_is_asked_for_again() {
    let (world, app) = world_with_app("webhooks.queue = 10").await;
    for _ in 0..9 {
        app.next([Act::Hang]);
    }
    for n in 0..10 {
        world.tell(&format!("m{n}"), &event("test", &format!("c{n}"))).await;
    }
    let full = world.tell_at("m10", seconds(), event("test", "c").to_string().as_bytes()).await;
    assert_eq!((full.status, full.header("retry-after")), (503, "5"), "{}", full.text());
    assert_eq!(world.webhook("m10").await, Value::Null);
    let refused = "perch_webhooks_total{event=\"test\",outcome=\"refused\"}";
    assert_eq!(world.metric(refused).await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_out_finch_is_asked_to_send_again() {
    let world = World::with().settings(DOOR).start().await;
    let other = world.database.lock().await;
    let body = event("test", "c").to_string();
    assert_eq!(world.tell_at("m1", seconds(), body.as_bytes()).await.status, 503);
    drop(other);
    assert_eq!(world.tell_at("m1", seconds(), body.as_bytes()).await.status, 200);
}

/// Two customers; nothing is known against either.
fn setup() -> Setup {
    World::with()
        .settings(DOOR)
        .scenario("[[customer]]\nid = \"acme\"\n\n[[customer]]\nid = \"many\"\nentities = 3\n")
}

/// The connection of a customer that the simulator began with, and its entities.
async fn connection_of(world: &World, customer: &str) -> (String, Vec<String>) {
    let all = world.connections().await;
    let row = all.iter().find(|c| c["customer_id"] == customer).expect("a connection");
    let entities = row["entity_ids"].as_array().expect("entities");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&row["connection_id"]), entities.iter().map(text).collect())
}

async fn introspections(world: &World) -> u64 {
    let report = world.report().await;
    let by_outcome = report["operations"]["Introspect"].as_object().cloned().unwrap_or_default();
    by_outcome.values().filter_map(Value::as_u64).sum()
}

async fn read(app: &App, path: &str) -> (u16, String, String) {
    let answer = app.get(path).await;
    (answer.status, answer.class().to_owned(), answer.header("perch-attempts").to_owned())
}

fn shielded(class: &str) -> (u16, String, String) {
    (401, class.to_owned(), "0".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_stops_the_calls_of_a_login_and_lets_them_go_again() {
    let world = setup().start().await;
    world.import().await;
    let (connection, _) = connection_of(&world, "acme").await;
    let app = world.for_customer("acme");
    assert_eq!(read(&app, COMPANY).await.0, 200);
    let at = seconds();
    let tell = async |id: &str, at: i64, word: &str| {
        let answer = world.tell_at(id, at, status(&connection, word).to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        world.webhooks_are_settled().await;
    };
    tell("m1", at, "reauth").await;
    assert_eq!(read(&app, COMPANY).await, shielded("reauthentication_required"));
    assert_eq!(world.stored(&connection).await.expect("kept").facts.status, Status::NeedsReauth);
    tell("m2", at + 20, "connected").await;
    assert_eq!(read(&app, COMPANY).await.0, 200);
    assert_eq!(world.stored(&connection).await.expect("kept").facts.status, Status::Active);
    tell("m3", at + 10, "error_reauth").await;
    assert_eq!(read(&app, COMPANY).await.0, 200, "an older word comes late");
    tell("m4", at + 30, "error_no_account_setup").await;
    assert_eq!(read(&app, COMPANY).await, shielded("account_setup_required"));
    tell("m5", at + 40, "a word of tomorrow").await;
    assert_eq!(read(&app, COMPANY).await, shielded("account_setup_required"));
    assert_eq!(introspections(&world).await, 0, "Finch had said it already");
    world.disconnect_at_finch("acme").await;
    tell("m6", at + 50, "disconnected").await;
    let gone = world.stored(&connection).await.expect("its facts are kept");
    assert_eq!((gone.facts.status, gone.token.is_some()), (Status::Disconnected, false));
    assert_ne!(read(&app, COMPANY).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_word_does_not_stop_a_login_that_was_renewed_since() {
    let world = setup().start().await;
    world.import().await;
    let (connection, _) = connection_of(&world, "acme").await;
    let app = world.for_customer("acme");
    for (nth, word) in ["reauth", "disconnected", "error_no_account_setup"].iter().enumerate() {
        // Sent a minute before the vault got the token that it has.
        let at = seconds() - 60 + i64::try_from(nth).expect("small");
        let body = status(&connection, word).to_string();
        assert_eq!(world.tell_at(&format!("m{nth}"), at, body.as_bytes()).await.status, 200);
        world.webhooks_are_settled().await;
        assert_eq!(introspections(&world).await, nth as u64 + 1, "Finch is asked: {word}");
        assert_eq!(read(&app, COMPANY).await.0, 200, "{word}");
    }
    let entry = world.stored(&connection).await.expect("kept");
    assert!(entry.facts.status == Status::Active && entry.token.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_entities_of_a_connection_are_told_apart() {
    let world = setup().start().await;
    world.import().await;
    let (connection, entities) = connection_of(&world, "many").await;
    let app = world.for_customer("many");
    let path = |entity: &str| format!("{COMPANY}?entity_ids[]={entity}");
    let mut event = status(&connection, "disconnected");
    event["entity_id"] = json!(entities[1]);
    // After whatever the vault knows, to the second.
    let answer = world.tell_at("m1", seconds() + 5, event.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200);
    world.webhooks_are_settled().await;
    assert_eq!(read(&app, &path(&entities[1])).await, shielded("disconnected"));
    assert_eq!(read(&app, &path(&entities[0])).await.0, 200);
    let entry = world.stored(&connection).await.expect("kept");
    assert!(entry.token.is_some(), "the others still need it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_about_nobody_here_is_passed_on_and_changes_nothing() {
    let (world, app) = world_with_app("").await;
    world.tell("m1", &status("not-here", "disconnected")).await;
    world.tell("m2", &json!({ "event_type": "payslip.signed", "connection_id": null, "data": [1, 2] })).await;
    world.tell("m3", &json!({ "event_type": "account.updated" })).await;
    world.tell("m4", &event("job.data_sync_all.completed", "not-here")).await;
    app.arrived(4).await;
    world.webhooks_are_settled().await;
    let other = "perch_webhooks_total{event=\"other\",outcome=\"delivered\"}";
    assert_eq!(world.metric(other).await, 1.0);
}

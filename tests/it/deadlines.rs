//! Time: clients that are slow or gone, calls that wait, and the end of the gateway. Nothing here sleeps;
//! each test waits for what must happen. R and F31 of the attack list.

use crate::support::raw::{Act, PATIENCE, RawFinch, answer, good};
use crate::support::socket::Socket;
use crate::support::{Setup, World};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::timeout;

fn setup() -> Setup {
    World::with().connection("acme", "CANARY-token-of-acme").connection("globex", "CANARY-token-of-globex")
}

async fn world(settings: &str) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    // Calls that read the same here are meant to wait one behind the other.
    (setup().settings(settings).settings("merge.coalesce = false").finch(&finch.url()).start().await, finch)
}

fn call(customer: &str) -> Vec<u8> {
    format!("GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: {customer}\r\n\r\n")
        .into_bytes()
}

/// A connection on which this was said and nothing was heard yet.
async fn said(world: &World, bytes: &[u8]) -> Socket {
    let mut socket = Socket::to(world.proxy).await;
    socket.write(bytes).await;
    socket
}

async fn depth(world: &World) -> u64 {
    let text = world.operator().get("/metrics").await.text();
    let line = "perch_queue_depth{priority=\"interactive\",product=\"company\"} ";
    text.lines().find_map(|l| l.strip_prefix(line)).map_or(0, |n| n.parse().expect("a number"))
}

/// Waits until so many calls wait for quota.
async fn until_waiting(world: &World, count: u64) {
    let waiting = async { while depth(world).await != count {} };
    timeout(PATIENCE, waiting).await.expect("as many wait in the end");
}

/// Calls again and again until a connection is not closed unread: a place is free as soon as perch has noticed.
async fn until_served(world: &World) -> u16 {
    let served = async {
        loop {
            let mut next = said(world, &call("acme")).await;
            if let Ok(Some(heard)) = next.read().await {
                return heard.status;
            }
        }
    };
    timeout(PATIENCE, served).await.expect("a place in the end")
}

/// R01 R02: a connection that has nothing to say, or says it too slowly, is closed without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_finishes_its_head_is_cut() {
    let (mut world, finch) = world("listen.head_timeout = \"200ms\"\nlisten.idle_timeout = \"300ms\"").await;
    let silent = said(&world, b"").await;
    let halfway = said(&world, b"GET /employer/company HTTP/1.1\r\nHost: pe").await;
    let mut after_an_answer = said(&world, &call("acme")).await;
    assert_eq!(after_an_answer.hear().await.status, 200);
    for mut socket in [silent, halfway, after_an_answer] {
        assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]));
    }
    // A byte at a time does not buy more time: the deadline is for the whole head.
    let mut dribbling = Socket::to(world.proxy).await;
    let mut head = b"GET /employer/company HTTP/1.1\r\nX: ".to_vec();
    head.resize(1 << 20, b'a');
    for byte in head {
        if !dribbling.is_open_after(byte).await {
            break;
        }
    }
    assert_eq!(dribbling.drain().await.as_deref(), Some(&b""[..]));
    assert_eq!(finch.requests().len(), 1);
    world.stop().await;
    assert_eq!(world.lines.all().len(), 1, "what never became a call has no line");
}

/// R03 F31: a body has its own deadline, which is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_told_408() {
    let (mut world, finch) = world("listen.body_timeout = \"200ms\"").await;
    let head = "POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n";
    for rest in [
        "Content-Length: 1000\r\n\r\n0123456789",
        "Content-Length: 1000\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    ] {
        let mut socket = said(&world, format!("{head}{rest}").as_bytes()).await;
        let heard = socket.hear().await;
        assert_eq!((heard.status, heard.code().as_str()), (408, "perch_body_too_slow"), "{rest:?}");
        assert_eq!((heard.header("x-should-retry"), heard.header("connection")), ("false", "close"));
        assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]), "{rest:?}");
    }
    assert!(finch.requests().is_empty());
    world.stop().await;
    let lines = world.lines.all();
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|l| l["status"] == 408 && l["class"] == "invalid_request"), "{lines:#?}");
}

/// R04: a client that takes nothing of its answers is given up, and its place is free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_given_up() {
    let (world, finch) = world("listen.connections_max = 1\nlisten.write_timeout = \"200ms\"").await;
    // Larger than every buffer on the way.
    let large = "x".repeat(16 << 20);
    finch.next([answer("200 OK", "Content-Type: application/json\r\n", &large)]);
    let _deaf = said(&world, &call("acme")).await;
    finch.arrived(1).await;
    assert_eq!(until_served(&world).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_and_the_others_are_served() {
    let (world, _finch) = world("listen.connections_max = 2").await;
    let (mut one, mut two) = (said(&world, &call("acme")).await, said(&world, &call("acme")).await);
    assert_eq!((one.hear().await.status, two.hear().await.status), (200, 200));
    let mut three = said(&world, &call("acme")).await;
    assert_eq!(three.drain().await.as_deref(), Some(&b""[..]));
    one.write(&call("acme")).await;
    assert_eq!(one.hear().await.status, 200);
    drop(two);
    assert_eq!(until_served(&world).await, 200);
}

/// A permit that is out until the test says so: the next call waits.
async fn occupied(world: &World, finch: &RawFinch) -> (Arc<Notify>, Socket) {
    let gate = Arc::new(Notify::new());
    finch.next([Act::Wait(Arc::clone(&gate)), good()]);
    let socket = said(world, &call("acme")).await;
    finch.arrived(1).await;
    (gate, socket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_waits_gives_its_place_back() {
    let settings = "limits.products.company = 1\nlimits.window = \"1s\"\nlimits.pad = \"0s\"\nlimits.arrival_bound = \"off\"\n\
                    limits.queue.per_customer = 1\nlimits.wait.interactive = \"10m\"\nfinch.timeout = \"30s\"";
    let (mut world, finch) = world(settings).await;
    let (gate, mut first) = occupied(&world, &finch).await;
    let leaving = said(&world, &call("acme")).await;
    until_waiting(&world, 1).await;
    // The one place of this customer is taken.
    let full = world.for_customer("acme").get("/employer/company").await;
    assert_eq!((full.status, full.code().as_str()), (429, "perch_queue_full"), "{}", full.text());
    drop(leaving);
    until_waiting(&world, 0).await;
    let mut next = said(&world, &call("acme")).await;
    until_waiting(&world, 1).await;
    gate.notify_one();
    assert_eq!(first.hear().await.status, 200);
    assert_eq!(next.hear().await.status, 200, "it has the place");
    assert_eq!(finch.requests().len(), 2, "nothing was sent for the one who left");
    world.stop().await;
    let lines = world.lines.all();
    let abandoned: Vec<&Value> = lines.iter().filter(|l| l["class"] == "abandoned").collect();
    assert_eq!(abandoned.len(), 1, "{lines:#?}");
    let line = abandoned[0];
    assert_eq!(
        (&line["status"], &line["attempts"], &line["client_gone"]),
        (&json!(499), &json!(0), &json!(true))
    );
    assert_eq!(lines.len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_sent_is_finished_though_its_client_has_gone() {
    let (mut world, finch) = world("apps.writes = \"allow\"").await;
    let gate = Arc::new(Notify::new());
    let told = answer("200 OK", "Finch-Request-Id: f-late\r\n", "{}");
    finch.next([Act::Wait(Arc::clone(&gate)), told]);
    let body = "{\"type\":\"457\"}";
    let head = "POST /employer/benefits HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let leaving = said(&world, request.as_bytes()).await;
    finch.arrived(1).await;
    drop(leaving);
    // A drain waits for what was sent, whoever still listens.
    let gateway = world.gateway.take().expect("it runs");
    let stopping = tokio::spawn(gateway.stop());
    let refused = async { while Socket::status_of(world.admin, "/readyz").await != Some(503) {} };
    timeout(PATIENCE, refused).await.expect("it says that it stops");
    assert!(!stopping.is_finished());
    gate.notify_one();
    assert_eq!(timeout(PATIENCE, stopping).await.expect("it stops").expect("no panic"), 0, "nothing was cut");
    let lines = world.lines.all();
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(
        (&line["status"], &line["class"], &line["client_gone"]),
        (&json!(200), &json!("ok"), &json!(true))
    );
    assert_eq!((&line["attempts"], &line["finch_request_id"]), (&json!(1), &json!(["f-late"])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_drain_who_waits_is_sent_away_and_who_was_sent_is_answered() {
    let settings =
        "limits.products.company = 1\nlimits.arrival_bound = \"off\"\nlimits.wait.interactive = \"10m\"";
    let (mut world, finch) = world(settings).await;
    let (gate, mut running) = occupied(&world, &finch).await;
    let mut waiting = said(&world, &call("globex")).await;
    until_waiting(&world, 1).await;
    let mut idle = said(&world, b"").await;
    let gateway = world.gateway.take().expect("it runs");
    let stopping = tokio::spawn(gateway.stop());
    let heard = waiting.hear().await;
    assert_eq!((heard.status, heard.code().as_str()), (503, "perch_draining"));
    assert_eq!((heard.header("x-should-retry"), heard.header("connection")), ("true", "close"));
    assert_eq!(waiting.drain().await.as_deref(), Some(&b""[..]));
    // Who comes now is told the same.
    idle.write(&call("acme")).await;
    assert_eq!(idle.hear().await.code(), "perch_draining");
    assert!(!stopping.is_finished(), "a call is still out");
    gate.notify_one();
    assert_eq!(running.hear().await.status, 200);
    assert_eq!(timeout(PATIENCE, stopping).await.expect("it stops").expect("no panic"), 0, "nothing was cut");
    assert_eq!(running.drain().await.as_deref(), Some(&b""[..]));
    assert_eq!(finch.requests().len(), 1);
    let mut classes: Vec<_> = world.lines.all().iter().map(|l| l["class"].clone()).collect();
    classes.sort_by_key(Value::to_string);
    assert_eq!(classes, ["ok", "perch_unavailable", "perch_unavailable"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_does_not_outlast_its_grace() {
    let (mut world, finch) = world("drain.grace = \"100ms\"").await;
    finch.next([Act::Hang]);
    let _cut = said(&world, &call("acme")).await;
    finch.arrived(1).await;
    let gateway = world.gateway.take().expect("it runs");
    assert_eq!(timeout(PATIENCE, gateway.stop()).await.expect("it stops"), 1, "one call was cut off");
}

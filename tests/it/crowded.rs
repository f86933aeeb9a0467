//! Large bodies of many calls at once: what is held of them has a bound, those beyond it are told, and what was held comes
//! back.

use crate::support::raw::{RawFinch, answer};
use crate::support::socket::Socket;
use crate::support::{Answer, World, until};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const TOKEN: &str = "CANARY-token-of-acme";
/// More than needs no share.
const LARGE: usize = 300 << 10;

async fn world(settings: &str) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    let ours = "limits.products.default = 100000\nlimits.ip.requests = 100000\nmerge.coalesce = false\n\
        retry.attempts = 1\nshield.probe = \"off\"\n";
    let setup = World::with().connection("acme", TOKEN).settings(ours).settings(settings);
    (setup.finch(&finch.url()).start().await, finch)
}

/// A good batch answer of one item with this much in it.
fn batch(key: &str, bytes: usize) -> String {
    json!({ "responses": [{ key: "i", "code": 200, "body": { "pad": "x".repeat(bytes) } }] }).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_finds_no_room_is_told_and_room_comes_back_when_a_client_leaves() {
    let (world, finch) = world("listen.request_bytes_max = \"512KiB\"").await;
    let most = 512 << 10;
    let head = |length: usize| {
        format!(
            "POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    // All but the last byte of two of the largest.
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut socket = Socket::to(world.proxy).await;
        socket.write(&[head(most).as_bytes(), &vec![b' '; most - 1]].concat()).await;
        slow.push(socket);
    }
    let send = async |bytes: usize| {
        let mut socket = Socket::to(world.proxy).await;
        socket.write(&[head(bytes).as_bytes(), &vec![b' '; bytes]].concat()).await;
        socket.hear().await
    };
    until("they have come as far as that", async || send(LARGE).await.status == 503).await;
    let before = finch.requests().len();
    let told = send(LARGE).await;
    assert_eq!((told.status, told.code().as_str()), (503, "perch_crowded"), "{}", told.head);
    assert_eq!((told.header("x-should-retry"), told.header("connection")), ("", "close"), "{}", told.head);
    assert_eq!(told.header("retry-after"), "1");
    assert_eq!(finch.requests().len(), before, "nothing was sent");
    assert_eq!(send(200 << 10).await.status, 200, "a small one always finds room");
    drop(slow.pop());
    until("its room is free", async || send(LARGE).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_finds_no_room_passes_unread_and_is_counted_apart() {
    let (world, finch) = world("listen.inspect_bytes_max = \"8MiB\"").await;
    // Larger than what the system keeps for a connection whose client does not read.
    let largest = "x".repeat(8 << 20);
    let mut slow = Vec::new();
    for nth in 1..=2 {
        finch.next([answer("200 OK", "Content-Type: application/json\r\n", &largest)]);
        let mut socket = Socket::slowly(world.proxy, Duration::from_secs(1)).await;
        socket.write(b"GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n").await;
        finch.arrived(nth).await;
        slow.push(socket);
    }
    let app = world.for_customer("acme");
    let ask = async || -> Answer {
        let good = batch("individual_id", LARGE);
        finch.next([answer("200 OK", "Content-Type: application/json\r\n", &good)]);
        let asked = json!({ "requests": [{ "individual_id": "i" }] });
        let heard = app.post("/employer/individual", &asked).await;
        assert_eq!((heard.status, heard.text() == good), (200, true));
        heard
    };
    let crowded = "perch_uninspected_answers_total{product=\"individual\",why=\"crowded\"}";
    until("there is no room", async || {
        let _ = ask().await;
        world.metric(crowded).await >= 1.0
    })
    .await;
    assert_eq!(ask().await.header("perch-batch"), "");
    // Several parts become one answer only where each can be held.
    finch.next([answer("200 OK", "Content-Type: application/json\r\n", &batch("payment_id", LARGE))]);
    let refused = app.post("/employer/pay-statement", &payments(23)).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "perch_crowded"), "{}", refused.text());
    drop(slow.pop());
    until("there is room again", async || {
        ask().await.header("perch-batch") == "total=1, failed=0, pending=0"
    })
    .await;
}

/// A call for more payments than Finch takes at once.
fn payments(count: usize) -> serde_json::Value {
    let requests: Vec<_> = (0..count).map(|n| json!({ "payment_id": format!("p{n}") })).collect();
    json!({ "requests": requests })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_of_an_over_size_call_take_no_room_from_one_another() {
    let (world, finch) = world("listen.inspect_bytes_max = \"512KiB\"").await;
    // Three of them are more than is held at once, and less than one whole answer may be.
    for _ in 0..3 {
        finch.next([answer("200 OK", "Content-Type: application/json\r\n", &batch("payment_id", 450 << 10))]);
    }
    let whole = world.for_customer("acme").post("/employer/pay-statement", &payments(23)).await;
    assert_eq!((whole.status, whole.class()), (200, "ok"), "{}", &whole.text()[..200]);
    assert_eq!(
        (whole.header("perch-batch"), whole.header("perch-attempts")),
        ("total=3, failed=0, pending=0", "3")
    );
}

//! Webhooks that are forged, and webhooks that are signed and still odd. W01 to W11 of the list.

use super::report::tell;
use crate::support::hooks::{DOOR, SECRET, seconds, sign};
use crate::support::socket::Socket;
use crate::support::{App, World};
use perch::config::Address;
use std::net::SocketAddr;

async fn world() -> (World, SocketAddr) {
    let world = World::with().settings(DOOR).start().await;
    let door = match world.gateway.as_ref().expect("it runs").webhooks() {
        Some(Address::Tcp(at)) => *at,
        other => panic!("there is no door: {other:?}"),
    };
    (world, door)
}

const BODY: &str = r#"{"event_type":"test","connection_id":"c","data":{"a":1}}"#;

/// What is sent beside a body.
fn lines(id: &str, at: &str, signature: &str) -> String {
    format!("Finch-Event-Id: {id}\r\nFinch-Timestamp: {at}\r\nFinch-Signature: {signature}\r\n")
}

async fn status(door: SocketAddr, lines: &str, body: &[u8]) -> u16 {
    let mut socket = Socket::to(door).await;
    let head = format!(
        "POST /webhooks/finch HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write(&[head.as_bytes(), body].concat()).await;
    socket.hear().await.status
}

/// W03 W04 W05 W08 W09: only what Finch has signed, as it was, now, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_was_touched_is_not_believed() {
    let (world, door) = world().await;
    let at = seconds().to_string();
    let other = (seconds() - 1).to_string();
    let [old, ahead] = [-360, 360].map(|away| (seconds() + away).to_string());
    let good = |id: &str, at: &str| sign(SECRET, id, at, BODY.as_bytes());
    let untouched = |id: &str| lines(id, &at, &good(id, &at));
    let spaced = BODY.replace(':', ": ");
    let sorted = r#"{"connection_id":"c","data":{"a":1},"event_type":"test"}"#;
    let one = untouched("d");
    let doubled = |name: &str| {
        let line = one.lines().find(|line| line.starts_with(name)).expect("it is there");
        format!("{one}{line}\r\n")
    };
    let rows: Vec<(&str, String, &str, u16)> = vec![
        ("W01", untouched("a"), BODY, 200),
        ("W03 byte", untouched("b"), r#"{"event_type":"test","connection_id":"d","data":{"a":1}}"#, 401),
        ("W03 space", untouched("b"), &spaced, 401),
        ("W03 order", untouched("b"), sorted, 401),
        ("W03 cut", untouched("b"), &BODY[..BODY.len() - 1], 401),
        ("W03 none", untouched("b"), "", 401),
        ("W04 id", lines("b", &at, &good("a", &at)), BODY, 401),
        ("W04 time", lines("b", &other, &good("b", &at)), BODY, 401),
        ("W04 empty", lines("b", &at, ""), BODY, 401),
        ("W04 label", lines("b", &at, "v1,"), BODY, 401),
        ("W04 garbage", lines("b", &at, "v1,!!!!"), BODY, 401),
        ("W04 short", lines("b", &at, &good("b", &at)[..20]), BODY, 401),
        ("W04 plain", lines("b", &at, good("b", &at).trim_start_matches("v1,")), BODY, 401),
        ("W05 old", lines("b", &old, &good("b", &old)), BODY, 401),
        ("W05 ahead", lines("b", &ahead, &good("b", &ahead)), BODY, 401),
        ("W05 sign", lines("b", &format!("+{at}"), &good("b", &format!("+{at}"))), BODY, 401),
        ("W08", lines("c", &at, &format!("v1,AAAA {} v2,BBBB", good("c", &at))), BODY, 200),
        // A doubled header is nobody's: Finch sends each once, and who else asks learns nothing more than that.
        ("W09 signature", doubled("Finch-Signature"), BODY, 401),
        ("W09 timestamp", doubled("Finch-Timestamp"), BODY, 401),
        ("W09 id", doubled("Finch-Event-Id"), BODY, 401),
    ];
    let mut wrong = Vec::new();
    for (id, lines, body, expected) in rows {
        let seen = status(door, &lines, body.as_bytes()).await;
        tell(id, "webhooks", &expected.to_string(), &seen.to_string(), seen == expected);
        if seen != expected {
            wrong.push(format!("{id}: {seen}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let kept = world.operator().get("/api/webhooks").await.json();
    assert_eq!(kept.as_array().map(Vec::len), Some(2), "{kept:#}");
}

/// W07: fifty copies at once are one event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_replayed_at_once_is_kept_once() {
    let (world, door) = world().await;
    let at = seconds().to_string();
    let lines = lines("m", &at, &sign(SECRET, "m", &at, BODY.as_bytes()));
    let copies: Vec<_> = (0..50)
        .map(|_| {
            let lines = lines.clone();
            tokio::spawn(async move { status(door, &lines, BODY.as_bytes()).await })
        })
        .collect();
    for copy in copies {
        assert_eq!(copy.await.expect("no panic"), 200);
    }
    let kept = world.operator().get("/api/webhooks").await.json();
    assert_eq!(kept.as_array().map(Vec::len), Some(1), "{kept:#}");
    tell("W07", "webhooks", "kept once", "50 copies at once, kept once", true);
}

/// W11: what Finch has signed and nobody understands is taken or refused, and the door goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_webhook_of_any_shape_is_no_error_of_perchs() {
    let (world, door) = world().await;
    let deep = |open: &str, close: &str| open.repeat(20_000) + "1" + &close.repeat(20_000);
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"{".to_vec(),
        b"not json".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"{\"event_type\":\"\xc3\x28\"}".to_vec(),
        br#"{"event_type":1,"connection_id":[],"company_id":{}}"#.to_vec(),
        br#"{"event_type":"test","event_type":"account.updated","connection_id":"a","connection_id":"b"}"#
            .to_vec(),
        br#"{"event_type":"account.updated","connection_id":"c","data":{"status":{"a":1e999}}}"#.to_vec(),
        br#"{"event_type":"account.updated","connection_id":"\u0000\ud800","data":null}"#.to_vec(),
        format!(r#"{{"event_type":"{}"}}"#, "x".repeat(1 << 19)).into_bytes(),
        format!(r#"{{"event_type":"test","data":{}}}"#, deep("[", "]")).into_bytes(),
        format!(r#"{{"event_type":"test","data":{}}}"#, deep(r#"{"a":"#, "}")).into_bytes(),
        b"[".repeat(100_000),
    ];
    let at = seconds().to_string();
    for (nth, body) in bodies.iter().enumerate() {
        let id = format!("m{nth}");
        let seen = status(door, &lines(&id, &at, &sign(SECRET, &id, &at, body)), body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]);
        assert!(matches!(seen, 200 | 400), "{seen} for {shown}");
    }
    let id = "last";
    let seen = status(door, &lines(id, &at, &sign(SECRET, id, &at, BODY.as_bytes())), BODY.as_bytes()).await;
    assert_eq!(seen, 200);
    assert_eq!(App::at(world.admin).get("/livez").await.status, 200);
    tell("W11", "webhooks", "no 5xx", &format!("{} odd bodies: 200 or 400", bodies.len()), true);
}

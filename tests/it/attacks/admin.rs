//! The other doors under the same bytes: operators', webhooks', the orchestrator's. One attack gets one refusal at most,
//! nothing hidden is answered, nothing is changed, and nothing reaches Finch. A01 to A08 of the list.

use super::report::tell;
use super::{Siege, Site, framing, h2, heads, nobody, roomy, targets};
use crate::support::hooks::{DOOR, seconds};
use crate::support::page::{ADMIN_TOKEN, VIEWS, guarded};
use crate::support::raw::RawFinch;
use crate::support::socket::Socket;
use crate::support::{TOKEN_MARKER, World};
use perch::config::Address;
use serde_json::json;
use std::net::SocketAddr;

/// A world with all of its doors.
async fn world() -> (World, std::sync::Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    let setup = roomy().settings(DOOR).settings("listen.probes = \"127.0.0.1:0\"");
    (setup.finch(&finch.url()).start().await, finch)
}

fn tcp(address: Option<&Address>) -> SocketAddr {
    match address {
        Some(Address::Tcp(at)) => *at,
        other => panic!("there is no door: {other:?}"),
    }
}

/// What is wrong with how this door took these bytes.
async fn attack(door: SocketAddr, bytes: &[u8]) -> (String, Vec<String>) {
    let mut socket = Socket::to(door).await;
    socket.write(bytes).await;
    // Who is done gets all of its answers: had anything hidden been read, it would have one too.
    socket.finish().await;
    let Some(heard) = socket.drain().await else {
        return ("open".to_owned(), vec!["it stays open".to_owned()]);
    };
    let text = String::from_utf8_lossy(&heard).into_owned();
    let mut faults = Vec::new();
    let answers = text.matches("HTTP/1.").count();
    let status = text.get(9..12).unwrap_or("closed").to_owned();
    if answers > 1 {
        faults.push(format!("{answers} answers"));
    }
    if !text.is_empty() && !status.starts_with('4') {
        faults.push(format!("{status}: {text}"));
    }
    (status, faults)
}

async fn assert_door_holds(world: &World, finch: &RawFinch, name: &str, door: SocketAddr, site: Site) {
    let evil = nobody().await;
    let evil_at = evil.local_addr().expect("an address");
    let mut rows = framing::rows(site);
    rows.extend(heads::rows(site));
    rows.extend(targets::rows(site, evil_at));
    rows.extend(h2::rows());
    let mut wrong = Vec::new();
    for (id, bytes, ..) in rows {
        let (status, mut faults) = attack(door, &bytes).await;
        if Socket::status_of(door, "/nowhere").await != Some(404) {
            faults.push("a lawful call is not served".to_owned());
        }
        if finch.bytes() > 0 {
            faults.push("something reached Finch".to_owned());
        }
        let seen = if faults.is_empty() { status } else { faults.join("; ") };
        tell(id, name, "one refusal at most, nothing done", &seen, faults.is_empty());
        wrong.extend(faults.iter().map(|fault| {
            format!(
                "{name} {id}: {fault} after {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
            )
        }));
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let nobody = tokio::time::timeout(std::time::Duration::ZERO, evil.accept()).await;
    assert!(nobody.is_err(), "somebody connected to the evil host");
    assert_eq!(world.operator().get("/api/pauses").await.json(), json!([]), "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_door_refuses_what_can_be_read_in_two_ways() {
    let (world, finch) = world().await;
    let site = Site { post: "/api/pauses", get: "/api/connections" };
    assert_door_holds(&world, &finch, "admin", world.admin, site).await;
    assert_eq!(world.operator().get("/api/connections").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_webhooks_door_refuses_what_can_be_read_in_two_ways() {
    let (world, finch) = world().await;
    let door = tcp(world.gateway.as_ref().expect("it runs").webhooks());
    let site = Site { post: "/webhooks/finch", get: "/webhooks/finch" };
    assert_door_holds(&world, &finch, "webhooks", door, site).await;
    assert_eq!(world.operator().get("/api/webhooks").await.json(), json!([]), "nothing was taken");
    let event = br#"{"event_type":"test","connection_id":"c"}"#;
    assert_eq!(world.tell_at("m1", seconds(), event).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_orchestrators_door_refuses_what_can_be_read_in_two_ways() {
    let (world, finch) = world().await;
    let door = tcp(world.gateway.as_ref().expect("it runs").probes());
    let site = Site { post: "/livez", get: "/livez" };
    assert_door_holds(&world, &finch, "probes", door, site).await;
    assert_eq!(Socket::status_of(door, "/livez").await, Some(200));
}

/// A signed message is signed whole: in chunks that others would read differently it is refused all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_message_in_odd_chunks_is_refused() {
    let (world, _finch) = world().await;
    let door = tcp(world.gateway.as_ref().expect("it runs").webhooks());
    let body = r#"{"event_type":"test"}"#;
    let at = seconds().to_string();
    let signature = crate::support::hooks::sign(crate::support::hooks::SECRET, "m", &at, body.as_bytes());
    let head = format!(
        "POST /webhooks/finch HTTP/1.1\r\nHost: perch\r\nFinch-Event-Id: m\r\nFinch-Timestamp: {at}\r\n\
         Finch-Signature: {signature}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    for (id, extension, status) in [("F21 signed", ";\nxx", 400), ("F21 lawful", ";x=y", 200)] {
        let mut socket = Socket::to(door).await;
        let size = body.len();
        socket.write(format!("{head}{size:x}{extension}\r\n{body}\r\n0\r\n\r\n").as_bytes()).await;
        assert_eq!(socket.hear().await.status, status, "{id}");
        tell(id, "webhooks", &status.to_string(), &status.to_string(), true);
    }
}

const PATHS: [&str; 10] = [
    "/metrics",
    "/api/config",
    "/api/connections",
    "/api/connections/c-acme",
    "/api/requests",
    "/api/holds",
    "/api/pauses",
    "/api/drift",
    "/api/webhooks",
    "/api/usage",
];

/// A01 A04 A05 A06: whatever is shown but the token itself, nothing is told; no page elsewhere may read any of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_of_the_operators_wants_the_very_token() {
    let (world, _token) = guarded(World::with().connection("acme", TOKEN_MARKER)).await;
    let large = "a".repeat(60 << 10);
    let prefix = &ADMIN_TOKEN[..ADMIN_TOKEN.len() - 1];
    let shown = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {prefix}"),
        format!("Bearer {ADMIN_TOKEN}x"),
        format!("Bearer {}", ADMIN_TOKEN.to_uppercase()),
        format!("bearer{ADMIN_TOKEN}"),
        format!("Basic {ADMIN_TOKEN}"),
        format!("Bearer {large}"),
        format!("Bearer {ADMIN_TOKEN}, Bearer {ADMIN_TOKEN}"),
    ];
    let evil = world.operator().with("origin", "http://evil.test");
    for path in PATHS {
        for shown in &shown {
            let answer = world.operator().with("authorization", shown).get(path).await;
            assert!(matches!(answer.status, 401 | 429), "{path} {shown:.40}: {}", answer.status);
            assert!(!answer.text().contains("acme"), "{path}: {}", answer.text());
        }
        let known = world.known().with("origin", "http://evil.test").get(path).await;
        let preflight = evil.clone().with("access-control-request-method", "GET");
        let preflight = preflight.call("OPTIONS", path, "".into()).await;
        assert!(preflight.status >= 400, "{path}");
        for answer in [known, preflight] {
            let allows = |name: &&http::HeaderName| name.as_str().starts_with("access-control");
            assert_eq!(answer.headers.keys().find(allows), None, "{path}");
            assert!(answer.header("content-security-policy").contains("default-src 'none'"), "{path}");
            assert!(!answer.text().contains(TOKEN_MARKER), "{path}");
        }
    }
    for path in VIEWS {
        assert_eq!(world.operator().with("authorization", &shown[3]).get(path).await.status, 303, "{path}");
    }
    for id in ["A01", "A04", "A05", "A06"] {
        tell(id, "admin", "401, no CORS, hardened", "401 or 429, no CORS, hardened", true);
    }
}

/// A01: two `Authorization` headers are one too many, whatever the first of them is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_token_is_no_way_in() {
    let (world, _token) = guarded(World::with()).await;
    let lines = |first: &str, second: &str| {
        format!(
            "GET /api/connections HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {first}\r\nAuthorization: Bearer {second}\r\n\r\n"
        )
    };
    let mut socket = Socket::to(world.admin).await;
    socket.write(lines("wrong", ADMIN_TOKEN).as_bytes()).await;
    assert_eq!(socket.hear().await.status, 401);
}

/// The table itself is one that can fail: the same bytes without their flaw are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_flaw_is_served_by_the_way_the_attacks_take() {
    let siege = Siege::clear().await;
    let site = super::APPS;
    let mut socket = siege.way.socket().await;
    socket.write(&site.get(site.get, "")).await;
    assert_eq!(socket.hear().await.status, 200);
    let mut socket = siege.way.socket().await;
    socket.write(&site.post("Transfer-Encoding: chunked\r\n", "2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n")).await;
    assert_eq!(socket.hear().await.status, 200);
    let mut socket = siege.way.socket().await;
    socket.write(&site.post("Content-Length: 2\r\n", "{}")).await;
    assert_eq!(socket.hear().await.status, 200);
    assert_eq!(siege.oracles(3).await, Vec::<String>::new());
}

//! Signals, and what depends on what: a gateway that starts can be stopped, a gateway that stops cannot be disturbed, and
//! whether it lives depends on nobody else.

use crate::support::hooks::{DOOR, event, seconds, send};
use crate::support::postgres::PostgresServer;
use crate::support::raw::RawFinch;
use crate::support::socket::Socket;
use crate::support::tls::Authority;
use crate::support::{App, Database, Process, World, until};
use nix::sys::signal::Signal::{SIGHUP, SIGTERM};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use tokio::net::TcpStream;

/// Whether the process has taken this signal over from the system.
fn catches(process: &Process, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// Starts a gateway that cannot get on, and stops it.
async fn stops_while_it_starts(world: &World, what: &str) {
    let perch = Process::spawn(world.command(&["serve"]), None);
    until("it takes signals over", async || catches(&perch, SIGTERM as i32)).await;
    // It must not have come to anything yet.
    assert!(!perch.err.text().contains("perch listens"), "{what}");
    let ended = perch.end_by(SIGTERM).await;
    assert_eq!(ended.code, Some(0), "{what}: {}", ended.err);
    assert!(ended.err.contains("perch stops before it has started"), "{what}: {}", ended.err);
    assert!(!ended.err.contains("perch listens"), "{what}: {}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_a_gateway_that_waits_for_its_key_or_its_store() {
    let world = World::with().without_gateway().await;
    let slow = world.path("slow-key");
    std::fs::write(&slow, "#!/bin/sh\nsleep 30\n").expect("a writable folder");
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    let settings = std::fs::read_to_string(world.path("perch.toml")).expect("settings");
    let key = format!("vault.key = \"command:{}\"", slow.display());
    let settings: Vec<&str> =
        settings.lines().map(|line| if line.starts_with("vault.key") { &key } else { line }).collect();
    std::fs::write(world.path("perch.toml"), settings.join("\n")).expect("a writable folder");
    stops_while_it_starts(&world, "a key command that does not end").await;

    let world = World::with().on_a_server().without_gateway().await;
    let Database::Server(servers) = &world.database else { panic!("it is on a server") };
    let server: &PostgresServer = &servers.0;
    server.freeze();
    stops_while_it_starts(&world, "a server that says nothing").await;
    server.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_it_stops_it_reads_no_configuration_and_finishes_what_it_has() {
    let mut world = World::with().without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    world.fault(json!({ "operation": "get_company", "delay": "1s" })).await;
    let app = world.for_customer("acme");
    let call = tokio::spawn(async move { app.get("/employer/company").await });
    until("Finch has the call", async || world.report().await["operations"]["GetCompany"] != json!(null))
        .await;
    perch.signal(SIGTERM);
    assert!(perch.err.says("perch stops").await, "{}", perch.err.text());
    world.set("drain.grace = \"nonsense\"");
    perch.signal(SIGHUP);
    perch.signal(SIGHUP);
    assert_eq!(call.await.expect("it was answered").status, 200);
    let ended = perch.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(!ended.err.contains("nonsense"), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_while_routing_lags_behind_are_served() {
    let settings = "drain.linger = \"2s\"\nlisten.probes = \"127.0.0.1:0\"";
    let mut world = World::with().settings(settings).settings(DOOR).without_gateway().await;
    let perch = world.serve().await;
    world.connect("acme", "gusto").await;
    let mut kept = Socket::to(world.proxy).await;
    let request = b"GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n";
    kept.write(request).await;
    assert_eq!(kept.hear().await.header("connection"), "keep-alive");
    perch.signal(SIGTERM);
    assert!(perch.err.says("perch stops").await, "{}", perch.err.text());
    assert_eq!(world.operator().get("/readyz").await.status, 503, "nobody new is sent here");
    // A connection from before and a new one: both are served, and told not to come again.
    let mut anew = Socket::to(world.proxy).await;
    for socket in [&mut kept, &mut anew] {
        socket.write(request).await;
        let heard = socket.hear().await;
        assert_eq!((heard.status, heard.header("connection")), (200, "close"), "{}", heard.head);
    }
    // Who has written its next request by then is not reset, and may read what it was told.
    for mut socket in [kept, anew] {
        assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]));
        assert!(socket.takes(request).await && socket.takes(request).await, "the connection was reset");
    }
    // The other doors say it too.
    let [webhooks, probes] = ["webhooks", "probes"].map(|door| listens_at(&perch, door));
    for door in [world.admin, probes] {
        let mut socket = Socket::to(door).await;
        socket.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let heard = socket.hear().await;
        assert_eq!((heard.status, heard.header("connection")), (200, "close"), "{}", heard.head);
    }
    let kept = send(App::at(webhooks), "msg_1", seconds(), event("test", "c").to_string().as_bytes()).await;
    assert_eq!((kept.status, kept.header("connection")), (200, "close"), "{}", kept.text());
    let ended = perch.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(Socket::status_of(world.proxy, "/").await.is_none(), "the door is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_cuts_nobody_over_tls_either() {
    let authority = Authority::new();
    let finch = RawFinch::start().await;
    let setup = World::with().settings("drain.linger = \"2s\"").connection("acme", "CANARY-token-of-acme");
    let setup = setup.finch(&finch.url());
    let mut world = setup.without_gateway().await;
    let [cert, key] = ["door.pem", "door.key"].map(|name| world.path(name));
    authority.certify("localhost", (2020, 2100)).write(&cert, &key);
    let files = format!("listen.cert_file = \"{}\"\nlisten.key_file = \"{}\"", cert.display(), key.display());
    world.set(&files);
    let perch = world.serve().await;
    let connector = authority.client(None);
    let connect = async || {
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TcpStream::connect(world.proxy).await.expect("it listens");
        Socket::over(connector.connect(name, stream).await.expect("it shakes hands"))
    };
    let (mut kept, mut silent) = (connect().await, connect().await);
    let request = b"GET /employer/company HTTP/1.1\r\nHost: localhost\r\nPerch-Customer: acme\r\n\r\n";
    kept.write(request).await;
    assert_eq!(kept.hear().await.header("connection"), "keep-alive");
    perch.signal(SIGTERM);
    assert!(perch.err.says("perch stops").await, "{}", perch.err.text());
    kept.write(request).await;
    let heard = kept.hear().await;
    assert_eq!((heard.status, heard.header("connection")), (200, "close"), "{}", heard.head);
    assert_eq!(kept.drain().await.as_deref(), Some(&b""[..]));
    assert!(kept.takes(request).await && kept.takes(request).await, "the connection was reset");
    // Nothing was ever said on this one.
    assert_eq!(silent.drain().await.as_deref(), Some(&b""[..]));
    drop((kept, silent));
    let ended = perch.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

/// Where a door listens, as the log tells it.
fn listens_at(perch: &Process, door: &str) -> SocketAddr {
    let log = perch.err.text();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut told = lines.filter_map(|line| line[door].as_str()?.parse().ok());
    told.next().unwrap_or_else(|| panic!("no {door} in {log}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_perch_lives_depends_on_nobody_and_what_is_missing_is_told() {
    // Finch is not there at all.
    let setup = World::with().on_a_server().finch("http://127.0.0.1:1");
    let world = setup.connection("acme", "CANARY-token-of-acme").start().await;
    let operator = world.operator();
    let told = async || operator.get("/readyz?verbose").await;
    until("it has joined the shared quota", async || told().await.text().contains("[+] limiter: redis"))
        .await;
    assert_eq!(told().await.status, 200, "without Finch it explains what is wrong");
    assert_eq!(world.for_customer("acme").get("/employer/company").await.class(), "finch_unreachable");
    let Database::Server(servers) = &world.database else { panic!("it is on a server") };
    let (postgres, redis) = (&servers.0, &servers.1);

    redis.freeze();
    until("it notices", async || told().await.text().contains("[-] limiter: degraded")).await;
    assert_eq!((operator.get("/livez").await.status, told().await.status), (200, 200));

    postgres.freeze();
    assert_eq!(operator.get("/livez").await.status, 200);
    until("it notices", async || told().await.text().contains("[-] vault: its store did not answer")).await;
    assert_eq!((operator.get("/livez").await.status, told().await.status), (200, 503));

    postgres.thaw();
    redis.thaw();
    until("all is well again", async || {
        let text = told().await.text();
        text.contains("[+] vault") && text.contains("[+] limiter: redis") && text.ends_with("ready\n")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_a_file_that_is_locked_does_not_make_it_look_dead() {
    let world = World::with().connection("acme", "CANARY-token-of-acme").start().await;
    let lock = world.database.lock().await;
    let operator = world.operator();
    assert_eq!(operator.get("/livez").await.status, 200);
    // Who only reads is not kept out.
    assert_eq!(operator.get("/readyz").await.status, 200);
    drop(lock);
}

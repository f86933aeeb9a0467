//! Clients that only want to cost something, against the program as it is shipped: while each kind of them does its worst,
//! somebody else's calls are all served, and memory and file descriptors stay where they were. R01 to R06 and L04 of the
//! list, each arm against a bound on memory.

use super::report::{Verdict, tell};
use crate::support::raw::{RawFinch, answer};
use crate::support::socket::Socket;
use crate::support::{App, Process, World, until};
use nix::sys::signal::Signal::SIGTERM;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval;

/// How many lawful calls are made beside each arm.
const CALLS: usize = 40;
/// What memory may grow by.
const GROWTH_MAX: u64 = 128 << 20;
/// What a lawful call may take, for ninety-nine of a hundred; judged where the machine is not shared: `make attack`.
const P99_MAX: Duration = Duration::from_millis(250);

/// What is held of the process.
struct Held {
    memory: u64,
    descriptors: usize,
}

fn held(process: &Process) -> Held {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    let kibibytes: u64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", process.id())).expect("it runs").count();
    Held { memory: kibibytes << 10, descriptors }
}

/// Somebody who calls lawfully while others do not: how long the slowest of a hundred took, and the most memory seen.
async fn canary(app: &App, process: &Process) -> (usize, Duration, u64) {
    let (mut took, mut served, mut most) = (Vec::new(), 0, 0);
    for _ in 0..CALLS {
        let began = Instant::now();
        let answer = app.try_call("GET", "/employer/company", "".into()).await;
        took.push(began.elapsed());
        served += usize::from(answer.is_ok_and(|answer| answer.status == 200));
        most = most.max(held(process).memory);
    }
    took.sort();
    (served, took[(took.len() * 99).div_ceil(100) - 1], most)
}

/// So many connections on which this was said.
async fn crowd(door: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(door).await.expect("it listens");
        let _ = stream.write_all(bytes).await;
        crowd.push(stream);
    }
    crowd
}

/// One more byte each, now and then, for as long as somebody is there.
async fn dribble(mut crowd: Vec<TcpStream>) {
    let mut every = interval(Duration::from_millis(500));
    loop {
        every.tick().await;
        for stream in &mut crowd {
            let _ = stream.write_all(b"a").await;
        }
    }
}

async fn gateway() -> (World, Process, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    let setup = super::roomy().finch(&finch.url()).settings("merge.coalesce = false");
    let mut world = setup.without_gateway().await;
    let process = world.serve().await;
    (world, process, finch)
}

fn post(lines: &str) -> Vec<u8> {
    format!("POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n{lines}\r\n").into()
}

fn get(product: &str) -> Vec<u8> {
    format!("GET /employer/{product} HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n").into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_cost_the_others_nothing() {
    let (world, process, _finch) = gateway().await;
    let app = world.for_customer("globex");
    canary(&app, &process).await;
    let idle = held(&process);
    let door = world.proxy;
    let slow = format!("{}0123456789", String::from_utf8_lossy(&post("Content-Length: 100000\r\n")));
    for (id, arm) in [
        ("R01", tokio::spawn(dribble(crowd(door, 300, b"GET /employer/company HTTP/1.1\r\nX: ").await))),
        ("R02", tokio::spawn(hold(crowd(door, 300, b"").await))),
        ("R03", tokio::spawn(dribble(crowd(door, 100, slow.as_bytes()).await))),
        ("F58", tokio::spawn(storm(door, b"\x8f\x01\xe2\x00\xff\xfe\x93\x11\r\n\r\n".to_vec()))),
        ("H20", tokio::spawn(storm(door, super::h2::rows()[0].1.clone()))),
        ("F20", tokio::spawn(storm(door, post("Transfer-Encoding: chunked\r\n")))),
    ] {
        judge(id, &app, &process, &idle).await;
        arm.abort();
        let _ = arm.await;
    }
    // Bodies that stop short of their end: a few are held, and the others are told to come again.
    let part = [post("Content-Length: 16000000\r\n"), vec![b' '; 8 << 20]].concat();
    let stuck = crowd(door, 40, &part).await;
    judge("R03 large", &app, &process, &idle).await;
    drop(stuck);
    // R06: more than is taken, and no byte of it is kept.
    let large = tokio::spawn(upload(door, 256 << 20));
    judge("R06", &app, &process, &idle).await;
    let told = large.await.expect("no panic");
    // Who sends on may find a reset in the place of the answer; then one that sends no more than is taken must hear it.
    let told = if told == RESET { announce(door, 256 << 20).await } else { told };
    tell("R06", "apps", "413", &told, told == "413");
    assert_eq!(told, "413");
    settle(&process, &idle).await;
    let ended = process.end_by(SIGTERM).await;
    assert!(ended.code == Some(0) && !ended.err.contains("a defect"), "{ended:?}");
}

/// R04: large answers that nobody takes are not all held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_read_cost_the_others_nothing() {
    let (world, process, finch) = gateway().await;
    let app = world.for_customer("globex");
    canary(&app, &process).await;
    let idle = held(&process);
    let large = "x".repeat(20 << 20);
    let deaf = if super::report::scale() == 1 { 20 } else { 50 };
    let mut crowd = Vec::new();
    for nth in 0..deaf {
        finch.next([answer("200 OK", "Content-Type: application/json\r\n", &large)]);
        let mut socket = Socket::to(world.proxy).await;
        socket.write(&get("company")).await;
        finch.arrived(CALLS + nth + 1).await;
        crowd.push(socket);
    }
    judge("R04", &app, &process, &idle).await;
    drop(crowd);
    settle(&process, &idle).await;
    assert_eq!(process.end_by(SIGTERM).await.code, Some(0));
}

async fn judge(id: &str, app: &App, process: &Process, idle: &Held) {
    let (served, p99, most) = canary(app, process).await;
    let grown = most.saturating_sub(idle.memory);
    let verdict = Verdict::of(served == CALLS && grown < GROWTH_MAX, p99 < P99_MAX);
    let seen = format!("{served} of {CALLS} served, p99 {} ms, +{} MiB", p99.as_millis(), grown >> 20);
    tell(&format!("{id} others"), "apps", "all served, p99 < 250 ms, < +128 MiB", &seen, verdict);
    assert!(verdict != Verdict::Broken, "{id}: {seen}");
}

/// L04: descriptors come back when the hostile have gone.
async fn settle(process: &Process, idle: &Held) {
    until("the descriptors are back", async || held(process).descriptors <= idle.descriptors + 8).await;
    let seen = format!("{} descriptors, {} before", held(process).descriptors, idle.descriptors);
    tell("L04", "process", "alive, descriptors back", &seen, true);
}

async fn hold(crowd: Vec<TcpStream>) {
    std::future::pending::<()>().await;
    drop(crowd);
}

/// Connection after connection, each saying this.
async fn storm(door: SocketAddr, bytes: Vec<u8>) {
    let mut busy = JoinSet::new();
    for _ in 0..8 {
        let bytes = bytes.clone();
        busy.spawn(async move {
            loop {
                let Ok(mut stream) = TcpStream::connect(door).await else { continue };
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    }
    while busy.join_next().await.is_some() {}
}

/// What [`upload`] says of an answer that a reset took away.
const RESET: &str = "a reset";

/// Says that so many bytes will come, and sends few of them: the status that came back is read before anything is reset.
async fn announce(door: SocketAddr, bytes: usize) -> String {
    let mut stream = TcpStream::connect(door).await.expect("it listens");
    let head = [post(&format!("Content-Length: {bytes}\r\n")), vec![b' '; 64]].concat();
    stream.write_all(&head).await.expect("it is taken");
    let mut heard = vec![0; 12];
    match stream.read_exact(&mut heard).await {
        Ok(_) => String::from_utf8_lossy(&heard[9..]).into_owned(),
        Err(why) => why.to_string(),
    }
}

/// Sends as much as is taken; the status that came back.
async fn upload(door: SocketAddr, bytes: usize) -> String {
    let mut stream = TcpStream::connect(door).await.expect("it listens");
    let _ = stream.write_all(&post(&format!("Content-Length: {bytes}\r\n"))).await;
    let piece = vec![b' '; 64 << 10];
    for _ in 0..bytes / piece.len() {
        if stream.write_all(&piece).await.is_err() {
            break;
        }
    }
    let mut heard = vec![0; 12];
    match stream.read_exact(&mut heard).await {
        Ok(_) => String::from_utf8_lossy(&heard[9..]).into_owned(),
        // What was not read makes the end a reset.
        Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => RESET.to_owned(),
        Err(why) => why.to_string(),
    }
}

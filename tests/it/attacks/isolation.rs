//! Customers apart, whatever happens at once: calls of many customers on the same connections, two in a row without waiting,
//! clients that leave in the middle, a Finch that breaks off, tokens that are replaced meanwhile. Goal: not one answer and
//! not one token of somebody else. C16 of the list; `make attack` makes a million calls of it.

use super::report::{scale, tell};
use crate::support::raw::PATIENCE;
use crate::support::socket::Socket;
use crate::support::{App, Lines, World};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Calls in the short arm.
const CALLS: u64 = 2_000;
const CUSTOMERS: usize = 20;
const WORKERS: u64 = 16;
/// What of a hundred calls is left by its client.
const LEAVING: u64 = 20;
/// What of a hundred exchanges Finch breaks off.
const CUTS: u64 = 4;

/// What happened, and what must not have.
#[derive(Default)]
struct Facts {
    /// For each customer the newest token that perch has said it has.
    kept: [AtomicU64; CUSTOMERS],
    begun: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    left: AtomicU64,
    arrived: AtomicU64,
    connections: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

fn add(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::SeqCst)
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

impl Facts {
    fn blame(&self, what: String) {
        let mut wrong = self.wrong.lock().expect("no panic in here");
        if wrong.len() < 20 {
            wrong.push(what);
        }
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A Finch that knows whose call it is by what the call says, and checks that the token says the same.
async fn finch(facts: Arc<Facts>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, Arc::clone(&facts)));
        }
    });
    at
}

async fn converse(mut socket: TcpStream, facts: Arc<Facts>) {
    let mut bytes = Vec::new();
    let mut dice = Dice(0x2545_f491_4f6c_dd1d ^ add(&facts.connections) << 20);
    loop {
        let (head, body) = loop {
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
                let length = header(&head, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
                if bytes.len() >= at + 4 + length {
                    let body = String::from_utf8_lossy(&bytes[at + 4..at + 4 + length]).into_owned();
                    bytes.drain(..at + 4 + length);
                    break (head, body);
                }
            }
            match socket.read_buf(&mut bytes).await {
                Ok(1..) => {}
                _ => return,
            }
        };
        add(&facts.arrived);
        let answer = facts.answer(&head, &body);
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        let is_cut = head.starts_with("GET /employer/") && dice.roll(100) < CUTS;
        let until =
            if is_cut { usize::try_from(dice.roll(text.len() as u64)).expect("short") } else { text.len() };
        if socket.write_all(&text.as_bytes()[..until]).await.is_err() || is_cut {
            if dice.roll(2) == 0 {
                let _ = socket.set_zero_linger();
            }
            return;
        }
    }
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The numbers in a text that has them after dashes.
fn numbers(text: &str) -> Vec<u64> {
    text.split('-').filter_map(|part| part.parse().ok()).collect()
}

impl Facts {
    /// What Finch says; what is wrong with the question is written down.
    fn answer(&self, head: &str, body: &str) -> String {
        let token = header(head, "authorization").unwrap_or_default().strip_prefix("Bearer CANARY-token");
        let of_token = numbers(token.unwrap_or_default());
        if head.starts_with("POST /auth/token ") {
            let code = body.split("code-").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            let [customer, nth] = numbers(code)[..] else { return "{}".to_owned() };
            return json!({
                "access_token": format!("CANARY-token-{customer}-{nth}"), "token_type": "bearer",
                "connection_id": format!("c-customer-{customer}"), "customer_id": format!("customer-{customer}"),
                "client_type": "sandbox", "connection_type": "provider", "products": ["company"],
                "provider_id": "gusto", "company_id": format!("co-{customer}"), "account_id": "a",
            })
            .to_string();
        }
        let [customer, nth] = of_token[..] else {
            self.blame(format!("no token of a customer: {head}"));
            return "{}".to_owned();
        };
        if head.starts_with("GET /introspect ") {
            return json!({
                "id": format!("t-{customer}-{nth}"), "client_id": "sim-client", "client_type": "sandbox",
                "connection_id": format!("c-customer-{customer}"), "connection_type": "provider",
                "connection_status": { "status": "connected" }, "products": ["company"], "provider_id": "gusto",
                "authentication_methods": [], "entities": [], "company_id": format!("co-{customer}"),
                "account_id": "a", "customer_id": format!("customer-{customer}"), "manual": false,
            })
            .to_string();
        }
        let mark = head.split("m=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        match numbers(mark)[..] {
            [asked, at_least, _] if asked == customer && at_least <= nth => {}
            _ => self.blame(format!("token {customer}-{nth} for {mark}")),
        }
        format!("{{\"m\":\"{mark}\"}}")
    }
}

/// A client: one connection as long as it lasts, one call or two in a row, and away in the middle now and then.
async fn work(worker: u64, proxy: SocketAddr, calls: u64, facts: Arc<Facts>) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (worker << 32 | 1));
    let mut socket: Option<Socket> = None;
    while read(&facts.begun) < calls {
        let mut sent = Vec::new();
        let mut text = String::new();
        for _ in 0..1 + dice.roll(2) {
            let customer = dice.roll(CUSTOMERS as u64);
            let kept = read(&facts.kept[usize::try_from(customer).expect("small")]);
            let mark = format!("m-{customer}-{kept}-{}", add(&facts.begun));
            let naming = match dice.roll(3) {
                0 => format!("Authorization: Bearer customer:customer-{customer}"),
                1 => format!("Authorization: Bearer connection:c-customer-{customer}"),
                _ => format!("Perch-Customer: customer-{customer}"),
            };
            text += &format!("GET /employer/company?m={mark} HTTP/1.1\r\nHost: perch\r\n{naming}\r\n\r\n");
            sent.push((customer, mark));
        }
        let mut stream = match socket.take() {
            Some(stream) => stream,
            None => Socket::to(proxy).await,
        };
        if dice.roll(100) < LEAVING {
            let until = usize::try_from(dice.roll(2 * text.len() as u64)).expect("short").min(text.len());
            stream.write(&text.as_bytes()[..until]).await;
            if dice.roll(2) == 0 {
                tokio::task::yield_now().await;
            }
            facts.left.fetch_add(sent.len() as u64, Ordering::SeqCst);
            continue;
        }
        stream.write(text.as_bytes()).await;
        let mut closes = false;
        for (customer, mark) in sent {
            if closes {
                // What stands behind an answer that closes is not read.
                add(&facts.left);
                continue;
            }
            let heard = match stream.read().await {
                Ok(Some(heard)) => heard,
                other => {
                    facts.blame(format!("{mark} was not answered: {other:?}"));
                    return;
                }
            };
            closes = heard.header("connection") == "close";
            let body = String::from_utf8_lossy(&heard.body).into_owned();
            if heard.status == 200 {
                add(&facts.answered);
                if body != format!("{{\"m\":\"{mark}\"}}") {
                    facts.blame(format!("{mark} was answered {body}"));
                }
            } else {
                add(&facts.refused);
                if heard.json()["perch"]["customer"] != format!("customer-{customer}")
                    || body.contains("CANARY")
                {
                    facts.blame(format!("{mark} was refused with {body}"));
                }
            }
        }
        socket = (!closes).then_some(stream);
    }
}

/// Somebody logs in again, one customer after the other, as long as there are calls.
async fn renew(app: App, calls: u64, facts: Arc<Facts>, lines: Lines) -> u64 {
    let mut renewed = 0;
    for nth in 1.. {
        // Nobody reads them, and a million would not fit.
        lines.forget();
        for customer in 0..CUSTOMERS {
            if read(&facts.begun) >= calls {
                return renewed;
            }
            let body =
                json!({ "client_id": "x", "client_secret": "x", "code": format!("code-{customer}-{nth}") });
            let answer = app.post("/auth/token", &body).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(!answer.text().contains("CANARY"), "{}", answer.text());
            facts.kept[customer].store(nth, Ordering::SeqCst);
            renewed += 1;
        }
    }
    renewed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_customer_gets_anything_of_another_whatever_happens_at_once() {
    let calls = CALLS * scale() as u64;
    let facts = Arc::new(Facts::default());
    let finch = finch(Arc::clone(&facts)).await;
    let mut setup = World::with().finch(&format!("http://{finch}")).settings(
        "limits.products.company = 100000\nlimits.products.default = 100000\nlimits.ip.requests = 100000\n\
         limits.window = \"1s\"\nlimits.pad = \"0s\"\nlimits.ip.window = \"1s\"\nmerge.coalesce = false",
    );
    for customer in 0..CUSTOMERS {
        setup = setup.connection(&format!("customer-{customer}"), &format!("CANARY-token-{customer}-0"));
    }
    let mut world = setup.start().await;
    let mut clients = JoinSet::new();
    for worker in 0..WORKERS {
        clients.spawn(work(worker, world.proxy, calls, Arc::clone(&facts)));
    }
    let renewing = tokio::spawn(renew(world.app(), calls, Arc::clone(&facts), world.lines.clone()));
    while let Some(ended) = clients.join_next().await {
        ended.expect("no panic");
    }
    let renewed = timeout(PATIENCE, renewing).await.expect("it ends").expect("no panic");
    world.stop().await;
    let wrong = facts.wrong.lock().expect("no panic in here").clone();
    let (begun, answered, refused, left, arrived) = (
        read(&facts.begun),
        read(&facts.answered),
        read(&facts.refused),
        read(&facts.left),
        read(&facts.arrived),
    );
    let seen = format!(
        "{begun} calls: {answered} answered, {refused} refused, {left} left by their client; {arrived} requests at Finch, \
         {renewed} tokens replaced; {} of somebody else",
        wrong.len()
    );
    tell("C16", "apps", "0 tokens or answers of somebody else", &seen, wrong.is_empty());
    assert!(wrong.is_empty(), "{seen}\n{}", wrong.join("\n"));
    assert!(begun >= calls && renewed >= 5, "{seen}");
    assert!(left * 100 >= begun * 15 && refused * 20 < begun, "{seen}");
    assert_eq!(answered + refused + left, begun, "{seen}");
}

//! Attacks as tables: bytes that no honest client sends, what is expected of perch, and what reached whom. The ids are
//! those of docs/attacks.md: F framing, T target, C credentials, U upstream, R resources, H HTTP/2, W webhooks, A admin.

mod admin;
mod broken;
mod callers;
mod framing;
mod h2;
mod heads;
mod hooks;
mod hostile;
mod index;
mod isolation;
pub mod oracle;
mod overload;
pub mod report;
mod targets;

use crate::support::raw::RawFinch;
use crate::support::socket::{Heard, Socket};
use crate::support::tls::Authority;
use crate::support::{Setup, World};
use oracle::{OTHER_TOKEN, SENTINEL, TOKEN};
use report::tell;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// What stands for a call with a body and for one without, where an attack is made.
#[derive(Clone, Copy)]
struct Site {
    post: &'static str,
    get: &'static str,
}

/// The apps' door.
const APPS: Site = Site { post: "/employer/individual", get: "/employer/company" };

impl Site {
    /// A POST with these lines between the customer and the body.
    fn post(&self, lines: &str, body: &str) -> Vec<u8> {
        let path = self.post;
        format!("POST {path} HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n{lines}\r\n{body}")
            .into_bytes()
    }

    /// A GET with these lines beside `Host` and customer.
    fn get(&self, target: &str, lines: &str) -> Vec<u8> {
        format!(
            "GET {target} HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n{lines}\r\n"
        )
        .into_bytes()
    }
}

/// A request that nobody was meant to see.
const HIDDEN: &str = "GET /SMUGGLED HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n";

/// Who says no: perch in its own words, or the HTTP parser, which knows no call yet.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    Perch,
    Parser,
}

/// An attack on the apps' door that is to be refused: its id, its bytes, the status, and who says it.
type Row = (&'static str, Vec<u8>, u16, By);

/// How the apps' door is reached.
#[derive(Clone)]
enum Way {
    Clear(SocketAddr),
    Tls(SocketAddr, TlsConnector),
    Unix(PathBuf),
}

impl Way {
    async fn socket(&self) -> Socket {
        match self {
            Way::Clear(at) => Socket::to(*at).await,
            Way::Tls(at, tls) => {
                let name = ServerName::try_from("localhost").expect("a name");
                let stream = TcpStream::connect(at).await.expect("it listens");
                Socket::over(tls.connect(name, stream).await.expect("it shakes hands"))
            }
            Way::Unix(path) => Socket::over(UnixStream::connect(path).await.expect("it listens")),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Way::Clear(_) => "apps",
            Way::Tls(..) => "TLS",
            Way::Unix(_) => "Unix socket",
        }
    }
}

/// A gateway under attack, the Finch behind it, and a host that must never hear of either.
struct Siege {
    world: World,
    finch: Arc<RawFinch>,
    evil: TcpListener,
    way: Way,
}

/// Two customers, and quota is not what these tests are about.
fn roomy() -> Setup {
    World::with().connection("acme", TOKEN).connection("globex", OTHER_TOKEN).settings(
        "limits.products.company = 100000\nlimits.products.individual = 100000\nlimits.ip.requests = 100000",
    )
}

impl Siege {
    async fn clear() -> Self {
        let finch = RawFinch::start().await;
        let world = roomy().finch(&finch.url()).start().await;
        let way = Way::Clear(world.proxy);
        Self { world, finch, evil: nobody().await, way }
    }

    async fn over_tls() -> Self {
        let finch = RawFinch::start().await;
        let authority = Authority::new();
        let mut world = roomy().finch(&finch.url()).without_gateway().await;
        let [cert, key] = ["door.pem", "door.key"].map(|name| world.path(name));
        authority.certify("localhost", (2020, 2100)).write(&cert, &key);
        std::fs::write(world.path("authority.pem"), &authority.pem).expect("a writable folder");
        world.set(&format!(
            "listen.cert_file = \"{}\"\nlisten.key_file = \"{}\"",
            cert.display(),
            key.display()
        ));
        world.open().await;
        let way = Way::Tls(world.proxy, authority.client(None));
        Self { world, finch, evil: nobody().await, way }
    }

    async fn over_a_unix_socket() -> Self {
        let finch = RawFinch::start().await;
        let mut world = roomy().finch(&finch.url()).without_gateway().await;
        let socket = world.path("proxy.sock");
        world.set_proxy(&format!("unix:{}", socket.display()));
        world.open().await;
        Self { world, finch, evil: nobody().await, way: Way::Unix(socket) }
    }

    fn evil(&self) -> SocketAddr {
        self.evil.local_addr().expect("an address")
    }

    /// A lawful call gets its 200 at once (oracle 6).
    async fn is_served(&self) -> bool {
        let mut socket = self.way.socket().await;
        let lawful = "GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n\r\n";
        socket.write(lawful.as_bytes()).await;
        matches!(socket.read().await, Ok(Some(heard)) if heard.status == 200)
    }

    /// Each attack gets its status and a closed connection, not a byte of it reaches Finch or the evil host, and a lawful
    /// call is served.
    async fn assert_refused(mut self, rows: Vec<Row>) {
        let mut wrong = Vec::new();
        let mut told = Vec::new();
        for (id, bytes, status, by) in &rows {
            let mut faults = Vec::new();
            let before = self.finch.bytes();
            let mut socket = self.way.socket().await;
            socket.write(bytes).await;
            let heard = socket.read().await.unwrap_or_default().unwrap_or_default();
            let request_id = heard.header("perch-request-id").to_owned();
            let who = if request_id.is_empty() { By::Parser } else { By::Perch };
            if (heard.status, who) != (*status, *by) {
                faults.push(format!("{} by {who:?}, not {status} by {by:?}", heard.status));
            }
            match socket.drain().await {
                Some(rest) if rest.is_empty() => {}
                Some(rest) => faults.push(format!("then {:?}", String::from_utf8_lossy(&rest))),
                None => faults.push("the connection stays open".to_owned()),
            }
            faults.extend(oracle::of_an_answer(&heard));
            if who == By::Perch {
                faults.extend(of_a_refusal(&heard, &request_id));
                told.push((id, request_id, heard.status));
            }
            let reached = self.finch.bytes() - before;
            if reached != 0 {
                faults.push(format!("{reached} bytes reached Finch"));
            }
            if !self.is_served().await {
                faults.push("a lawful call is not served".to_owned());
            }
            let seen = match faults.is_empty() {
                true => format!("{}, closed, 0 bytes upstream", heard.status),
                false => faults.join("; "),
            };
            tell(
                id,
                self.way.name(),
                &format!("{status}, closed, nothing upstream"),
                &seen,
                faults.is_empty(),
            );
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            wrong.extend(faults.iter().map(|fault| format!("{id}: {fault} after {shown:?}")));
        }
        wrong.extend(self.oracles(rows.len()).await);
        assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
        self.world.stop().await;
        let lines = self.world.lines.all();
        assert_eq!(lines.len(), rows.len() + told.len(), "one line for each call");
        for (id, request_id, status) in told {
            let line = lines.iter().find(|line| line["request_id"] == request_id.as_str());
            assert_eq!(line.unwrap_or_else(|| panic!("{id}: no line"))["status"], status, "{id}");
        }
    }

    /// What holds after whatever was tried: so many requests have reached Finch, each of them clean, and nothing the evil
    /// host.
    async fn oracles(&self, requests: usize) -> Vec<String> {
        let mut wrong = oracle::of_streams(&self.finch.streams(), requests);
        for request in self.finch.requests() {
            wrong.extend(oracle::of_a_request(&request, TOKEN, self.finch.address));
        }
        let nobody = tokio::time::timeout(std::time::Duration::ZERO, self.evil.accept()).await;
        if nobody.is_ok() {
            wrong.push("somebody connected to the evil host".to_owned());
        }
        wrong
    }
}

/// A host that answers nobody.
async fn nobody() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// What every refusal of perch's own has.
fn of_a_refusal(heard: &Heard, request_id: &str) -> Vec<String> {
    let body = heard.json();
    let mut wrong = Vec::new();
    if !heard.code().starts_with("perch_") || body["perch"]["request_id"] != request_id {
        wrong.push(format!("the body is {body}"));
    }
    if heard.header("content-type") != "application/json" || heard.header("x-should-retry") != "false" {
        wrong.push(format!("the head is {}", heard.head));
    }
    wrong
}

/// The bytes with the sentinel as a credential of the attacker's own.
fn with_a_sentinel(lines: &str) -> String {
    format!("{lines}Authorization: Bearer {SENTINEL}\r\n")
}

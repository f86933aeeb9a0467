//! A whole gateway in this process with a Finch below HTTP behind it, started once and used by every input.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use perch::app::{Gateway, open_vault};
use perch::config::{Address, Environ, load};
use perch::finch::endpoints::{Auth, ENDPOINTS};
use perch::types::{AccessToken, ConnectionId, CustomerId, Environment, UnixMillis};
use perch::vault::{NewConnection, Status, kek};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// How long a client waits that sends what may be no whole request.
pub const MOMENT: Duration = Duration::from_millis(30);
/// Whoever says nothing for so long has failed. Far longer than any answer takes, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The customers that there are.
pub const CUSTOMERS: [&str; 2] = ["acme", "globex"];

/// What Finch says when it is told nothing else.
pub const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nFinch-Request-Id: f-good\r\nContent-Length: 10\r\n\r\n{\"id\":\"c\"}";

/// What a customer's token is.
pub fn token_of(customer: &str) -> String {
    format!("CANARY-token-of-{customer}")
}

/// What the gateway shows Finch for itself.
const CLIENT_SECRET: &str = "CANARY-client-secret";

/// Whether a token or the client's secret stands in this, whole.
pub fn tells_a_secret(bytes: &[u8]) -> bool {
    let mut secrets = CUSTOMERS.map(token_of).into_iter().chain([CLIENT_SECRET.to_owned()]);
    secrets.any(|secret| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()))
}

/// The Finch: what came, and what it says next.
#[derive(Default)]
struct Finch {
    came: Vec<Vec<u8>>,
    next: Option<Vec<u8>>,
}

/// The gateway and both its sides.
pub struct Rig {
    runtime: Runtime,
    proxy: SocketAddr,
    finch: Arc<Mutex<Finch>>,
    gateway: Option<Gateway>,
    patience: Duration,
    _folder: TempDir,
}

impl Rig {
    /// `patience`: how long a client waits for the first byte of an answer before it closes its half.
    pub fn start(patience: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let folder = TempDir::new().expect("a folder");
        let finch = Arc::new(Mutex::new(Finch::default()));
        let (proxy, gateway) = runtime.block_on(begin(&folder, &finch));
        Self { runtime, proxy, finch, gateway: Some(gateway), patience, _folder: folder }
    }

    /// Sends bytes, and closes its half when an answer begins or none seems to come; what comes back until the other half
    /// is closed. A client that closes its half at once has left, and is answered nothing.
    pub fn send(&self, bytes: &[u8]) -> Vec<u8> {
        let exchange = async {
            let mut socket = TcpStream::connect(self.proxy).await.expect("it listens");
            // It may have heard enough before the end.
            let _ = socket.write_all(bytes).await;
            let mut heard = Vec::new();
            let _ = timeout(self.patience, socket.read_buf(&mut heard)).await;
            let _ = socket.shutdown().await;
            // A reset after the answer takes nothing of it away.
            let _ = socket.read_to_end(&mut heard).await;
            heard
        };
        self.runtime.block_on(async {
            let heard = timeout(PATIENCE, exchange).await.expect("an answer or an end");
            // What was sent for a client that has left is finished without it.
            let settled = self.gateway.as_ref().map(Gateway::settle);
            timeout(PATIENCE, async {
                if let Some(settled) = settled {
                    settled.await
                }
            })
            .await
            .expect("every call ends");
            heard
        })
    }

    /// What Finch says to the next request, and then closes.
    pub fn says(&self, bytes: &[u8]) {
        self.finch.lock().expect("nobody panics in here").next = Some(bytes.to_vec());
    }

    /// Whether what Finch was told to say is still unsaid; it is forgotten.
    pub fn is_unsaid(&self) -> bool {
        self.finch.lock().expect("nobody panics in here").next.take().is_some()
    }

    /// The requests that reached Finch since this was last asked.
    pub fn came(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.finch.lock().expect("nobody panics in here").came)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            self.runtime.block_on(gateway.stop());
        }
    }
}

async fn begin(folder: &TempDir, finch: &Arc<Mutex<Finch>>) -> (SocketAddr, Gateway) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = Arc::clone(finch);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(Arc::clone(&server), socket));
        }
    });
    let path = |name: &str| folder.path().join(name);
    kek::generate(&path("perch.key")).expect("a key");
    let limits: String = perch::types::Product::ALL
        .into_iter()
        .filter(|product| product.is_metered())
        .map(|product| format!("limits.products.{product} = 100000\n"))
        .collect();
    let settings = format!(
        "finch.base_url = \"{base_url}\"\nfinch.environment = \"sandbox\"\nlisten.proxy = \"127.0.0.1:0\"\n\
         listen.admin = \"127.0.0.1:0\"\nlisten.names = [\"perch\"]\nvault.store = \"sqlite:{}\"\n\
         vault.key = \"file:{}\"\nlimits.ip.requests = 100000\nlimits.ip.window = \"1s\"\nlimits.window = \"1s\"\n\
         merge.coalesce = false\nretry.attempts = 1\nshield.probe = \"off\"\n{limits}",
        path("perch.db").display(),
        path("perch.key").display(),
    );
    std::fs::write(path("perch.toml"), settings).expect("a writable folder");
    let environment: Environ =
        [("FINCH_CLIENT_ID", "sim-client"), ("FINCH_CLIENT_SECRET", CLIENT_SECRET)].into_iter().collect();
    let read =
        || load(Some(&path("perch.toml")), &environment).unwrap_or_else(|problems| panic!("{problems}"));
    let vault = open_vault(&read().config, false).await.unwrap_or_else(|error| panic!("{error}"));
    for customer in CUSTOMERS {
        let new = NewConnection {
            connection_id: ConnectionId::new(format!("c-{customer}")).expect("an id"),
            customer_id: CustomerId::new(customer).ok(),
            company_id: None,
            provider_id: None,
            products: Vec::new(),
            entity_ids: Vec::new(),
            client_type: Environment::Sandbox,
            account_status: None,
            token: AccessToken::new(token_of(customer)),
            status: Status::Active,
            held_reason: None,
        };
        vault.seal(new, UnixMillis(0)).await.expect("a sound connection");
    }
    drop(vault);
    let gateway = Gateway::start(read(), Lines).await.unwrap_or_else(|error| panic!("{error}"));
    match gateway.proxy() {
        Address::Tcp(at) => (*at, gateway),
        Address::Unix(path) => panic!("{} is no TCP address", path.display()),
    }
}

async fn converse(finch: Arc<Mutex<Finch>>, mut socket: TcpStream) {
    let mut bytes = Vec::new();
    while let Some(request) = next_request(&mut socket, &mut bytes).await {
        let next = {
            let mut finch = finch.lock().expect("nobody panics in here");
            finch.came.push(request);
            finch.next.take()
        };
        let written = socket.write_all(next.as_deref().unwrap_or(GOOD)).await;
        if next.is_some() || written.is_err() {
            let _ = socket.shutdown().await;
            return;
        }
    }
    if !bytes.is_empty() {
        finch.lock().expect("nobody panics in here").came.push(bytes);
    }
}

/// One request off the wire; whatever is no whole one stays in `bytes`.
async fn next_request(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let whole = end + 4 + length.unwrap_or(0_usize);
            if bytes.len() >= whole {
                let rest = bytes.split_off(whole);
                return Some(std::mem::replace(bytes, rest));
            }
        }
        if socket.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// Fails unless this is one request that means one thing, to an endpoint; how that wants to be shown who asks.
pub fn assert_lawful(request: &[u8]) -> Auth {
    let shown = String::from_utf8_lossy(request);
    let end = request
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {shown}"));
    let head = std::str::from_utf8(&request[..end]).unwrap_or_else(|_| panic!("no text: {shown}"));
    let mut lines = head.split("\r\n");
    let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = first[..] else { panic!("no request line: {shown}") };
    let path = target.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (wanted, said): (Vec<&str>, Vec<&str>) =
            (template.split('/').collect(), path.split('/').collect());
        wanted.len() == said.len() && wanted.iter().zip(said).all(|(w, s)| w.starts_with('{') || *w == s)
    };
    let endpoint = ENDPOINTS.iter().find(|e| e.method.as_str() == method && fits(e.path));
    let endpoint = endpoint.unwrap_or_else(|| panic!("no endpoint: {shown}"));
    assert!(target.bytes().all(|b| b.is_ascii_graphic() && b != b'#'), "{shown}");
    let mut names = Vec::new();
    let mut length = 0;
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {shown}"));
        let name = name.to_ascii_lowercase();
        assert!(!line.bytes().any(|b| b < b' ' && b != b'\t') && !name.contains(' '), "{shown}");
        assert!(!name.starts_with("perch-") && name != "transfer-encoding" && name != "cookie", "{shown}");
        if name == "content-length" {
            length = value.trim().parse().unwrap_or_else(|_| panic!("no length: {shown}"));
        }
        assert!(!names.contains(&name), "{name} twice: {shown}");
        names.push(name);
    }
    assert!(names.iter().any(|name| name == "host"), "{shown}");
    assert_eq!(request.len() - end - 4, length, "{shown}");
    endpoint.auth
}

/// Whether what ends too soon is a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Whole {
    /// Each answer must have all of its bytes.
    All,
    /// The last may break off: a client that has left, or asked with HEAD, hears no more.
    ButTheLast,
}

/// The answers in what was heard.
pub fn answers(mut heard: &[u8], whole: Whole) -> Vec<(u16, Vec<u8>)> {
    let mut answers = Vec::new();
    while !heard.is_empty() {
        let shown = String::from_utf8_lossy(heard).into_owned();
        let end = heard
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no head: {shown}"));
        let head = String::from_utf8_lossy(&heard[..end]).into_owned();
        let status = head
            .get(9..12)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("no status: {shown}"));
        assert!(head.starts_with("HTTP/1.1 "), "{shown}");
        let value = |name: &str| {
            let mut all = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .filter(|(n, _)| n.eq_ignore_ascii_case(name));
            let value = all.next().map(|(_, value)| value.trim().to_owned());
            assert!(all.next().is_none(), "{name} twice: {shown}");
            value
        };
        heard = &heard[end + 4..];
        let body = match (value("content-length"), value("transfer-encoding")) {
            _ if status < 200 || status == 204 || status == 304 => Vec::new(),
            (Some(length), None) => {
                let length: usize = length.parse().unwrap_or_else(|_| panic!("no length: {shown}"));
                assert!(whole == Whole::ButTheLast || length <= heard.len(), "it breaks off: {shown}");
                let (body, rest) = heard.split_at(length.min(heard.len()));
                heard = rest;
                body.to_vec()
            }
            (None, Some(_)) => chunks(&mut heard, whole),
            (None, None) => std::mem::take(&mut heard).to_vec(),
            (Some(_), Some(_)) => panic!("two framings: {shown}"),
        };
        if status >= 200 {
            answers.push((status, body));
        }
    }
    answers
}

fn chunks(heard: &mut &[u8], whole: Whole) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = heard.windows(2).position(|window| window == b"\r\n") {
        let size =
            std::str::from_utf8(&heard[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let size = size.expect("the size of a chunk");
        let rest = &heard[end + 2..];
        if size == 0 {
            *heard = rest.strip_prefix(b"\r\n").unwrap_or(rest);
            return body;
        }
        assert!(whole == Whole::ButTheLast || size + 2 <= rest.len(), "a chunk breaks off");
        let (chunk, rest) = rest.split_at(size.min(rest.len()));
        body.extend_from_slice(chunk);
        *heard = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    }
    assert!(whole == Whole::ButTheLast, "there is no last chunk");
    *heard = &[];
    body
}

/// Fails unless a request shows Finch what its endpoint wants: the token of somebody who was named, or perch's own name and
/// secret, or nothing.
pub fn assert_shows(request: &[u8], wanted: Auth, is_named: impl Fn(&str) -> bool) {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(request.len());
    let head = String::from_utf8_lossy(&request[..end]);
    let shown: Vec<&str> = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("authorization"))
        .map(|(_, value)| value.trim())
        .collect();
    let is_own =
        |value: &str| value == format!("Basic {}", STANDARD.encode(format!("sim-client:{CLIENT_SECRET}")));
    let is_of_a_named = |value: &str| {
        CUSTOMERS
            .iter()
            .any(|customer| is_named(customer) && value == format!("Bearer {}", token_of(customer)))
    };
    let is_right = match (&shown[..], wanted) {
        ([value], Auth::Bearer) => is_of_a_named(value),
        ([value], Auth::Basic) => is_own(value),
        ([], Auth::InBody | Auth::NoAuth) => true,
        _ => false,
    };
    assert!(is_right, "{wanted:?} is wanted: {head}");
}

/// Takes access lines, and fails where one is no JSON object or tells a secret.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line: serde_json::Value = serde_json::from_slice(bytes).expect("a line is JSON");
        assert!(line.is_object() && !tells_a_secret(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

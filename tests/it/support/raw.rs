//! A Finch below HTTP: it keeps the exact bytes of each request and answers with the bytes it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// A test that waits longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is done with a request, one after the other. After the last, the next request is read.
#[derive(Clone)]
pub enum Act {
    /// Says this.
    Write(Vec<u8>),
    /// Goes on when the test says so.
    Wait(Arc<Notify>),
    /// Closes in an orderly way.
    Close,
    /// Resets the connection.
    Reset,
    /// Says nothing any more.
    Hang,
}

/// An answer as text.
pub fn say(text: impl Into<String>) -> Act {
    Act::Write(text.into().into_bytes())
}

/// A whole answer.
pub fn answer(status: &str, headers: &str, body: &str) -> Act {
    say(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len()))
}

/// What a lawful call gets.
pub fn good() -> Act {
    answer("200 OK", "Content-Type: application/json\r\nFinch-Request-Id: f-good\r\n", "{\"id\":\"c\"}")
}

#[derive(Default)]
struct Seen {
    requests: Vec<(usize, Vec<u8>)>,
    /// Every byte of each connection, whether it was a request or not.
    streams: Vec<Vec<u8>>,
    connections: usize,
}

/// The Finch. Without a script each request gets [`good`].
pub struct RawFinch {
    pub address: SocketAddr,
    seen: watch::Sender<Seen>,
    script: Arc<Mutex<VecDeque<Vec<Act>>>>,
}

impl RawFinch {
    /// Listens.
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let finch = Arc::new(Self {
            address: listener.local_addr().expect("an address"),
            seen: watch::Sender::new(Seen::default()),
            script: Arc::default(),
        });
        let server = Arc::clone(&finch);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&server).converse(socket));
            }
        });
        finch
    }

    /// For `Setup::finch`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next unscripted request gets.
    pub fn next(&self, acts: impl IntoIterator<Item = Act>) {
        self.script.lock().expect("no test panics in here").push_back(acts.into_iter().collect());
    }

    /// Forgets what was scripted and not yet asked for.
    pub fn forget(&self) {
        self.script.lock().expect("no test panics in here").clear();
    }

    /// Each request as it came, as text.
    pub fn requests(&self) -> Vec<String> {
        let seen = self.seen.borrow();
        seen.requests.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    /// Every byte of each connection, in the order of their opening.
    pub fn streams(&self) -> Vec<Vec<u8>> {
        self.seen.borrow().streams.clone()
    }

    /// How many bytes have come, on all connections together.
    pub fn bytes(&self) -> usize {
        self.seen.borrow().streams.iter().map(Vec::len).sum()
    }

    /// On which connection each request came, counted from 1.
    pub fn carriers(&self) -> Vec<usize> {
        self.seen.borrow().requests.iter().map(|(connection, _)| *connection).collect()
    }

    /// Waits until this many requests have come.
    pub async fn arrived(&self, count: usize) {
        let mut seen = self.seen.subscribe();
        let enough = seen.wait_for(|seen| seen.requests.len() >= count);
        tokio::time::timeout(PATIENCE, enough).await.expect("they come").expect("it is there");
    }

    async fn converse(self: Arc<Self>, mut socket: TcpStream) {
        let mut number = 0;
        self.seen.send_modify(|seen| {
            seen.connections += 1;
            number = seen.connections;
            seen.streams.push(Vec::new());
        });
        let mut bytes = Vec::new();
        let came = |new: &[u8]| {
            self.seen.send_modify(|seen| seen.streams[number - 1].extend_from_slice(new));
        };
        while read_request(&mut socket, &mut bytes, came).await {
            let request = std::mem::take(&mut bytes);
            self.seen.send_modify(|seen| seen.requests.push((number, request)));
            let acts = self.script.lock().expect("no test panics in here").pop_front();
            for act in acts.unwrap_or_else(|| vec![good()]) {
                match act {
                    Act::Write(bytes) => {
                        // perch may have heard enough.
                        let _ = socket.write_all(&bytes).await;
                    }
                    Act::Wait(gate) => gate.notified().await,
                    Act::Close => return,
                    Act::Reset => {
                        let _ = socket.set_zero_linger();
                        return;
                    }
                    Act::Hang => std::future::pending().await,
                }
            }
        }
        // Whatever came that is no whole request counts too.
        if !bytes.is_empty() {
            self.seen.send_modify(|seen| seen.requests.push((number, bytes)));
        }
    }
}

/// Reads one request whose body has a `Content-Length` or none, and tells what comes. `false` at the end of the connection.
pub async fn read_request(socket: &mut TcpStream, bytes: &mut Vec<u8>, mut came: impl FnMut(&[u8])) -> bool {
    loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() >= at + 4 + length.unwrap_or(0) {
                return true;
            }
        }
        let had = bytes.len();
        match socket.read_buf(bytes).await {
            Ok(n) if n > 0 => came(&bytes[had..]),
            _ => return false,
        }
    }
}

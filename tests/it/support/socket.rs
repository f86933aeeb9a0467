//! A client below HTTP: it writes bytes as they are and reads answers one by one.

use super::raw::PATIENCE;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a connection is made of.
trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// One connection.
pub struct Socket {
    stream: Box<dyn Bytes>,
    /// The socket itself, where it is one of TCP.
    raw: Option<socket2::Socket>,
    unread: Vec<u8>,
    /// How long it rests before each read.
    pause: Duration,
}

/// The time that a client lets pass, to be as slow as it shall be. Nothing is waited for with this.
pub async fn pace(pause: Duration) {
    tokio::time::interval_at(tokio::time::Instant::now() + pause, PATIENCE).tick().await;
}

/// One answer, as it came.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Heard {
    /// The value of a header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let is = |line: &&str| line.split_once(':').is_some_and(|(n, _)| n.eq_ignore_ascii_case(name));
        self.head.lines().find(is).and_then(|line| line.split_once(':')).map_or("", |(_, v)| v.trim())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The body's `finch_code`.
    pub fn code(&self) -> String {
        self.json()["finch_code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Socket {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let raw = socket2::SockRef::from(&stream).try_clone().expect("a socket");
        Self { raw: Some(raw), ..Self::over(stream) }
    }

    /// One that reads little at a time and rests in between.
    pub async fn slowly(address: SocketAddr, pause: Duration) -> Self {
        let mut socket = Self::to(address).await;
        let raw = socket.raw.as_ref().expect("it is TCP");
        raw.set_recv_buffer_size(16 << 10).expect("a socket");
        socket.pause = pause;
        socket
    }

    /// The same, where nobody may listen any more.
    pub async fn try_to(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let raw = socket2::SockRef::from(&stream).try_clone()?;
        Ok(Self { raw: Some(raw), ..Self::over(stream) })
    }

    /// Whether the other side has closed, as a pool of connections looks before it uses one again.
    pub fn is_closed(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        match self.raw.as_ref().expect("it is TCP").peek(&mut byte) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// The same, over whatever carries bytes.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { stream: Box::new(stream), raw: None, unread: Vec::new(), pause: Duration::ZERO }
    }

    /// Says nothing more; the other side may.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Writes. The other side may have closed already; what it said counts.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Writes, and tells whether the other side's system takes bytes of this connection at all.
    pub async fn takes(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Writes one byte and tells whether the other side is still there a moment later.
    pub async fn is_open_after(&mut self, byte: u8) -> bool {
        let is_written = self.stream.write_all(&[byte]).await.is_ok();
        let heard = timeout(Duration::from_millis(1), self.stream.read_buf(&mut self.unread)).await;
        is_written && heard.is_err()
    }

    /// The status of a GET, when there is one.
    pub async fn status_of(address: SocketAddr, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.ok()?;
        String::from_utf8_lossy(&all).split(' ').nth(1)?.parse().ok()
    }

    /// Reads one answer; `None` when the connection ended before a whole one, `Err` with what came of it
    /// when it ended in the middle.
    pub async fn read(&mut self) -> Result<Option<Heard>, Vec<u8>> {
        timeout(PATIENCE, self.read_answer()).await.expect("it answers or closes")
    }

    /// One answer that must come.
    pub async fn hear(&mut self) -> Heard {
        match self.read().await {
            Ok(Some(heard)) => heard,
            Ok(None) => panic!("the connection was closed without an answer"),
            Err(part) => panic!("the answer broke off: {}", String::from_utf8_lossy(&part)),
        }
    }

    /// Says nothing more, and waits until the other side has noticed and closes.
    pub async fn hang_up(mut self) {
        let _ = self.stream.shutdown().await;
        self.drain().await.expect("it closes");
    }

    /// Everything up to the end of the connection; `None` when it stays open.
    pub async fn drain(&mut self) -> Option<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.unread);
        // A reset is an end too.
        timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.ok().map(|_| rest)
    }

    async fn read_answer(&mut self) -> Result<Option<Heard>, Vec<u8>> {
        loop {
            if let Some((heard, length)) = parse(&self.unread) {
                self.unread.drain(..length);
                return Ok(Some(heard));
            }
            if !self.pause.is_zero() {
                pace(self.pause).await;
            }
            match self.stream.read_buf(&mut self.unread).await {
                Ok(n) if n > 0 => {}
                _ if self.unread.is_empty() => return Ok(None),
                _ => return Err(std::mem::take(&mut self.unread)),
            }
        }
    }
}

/// One whole answer at the beginning of `bytes`, and its length there.
fn parse(bytes: &[u8]) -> Option<(Heard, usize)> {
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut heard = Heard { status, head, body: Vec::new() };
    if heard.header("transfer-encoding") == "chunked" {
        let mut from = at;
        loop {
            let line = bytes[from..].windows(2).position(|w| w == b"\r\n")?;
            let size =
                usize::from_str_radix(std::str::from_utf8(&bytes[from..from + line]).ok()?, 16).ok()?;
            let start = from + line + 2;
            heard.body.extend_from_slice(bytes.get(start..start + size)?);
            bytes.get(start + size..start + size + 2)?;
            from = start + size + 2;
            if size == 0 {
                return Some((heard, from));
            }
        }
    }
    let length: usize = heard.header("content-length").parse().unwrap_or(0);
    heard.body = bytes.get(at..at + length)?.to_vec();
    Some((heard, at + length))
}

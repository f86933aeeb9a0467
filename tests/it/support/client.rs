//! An app: hyper's client, one connection per call, over TCP, TLS or a Unix socket.

use super::Lines;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Somebody who calls an address with the same headers each time.
#[derive(Clone)]
pub struct App {
    way: Way,
    headers: Vec<(String, String)>,
    heard: Option<Lines>,
}

/// How an address is reached.
#[derive(Clone)]
enum Way {
    Tcp(SocketAddr),
    Tls(SocketAddr, TlsConnector),
    Unix(Arc<PathBuf>),
}

/// Bytes both ways.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Why nothing came back.
pub type NoAnswer = Box<dyn std::error::Error + Send + Sync>;

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// `Perch-Class`.
    pub fn class(&self) -> &str {
        self.header("perch-class")
    }

    /// The body's `finch_code`.
    pub fn code(&self) -> String {
        self.json()["finch_code"].as_str().unwrap_or_default().to_owned()
    }
}

impl App {
    pub fn at(address: SocketAddr) -> Self {
        Self { way: Way::Tcp(address), headers: Vec::new(), heard: None }
    }

    /// The same, who shows what `tls` has to show.
    pub fn over(mut self, tls: &TlsConnector) -> Self {
        if let Way::Tcp(address) = self.way {
            self.way = Way::Tls(address, tls.clone());
        }
        self
    }

    /// Somebody who calls a Unix socket.
    pub fn on(socket: &Path) -> Self {
        Self { way: Way::Unix(Arc::new(socket.to_owned())), headers: Vec::new(), heard: None }
    }

    async fn connect(&self) -> Result<Box<dyn Wire>, NoAnswer> {
        Ok(match &self.way {
            Way::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            Way::Tls(address, tls) => {
                let name = ServerName::try_from("localhost")?;
                Box::new(tls.connect(name, TcpStream::connect(address).await?).await?)
            }
            Way::Unix(path) => Box::new(UnixStream::connect(path.as_path()).await?),
        })
    }

    /// The same, with every answer's head and body kept here.
    pub fn heard_by(mut self, heard: Option<&Lines>) -> Self {
        self.heard = heard.cloned();
        self
    }

    /// The same, with one more header on every call.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, body.to_string().into()).await
    }

    /// Calls and reads the answer.
    pub async fn call(&self, method: &str, path: &str, body: Bytes) -> Answer {
        self.try_call(method, path, body).await.expect("an answer")
    }

    /// The same, where there may be nobody, or no answer.
    pub async fn try_call(&self, method: &str, path: &str, body: Bytes) -> Result<Answer, NoAnswer> {
        let socket = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let running = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            let host = match &self.way {
                Way::Tcp(address) | Way::Tls(address, _) => address.to_string(),
                Way::Unix(_) => "localhost".to_owned(),
            };
            request = request.header("host", host);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Full::new(body)).expect("a request")).await?;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        running.abort();
        if let Some(heard) = &self.heard {
            heard.keep(format!("{:?}\n", head.headers).as_bytes());
            heard.keep(&bytes);
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, bytes })
    }

    /// Writes bytes as they are and reads until the other side closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut socket = self.connect().await.expect("it listens");
        // The other side may close before all is written; what it said counts.
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

//! An app: hyper's client, one connection per call.

use super::Lines;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Somebody who calls an address with the same headers each time.
#[derive(Clone)]
pub struct App {
    address: SocketAddr,
    headers: Vec<(String, String)>,
    heard: Option<Lines>,
}

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
        Self { address, headers: Vec::new(), heard: None }
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
        let socket = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let running = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", self.address.to_string());
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
        let mut socket = TcpStream::connect(self.address).await.expect("it listens");
        // The other side may close before all is written; what it said counts.
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

//! One call, one connection; every byte that came is kept, because it is searched for tokens.

use super::Outcome;
use super::wire::{self, Broken, Message};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why a call has no answer.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Nobody listened, or the connection ended before an answer.
    Nothing,
    /// The answer broke off; what had come.
    Cut(Vec<u8>),
    /// Something that is not HTTP came.
    Nonsense(Vec<u8>),
    /// Nothing ended it.
    Silence,
}

/// A request as bytes.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" {
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// Sends it and waits for the answer.
pub(crate) async fn call(door: SocketAddr, request: &[u8], patience: Duration) -> Result<Message, Lost> {
    let exchange = async {
        let mut socket = TcpStream::connect(door).await.map_err(|_| Lost::Nothing)?;
        // The other side may have answered and closed already; what it said counts.
        let _ = socket.write_all(request).await;
        wire::read(&mut socket, &mut Vec::new(), true).await.map_err(|broken| match broken {
            Broken::Nothing => Lost::Nothing,
            Broken::Cut(bytes) => Lost::Cut(bytes),
            Broken::Nonsense(bytes) => Lost::Nonsense(bytes),
        })
    };
    timeout(patience, exchange).await.unwrap_or(Err(Lost::Silence))
}

/// A call for those who only want the JSON of a good answer.
pub(crate) async fn json(
    door: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Outcome<Value> {
    let asked = request(method, path, headers, body);
    let answer = call(door, &asked, Duration::from_secs(15)).await;
    let answer = answer.map_err(|why| format!("{method} http://{door}{path}: {why:?}"))?;
    match answer.status() {
        200..=299 => Ok(serde_json::from_slice(&answer.body)?),
        status => {
            let told = String::from_utf8_lossy(&answer.body).into_owned();
            Err(format!("{method} http://{door}{path}: {status} {told}").into())
        }
    }
}

//! One call, one connection: hyper's client.

use super::Outcome;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// What came back.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    head: http::HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.head.get(name)?.to_str().ok()?.parse().ok()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// `GET`, to the end of the answer.
pub(crate) async fn get(door: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Outcome<Answer> {
    let socket = TcpStream::connect(door).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // Dropped with the call, and the connection with it: the gateway sees that its client has left.
    let mut running = tokio::task::JoinSet::new();
    running.spawn(connection);
    let mut request = Request::get(path).header("host", door.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let (head, body) = answer.into_parts();
    Ok(Answer { status: head.status.as_u16(), head: head.headers, body: body.collect().await?.to_bytes() })
}

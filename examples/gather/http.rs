//! One call, one connection: hyper's client.

use super::Outcome;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// What came back.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Calls, and reads to the end of the answer.
pub(crate) async fn call(
    method: &str,
    door: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Outcome<Answer> {
    let socket = TcpStream::connect(door).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let mut running = tokio::task::JoinSet::new();
    running.spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", door.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(body.map_or_else(Bytes::new, |body| body.to_string().into()));
    let answer = sender.send_request(request.body(body)?).await?;
    let (head, body) = answer.into_parts();
    Ok(Answer { status: head.status.as_u16(), body: body.collect().await?.to_bytes() })
}

//! The way of a webhook to whoever waits for it: one POST to this machine, and what came back.

use super::webhooks::Letter;
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a receiver may take. Finch publishes none; services of its kind allow as much.
const PATIENCE: Duration = Duration::from_secs(15);
/// How much of the receiver's answer is shown.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An address on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    address: SocketAddr,
    path: String,
}

impl Target {
    /// Reads a URL. A simulator sends nothing to other machines.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let why = || {
            format!(
                "{text:?} is no http:// URL of this machine, such as http://127.0.0.1:4602/webhooks/finch"
            )
        };
        let url: Uri = text.parse().map_err(|_| why())?;
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => host.parse().map_err(|_| why())?,
        };
        if url.scheme_str() != Some("http") || !ip.is_loopback() {
            return Err(why());
        }
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address: SocketAddr::new(ip, url.port_u16().unwrap_or(80)), path })
    }

    /// Sends the letter: the receiver's status and body, or why there is none.
    pub(super) async fn deliver(&self, letter: &Letter) -> Result<Value, String> {
        match timeout(PATIENCE, self.post(letter)).await {
            Ok(Ok((status, body))) => Ok(json!({ "status": status, "body": body })),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn post(&self, letter: &Letter) -> Result<(u16, String), String> {
        let socket = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
        let mut request = Request::post(&self.path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json");
        for (name, value) in &letter.headers {
            request = request.header(*name, value);
        }
        let body = Bytes::from(letter.body.clone());
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let talk = async {
            let (head, body) =
                sender.send_request(request).await.map_err(|error| error.to_string())?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((head.status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
        };
        tokio::pin!(talk, connection);
        tokio::select! {
            answer = &mut talk => answer,
            // The connection may end with the answer's last byte, which is the answer's to tell.
            _ = &mut connection => talk.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_go_to_this_machine_alone() {
        for (url, to) in [
            ("http://127.0.0.1:4602/webhooks/finch", Some(("127.0.0.1:4602", "/webhooks/finch"))),
            ("http://localhost:81/a?b=c", Some(("127.0.0.1:81", "/a?b=c"))),
            ("http://[::1]:4602", Some(("[::1]:4602", "/"))),
            ("http://127.9.9.9", Some(("127.9.9.9:80", "/"))),
            ("https://127.0.0.1:4602/", None),
            ("http://10.0.0.1:4602/", None),
            ("http://example.com/", None),
            ("http://localhost.example.com/", None),
            ("/webhooks/finch", None),
            ("", None),
        ] {
            let expected =
                to.map(|(address, path)| Target { address: address.parse().unwrap(), path: path.to_owned() });
            assert_eq!(Target::parse(url).ok(), expected, "{url}");
        }
    }
}

//! A Finch for drains: whose token a request bears says what becomes of it. Most are kept until the test opens the gate.

use crate::support::process::within;
use crate::support::raw::read_request;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// More than the systems on the way hold for a client that reads slowly.
pub const LARGE_BYTES: usize = 5 << 20;

/// The Finch.
pub struct Finch {
    pub address: SocketAddr,
    gate: watch::Sender<bool>,
    kept: watch::Sender<u64>,
}

impl Finch {
    /// Listens, its gate shut.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let finch = Self {
            address: listener.local_addr().expect("an address"),
            gate: watch::Sender::new(false),
            kept: watch::Sender::new(0),
        };
        let kept = finch.kept.clone();
        let gate = finch.gate.subscribe();
        let large = Arc::new(vec![b' '; LARGE_BYTES]);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(converse(socket, (gate.clone(), kept.clone()), Arc::clone(&large)));
            }
        });
        finch
    }

    /// Waits until so many have come that are kept.
    pub async fn has_kept(&self, count: u64) {
        let mut kept = self.kept.subscribe();
        within("they come to Finch", kept.wait_for(|kept| *kept >= count)).await.expect("it is there");
    }

    /// Whoever waits is answered, and everybody from now on.
    pub fn open(&self) {
        self.gate.send_replace(true);
    }
}

async fn converse(
    mut socket: TcpStream,
    (mut gate, kept): (watch::Receiver<bool>, watch::Sender<u64>),
    large: Arc<Vec<u8>>,
) {
    let mut bytes = Vec::new();
    while read_request(&mut socket, &mut bytes, |_| {}).await {
        let request = String::from_utf8_lossy(&std::mem::take(&mut bytes)).into_owned();
        let is_of = |customer: &str| request.contains(&format!("CANARY-token-of-{customer}\r\n"));
        let is_kept = ["in-flight", "for-quota", "gathered", "pipelined", "joined"].into_iter().any(is_of)
            || request.starts_with("POST /auth/token");
        if is_kept {
            kept.send_modify(|kept| *kept += 1);
            let _ = gate.wait_for(|is_open| *is_open).await;
        }
        let (status, header, body) = if is_of("for-a-hold") {
            let body = r#"{"code":429,"name":"rate_limit_exceeded_error","finch_code":"upstream_rate_limit_exceeded","message":"m"}"#;
            ("429 Too Many Requests", "Retry-After: 60\r\n", body.as_bytes().to_vec())
        } else if is_of("streamed") {
            ("200 OK", "", large.to_vec())
        } else if is_of("gathered") {
            // One for each person, of however many calls the request is.
            let people = request.split("\"person-").skip(1).filter_map(|rest| rest.split('"').next());
            let items = people.map(|n| {
                format!(r#"{{"individual_id":"person-{n}","code":200,"body":{{"id":"person-{n}"}}}}"#)
            });
            let items = items.collect::<Vec<_>>().join(",");
            ("200 OK", "", format!(r#"{{"responses":[{items}]}}"#).into_bytes())
        } else if let Some((_, code)) = request.split_once("code-") {
            let number: String = code.chars().take_while(char::is_ascii_digit).collect();
            let body = format!(
                r#"{{"access_token":"CANARY-new-{number}","connection_id":"c-new-{number}","client_type":"sandbox","customer_id":"new-{number}","provider_id":"gusto","products":["company"]}}"#
            );
            ("200 OK", "", body.into_bytes())
        } else {
            ("200 OK", "", br#"{"id":"c"}"#.to_vec())
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nFinch-Request-Id: f\r\n{header}Content-Length: {}\r\n\r\n",
            body.len()
        );
        // perch may have heard enough.
        let _ = socket.write_all(head.as_bytes()).await;
        let _ = socket.write_all(&body).await;
    }
}

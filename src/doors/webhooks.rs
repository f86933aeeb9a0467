//! Finch's door: `POST /webhooks/finch` and nothing else. A message is believed for its signature alone, and answered as
//! soon as it is kept. The order is that of cost: bounds, headers, age, then the body, its signature, the store.

use super::guard::Pace;
use super::receive::has_one_reading;
use crate::engine::Engine;
use crate::engine::webhooks::{Head, Receipt};
use crate::finch::headers::{FINCH_EVENT_ID, FINCH_SIGNATURE, FINCH_TIMESTAMP};
use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The only path.
const PATH: &str = "/webhooks/finch";
/// The largest body. Finch's messages name things and have some hundred bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take at the most: a small one that comes slowly only holds a place that Finch needs.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the rest of a refused body is read, so that the refusal can be.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// The door.
#[derive(Debug)]
pub struct WebhookDoor {
    engine: Arc<Engine>,
    body_timeout: Duration,
}

/// A status and a few words. Whoever is not Finch learns nothing more.
type Reply = (u16, &'static str);

impl WebhookDoor {
    /// Connections open at once: each may hold a whole body in memory before its signature is known.
    pub const CONNECTIONS_MAX: usize = 128;

    /// A door to this engine.
    pub fn new(engine: Arc<Engine>, body_timeout: Duration) -> Self {
        Self { engine, body_timeout: body_timeout.min(BODY_TIME_MAX) }
    }

    async fn answer(&self, session: &mut ServerSession) -> Reply {
        let head = match self.head(session) {
            Ok(head) => head,
            Err(reply) => return reply,
        };
        if session.req_header().headers.contains_key(EXPECT)
            && session.write_continue_response().await.is_err()
        {
            return (400, "the body did not come");
        }
        match self.body(session).await {
            Ok(body) => reply_for(self.engine.take_webhook(head, body).await),
            Err(reply) => reply,
        }
    }

    /// Everything that the head decides.
    fn head(&self, session: &ServerSession) -> Result<Head, Reply> {
        if !has_one_reading(session) {
            return Err((400, "the request can be read in two ways"));
        }
        let head = session.req_header();
        if head.uri.path() != PATH {
            return Err((404, "there is POST /webhooks/finch"));
        }
        if head.method != http::Method::POST {
            return Err((405, "only POST"));
        }
        let length =
            head.headers.get(CONTENT_LENGTH).map(|v| v.to_str().ok().and_then(|v| v.parse::<u64>().ok()));
        match length {
            Some(Some(length)) if length <= BODY_BYTES_MAX as u64 => {}
            Some(Some(_)) => return Err((413, "larger than 1 MiB")),
            Some(None) => return Err((400, "Content-Length is no length")),
            None if head.headers.contains_key(TRANSFER_ENCODING) => {}
            None => return Err((411, "a body is needed")),
        }
        let names = [FINCH_EVENT_ID, FINCH_TIMESTAMP, FINCH_SIGNATURE];
        self.engine.webhook_head(names.map(|name| once(&head.headers, name))).map_err(reply_for)
    }

    async fn body(&self, session: &mut ServerSession) -> Result<Vec<u8>, Reply> {
        let deadline = Instant::now() + self.body_timeout;
        // The chunks of a request that was written behind this one are not this one's.
        let is_chunked = session.req_header().headers.contains_key(TRANSFER_ENCODING);
        let mut body = Vec::new();
        loop {
            match timeout_at(deadline, session.read_request_body()).await {
                Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
                Ok(Ok(None)) if !is_chunked || Pace::body_is_plain() => return Ok(body),
                Ok(Ok(None) | Err(_)) => return Err((400, "the body breaks off or is badly framed")),
                Err(_) => return Err((408, "the body did not come in time")),
            }
            if body.len() > BODY_BYTES_MAX {
                return Err((413, "larger than 1 MiB"));
            }
        }
    }
}

/// The value of a header that stands once.
fn once<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn reply_for(receipt: Receipt) -> Reply {
    match receipt {
        Receipt::Kept => (200, "ok"),
        Receipt::Refused(_) => (401, "not believed"),
        Receipt::Unreadable => (400, "no JSON object"),
        Receipt::Later => (503, "later"),
    }
}

#[async_trait]
impl ServeHttp for WebhookDoor {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        Pace::head_is_read();
        session.set_total_drain_timeout(Some(DRAIN_MAX));
        let (status, words) = self.answer(session).await;
        if status != 200 || session.req_header().headers.contains_key(TRANSFER_ENCODING) {
            // Whatever a stranger hid behind a refused body is never read as a request.
            session.set_keepalive(None);
            if !session.req_header().headers.contains_key(EXPECT) {
                let _ = tokio::time::timeout(DRAIN_MAX, session.drain_request_body()).await;
            }
        }
        if self.engine.drain.is_leaving() {
            // Finch opens its next connection elsewhere.
            session.set_keepalive(None);
        }
        let body = format!("{words}\n").into_bytes();
        let mut answer = Response::builder()
            .status(status)
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("Content-Length", body.len())
            .header("Cache-Control", "no-store")
            .header("X-Content-Type-Options", "nosniff");
        if status == 405 {
            answer = answer.header("Allow", "POST");
        }
        if status == 503 {
            answer = answer.header("Retry-After", "5");
        }
        // What is written from here on falls under the deadline of writes.
        Pace::answer_is_written();
        answer.body(body).unwrap_or_else(|_| Response::new(Vec::new()))
    }
}

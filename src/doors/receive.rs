//! receive: from bytes on a connection to a call, whole, bounded and with one meaning.

use super::guard::Pace;
use super::new_request_id;
use super::visitor::Visitors;
use crate::engine::{By, Call, Share};
use crate::policy::{Refusal, wire};
use crate::telemetry::clock::unix_now;
use crate::types::RequestId;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Version};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What a request may cost before it is a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The largest body.
    pub(super) body_bytes_max: usize,
    /// From the end of the head to the end of the body.
    pub(super) body_timeout: Duration,
}

/// A request that was read, or why it was not; its id either way.
pub(super) struct Received {
    pub(super) request_id: RequestId,
    pub(super) call: Result<Call, Refusal>,
}

/// Whether the head of a request at a door of `ServeHttp`'s has one reading, and a path for a target.
pub(super) fn has_one_reading(session: &ServerSession) -> bool {
    let head = session.req_header();
    let raw = session.as_http1().map(|h1| h1.get_headers_raw_bytes());
    // What is no path may be read as an authority, and a path be made up for it.
    let is_plain = |raw: &[u8]| {
        wire::check_head(raw).is_ok() && wire::raw_target(raw).is_some_and(|target| target.starts_with(b"/"))
    };
    raw.is_none_or(|raw| is_plain(&raw))
        && wire::check_headers(&head.headers, head.version == Version::HTTP_11).is_ok()
}

/// Reads one request.
pub(super) async fn receive(
    session: &mut Session,
    bounds: Bounds,
    visitors: &Visitors,
    share: Share,
) -> Received {
    let request_id = new_request_id();
    let call = read(session, bounds, visitors, share, request_id.clone()).await;
    Received { request_id, call }
}

async fn read(
    session: &mut Session,
    bounds: Bounds,
    visitors: &Visitors,
    share: Share,
    request_id: RequestId,
) -> Result<Call, Refusal> {
    let raw = session.as_http1().map(|h1| h1.get_headers_raw_bytes());
    if let Some(raw) = &raw {
        wire::check_head(raw)?;
    }
    let head = session.req_header();
    wire::check_headers(&head.headers, head.version == Version::HTTP_11)?;
    let target = raw.as_deref().and_then(wire::raw_target).unwrap_or_else(|| head.raw_path());
    let target = wire::check_target(target)?;
    let (path, query) = (target.path.to_owned(), target.query.map(str::to_owned));
    let method = head.method.as_str().to_owned();
    let mut headers = head.headers.clone();
    let app = visitors.admit(&mut headers)?;
    check_body_head(&method, head.version, &headers, bounds)?;
    if headers.contains_key(EXPECT) {
        let is_known = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if !headers.get_all(EXPECT).iter().all(is_known) {
            return Err(Refusal::BadHeader {
                header: "Expect",
                why: "asks for something other than 100-continue".to_owned(),
            });
        }
        session.write_continue_response().await.map_err(|_| Refusal::BodyTooSlow)?;
    }
    // The chunks of a request that was written behind this one are not this one's.
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    let body = read_body(session, bounds, share).await?;
    if is_chunked && !Pace::body_is_plain() {
        return Err(Refusal::Malformed("its body is framed in a way that others read differently"));
    }
    Ok(Call { request_id, received_at: unix_now(), method, path, query, headers, body, app, by: By::App })
}

/// What the head already tells about the body.
fn check_body_head(
    method: &str,
    version: Version,
    headers: &HeaderMap,
    bounds: Bounds,
) -> Result<(), Refusal> {
    let length =
        headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    let has_body = headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|n| n > 0);
    if has_body && matches!(method, "GET" | "HEAD" | "TRACE" | "OPTIONS") {
        return Err(Refusal::UnexpectedBody);
    }
    // RFC 1945 §7.2.2: without it the body would have to end with the connection.
    if method == "POST" && version < Version::HTTP_11 && length.is_none() {
        return Err(Refusal::Malformed("a POST of HTTP/1.0 needs Content-Length"));
    }
    match length {
        Some(length) if length > bounds.body_bytes_max => {
            Err(Refusal::BodyTooLarge { max: bounds.body_bytes_max })
        }
        _ => Ok(()),
    }
}

async fn read_body(session: &mut Session, bounds: Bounds, mut share: Share) -> Result<Bytes, Refusal> {
    let deadline = Instant::now() + bounds.body_timeout;
    let mut body = BytesMut::new();
    loop {
        match timeout_at(deadline, session.read_request_body()).await {
            Ok(Ok(Some(piece))) => body.extend_from_slice(&piece),
            Ok(Ok(None)) => return Ok(share.keep(body)),
            Ok(Err(cause)) if *cause.etype() == pingora::ErrorType::ReadTimedout => {
                return Err(Refusal::BodyTooSlow);
            }
            Ok(Err(_)) => return Err(Refusal::Malformed("its body breaks off or is badly framed")),
            Err(_) => return Err(Refusal::BodyTooSlow),
        }
        if body.len() > bounds.body_bytes_max {
            return Err(Refusal::BodyTooLarge { max: bounds.body_bytes_max });
        }
        if !share.grow(body.len(), bounds.body_bytes_max) {
            return Err(Refusal::Crowded);
        }
    }
}

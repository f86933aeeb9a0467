//! The proxy door: pingora's `ProxyHttp` as a shell around the engine. The whole exchange happens in
//! `request_filter`, because every decision needs facts that pingora's own proxy path has too late:
//! the body of an error, the whole request, an exchange that outlives its client.

use super::guard::Pace;
use super::receive::{Bounds, receive};
use super::visitor::Visitors;
use crate::engine::{Answer, AnswerBody, Call, Client, Engine, Finished, Running};
use crate::policy::refusal::DRAINING;
use crate::policy::{Class, Refusal};
use crate::telemetry::AccessLine;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{Method, Version};
use pingora::http::ResponseHeader;
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the rest of a refused body is read, so that the refusal can be.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// The door.
#[derive(Debug)]
pub struct ProxyDoor {
    engine: Arc<Engine>,
    bounds: Bounds,
    visitors: Visitors,
}

impl ProxyDoor {
    /// A door to this engine, for these visitors.
    pub fn new(
        engine: Arc<Engine>,
        visitors: Visitors,
        body_bytes_max: usize,
        body_timeout: Duration,
    ) -> Self {
        Self { engine, bounds: Bounds { body_bytes_max, body_timeout }, visitors }
    }

    /// Runs the call in a task of its own and waits for it, or for its client to leave.
    async fn carry(&self, session: &mut Session, call: Call, began: Instant) -> Option<Finished> {
        let (watch, client) = Client::present();
        let request_id = call.request_id.clone();
        let mut task = tokio::spawn(Arc::clone(&self.engine).run(call, client));
        let ended = tokio::select! {
            ended = &mut task => Some(ended),
            // Anything but silence after a whole request means that the client is gone.
            _ = session.as_downstream_mut().read_body_or_idle(true) => None,
        };
        match ended {
            Some(Ok(finished)) => Some(finished),
            Some(Err(_)) => Some(self.engine.refuse_unread(&Refusal::Fault, request_id)),
            None => {
                watch.has_left();
                let engine = Arc::clone(&self.engine);
                let running = engine.drain.enter();
                tokio::spawn(async move {
                    let mut finished = match task.await {
                        Ok(finished) => finished,
                        Err(_) => engine.refuse_unread(&Refusal::Fault, request_id),
                    };
                    finished.line.client_gone = true;
                    finished.line.total = began.elapsed();
                    engine.telemetry.record(finished.line);
                    drop(running);
                });
                None
            }
        }
    }

    async fn write(
        &self,
        session: &mut Session,
        finished: Finished,
        _running: Running,
        began: Instant,
    ) -> Result<bool> {
        let Finished { mut answer, mut line } = finished;
        if self.engine.drain.is_leaving() {
            // Clients open their next connection elsewhere. Who has written the next request already is answered first.
            let is_last = !Pace::more_has_come();
            if is_last {
                session.set_keepalive(None);
            } else if line.refusal == Some(DRAINING) {
                answer.closes = false;
            }
        }
        let written = write_answer(session, answer, &mut line).await;
        // Only the client's side can fail in writing; Finch's side fails in reading.
        line.client_gone = written.as_ref().is_err_and(|e| *e.etype() != ErrorType::ReadError);
        line.total = began.elapsed();
        self.engine.telemetry.record(line);
        // An error here makes pingora drop the connection: a body that broke off must look broken.
        written.map(|()| true)
    }
}

#[async_trait]
impl ProxyHttp for ProxyDoor {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    /// None: perch changes no body.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> Result<bool> {
        let began = Instant::now();
        Pace::head_is_read();
        let running = self.engine.drain.enter();
        session.set_pipelining_enabled(true);
        session.set_total_drain_timeout(Some(DRAIN_MAX));
        // pingora reads chunk lines more kindly than other programs do. Whatever somebody hid behind such a
        // body is never read as a request.
        if session.req_header().headers.contains_key(TRANSFER_ENCODING) {
            session.set_keepalive(None);
        }
        let mut must_drain = false;
        let received = receive(session, self.bounds, &self.visitors, self.engine.held.asked.share()).await;
        Pace::request_is_read(size_of_request(session));
        let finished = match received.call {
            Ok(call) => match self.carry(session, call, began).await {
                Some(finished) => finished,
                None => return Err(Error::explain(ErrorType::ConnectionClosed, "the client left")),
            },
            Err(refusal) => {
                // Closing over bytes that still come resets the connection, and the refusal is lost with it.
                must_drain = refusal.leaves_body();
                self.engine.refuse_unread(&refusal, received.request_id)
            }
        };
        let done = self.write(session, finished, running, began).await;
        // A client that expects to be told sends nothing more.
        if must_drain && !session.req_header().headers.contains_key(EXPECT) {
            let _ = session.as_downstream_mut().drain_request_body().await;
        }
        Pace::answer_is_written();
        done
    }

    /// Never called: every request is answered above.
    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Err(Error::explain(ErrorType::InternalError, "the engine answers every call"))
    }

    async fn fail_to_proxy(&self, _session: &mut Session, _e: &Error, _ctx: &mut ()) -> FailToProxy {
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    /// perch's own line tells it.
    fn suppress_error_log(&self, _session: &Session, _ctx: &(), _error: &Error) -> bool {
        true
    }
}

/// How many bytes a request had, as far as its head tells: after a body in pieces nothing more is read anyway.
fn size_of_request(session: &Session) -> u64 {
    let head = session.as_http1().map_or(0, |h1| h1.get_headers_raw_bytes().len() as u64);
    let length = session.req_header().headers.get(CONTENT_LENGTH);
    let body = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    head.saturating_add(body)
}

async fn write_answer(session: &mut Session, answer: Answer, line: &mut AccessLine) -> Result<()> {
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 2))?;
    for (name, value) in &answer.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    let is_streamed = matches!(answer.body, AnswerBody::Streamed(_));
    if answer.closes || (is_streamed && session.req_header().version != Version::HTTP_11) {
        session.set_keepalive(None);
    }
    let is_head = session.req_header().method == Method::HEAD;
    match answer.body {
        AnswerBody::Whole(body) => {
            // RFC 9110 §8.6: neither has a length.
            if answer.status.as_u16() != 204 && answer.status.as_u16() != 304 {
                head.insert_header(CONTENT_LENGTH, body.len())?;
            }
            let ends = body.is_empty() || is_head;
            session.as_downstream_mut().write_response_header(Box::new(head)).await?;
            if !ends {
                line.bytes_out += body.len() as u64;
                session.as_downstream_mut().write_response_body(body, true).await?;
            }
            Ok(())
        }
        AnswerBody::Streamed(mut relay) => {
            if session.req_header().version == Version::HTTP_11 {
                head.insert_header(TRANSFER_ENCODING, "chunked")?;
            }
            session.as_downstream_mut().write_response_header(Box::new(head)).await?;
            loop {
                match relay.next().await {
                    Ok(Some(piece)) => {
                        line.bytes_out += piece.len() as u64;
                        session.as_downstream_mut().write_response_body(piece, false).await?;
                    }
                    Ok(None) => break,
                    Err(_) => {
                        line.class = Class::FinchUnreachable;
                        return Err(Error::explain(ErrorType::ReadError, "Finch's answer broke off"));
                    }
                }
            }
            session.as_downstream_mut().write_response_body(Bytes::new(), true).await
        }
    }
}

//! Finch's answer as it arrives: the head at once, the body as far as the caller wants to hold it.

use bytes::Bytes;
use http::HeaderMap;
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// The head of an answer, and the way to its body.
#[derive(Debug)]
pub struct Answer {
    /// The status, 200 or above.
    pub status: u16,
    /// Every header Finch sent; the caller picks.
    pub headers: HeaderMap,
    /// The body, unread.
    pub rest: Rest,
}

/// A body, read as far as it was held.
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// More than the caller wanted to hold: what was read, and the rest.
    Larger(Vec<u8>, Box<Rest>),
}

/// Why a body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// The connection broke, or the framing did.
    Broken,
    /// It took too long.
    TimedOut,
}

/// The unread part of an answer. Dropping it closes its connection.
pub struct Rest {
    session: Option<HttpSession>,
    connector: Arc<Connector>,
    peer: HttpPeer,
    deadline: Instant,
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest").field("is_done", &self.session.is_none()).finish_non_exhaustive()
    }
}

impl Rest {
    pub(super) fn new(
        session: HttpSession,
        connector: Arc<Connector>,
        peer: HttpPeer,
        deadline: Instant,
    ) -> Self {
        Self { session: Some(session), connector, peer, deadline }
    }

    /// The next piece; `None` at the end, when the connection goes back to the pool.
    ///
    /// # Errors
    /// The body did not come to its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let Some(session) = self.session.as_mut() else { return Ok(None) };
        match session.read_response_body().await {
            Ok(Some(piece)) => Ok(Some(piece)),
            Ok(None) => {
                self.release().await;
                Ok(None)
            }
            Err(cause) => {
                self.session = None;
                Err(match cause.etype() {
                    pingora::ErrorType::ReadTimedout => ReadError::TimedOut,
                    _ => ReadError::Broken,
                })
            }
        }
    }

    /// Reads to the end, or to the piece that goes past `bytes_max`.
    ///
    /// # Errors
    /// The body did not come to its end inside the time of the whole answer.
    pub async fn read(self, bytes_max: usize) -> Result<Body, ReadError> {
        self.read_while(|bytes| bytes <= bytes_max).await
    }

    /// Reads to the end, or to the piece that makes more of it than may be held.
    ///
    /// # Errors
    /// The body did not come to its end inside the time of the whole answer.
    pub async fn read_while(self, may_hold: impl FnMut(usize) -> bool + Send) -> Result<Body, ReadError> {
        self.read_on(Vec::new(), may_hold).await
    }

    /// The same, from behind what was read before.
    ///
    /// # Errors
    /// As [`Rest::read_while`].
    pub async fn read_on(
        mut self,
        mut held: Vec<u8>,
        mut may_hold: impl FnMut(usize) -> bool + Send,
    ) -> Result<Body, ReadError> {
        let deadline = self.deadline;
        loop {
            let piece = timeout_at(deadline, self.next()).await.map_err(|_| ReadError::TimedOut)??;
            match piece {
                None => return Ok(Body::Whole(held)),
                Some(piece) => held.extend_from_slice(&piece),
            }
            if !may_hold(held.len()) {
                return Ok(Body::Larger(held, Box::new(self)));
            }
        }
    }

    async fn release(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        if let HttpSession::H1(h1) = &mut session {
            h1.respect_keepalive();
        }
        let idle = self.peer.options.idle_timeout;
        self.connector.release_http_session(session, &self.peer, idle).await;
    }
}

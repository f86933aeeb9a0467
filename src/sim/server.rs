//! The simulator on a socket: HTTP/1.1 by hyper, and below it the ways a connection breaks.

use super::{Peer, Reply, Sim};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// The longest request body read.
const BODY_BYTES_MAX: usize = 64 << 20;
/// The most connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 10_000;

/// How a connection ends other than by HTTP.
enum Break {
    Reset,
    Write(Vec<u8>),
}

impl Sim {
    /// Serves until `stop` is done; connections that are open then are cut.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: impl Future<Output = ()>) {
        if let Ok(address) = listener.local_addr() {
            self.set_base_url(format!("http://{address}"));
        }
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut open = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let next = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, place)
            };
            tokio::select! {
                () = &mut stop => return,
                (accepted, place) = next => if let Ok((socket, peer)) = accepted {
                    let sim = Arc::clone(&self);
                    open.spawn(async move {
                        let _place = place;
                        sim.converse(socket, peer).await;
                    });
                } else {
                    // Out of descriptors, most likely: others need a moment to end.
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                },
            }
            while open.try_join_next().is_some() {}
        }
    }

    /// One connection, from its first byte to its last.
    async fn converse(self: Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        // Answers are small and whole, so there is nothing to gather.
        let _ = socket.set_nodelay(true);
        let (breaks, mut broken) = mpsc::channel::<Break>(1);
        let service = service_fn(move |request: Request<Incoming>| {
            let (sim, breaks) = (Arc::clone(&self), breaks.clone());
            async move { Ok::<_, Infallible>(sim.exchange(request, peer, breaks).await) }
        });
        let mut talk = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        let end = tokio::select! {
            // An error here is the client's: it went away, or spoke nonsense.
            _ = &mut talk => return,
            end = broken.recv() => end,
        };
        let mut socket = talk.into_parts().io.into_inner();
        match end {
            Some(Break::Reset) => {
                let _ = socket.set_zero_linger();
            }
            Some(Break::Write(bytes)) => {
                let _ = socket.write_all(&bytes).await;
                let _ = socket.shutdown().await;
            }
            None => {}
        }
    }

    async fn exchange(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        breaks: mpsc::Sender<Break>,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
            let mut refused = Response::new(Full::default());
            *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return refused;
        };
        let mut request = Request::from_parts(head, body.to_bytes());
        request.extensions_mut().insert(Peer(peer.ip()));
        let end = match self.respond(request).await {
            Reply::Answer(response) => return response.map(Full::new),
            Reply::Stall => pending().await,
            Reply::Reset => Break::Reset,
            Reply::Rubbish(bytes) => Break::Write(bytes.to_vec()),
            Reply::Truncated(response) => Break::Write(half(response)),
        };
        let _ = breaks.send(end).await;
        // The connection is taken from under hyper; this future goes with it.
        pending().await
    }
}

/// The answer as bytes: its head with the full length, and half of its body.
fn half(response: Response<Bytes>) -> Vec<u8> {
    let (head, body) = response.into_parts();
    let version = Version::HTTP_11;
    let mut out =
        format!("{version:?} {}\r\ncontent-length: {}\r\n", head.status, body.len().max(2)).into_bytes();
    for (name, value) in &head.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body[..body.len() / 2]);
    out
}

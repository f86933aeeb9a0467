//! What pingora leaves to its user: a bound on connections, and deadlines and a size for a head as a
//! whole. A client that sends one byte every few seconds is cut off, however alive it looks.

use super::peer::Peer;
use super::tls::DoorTls;
use super::wire::Wire;
use crate::policy::chunks::Chunks;
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use pingora::server::ShutdownWatch;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

/// The largest head. pingora alone would hold a megabyte for each connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// RFC 6585 §5.
const HEAD_TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

tokio::task_local! {
    /// The pace of the connection whose task this is.
    static PACE: Arc<Pace>;
}

/// How long a connection may take over what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between requests, and before the first.
    pub idle: Duration,
    /// While the client takes not a byte of its answer.
    pub write: Duration,
}

/// Where a connection is in a request.
#[derive(Debug, Default)]
pub struct Pace {
    part: AtomicU8,
    /// A chunked body was written in a way that other programs read differently.
    is_odd: AtomicBool,
}

const BETWEEN: u8 = 0;
const IN_HEAD: u8 = 1;
const IN_CALL: u8 = 2;

impl Pace {
    /// The head is read; its deadlines no longer hold.
    pub fn head_is_read() {
        let _ = PACE.try_with(|pace| pace.part.store(IN_CALL, Ordering::Release));
    }

    /// Whether the chunks of the body that was read are written as RFC 9112 §7.1 has it.
    pub fn body_is_plain() -> bool {
        !PACE.try_with(|pace| pace.is_odd.load(Ordering::Acquire)).unwrap_or(false)
    }

    /// The answer is written; the next head may come.
    pub fn answer_is_written() {
        let _ = PACE.try_with(|pace| pace.part.store(BETWEEN, Ordering::Release));
    }
}

/// An app behind a bound and deadlines.
pub struct Guarded<A> {
    app: Arc<A>,
    places: Arc<Semaphore>,
    patience: Patience,
    tls: Option<Arc<DoorTls>>,
}

impl<A> Guarded<A> {
    /// Lets in at most `connections_max` at once; one more is closed unread.
    pub fn new(app: A, connections_max: usize, patience: Patience) -> Self {
        let places = connections_max.min(Semaphore::MAX_PERMITS);
        Self { app: Arc::new(app), places: Arc::new(Semaphore::new(places)), patience, tls: None }
    }

    /// The same, for connections that begin with TLS.
    pub fn behind(self, tls: Option<Arc<DoorTls>>) -> Self {
        Self { tls, ..self }
    }
}

impl<A: ServerApp + Send + Sync + 'static> Guarded<A> {
    /// Serves a connection in the clear whose other end is known as far as it can be.
    pub(super) async fn serve(&self, wire: Wire, peer: Peer, shutdown: &ShutdownWatch) -> Option<Stream> {
        let Ok(_place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("too many connections; one was closed unread");
            return None;
        };
        let (wire, peer) = match (&self.tls, wire) {
            // A client that does not finish its handshake holds a place no longer than one that does not finish a head.
            (Some(tls), Wire::Plain(stream)) => {
                let (stream, peer) = tls.accept(stream, self.patience.head).await?;
                (Wire::Tls(stream), peer)
            }
            (_, wire) => (wire, peer),
        };
        let pace = Arc::new(Pace::default());
        let deadline = Instant::now() + self.patience.idle;
        let paced = Paced {
            stream: wire,
            pace: Arc::clone(&pace),
            patience: self.patience,
            seen: BETWEEN,
            head_bytes: 0,
            chunks: Chunks::default(),
            timer: Box::pin(sleep_until(deadline)),
            stuck: None,
        };
        peer.scope(PACE.scope(pace, self.app.process_new(Box::new(paced), shutdown))).await
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Guarded<A> {
    async fn process_new(self: &Arc<Self>, session: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.serve(Wire::Plain(session), Peer::Anybody, shutdown).await
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}

/// A connection whose reads know in which part of a request they are.
struct Paced {
    stream: Wire,
    pace: Arc<Pace>,
    patience: Patience,
    seen: u8,
    head_bytes: usize,
    chunks: Chunks,
    timer: Pin<Box<Sleep>>,
    /// Runs while a write makes no progress.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// Lets a write wait for a client that reads slowly, and gives up one that does not read at all.
    fn unless_stuck<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let patience = self.patience.write;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        stuck.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Says why, as far as the client still listens, and ends the connection.
    fn refuse_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.stream;
        if let Poll::Ready(Ok(_)) = Pin::new(&mut *stream).poll_write(cx, HEAD_TOO_LARGE) {
            let _ = Pin::new(stream).poll_flush(cx);
        }
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }
}

impl fmt::Debug for Paced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stream.fmt(f)
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let pace = this.pace.part.load(Ordering::Acquire);
        if pace == BETWEEN && this.seen != BETWEEN {
            this.timer.as_mut().reset(Instant::now() + this.patience.idle);
            this.head_bytes = 0;
        }
        this.seen = pace;
        if pace != IN_CALL && this.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if pace == IN_HEAD && this.head_bytes > HEAD_BYTES_MAX {
            return this.refuse_head(cx);
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let came = buf.filled().len() - before;
        this.chunks.see(&buf.filled()[before..]);
        if this.chunks.is_odd() {
            this.pace.is_odd.store(true, Ordering::Release);
        }
        if pace != IN_CALL {
            this.head_bytes += came;
        }
        if pace == BETWEEN && came > 0 {
            this.pace.part.store(IN_HEAD, Ordering::Release);
            this.seen = IN_HEAD;
            this.timer.as_mut().reset(Instant::now() + this.patience.head);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.unless_stuck(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.unless_stuck(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.unless_stuck(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Paced {
    async fn shutdown(&mut self) {
        // A client that does not read must not keep the connection for a farewell.
        let _ = timeout(self.patience.write, AsyncWriteExt::shutdown(&mut self.stream)).await;
    }
}

impl UniqueID for Paced {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Paced {}

impl GetTimingDigest for Paced {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.socket().map(|socket| socket.get_timing_digest()).unwrap_or_default()
    }
}

impl GetProxyDigest for Paced {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.socket().and_then(|socket| socket.get_proxy_digest())
    }
}

impl GetSocketDigest for Paced {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.socket().and_then(|socket| socket.get_socket_digest())
    }
}

#[async_trait]
impl Peek for Paced {}

//! What pingora leaves to its user: a bound on connections, deadlines and a size for a head as a whole, and an end that
//! cuts nobody. A client that sends one byte every few seconds is cut off, however alive it looks.

use super::peer::Peer;
use super::tls::DoorTls;
use super::wire::Wire;
use crate::engine::{Stage, Stages};
use crate::policy::chunks::Chunks;
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep_until};

/// The largest head. pingora alone would hold a megabyte for each connection.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// RFC 6585 §5.
const HEAD_TOO_LARGE: &[u8] =
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Once perch hangs up, how long a connection may still begin a call: whoever has connected, or has just written, is
/// heard and told. Many times a way through a cluster, and no delay that anybody minds.
const FAREWELL: Duration = Duration::from_millis(300);
/// While perch stops, how long a client may take to read what was written to it, before its connection is given up.
const LINGER: Duration = Duration::from_secs(2);

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
    /// How many bytes have come.
    came: AtomicU64,
    /// How many of them were read as requests.
    read: AtomicU64,
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

    /// A request of so many bytes, head and body, has been read.
    pub fn request_is_read(bytes: u64) {
        let _ = PACE.try_with(|pace| pace.read.fetch_add(bytes, Ordering::AcqRel));
    }

    /// Whether more has come than the requests so far: the next one, written without waiting for this one's answer.
    pub fn more_has_come() -> bool {
        let more = |pace: &Arc<Pace>| pace.came.load(Ordering::Acquire) > pace.read.load(Ordering::Acquire);
        PACE.try_with(more).unwrap_or(false)
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
    places_max: usize,
    patience: Patience,
    stages: Stages,
    tls: Option<Arc<DoorTls>>,
}

impl<A> Guarded<A> {
    /// Lets in at most `connections_max` at once; one more is closed unread.
    pub fn new(app: A, connections_max: usize, patience: Patience, stages: Stages) -> Self {
        let places_max = connections_max.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places_max));
        Self { app: Arc::new(app), places, places_max, patience, stages, tls: None }
    }

    /// How far perch is with stopping.
    pub(super) fn stages(&self) -> Stages {
        self.stages.clone()
    }

    /// The same, for connections that begin with TLS.
    pub fn behind(self, tls: Option<Arc<DoorTls>>) -> Self {
        Self { tls, ..self }
    }
}

impl<A: ServerApp + Send + Sync + 'static> Guarded<A> {
    /// Serves a connection in the clear whose other end is known as far as it can be.
    pub(super) fn serve(self: &Arc<Self>, wire: Wire, peer: Peer) {
        // It is taken here and not in the task: a connection that was accepted counts from then on.
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("too many connections; one was closed unread");
            return;
        };
        let guarded = Arc::clone(self);
        tokio::spawn(async move {
            guarded.converse(wire, peer).await;
            drop(place);
        });
    }

    /// Waits until every connection has ended. Let nobody in any more before.
    pub(super) async fn all_ended(&self) {
        let all = u32::try_from(self.places_max).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
    }

    async fn converse(&self, wire: Wire, peer: Peer) {
        let (wire, peer) = match (&self.tls, wire) {
            // A client that does not finish its handshake holds a place no longer than one that does not finish a head.
            (Some(tls), Wire::Plain(stream)) => {
                let Some((stream, peer)) = tls.accept(stream, self.patience.head).await else { return };
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
            is_shut: false,
            stages: self.stages.clone(),
            hanging_up: Some(Box::pin(hanging_up(self.stages.clone()))),
        };
        // pingora would end the connection after the answer under way, and cut whoever has written the next request
        // already. When to close is decided here and in the proxy door.
        let (_, never) = watch::channel(false);
        // An app for HTTP keeps the connection until its end.
        let _ended = peer.scope(PACE.scope(pace, self.app.process_new(Box::new(paced), &never))).await;
    }
}

/// Ends when perch hangs up.
async fn hanging_up(mut stages: Stages) {
    stages.reached(Stage::HangingUp).await;
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
    /// perch has said its last.
    is_shut: bool,
    stages: Stages,
    /// Until perch has hung up.
    hanging_up: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Paced {
    /// How long a connection may be silent.
    fn idle(&self) -> Duration {
        match self.hanging_up {
            Some(_) => self.patience.idle,
            None => self.patience.idle.min(FAREWELL),
        }
    }

    /// Notices that perch hangs up; a connection on which nothing is said ends soon then.
    fn heed_hanging_up(&mut self, cx: &mut Context<'_>) {
        if self.hanging_up.as_mut().is_some_and(|hanging_up| hanging_up.as_mut().poll(cx).is_ready()) {
            self.hanging_up = None;
            let end = self.timer.deadline().min(Instant::now() + FAREWELL);
            self.timer.as_mut().reset(end);
        }
    }

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
            let end = Instant::now() + this.idle();
            this.timer.as_mut().reset(end);
            this.head_bytes = 0;
        }
        this.seen = pace;
        if pace == BETWEEN {
            this.heed_hanging_up(cx);
        }
        if pace == IN_HEAD && this.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if pace == IN_HEAD && this.head_bytes > HEAD_BYTES_MAX {
            return this.refuse_head(cx);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        // A request that came in time is heard, however late perch comes to look.
        if pace == BETWEEN && read.is_pending() && this.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        ready!(read)?;
        let came = buf.filled().len() - before;
        this.pace.came.fetch_add(came as u64, Ordering::AcqRel);
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
        let this = &mut *self;
        if !this.is_shut {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            // A client that does not read must not keep the connection for a farewell.
            ready!(this.unless_stuck(cx, shut))?;
            this.is_shut = true;
            this.timer.as_mut().reset(Instant::now() + LINGER);
        }
        // What lies in the system's buffers goes with the pod, and bytes left unread would reset the connection: while
        // perch stops, it waits until the client has read all and closes too.
        if this.stages.now() == Stage::Serving {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut unread = [0; 1024];
            let mut unread = ReadBuf::new(&mut unread);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut unread)) {
                Ok(()) if !unread.filled().is_empty() => {}
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
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
        let _ = AsyncWriteExt::shutdown(self).await;
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
        Vec::new()
    }
}

impl GetProxyDigest for Paced {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Paced {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

#[async_trait]
impl Peek for Paced {}

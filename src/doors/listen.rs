//! Sockets, bound before anything else starts: a door that cannot open is a reason not to start, and
//! port 0 becomes a real port that can be told. A door that closes answers everybody who had reached it.

use super::guard::Guarded;
use super::peer::Peer;
use super::wire::Wire;
use crate::config::Address;
use crate::engine::Stage;
use pingora::apps::ServerApp;
use std::fs::Permissions;
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::BufStream;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{Instant, timeout_at};

/// Reading four kilobytes at a time is enough for requests of this kind; pingora's default of 64 is
/// memory on every connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// What small answers are gathered in before they are sent: pingora's own size.
const WRITE_BUFFER_BYTES: usize = 1460;

/// After a connection could not be accepted for want of files or memory: at once there would be none either.
const BREATHER: Duration = Duration::from_secs(1);

/// A door that closes takes in who is on the way until nobody has come for so long: many times a way through a cluster.
const LAST_CALL: Duration = Duration::from_millis(100);
/// And no longer than this in all: where the system goes on to let clients in, they would come for ever.
const LAST_CALL_MAX: Duration = Duration::from_secs(1);

/// A socket that listens and waits for its door.
pub struct Bound {
    address: Address,
    socket: Socket,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Wire, Peer)>> {
        Poll::Ready(Ok(match self {
            Socket::Tcp(listener) => tcp(ready!(listener.poll_accept(cx))?.0),
            Socket::Unix(listener) => unix(ready!(listener.poll_accept(cx))?.0),
        }))
    }

    /// The next connection.
    async fn accept(&self) -> io::Result<(Wire, Peer)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Nobody new can connect, though who has connected already is not lost: the door still has them to take in.
    fn let_nobody_more_in(&self, address: &Address) {
        match (self, address) {
            (Socket::Tcp(listener), _) => {
                if let Err(error) = ignore_connects(listener) {
                    tracing::warn!(error = %error, "a door closes while clients may still connect to it");
                }
            }
            (Socket::Unix(_), Address::Unix(path)) => {
                let _ = std::fs::remove_file(path);
            }
            (Socket::Unix(_), Address::Tcp(_)) => {}
        }
    }

    /// Who has connected and was not taken in yet, asked of the system itself. More may come all the while.
    fn rest(self) -> Vec<(Wire, Peer)> {
        let mut rest = Vec::new();
        let end = Instant::now() + LAST_CALL;
        match self {
            Socket::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return rest };
                while Instant::now() < end
                    && let Ok((stream, _)) = listener.accept()
                {
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    rest.extend(stream.ok().map(tcp));
                }
            }
            Socket::Unix(listener) => {
                let Ok(listener) = listener.into_std() else { return rest };
                while Instant::now() < end
                    && let Ok((stream, _)) = listener.accept()
                {
                    let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
                    rest.extend(stream.ok().map(unix));
                }
            }
        }
        rest
    }
}

fn tcp(stream: TcpStream) -> (Wire, Peer) {
    // An answer is written whole; waiting for more of it to send would only delay it.
    let _ = stream.set_nodelay(true);
    let stream = BufStream::with_capacity(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES, stream);
    (Wire::Plain(Box::new(stream)), Peer::Anybody)
}

fn unix(stream: UnixStream) -> (Wire, Peer) {
    let peer = Peer::on(&stream);
    let stream = BufStream::with_capacity(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES, stream);
    (Wire::Unix(Box::new(stream)), peer)
}

/// Has the system drop every wish to connect (a SYN without ACK) from now on. Closing a socket resets the connections that
/// wait in its queue; with this the queue comes to an end first. Whoever is not let in knocks again a second later and
/// is refused: an error before anything was sent.
#[cfg(target_os = "linux")]
fn ignore_connects(listener: &TcpListener) -> io::Result<()> {
    use socket2::SockFilter;
    // The operations of classic BPF (linux/filter.h), on a packet that begins with its TCP head.
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const FLAGS_AT: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket2::SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_AT),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Other systems do not offer it.
#[cfg(not(target_os = "linux"))]
fn ignore_connects(_listener: &TcpListener) -> io::Result<()> {
    Ok(())
}

/// Why a door cannot open.
#[derive(Debug)]
pub struct ListenError {
    address: Address,
    cause: io::Error,
}

impl std::fmt::Display for ListenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.cause)
    }
}

impl std::error::Error for ListenError {}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Bound").field(&self.address).finish()
    }
}

impl Bound {
    /// Binds.
    ///
    /// # Errors
    /// The address is taken, or not this machine's.
    pub fn to(address: &Address) -> Result<Self, ListenError> {
        let failed = |cause| ListenError { address: address.clone(), cause };
        match address {
            Address::Tcp(at) => {
                let listener = std::net::TcpListener::bind(at).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let listener = TcpListener::from_std(listener).map_err(failed)?;
                let at = listener.local_addr().map_err(failed)?;
                Ok(Self { address: Address::Tcp(at), socket: Socket::Tcp(listener) })
            }
            Address::Unix(path) => {
                let listener = bind_unix(path).map_err(failed)?;
                Ok(Self { address: address.clone(), socket: Socket::Unix(listener) })
            }
        }
    }

    /// Where it really listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Lets connections in until perch hangs up, then closes; ends when the last connection has.
    pub async fn serve<A: ServerApp + Send + Sync + 'static>(self, name: &str, app: Guarded<A>) {
        let Self { address, socket } = self;
        let app = Arc::new(app);
        let mut stages = app.stages();
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = stages.reached(Stage::HangingUp) => break,
            };
            match accepted {
                Ok((wire, peer)) => app.serve(wire, peer),
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    tracing::error!(error = %error, door = name, "a connection could not be accepted");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
        socket.let_nobody_more_in(&address);
        let end = Instant::now() + LAST_CALL_MAX;
        while let Ok(Ok((wire, peer))) =
            timeout_at(end.min(Instant::now() + LAST_CALL), socket.accept()).await
        {
            app.serve(wire, peer);
            if Instant::now() >= end {
                tracing::warn!(
                    door = name,
                    "clients still connect to a door that closes; whoever comes now is cut off"
                );
                break;
            }
        }
        for (wire, peer) in socket.rest() {
            app.serve(wire, peer);
        }
        app.all_ended().await;
    }
}

/// Whether a client has left before it was let in: no reason to let the next one wait.
fn is_of_one_client(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// Takes the place of a socket that nobody answers any more; one that somebody answers is left alone.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && StdUnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

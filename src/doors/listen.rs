//! Sockets, bound before anything else starts: a door that cannot open is a reason not to start, and
//! port 0 becomes a real port that can be told.

use super::guard::Guarded;
use super::peer::Peer;
use super::wire::Wire;
use crate::config::Address;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::{L4BufferSettings, ListenerConfig, Listeners};
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufStream;
use tokio::net::UnixListener;

/// Reading four kilobytes at a time is enough for requests of this kind; pingora's default of 64 is
/// memory on every connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// What small answers are gathered in before they are sent: pingora's own size.
const WRITE_BUFFER_BYTES: usize = 1460;

/// After a connection could not be accepted: there are no files left, and at once there would be none either.
const BREATHER: Duration = Duration::from_secs(1);

/// A socket that listens and waits for its door.
pub struct Bound {
    address: Address,
    socket: Socket,
}

enum Socket {
    /// pingora accepts; it looks for the socket by its name.
    Tcp(String, ListenFds),
    /// perch accepts, to see who calls.
    Unix(UnixListener),
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
                let listener = TcpListener::bind(at).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let at = listener.local_addr().map_err(failed)?;
                let mut fds = Fds::new();
                fds.add(at.to_string(), listener.into_raw_fd());
                let socket = Socket::Tcp(at.to_string(), Arc::new(Mutex::new(fds)));
                Ok(Self { address: Address::Tcp(at), socket })
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

    /// Its TCP address, when it has one.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::Tcp(at) => Some(*at),
            Address::Unix(_) => None,
        }
    }

    /// Serves until `shutdown` says `true`.
    pub async fn serve<A: ServerApp + Send + Sync + 'static>(
        self,
        name: &str,
        app: Guarded<A>,
        shutdown: ShutdownWatch,
    ) {
        match self.socket {
            Socket::Tcp(at, fds) => {
                let buffers = L4BufferSettings::new(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES);
                let mut service = Service::with_listeners(name.to_owned(), Listeners::new(), app);
                service.add_listener(ListenerConfig::tcp(at).l4_buffer(buffers));
                service.start_service(Some(fds), shutdown, 1).await;
            }
            Socket::Unix(listener) => {
                accept(name, listener, Arc::new(app), shutdown).await;
                if let Address::Unix(path) = &self.address {
                    let _ = std::fs::remove_file(path);
                }
            }
        }
    }
}

/// Lets connections in, each in a task of its own.
async fn accept<A: ServerApp + Send + Sync + 'static>(
    name: &str,
    listener: UnixListener,
    app: Arc<Guarded<A>>,
    mut shutdown: ShutdownWatch,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((socket, _)) => {
                let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
                tokio::spawn(async move {
                    let peer = Peer::on(&socket);
                    let socket = BufStream::with_capacity(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES, socket);
                    app.serve(Wire::Unix(Box::new(socket)), peer, &shutdown).await;
                });
            }
            Err(error) => {
                tracing::error!(error = %error, door = name, "a connection could not be accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
    app.cleanup().await;
}

/// Takes the place of a socket that nobody answers any more; one that somebody answers is left alone.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && UnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

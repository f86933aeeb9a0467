//! Sockets, bound before anything else starts: a door that cannot open is a reason not to start, and
//! port 0 becomes a real port that can be told.

use crate::config::Address;
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::{ListenerConfig, Listeners};
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// Reading four kilobytes at a time is enough for requests of this kind; pingora's default of 64 is
/// memory on every connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// A socket that listens and waits for its door.
pub struct Bound {
    name: String,
    address: Address,
    fds: ListenFds,
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
        let (address, name, fd) = match address {
            Address::Tcp(at) => {
                let listener = TcpListener::bind(at).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let at = listener.local_addr().map_err(failed)?;
                (Address::Tcp(at), at.to_string(), listener.into_raw_fd())
            }
            Address::Unix(path) => {
                let listener = bind_unix(path).map_err(failed)?;
                (address.clone(), path.display().to_string(), listener.into_raw_fd())
            }
        };
        let mut fds = Fds::new();
        fds.add(name.clone(), fd);
        Ok(Self { name, address, fds: Arc::new(Mutex::new(fds)) })
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
        app: A,
        shutdown: ShutdownWatch,
    ) {
        let endpoint = match &self.address {
            Address::Tcp(_) => ListenerConfig::tcp(self.name.as_str()),
            Address::Unix(_) => {
                ListenerConfig::uds(self.name.as_str()).permissions(Permissions::from_mode(0o660))
            }
        };
        let buffers = pingora::listeners::L4BufferSettings::new(READ_BUFFER_BYTES, 1460);
        let mut service = Service::with_listeners(name.to_owned(), Listeners::new(), app);
        service.add_listener(endpoint.l4_buffer(buffers));
        service.start_service(Some(self.fds), shutdown, 1).await;
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Takes the place of a socket that nobody answers any more; one that somebody answers is left alone.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && UnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

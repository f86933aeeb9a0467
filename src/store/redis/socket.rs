//! Opens connections: TCP, TLS over it, or a Unix socket. TLS is the same rustls that speaks to Finch.

use super::reply::LinkError;
use crate::config::{RedisUrl, Seed};
use crate::store::trust::{self, TrustError};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls_pki_types::ServerName;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// What `rediss://` needs; nothing for the others.
///
/// # Errors
/// [`TrustError`]: no certificate of a server could be verified.
pub(super) fn tls_of(url: &RedisUrl) -> Result<Option<TlsConnector>, TrustError> {
    match url.tls {
        true => trust::connector(url.ca_file.as_deref(), "limits.ca_file").map(Some),
        false => Ok(None),
    }
}

/// An open connection, and the task that moves its bytes. Whoever drops it closes it.
pub(super) struct Wire {
    pub(super) connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens a connection; nothing is said yet. The caller bounds the time.
///
/// # Errors
/// [`LinkError::Broken`], with the address.
pub(super) async fn open(seed: &Seed, tls: Option<&TlsConnector>) -> Result<Wire, LinkError> {
    let broken = |error: io::Error| LinkError::Broken(format!("{seed}: {error}"));
    match seed {
        Seed::Unix(path) => speak(UnixStream::connect(path).await.map_err(broken)?).await,
        Seed::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(broken)?;
            // Every call is one small packet that somebody waits for.
            stream.set_nodelay(true).map_err(broken)?;
            let Some(tls) = tls else { return speak(stream).await };
            let name = ServerName::try_from(host.clone())
                .map_err(|_| LinkError::Broken(format!("{seed}: no name that a certificate could have")))?;
            speak(tls.connect(name, stream).await.map_err(broken)?).await
        }
    }
}

async fn speak<S>(stream: S) -> Result<Wire, LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Signing in is left to the caller, so that no password gets into a structure that others may print.
    let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(&silent, stream, config)
        .await
        .map_err(|error| LinkError::of(&error))?;
    Ok(Wire { connection, driver: tokio::spawn(driver).abort_handle() })
}

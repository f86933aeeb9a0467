//! Opens connections: TCP, TLS over it, or a Unix socket. TLS is the same rustls that speaks to Finch.

use super::reply::LinkError;
use crate::config::{RedisUrl, Seed};
use pingora::tls::load_native_certs;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be prepared.
#[derive(Debug)]
pub enum TrustError {
    /// The file cannot be read as PEM certificates.
    File(PathBuf, String),
    /// There is nothing to trust.
    Empty(String),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::File(path, why) => {
                write!(
                    f,
                    "limits.ca_file {} cannot be used: {why}; name a file of PEM certificates",
                    path.display()
                )
            }
            TrustError::Empty(why) => write!(
                f,
                "the system's trust anchors cannot be used for limits.store: {why}; mend them (SSL_CERT_FILE, \
                 SSL_CERT_DIR), or name the store's anchor in limits.ca_file"
            ),
        }
    }
}

impl std::error::Error for TrustError {}

/// What `rediss://` needs; nothing for the others.
///
/// # Errors
/// [`TrustError`]: no certificate of a server could be verified.
pub(super) fn tls_of(url: &RedisUrl) -> Result<Option<TlsConnector>, TrustError> {
    if !url.tls {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    let system = load_native_certs();
    let why = system.as_ref().err().map(ToString::to_string).unwrap_or_else(|| "there are none".to_owned());
    // One damaged anchor of the system does not take the others away.
    roots.add_parsable_certificates(system.unwrap_or_default());
    if let Some(path) = &url.ca_file {
        let unusable = |why: String| TrustError::File(path.clone(), why);
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(e.to_string()))? {
            let certificate = certificate.map_err(|e| unusable(e.to_string()))?;
            roots.add(certificate).map_err(|e| unusable(e.to_string()))?;
            count += 1;
        }
        if count == 0 {
            return Err(unusable("it holds no certificate".to_owned()));
        }
    }
    if roots.is_empty() {
        return Err(TrustError::Empty(why));
    }
    // The provider is named: what another crate installs for the process, or does not, changes nothing here.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TrustError::Empty(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(TlsConnector::from(Arc::new(config))))
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

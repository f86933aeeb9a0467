//! Whose certificates are believed where perch is a TLS client of a store or a key service: the system's
//! anchors, and one file of the operator's beside them.

use pingora::tls::load_native_certs;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be prepared.
#[derive(Debug)]
pub enum TrustError {
    /// The file of this setting cannot be read as PEM certificates.
    File(&'static str, PathBuf, String),
    /// There is nothing to trust; this setting could name something.
    Empty(&'static str, String),
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::File(setting, path, why) => write!(
                f,
                "{setting} {} cannot be used: {why}; name a file of PEM certificates",
                path.display()
            ),
            TrustError::Empty(setting, why) => write!(
                f,
                "the system's trust anchors cannot be used: {why}; mend them (SSL_CERT_FILE, SSL_CERT_DIR), or \
                 name the server's anchor in {setting}"
            ),
        }
    }
}

impl std::error::Error for TrustError {}

/// What opens TLS to servers that the system's anchors, or those in `ca_file`, vouch for. `setting` is the
/// name of the key that `ca_file` comes from.
///
/// # Errors
/// [`TrustError`]: no certificate of a server could be verified.
pub fn connector(ca_file: Option<&Path>, setting: &'static str) -> Result<TlsConnector, TrustError> {
    Ok(TlsConnector::from(Arc::new(client_config(ca_file, setting)?)))
}

/// The same, for a client that opens TLS itself.
///
/// # Errors
/// As [`connector`].
pub fn client_config(ca_file: Option<&Path>, setting: &'static str) -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    let system = load_native_certs();
    let why = system.as_ref().err().map(ToString::to_string).unwrap_or_else(|| "there are none".to_owned());
    // One damaged anchor of the system does not take the others away.
    roots.add_parsable_certificates(system.unwrap_or_default());
    if let Some(path) = ca_file {
        let unusable = |why: String| TrustError::File(setting, path.to_owned(), why);
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
        return Err(TrustError::Empty(setting, why));
    }
    // The provider is named: what another crate installs for the process, or does not, changes nothing here.
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| TrustError::Empty(setting, e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

//! Whom to trust: the system's roots and one file of the operator's beside them.
//!
//! pingora takes either the system's roots or a list; so with an extra anchor the list is both.

use pingora::protocols::tls::CaType;
use pingora::tls::{RootCertStore, load_native_certs};
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::prelude::FromDer;

/// Why the way to Finch cannot be prepared.
#[derive(Debug)]
pub enum RootsError {
    /// The file cannot be read as PEM.
    Unreadable(PathBuf, String),
    /// The file holds no certificate.
    Empty(PathBuf),
    /// The system's own certificates cannot be used.
    System(String),
    /// The host is not a host name.
    Host(String),
}

impl std::fmt::Display for RootsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RootsError::Unreadable(path, why) => {
                write!(f, "finch.ca_file {} cannot be read as PEM certificates: {why}", path.display())
            }
            RootsError::Empty(path) => write!(f, "finch.ca_file {} holds no certificate", path.display()),
            RootsError::System(why) => write!(
                f,
                "the system's trust anchors cannot be used: {why}; mend them (SSL_CERT_FILE, SSL_CERT_DIR), or name the \
                 anchor of Finch in finch.ca_file"
            ),
            RootsError::Host(host) => write!(f, "finch.base_url: {host:?} is not a host"),
        }
    }
}

impl std::error::Error for RootsError {}

/// The system's roots and those of the file.
pub(super) fn with_system(file: &Path) -> Result<Arc<CaType>, RootsError> {
    let unreadable = |why: String| RootsError::Unreadable(file.to_owned(), why);
    let mut own = Vec::new();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unreadable(e.to_string()))? {
        let der = certificate.map_err(|e| unreadable(e.to_string()))?;
        if !is_sound(&der) {
            return Err(unreadable("a certificate in it is damaged".to_owned()));
        }
        own.push(der);
    }
    if own.is_empty() {
        return Err(RootsError::Empty(file.to_owned()));
    }
    // A machine without roots of its own is fine: the file then stands alone.
    let system = load_native_certs().unwrap_or_default().into_iter().filter(|der| is_sound(der));
    Ok(system.chain(own).map(|der| WrappedX509::new(der.to_vec(), parse_x509)).collect())
}

/// Whether the system's roots can be loaded, as pingora will load them.
pub(super) fn check_system() -> Result<(), RootsError> {
    let system = load_native_certs().map_err(|e| RootsError::System(e.to_string()))?;
    let mut store = RootCertStore::empty();
    for der in system {
        store.add(der).map_err(|e| RootsError::System(e.to_string()))?;
    }
    Ok(())
}

/// pingora's wrapper panics on a damaged certificate, so each is looked at first.
fn is_sound(der: &CertificateDer<'_>) -> bool {
    x509_parser::certificate::X509Certificate::from_der(der).is_ok()
}

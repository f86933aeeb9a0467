//! The files of the proxy door's TLS: read at load, so that what does not fit together is said with its place, and read
//! again by the door when they change.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The setting of the certificate.
pub(super) const CERT: &str = "listen.cert_file";
/// The setting of its key.
pub(super) const KEY: &str = "listen.key_file";
/// The setting of those who vouch for clients.
pub(super) const CLIENTS: &str = "apps.client_ca_file";

/// What the door shows, and whom it believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and those between it and its authority.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Who may vouch for clients; without it none is asked for a certificate.
    pub client_ca_file: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsError {
    /// The setting that names the file.
    pub setting: &'static str,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} cannot be used: {}", self.setting, self.file.display(), self.why)
    }
}

impl std::error::Error for TlsError {}

/// Which files they were: when nothing here changes, nothing in them did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsStamps(Vec<Option<(u64, u64, i64, i64)>>);

/// When certificates end, as Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsEnds {
    /// The door's own, or one between it and its authority: the one that ends first.
    pub own: Option<i64>,
    /// Those who vouch for clients: the one that ends last, for nobody gets in from then on.
    pub client_ca: Option<i64>,
}

impl TlsFiles {
    /// Reads and compares them.
    ///
    /// # Errors
    /// [`TlsError`]: one is unreadable, or they do not fit together.
    pub fn read(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let unusable = |setting: &'static str, file: &Path, why: &dyn fmt::Display| TlsError {
            setting,
            file: file.to_owned(),
            why: why.to_string(),
        };
        let cert = |why: &dyn fmt::Display| unusable(CERT, &self.cert_file, why);
        let key = |why: &dyn fmt::Display| unusable(KEY, &self.key_file, why);
        // The provider is named: what another crate installs for the process, or does not, changes nothing here.
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.cert_file).map_err(|why| cert(&why))?;
        let private = PrivateKeyDer::from_pem_file(&self.key_file).map_err(|why| key(&why))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| cert(&why))?;
        let builder = match &self.client_ca_file {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let clients = |why: &dyn fmt::Display| unusable(CLIENTS, path, why);
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path).map_err(|why| clients(&why))? {
                    roots.add(certificate).map_err(|why| clients(&why))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|why| clients(&why))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, private)
            .map_err(|why| key(&format_args!("it does not fit {}: {why}", self.cert_file.display())))?;
        // The door speaks HTTP/1.1 only.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A resumed session would bring an old certificate along without showing it: each connection shows its own.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// When what is in the files ends. Certificates without a place in time are left out.
    pub fn ends(&self) -> TlsEnds {
        let of =
            |path: &Path| certificates(path).unwrap_or_default().iter().filter_map(|c| end_of(c)).collect();
        let (own, clients): (Vec<i64>, Option<Vec<i64>>) =
            (of(&self.cert_file), self.client_ca_file.as_deref().map(of));
        TlsEnds { own: own.into_iter().min(), client_ca: clients.and_then(|all| all.into_iter().max()) }
    }

    /// Which files they are now.
    pub fn stamps(&self) -> TlsStamps {
        let files = [Some(&self.cert_file), Some(&self.key_file), self.client_ca_file.as_ref()];
        let stamp = |path| fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()));
        TlsStamps(files.into_iter().flatten().map(stamp).collect())
    }
}

/// When a certificate ends, as Unix seconds.
fn end_of(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// At least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).map_err(|why| why.to_string())?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(|why| why.to_string())?;
    if all.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(all) }
}

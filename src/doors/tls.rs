//! TLS at the proxy door: the operator's certificate, and, where apps are known by theirs, a certificate of the client's.
//! A handshake that fails is counted, with its reason. Files that change are read again; what was read stays while they do
//! not fit together.

use super::peer::Peer;
use super::wire::Tcp;
use crate::config::{TlsError, TlsFiles, TlsStamps};
use crate::telemetry::metrics::{Ages, Certificate, Handshake, Handshakes};
use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{CertificateError, Error, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How often the files are looked at: as often as the store is.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The part of a door that shakes hands.
pub struct DoorTls {
    files: TlsFiles,
    current: RwLock<Current>,
    handshakes: Handshakes,
    ages: Ages,
}

struct Current {
    config: Arc<ServerConfig>,
    /// Of the files when they were last read, whatever came of it.
    stamps: TlsStamps,
}

impl fmt::Debug for DoorTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DoorTls").field(&self.files).finish()
    }
}

impl DoorTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(files: TlsFiles, handshakes: Handshakes, ages: Ages) -> Result<Self, TlsError> {
        let stamps = files.stamps();
        let current = RwLock::new(Current { config: files.read()?, stamps });
        let door = Self { files, current, handshakes, ages };
        door.tell_ends();
        Ok(door)
    }

    /// Tells when the certificates that hold end. Files that are not there any more tell nothing new.
    fn tell_ends(&self) {
        let ends = self.files.ends();
        for (which, end) in [(Certificate::Proxy, ends.own), (Certificate::ClientCa, ends.client_ca)] {
            if let Some(end) = end {
                self.ages.certificate_ends(which, end);
            }
        }
    }

    /// Shakes hands; who it is, or nothing where that failed.
    pub(super) async fn accept(
        &self,
        stream: Tcp,
        patience: Duration,
    ) -> Option<(Box<TlsStream<Tcp>>, Peer)> {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).config);
        let why = match timeout(patience, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let peer = shown.map_or(Peer::Anybody, Peer::with);
                return Some((Box::new(stream), peer));
            }
            Ok(Err(error)) => why_refused(&error),
            Err(_) => Handshake::TimedOut,
        };
        self.handshakes.refused(why);
        tracing::debug!(why = why.as_str(), "a TLS handshake at the proxy door failed");
        None
    }

    /// Reads the files again when they have changed; whether anything new holds.
    pub(super) fn look(&self) -> bool {
        let stamps = self.files.stamps();
        if self.current.read().unwrap_or_else(PoisonError::into_inner).stamps == stamps {
            return false;
        }
        let read = self.files.read();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        current.stamps = stamps;
        match read {
            Ok(config) => {
                current.config = config;
                drop(current);
                self.tell_ends();
                tracing::info!("the certificates of the proxy door were read again");
                true
            }
            Err(why) => {
                tracing::error!(error = %why, "the certificates of the proxy door have changed and cannot be used; the older ones hold");
                false
            }
        }
    }

    /// Looks from time to time, until perch stops.
    pub async fn follow(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            let this = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || this.look()).await;
        }
    }
}

fn why_refused(error: &io::Error) -> Handshake {
    let Some(error) = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) else {
        return Handshake::Broken;
    };
    match error {
        Error::NoCertificatesPresented => Handshake::NoCertificate,
        // Whoever signed it may bear the name of one who is believed.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Handshake::UnknownIssuer
        }
        Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => Handshake::Expired,
        Error::InvalidCertificate(_) => Handshake::BadCertificate,
        _ => Handshake::Broken,
    }
}

#[cfg(test)]
mod tests;

//! Who holds the other end of a connection, as far as the connection itself proves it.

use crate::policy::certificate::{Certificate, CertificateName, Written};
use crate::policy::proof::Uid;
use crate::types::UnixMillis;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use tokio::net::UnixStream;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

tokio::task_local! {
    /// The other end of the connection whose task this is.
    static PEER: Arc<Peer>;
}

/// The other end.
#[derive(Debug)]
pub(super) enum Peer {
    /// Nothing is proved.
    Anybody,
    /// Whoever has the private key of this certificate.
    Certified(Certificate),
    /// A process of this user's. It may have handed the connection on; who opened it counts.
    User(Uid),
}

impl Peer {
    /// Serves a connection, so that whoever serves it can ask whose it is.
    pub(super) async fn scope<T>(self, serving: impl Future<Output = T>) -> T {
        PEER.scope(Arc::new(self), serving).await
    }

    /// Whose connection this task serves.
    pub(super) fn of_this_connection() -> Arc<Peer> {
        PEER.try_with(Arc::clone).unwrap_or_else(|_| Arc::new(Peer::Anybody))
    }

    /// What the system says of a Unix socket's other end (`SO_PEERCRED`).
    pub(super) fn on(socket: &UnixStream) -> Self {
        let uid = socket.peer_cred().ok().and_then(|of| Uid::new(of.uid()).ok());
        uid.map_or(Peer::Anybody, Peer::User)
    }

    /// What a certificate says that TLS has verified. One that cannot be read whole has no names.
    pub(super) fn with(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Peer::Anybody };
        let expires = UnixMillis(certificate.validity().not_after.timestamp().saturating_mul(1000));
        Peer::Certified(Certificate { names: names_in(&certificate).unwrap_or_default(), expires })
    }
}

fn names_in(certificate: &X509Certificate<'_>) -> Option<Vec<CertificateName>> {
    let mut written = Written::default();
    if let Some(alternative) = certificate.subject_alternative_name().ok()? {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::URI(uri) => written.uris.push(uri),
                GeneralName::DNSName(name) => written.dns.push(name),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
    }
    for name in certificate.subject().iter_common_name() {
        written.common.push(name.as_str().ok()?);
    }
    Some(written.names())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    fn shown(names: Vec<SanType>, common: &[&str]) -> Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.not_after = date_time_ymd(2030, 1, 1);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        match Peer::with(certificate.der()) {
            Peer::Certified(certificate) => certificate,
            Peer::Anybody | Peer::User(_) => panic!("it is sound"),
        }
    }

    #[test]
    fn names_and_end_of_a_certificate_are_read() {
        let uri = SanType::URI("spiffe://a/b".try_into().unwrap());
        let dns = SanType::DnsName("X.internal".try_into().unwrap());
        let mail = SanType::Rfc822Name("a@b.c".try_into().unwrap());
        let address = SanType::IpAddress([10, 0, 0, 7].into());
        let both = shown(vec![mail.clone(), uri, address, dns], &["z"]);
        let names: Vec<String> = both.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["spiffe://a/b", "x.internal"]);
        // 2030-01-01T00:00:00Z
        assert_eq!(both.expires, UnixMillis(1_893_456_000_000));
        let neither = shown(vec![mail], &["z"]);
        assert_eq!(neither.names, [CertificateName::Common("z".into())]);
    }

    #[test]
    fn what_is_no_certificate_proves_nothing() {
        assert!(matches!(Peer::with(&CertificateDer::from(b"\x30\x03\x02\x01".to_vec())), Peer::Anybody));
    }

    #[tokio::test]
    async fn whose_connection_it_is_is_known_where_it_is_served_and_nowhere_else() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let peer = Peer::on(&socket);
        let seen = peer.scope(async { Peer::of_this_connection() }).await;
        assert!(matches!(&*seen, Peer::User(user) if user.get() == uid), "{seen:?}");
        assert!(matches!(&*Peer::of_this_connection(), Peer::Anybody));
    }
}

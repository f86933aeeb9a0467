//! The simulator behind TLS, over HTTP/1.1 or HTTP/2, with certificates of a test's own making.

use super::TOKEN_MARKER;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use perch::sim::{Options, Reply, Scenario, Sim};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType, date_time_ymd,
};
use rustls_pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The token of the customer `acme`, here and in a vault.
pub const TOKEN: &str = "CANARY-token-9c3e-tls";

/// Who vouches for certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this name, good from one year to another.
    pub fn certify(&self, name: &str, years: (i32, i32)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }
}

impl Authority {
    /// A certificate of these alternative names and this common name, as an app shows it; `change` may add to it.
    pub fn vouch(
        &self,
        names: &[SanType],
        common: Option<&str>,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names = names.to_vec();
        params.distinguished_name = DistinguishedName::new();
        if let Some(name) = common {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Identity { chain: vec![certificate.der().clone()], key: key.serialize_der() }
    }

    /// A client that believes the authority of this certificate and offers these protocols.
    pub fn offering(pem: &str, protocols: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("an anchor");
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A client that believes this authority and shows `identity`.
    pub fn client(&self, identity: Option<&Identity>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("an anchor");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), PrivateKeyDer::Pkcs8(key.clone().into()))
                .expect("key and certificate fit"),
        };
        TlsConnector::from(Arc::new(config))
    }
}

/// What somebody shows.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Identity {
    /// The certificate and its key, as files have them.
    pub fn pem(&self) -> (String, String) {
        let armoured = |label: &str, der: &[u8]| {
            let lines = STANDARD.encode(der).into_bytes();
            let lines: Vec<&str> =
                lines.chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
        };
        (armoured("CERTIFICATE", &self.chain[0]), armoured("PRIVATE KEY", &self.key))
    }

    /// Writes certificate and key where a gateway reads them.
    pub fn write(&self, cert_file: &Path, key_file: &Path) {
        let (chain, key) = self.pem();
        std::fs::write(cert_file, chain).expect("a writable folder");
        std::fs::write(key_file, key).expect("a writable folder");
    }

    /// What shows it to clients, offering these protocols.
    pub fn acceptor(self, protocols: &[&str]) -> TlsAcceptor {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(self.chain, PrivateKeyDer::Pkcs8(self.key.into()))
            .expect("key and certificate fit");
        config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A request as the server's HTTP stack understood it.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub version: Version,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// What the server says.
type Said = BoxBody<Bytes, std::io::Error>;

/// A body in one piece, and whether it breaks off behind it.
struct Part(Option<Bytes>, bool);

impl Body for Part {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let broken = self.1.then(|| Err(std::io::ErrorKind::ConnectionReset.into()));
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))).or(broken))
    }
}

/// The server.
pub struct TlsFinch {
    pub address: SocketAddr,
    sim: Arc<Sim>,
    arrived: watch::Sender<Vec<Arrived>>,
    connections: AtomicUsize,
    handshakes: AtomicUsize,
}

impl TlsFinch {
    /// Listens where `localhost` leads, offering these protocols.
    pub async fn start(identity: Identity, protocols: &[&str]) -> Arc<Self> {
        let at = lookup_host(("localhost", 0)).await.expect("it resolves").next().expect("an address");
        let listener = TcpListener::bind(at).await.expect("a free port");
        let scenario = format!("[[customer]]\nid = \"acme\"\ntoken = \"{TOKEN}\"\n");
        let finch = Arc::new(Self {
            address: listener.local_addr().expect("an address"),
            sim: Sim::new(Options {
                token_marker: Some(TOKEN_MARKER.to_owned()),
                scenario: Scenario::parse(&scenario, "test.toml").expect("a sound scenario"),
                ..Options::default()
            }),
            arrived: watch::Sender::new(Vec::new()),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
        });
        let acceptor = identity.acceptor(protocols);
        let server = Arc::clone(&finch);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                server.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(Arc::clone(&server).converse(acceptor.clone(), socket));
            }
        });
        finch
    }

    /// For `Setup::finch`.
    pub fn url(&self) -> String {
        format!("https://{}", self.authority())
    }

    /// Name and port, as a client should say them.
    pub fn authority(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    /// Breaks down like this, as the simulator takes it.
    pub async fn fault(&self, fault: serde_json::Value) {
        self.order("POST", fault.to_string()).await;
    }

    /// Breaks down no more.
    pub async fn mend(&self) {
        self.order("DELETE", String::new()).await;
    }

    async fn order(&self, method: &str, body: String) {
        let request = Request::builder().method(method).uri("/_sim/faults").body(Bytes::from(body));
        match self.sim.respond(request.expect("a request")).await {
            Reply::Answer(answer) => assert_eq!(answer.status(), 200, "{:?}", answer.body()),
            other => panic!("{other:?}"),
        }
    }

    /// Every request so far.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.arrived.borrow().clone()
    }

    /// How many connections were opened, and how many of them got as far as a whole handshake.
    pub fn connections(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.handshakes.load(Ordering::SeqCst))
    }

    async fn converse(self: Arc<Self>, acceptor: TlsAcceptor, socket: TcpStream) {
        // Refusing the certificate is the client's right.
        let Ok(stream) = acceptor.accept(socket).await else { return };
        self.handshakes.fetch_add(1, Ordering::SeqCst);
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let service = service_fn(move |request: Request<Incoming>| Arc::clone(&self).exchange(request));
        let _ = match is_h2 {
            true => {
                http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            }
            false => http1::Builder::new().serve_connection(TokioIo::new(stream), service).await,
        };
    }

    async fn exchange(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Said>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let (version, uri, headers) = (head.version, head.uri.clone(), head.headers.clone());
        self.arrived.send_modify(|all| all.push(Arrived { version, uri, headers, body: body.clone() }));
        match self.sim.respond(Request::from_parts(head, body)).await {
            Reply::Answer(response) => Ok(response.map(|body| Part(Some(body), false).boxed())),
            // Over HTTP/2 that is a reset of the stream; over HTTP/1.1 the end of the connection.
            Reply::Reset | Reply::Rubbish(_) => Err(std::io::ErrorKind::ConnectionReset.into()),
            Reply::Stall => std::future::pending().await,
            Reply::Truncated(response) => {
                let half = |body: Bytes| Part(Some(body.slice(..body.len() / 2)), true);
                Ok(response.map(|body| half(body).boxed()))
            }
        }
    }
}

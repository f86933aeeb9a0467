//! FLOOR 2: one attempt at Finch. Connect, send, read; no second try, no decision, no quota.
//!
//! Built on pingora's own connector: pool, TLS, HTTP/1.1 and HTTP/2 by ALPN. The caller spends one
//! admission per [`Connected::send`] and learns from its error whether a byte may have reached Finch.

mod answer;
mod introspect;
mod roots;

pub use answer::{Answer, Body, ReadError, Rest};
pub use introspect::{IntrospectError, Introspection, introspect};
pub use roots::RootsError;

use crate::config::BaseUrl;
use crate::policy::wire;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::tls::CaType;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Where Finch is, and how long it may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Scheme, host and port.
    pub base: BaseUrl,
    /// One more trust anchor, PEM, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the first byte sent to the last byte of an inspected answer. Finch may take six minutes.
    pub answer_timeout: Duration,
}

/// One request, ready to be written. It does not print what it holds: its headers and its body may
/// hold secrets.
#[derive(Clone)]
pub struct Attempt {
    /// The method.
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Everything but `Host` and framing.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").field("method", &self.method).finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// No connection: not a byte was written.
    Unreachable(&'static str),
    /// The exchange broke after writing began. `stale` tells that a pooled connection turned out to
    /// be dead before any byte of an answer.
    Broken {
        /// What broke.
        why: &'static str,
        /// Whether a kept connection had been closed by Finch meanwhile.
        stale: bool,
    },
    /// No answer in time.
    TimedOut,
    /// What came is no answer of HTTP's.
    BadAnswer(&'static str),
}

impl SendError {
    /// What went wrong, in words.
    pub const fn why(&self) -> &'static str {
        match self {
            SendError::Unreachable(why) | SendError::Broken { why, .. } | SendError::BadAnswer(why) => why,
            SendError::TimedOut => "no answer in time",
        }
    }
}

/// How long a looked-up address is used before it is looked up again.
const ADDRESS_KEPT: Duration = Duration::from_secs(30);
/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 3;
/// Finch may think for six minutes, and many a firewall forgets a silent connection after five.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(30),
    interval: Duration::from_secs(10),
    count: 3,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::from_secs(60),
};
/// Finch does not take a byte of the request for this long.
const WRITE_GAP_MAX: Duration = Duration::from_secs(60);
/// A silent connection is given up after this long between two pieces of a streamed body.
const READ_GAP_MAX: Duration = Duration::from_secs(60);
/// Kept connections idle longer than this are closed; below the minute at which load balancers do.
const IDLE_MAX: Duration = Duration::from_secs(55);
/// 1xx answers read before giving up.
const INFORMATIONAL_MAX: u32 = 8;

/// The way to Finch.
pub struct Finch {
    connector: Arc<Connector>,
    settings: Settings,
    host_header: HeaderValue,
    roots: Option<Arc<CaType>>,
    known: Mutex<Option<Known>>,
}

impl std::fmt::Debug for Finch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Finch").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Finch {
    /// Prepares the way; connects to nothing yet.
    ///
    /// # Errors
    /// The extra trust anchor cannot be read.
    pub fn new(settings: Settings) -> Result<Self, RootsError> {
        let roots = match &settings.ca_file {
            Some(file) => Some(roots::with_system(file)?),
            None if settings.base.tls => {
                roots::check_system()?;
                None
            }
            None => None,
        };
        // pingora loads the system's roots by itself, unless there is a file; it does not survive a
        // damaged one.
        let options = settings.ca_file.as_ref().map(|file| ConnectorOptions {
            ca_file: Some(file.display().to_string()),
            ..ConnectorOptions::from_server_conf(&ServerConf::default())
        });
        let authority = settings.base.authority();
        let host_header = HeaderValue::from_str(&authority).map_err(|_| RootsError::Host(authority))?;
        Ok(Self {
            connector: Arc::new(Connector::new(options)),
            settings,
            host_header,
            roots,
            known: Mutex::new(None),
        })
    }

    /// Opens a connection or takes a kept one, inside the connect timeout as a whole. Not a byte of a
    /// request is written, so an address that does not answer costs nothing but time: the next is tried.
    ///
    /// # Errors
    /// [`SendError::Unreachable`] only.
    pub async fn connect(&self) -> Result<Connected<'_>, SendError> {
        let deadline = Instant::now() + self.settings.connect_timeout;
        let mut failure = SendError::Unreachable("no connection in time");
        for address in self.addresses(deadline).await? {
            let peer = self.peer(address);
            match timeout_at(deadline, self.connector.get_http_session(&peer)).await {
                Ok(Ok((session, is_kept))) => return Ok(Connected { finch: self, session, peer, is_kept }),
                Ok(Err(cause)) => failure = SendError::Unreachable(connect_failure(&cause)),
                Err(_) => break,
            }
        }
        // Whatever was known is no good any more.
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Err(failure)
    }

    fn head(&self, attempt: &Attempt, is_h2: bool) -> Result<Box<RequestHeader>, SendError> {
        let refuse = |_| SendError::Unreachable("the request cannot be written");
        let mut head =
            RequestHeader::build(attempt.method, attempt.target.as_bytes(), Some(attempt.headers.len() + 2))
                .map_err(refuse)?;
        if is_h2 {
            let uri = http::Uri::builder()
                .scheme("https")
                .authority(self.host_header.as_bytes())
                .path_and_query(attempt.target.as_str())
                .build()
                .map_err(|_| SendError::Unreachable("the request cannot be written"))?;
            head.set_uri(uri);
        } else {
            head.insert_header(HOST, self.host_header.clone()).map_err(refuse)?;
        }
        for (name, value) in &attempt.headers {
            head.append_header(name.clone(), value.clone()).map_err(refuse)?;
        }
        if !attempt.body.is_empty() || attempt.method != "GET" {
            head.insert_header(CONTENT_LENGTH, attempt.body.len()).map_err(refuse)?;
        }
        Ok(Box::new(head))
    }

    fn peer(&self, address: SocketAddr) -> HttpPeer {
        let mut peer = HttpPeer::new(address, self.settings.base.tls, self.settings.base.host.clone());
        let options = &mut peer.options;
        options.connection_timeout = Some(self.settings.connect_timeout);
        options.total_connection_timeout = Some(self.settings.connect_timeout);
        options.idle_timeout = Some(IDLE_MAX);
        options.tcp_keepalive = Some(KEEPALIVE);
        options.alpn = if self.settings.base.tls { ALPN::H2H1 } else { ALPN::H1 };
        options.ca = self.roots.clone();
        peer
    }

    /// The addresses of Finch, a few at most: looked up every half minute, the last good ones when the
    /// look-up fails.
    async fn addresses(&self, deadline: Instant) -> Result<Vec<SocketAddr>, SendError> {
        let base = &self.settings.base;
        if let Ok(ip) = base.host.parse() {
            return Ok(vec![SocketAddr::new(ip, base.port)]);
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = &known
            && known.at.elapsed() < ADDRESS_KEPT
        {
            return Ok(known.addresses.clone());
        }
        let look_up = tokio::net::lookup_host((base.host.as_str(), base.port));
        let found: Vec<SocketAddr> = match timeout_at(deadline, look_up).await {
            Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let addresses = match (found.is_empty(), known) {
            (false, _) => found,
            (true, Some(known)) => known.addresses,
            (true, None) => return Err(SendError::Unreachable("its name cannot be resolved")),
        };
        let known = Known { addresses: addresses.clone(), at: Instant::now() };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(addresses)
    }
}

/// What the last look-up found.
#[derive(Clone)]
struct Known {
    addresses: Vec<SocketAddr>,
    at: Instant,
}

/// A connection to Finch that waits for its request.
pub struct Connected<'f> {
    finch: &'f Finch,
    session: HttpSession,
    peer: HttpPeer,
    is_kept: bool,
}

impl Connected<'_> {
    /// Sends one attempt and waits for the head of its answer.
    ///
    /// # Errors
    /// See [`SendError`]: whether anything may have reached Finch is the caller's main question.
    pub async fn send(self, attempt: &Attempt) -> Result<Answer, SendError> {
        let Connected { finch, mut session, peer, is_kept } = self;
        let deadline = Instant::now() + finch.settings.answer_timeout;
        let head = finch.head(attempt, matches!(session, HttpSession::H2(_)))?;
        session.set_read_timeout(Some(finch.settings.answer_timeout));
        session.set_write_timeout(Some(WRITE_GAP_MAX));
        let (status, headers) =
            match timeout_at(deadline, exchange(&mut session, head, attempt.body.clone())).await {
                Ok(Ok(head)) => head,
                Ok(Err(failure)) => {
                    session.shutdown().await;
                    return Err(match failure {
                        Failure::TimedOut => SendError::TimedOut,
                        Failure::Stale(why) => SendError::Broken { why, stale: is_kept },
                        Failure::Io(why) => SendError::Broken { why, stale: false },
                        Failure::Bad(why) => SendError::BadAnswer(why),
                    });
                }
                Err(_) => {
                    session.shutdown().await;
                    return Err(SendError::TimedOut);
                }
            };
        session.set_read_timeout(Some(READ_GAP_MAX));
        let rest = Rest::new(session, Arc::clone(&finch.connector), peer, deadline);
        Ok(Answer { status, headers, rest })
    }
}

enum Failure {
    TimedOut,
    /// Before any byte of an answer, as far as can be told.
    Stale(&'static str),
    Io(&'static str),
    Bad(&'static str),
}

/// Writes the request and reads the head of its answer. pingora repairs what has two readings; an answer like
/// that is refused here.
async fn exchange(
    session: &mut HttpSession,
    head: Box<RequestHeader>,
    body: Bytes,
) -> Result<(u16, HeaderMap), Failure> {
    let sending = |_| Failure::Stale("it closed the connection while the call was sent");
    session.write_request_header(head).await.map_err(sending)?;
    if !body.is_empty() {
        session.write_request_body(body, true).await.map_err(sending)?;
    }
    session.finish_request_body().await.map_err(sending)?;
    for interim in 0..INFORMATIONAL_MAX {
        session.read_response_header().await.map_err(|cause| match read_failure(&cause) {
            // An interim answer shows that the request was read.
            Failure::Stale(why) if interim > 0 => Failure::Io(why),
            failure => failure,
        })?;
        let Some(answer) = session.response_header() else { return Err(Failure::Bad("no head")) };
        match answer.status.as_u16() {
            101 => return Err(Failure::Bad("it switched protocols unasked")),
            100..=199 => {}
            status => {
                let headers = answer.headers.clone();
                let is_ambiguous = match &*session {
                    HttpSession::H1(h1) => wire::check_head(&h1.get_headers_raw_bytes()).is_err(),
                    _ => false,
                };
                if is_ambiguous || wire::check_framing(&headers).is_err() {
                    return Err(Failure::Bad("its head or its length can be read in two ways"));
                }
                return Ok((status, headers));
            }
        }
    }
    Err(Failure::Bad("endless interim answers"))
}

fn read_failure(cause: &pingora::Error) -> Failure {
    match cause.etype() {
        pingora::ErrorType::ReadTimedout => Failure::TimedOut,
        pingora::ErrorType::InvalidHTTPHeader | pingora::ErrorType::InvalidH2 => {
            Failure::Bad("it is not HTTP")
        }
        // A stream that was refused, or cut by a GOAWAY: the HTTP/2 form of a closed connection.
        pingora::ErrorType::H2Error => Failure::Stale("it closed the stream before answering"),
        _ => Failure::Stale("it closed the connection before answering"),
    }
}

/// A reason fit for a log and an app: pingora's own texts may quote addresses and certificates.
fn connect_failure(cause: &pingora::Error) -> &'static str {
    use pingora::ErrorType as E;
    match cause.etype() {
        E::ConnectTimedout | E::TLSHandshakeTimedout => "no connection in time",
        E::ConnectRefused => "connection refused",
        E::ConnectNoRoute => "no route",
        E::TLSHandshakeFailure | E::InvalidCert | E::HandshakeError | E::TLSWantX509Lookup => {
            "TLS failed: its certificate is not trusted, or the protocols differ"
        }
        _ => "no connection",
    }
}

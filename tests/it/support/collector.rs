//! A collector of traces: it takes OTLP over HTTP, reads it with OpenTelemetry's own types, and keeps it.

use super::tls::Identity;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::watch;

/// A status that stands for no answer at all.
pub const SILENCE: u16 = 0;

/// One export as it came.
#[derive(Clone)]
pub struct Export {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub request: ExportTraceServiceRequest,
}

/// The collector.
pub struct Collector {
    pub address: SocketAddr,
    scheme: &'static str,
    exports: watch::Sender<Vec<Export>>,
    status: AtomicU16,
}

impl Collector {
    /// Listens, in the clear or with a certificate for `localhost`.
    pub async fn start(identity: Option<Identity>) -> Arc<Self> {
        let at = lookup_host(("localhost", 0)).await.expect("it resolves").next().expect("an address");
        let listener = TcpListener::bind(at).await.expect("a free port");
        let collector = Arc::new(Self {
            address: listener.local_addr().expect("an address"),
            scheme: if identity.is_some() { "https" } else { "http" },
            exports: watch::Sender::new(Vec::new()),
            status: AtomicU16::new(200),
        });
        let (server, acceptor) = (Arc::clone(&collector), identity.map(|identity| identity.acceptor(&[])));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => server.converse(socket).await,
                        Some(acceptor) => {
                            let stream =
                                acceptor.accept(socket).await.expect("perch believes the certificate");
                            server.converse(stream).await;
                        }
                    }
                });
            }
        });
        collector
    }

    /// For `traces.endpoint`.
    pub fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// From now on it answers with this.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Everything that came.
    pub fn exports(&self) -> Vec<Export> {
        self.exports.borrow().clone()
    }

    /// Waits until this many exports have come.
    pub async fn arrived(&self, count: usize) {
        let mut exports = self.exports.subscribe();
        exports.wait_for(|all| all.len() >= count).await.expect("it is there");
    }

    /// Every span that came, in the order of its coming.
    pub fn spans(&self) -> Vec<Span> {
        let resources = self.exports().into_iter().flat_map(|export| export.request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    async fn converse(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = service_fn(move |request: Request<Incoming>| Arc::clone(&self).take(request));
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn take(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let request = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP");
        let export = Export { path: head.uri.path().to_owned(), headers: head.headers, body, request };
        // Who hears of the export may change what the next one is answered with.
        let status = self.status.load(Ordering::SeqCst);
        self.exports.send_modify(|all| all.push(export));
        if status == SILENCE {
            std::future::pending::<()>().await;
        }
        Ok(Response::builder().status(status).body(Full::default()).expect("an answer"))
    }
}

/// The text of an attribute; nothing when it has none.
pub fn text(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|attribute| attribute.key == key).and_then(|a| a.value.clone());
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

/// An id as `traceparent` writes it.
pub fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! One question to a key service, or to who vouches for perch there: over HTTP/1.1, over TLS unless it stays on this machine. A service
//! is asked at start, at rotation and when the ring changes, so a connection for each question is enough.

use crate::config::BaseUrl;
use crate::store::trust;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, header, request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// How long the service may take for everything.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The longest answer read: a wrapped key has a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Secret bytes in base64, as a service writes them.
pub(super) struct Plain(Zeroizing<String>);

impl Plain {
    /// The bytes, when it is base64.
    pub(super) fn decode(&self) -> Option<Zeroizing<Vec<u8>>> {
        STANDARD.decode(self.0.as_bytes()).ok().map(Zeroizing::new)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|text| Plain(Zeroizing::new(text)))
    }
}

/// A service and how it is reached.
pub(super) struct Service {
    server: BaseUrl,
    tls: Option<TlsConnector>,
}

/// What it said.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
}

impl Service {
    /// # Errors
    /// A sentence: there is nobody to trust.
    pub(super) fn at(server: BaseUrl, ca_file: Option<&Path>) -> Result<Self, String> {
        let tls = match server.tls {
            true => Some(trust::connector(ca_file, "vault.key_ca_file").map_err(|error| error.to_string())?),
            false => None,
        };
        Ok(Self { server, tls })
    }

    /// What the `Host` header says.
    pub(super) fn authority(&self) -> String {
        self.server.authority()
    }

    /// Sends the body. Redirects are not followed.
    ///
    /// # Errors
    /// A sentence that names the service.
    pub(super) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        self.ask(Request::post(path), headers, body).await
    }

    /// Asks for what is there. Redirects are not followed.
    ///
    /// # Errors
    /// A sentence that names the service.
    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        self.ask(Request::get(path), headers, Vec::new()).await
    }

    async fn ask(
        &self,
        request: request::Builder,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        let mut request = request.header(header::HOST, self.server.authority());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| self.silent(&"a header cannot be sent"))?;
        let asked = async {
            let stream = TcpStream::connect((self.server.host.as_str(), self.server.port))
                .await
                .map_err(|e| self.silent(&e))?;
            match &self.tls {
                None => self.talk(stream, request).await,
                Some(tls) => {
                    let name = ServerName::try_from(self.server.host.clone()).map_err(|e| self.silent(&e))?;
                    let stream = tls.connect(name, stream).await.map_err(|e| self.silent(&e))?;
                    self.talk(stream, request).await
                }
            }
        };
        let late = |_| self.silent(&format_args!("it took longer than {} seconds", ANSWER_MAX.as_secs()));
        tokio::time::timeout(ANSWER_MAX, asked).await.map_err(late)?
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, String> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.silent(&e))?;
        let driver = tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|e| self.silent(&e))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| self.silent(&e))?;
        driver.abort();
        let body = Zeroizing::new(body.to_bytes().to_vec());
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn silent(&self, why: &dyn std::fmt::Display) -> String {
        format!("the key service {} does not answer: {why}", self.server)
    }
}

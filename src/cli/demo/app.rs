//! The demo's app: a plain HTTP client that knows customers, and no token.

use crate::cli::exit::Failure;
use crate::config::Address;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// The demo's answers are small; anything larger is a mistake.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longer than any call of the demo may wait for quota.
const PATIENCE: Duration = Duration::from_secs(90);

/// Calls one address, for one customer or for nobody, and keeps all it was ever told.
#[derive(Debug, Clone)]
pub(super) struct App {
    address: SocketAddr,
    customer: Option<String>,
    heard: Arc<Mutex<Vec<u8>>>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) class: String,
    body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// A text member of the body.
    pub(super) fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

impl App {
    pub(super) fn at(address: &Address) -> Result<Self, Failure> {
        match address {
            Address::Tcp(address) => Ok(Self { address: *address, customer: None, heard: Arc::default() }),
            Address::Unix(path) => Err(Failure::failed(format_args!("{} is no TCP address", path.display()))),
        }
    }

    /// The same app, in the name of a customer.
    pub(super) fn for_customer(&self, customer: &str) -> Self {
        Self { customer: Some(customer.to_owned()), ..self.clone() }
    }

    /// Whether this text was ever in a header or a body.
    pub(super) fn has_heard(&self, text: &str) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        memchr::memmem::find(&heard, text.as_bytes()).is_some()
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call("GET", path, Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.call("POST", path, body.to_string().into()).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.call("PUT", path, body.to_string().into()).await
    }

    async fn call(&self, method: &str, path: &str, body: Bytes) -> Result<Answer, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::failed(format_args!("{method} {path} got no answer: {why}"))
        };
        let socket = TcpStream::connect(self.address).await.map_err(|e| failed(&e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|e| failed(&e))?;
        let connection = tokio::spawn(connection);
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if let Some(customer) = &self.customer {
            request = request.header("perch-customer", customer);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|e| failed(&e))?;
        let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await;
        let (head, body) = response.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| failed(&e))?.to_bytes();
        connection.abort();
        let class =
            head.headers.get("perch-class").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        Ok(Answer { status: head.status.as_u16(), class, body })
    }
}

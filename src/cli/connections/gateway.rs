//! The way of a command to a gateway: the one that runs, at its admin door; else one of the command's own, on the same
//! store and with the same ledger, for as long as the command lasts. Finch is never asked outside the limits.

use crate::app;
use crate::cli::exit::{Exit, Failure};
use crate::config::{Address, Config};
use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long a gateway may take to let the command in.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long it may take over a question that asks nothing of Finch.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// How much longer than Finch its answer may take: it waits for quota too.
const ANSWER_MARGIN: Duration = Duration::from_secs(60);
/// The largest answer read.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A gateway's admin door.
pub(in crate::cli) struct AdminClient {
    address: Address,
    authorization: Option<Zeroizing<String>>,
    answer_max: Duration,
    own: Option<app::Gateway>,
}

impl AdminClient {
    /// Finds the gateway that runs, or starts one and says so on `err`.
    ///
    /// # Errors
    /// Another gateway has the store and its admin door does not answer; or none can be started.
    pub(super) async fn open(mut config: Config, err: &mut dyn Write) -> Result<Self, Failure> {
        let address = reachable(&config.listen.admin);
        let token = config.admin.token.as_ref();
        let authorization = token.map(|token| Zeroizing::new(format!("Bearer {}", token.expose())));
        let answer_max = config.finch.timeout + config.finch.connect_timeout + ANSWER_MARGIN;
        if connect(&address).await.is_ok() {
            return Ok(Self { address, authorization, answer_max, own: None });
        }
        let anywhere = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        (config.listen.proxy, config.listen.admin, config.listen.webhooks) =
            (anywhere.clone(), anywhere, None);
        let own = app::Gateway::start(config, std::io::sink()).await.map_err(|error| {
            let failure = Failure::from(error);
            let message =
                format!("no gateway answers at {address} (listen.admin), and none can be started: {failure}");
            Failure { message, ..failure }
        })?;
        writeln!(
            err,
            "perch: no gateway answers at {address}; this command asks Finch by itself, inside the same limits"
        )?;
        Ok(Self { address: own.admin().clone(), authorization, answer_max, own: Some(own) })
    }

    /// Finds the gateway that runs; none when nobody answers at its admin door.
    pub(in crate::cli) async fn running(config: &Config) -> Option<Self> {
        let address = reachable(&config.listen.admin);
        connect(&address).await.ok()?;
        let token = config.admin.token.as_ref();
        let authorization = token.map(|token| Zeroizing::new(format!("Bearer {}", token.expose())));
        Some(Self { address, authorization, answer_max: LOOK_MAX, own: None })
    }

    /// What a gateway answers to a question that only looks: a status and a body.
    ///
    /// # Errors
    /// It does not answer, or not in time.
    pub(in crate::cli) async fn look(&self, path: &str) -> Result<(u16, Bytes), Failure> {
        let late = |_| Failure::unavailable("the gateway did not answer in time; look into its log");
        timeout(self.answer_max, self.send("GET", path, "")).await.map_err(late)?
    }

    /// Asks, and reads the JSON that comes back; what is no success is the failure.
    ///
    /// # Errors
    /// With what the gateway, or Finch behind it, said.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        let asked = timeout(self.answer_max, self.send(method, path, body)).await;
        let (status, body) = asked
            .map_err(|_| Failure::unavailable("the gateway did not answer in time; look into its log"))??;
        let value: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let said = value["message"]
            .as_str()
            .map_or_else(|| String::from_utf8_lossy(&body).trim().to_owned(), str::to_owned);
        let id = value["perch"]["finch_request_id"].as_str();
        let action = value["perch"]["action"].as_str();
        let mut message = format!("{said} ({status})");
        for (what, text) in [("what to do", action), ("Finch-Request-ID", id)] {
            if let Some(text) = text {
                message.push_str(&format!("; {what}: {text}"));
            }
        }
        let exit = if matches!(status, 502..=504) { Exit::Unavailable } else { Exit::Failed };
        Err(Failure { exit, message })
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Result<(u16, Bytes), Failure> {
        let address = &self.address;
        let failed = |why: &dyn std::fmt::Display| {
            Failure::unavailable(format_args!("the gateway at {address} does not answer: {why}"))
        };
        let socket = connect(address).await.map_err(|why| failed(&why))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|why| failed(&why))?;
        let running = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.as_str());
        }
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .map_err(|why| failed(&why))?;
        let answer = sender.send_request(request).await.map_err(|why| failed(&why))?;
        let status = answer.status().as_u16();
        let body =
            Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|why| failed(&why))?;
        running.abort();
        Ok((status, body.to_bytes()))
    }

    /// Lets a gateway of the command's own end in order.
    pub(super) async fn close(self) {
        if let Some(own) = self.own {
            own.stop().await;
        }
    }
}

/// A socket of either kind.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

async fn connect(address: &Address) -> std::io::Result<Box<dyn Socket>> {
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    match address {
        Address::Tcp(at) => Ok(Box::new(timeout(CONNECT_MAX, TcpStream::connect(at)).await.map_err(late)??)),
        Address::Unix(path) => {
            Ok(Box::new(timeout(CONNECT_MAX, UnixStream::connect(path)).await.map_err(late)??))
        }
    }
}

/// Where a door that listens everywhere is reached from this machine.
fn reachable(address: &Address) -> Address {
    match address {
        Address::Tcp(at) if at.ip().is_unspecified() => {
            let loopback: IpAddr = match at {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            };
            Address::Tcp(SocketAddr::new(loopback, at.port()))
        }
        other => other.clone(),
    }
}

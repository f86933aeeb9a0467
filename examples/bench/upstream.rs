//! The upstream of every contestant: Finch's manners, no work. Answers `GET /employer/company` with
//! JSON of as many bytes as `?bytes=` says, to whoever shows the token.

use super::{Outcome, roles};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// The hidden first argument.
pub(crate) const ROLE: &str = "as-upstream";

/// The token that a call must carry when it gets here: perch takes it from its vault, for the others
/// the load brings it.
pub(crate) const TOKEN: &str = "3f1d2c4b-bench-access-token-0000000000";

/// The sizes of answers there are.
pub(crate) const SIZES: [usize; 3] = [1 << 10, 32 << 10, 1 << 20];

/// Where it tells how many connections it has accepted.
const ACCEPTED: &str = "/accepted";

struct World {
    bodies: HashMap<String, Bytes>,
    authorization: String,
    answered: AtomicU64,
    accepted: AtomicU64,
}

/// Serves until the bench has gone.
pub(crate) fn run(port: &str) -> Outcome<()> {
    roles::live_no_longer_than_parent();
    let world = Arc::new(World {
        bodies: SIZES.iter().map(|&bytes| (format!("bytes={bytes}"), body(bytes))).collect(),
        authorization: format!("Bearer {TOKEN}"),
        answered: AtomicU64::new(0),
        accepted: AtomicU64::new(0),
    });
    let port: u16 = port.parse()?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            world.accepted.fetch_add(1, Ordering::Relaxed);
            let world = Arc::clone(&world);
            let service = service_fn(move |request| {
                let answer = answer(&world, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    })
}

fn answer(world: &World, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() == ACCEPTED {
        return Response::new(Full::new(world.accepted.load(Ordering::Relaxed).to_string().into()));
    }
    let authorization = request.headers().get(AUTHORIZATION);
    if authorization.is_none_or(|value| value.as_bytes() != world.authorization.as_bytes()) {
        return refuse(StatusCode::UNAUTHORIZED);
    }
    let Some(body) = request.uri().query().and_then(|query| world.bodies.get(query)) else {
        return refuse(StatusCode::NOT_FOUND);
    };
    let number = world.answered.fetch_add(1, Ordering::Relaxed);
    let mut response = Response::new(Full::new(body.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(id) = HeaderValue::try_from(format!("{number:08x}-0000-4000-8000-000000000000")) {
        headers.insert("finch-request-id", id);
    }
    headers.insert("finch-data-retrieved", HeaderValue::from_static("2025-01-01T00:00:00.000Z"));
    headers.insert("finch-last-attempted-update-date", HeaderValue::from_static("2025-01-01T00:00:00.000Z"));
    headers.insert("finch-last-attempted-update-result", HeaderValue::from_static("success"));
    response
}

/// How many connections the upstream at `door` has accepted, this question's own included.
pub(crate) fn accepted(door: SocketAddr) -> Outcome<u64> {
    let mut stream = TcpStream::connect(door)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {ACCEPTED} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, number) = answer.rsplit_once("\r\n").ok_or("the upstream does not count")?;
    Ok(number.parse()?)
}

fn refuse(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// One JSON object of exactly this many bytes.
fn body(bytes: usize) -> Bytes {
    const HEAD: &str =
        r#"{"id":"5d0b8a4e-0000-4000-8000-000000000000","legal_name":"Bench and Daughters","departments":["#;
    const ITEM: &str = r#"{"name":"Operations","parent":null},"#;
    const TAIL: &str = r#"null],"note":""}"#;
    let mut text = HEAD.to_owned();
    while text.len() + ITEM.len() + TAIL.len() <= bytes {
        text.push_str(ITEM);
    }
    text.push_str(TAIL);
    let missing = bytes.saturating_sub(text.len());
    text.insert_str(text.len() - 2, &"x".repeat(missing));
    text.into()
}

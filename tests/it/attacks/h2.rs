//! HTTP/2 at doors that do not speak it: not by prior knowledge, not by ALPN, not by an upgrade. So none of its attacks has
//! anything to work on. H01 to H25 of the list.

use super::By::Parser;
use super::report::tell;
use super::{Row, Siege, Way};
use crate::support::socket::Socket;
use crate::support::tls::Authority;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header lines as HPACK has them without a table.
fn lines(lines: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).expect("below 127");
        [&[length], text.as_bytes()].concat()
    };
    lines.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A connection by prior knowledge that goes on with these frames.
fn known(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat()
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/employer/company");
const AUTHORITY: (&str, &str) = (":authority", "perch");
const CUSTOMER: (&str, &str) = ("perch-customer", "acme");

/// One request of these lines, by prior knowledge.
fn request(extra: &[(&str, &str)]) -> Vec<u8> {
    let all = [&[METHOD, SCHEME, PATH, AUTHORITY, CUSTOMER], extra].concat();
    known(&[frame(HEADERS, END_STREAM | END_HEADERS, 1, &lines(&all))])
}

fn exactly(all: &[(&str, &str)]) -> Vec<u8> {
    known(&[frame(HEADERS, END_STREAM | END_HEADERS, 1, &lines(all))])
}

pub(super) fn rows() -> Vec<Row> {
    let data = frame(DATA, END_STREAM, 1, b"{}");
    let with_body =
        [&[(":method", "POST"), SCHEME, PATH, AUTHORITY, CUSTOMER], &[("content-length", "99")][..]];
    [
        ("H01", request(&[])),
        ("H02", request(&[("x", "a\r\nauthorization: EVIL")])),
        ("H04", exactly(&[METHOD, SCHEME, (":path", "/employer/company HTTP/1.1"), AUTHORITY, CUSTOMER])),
        ("H05", request(&[("transfer-encoding", "chunked")])),
        ("H06", request(&[("connection", "authorization")])),
        ("H08", known(&[frame(HEADERS, END_HEADERS, 1, &lines(&with_body.concat())), data])),
        ("H09", exactly(&[METHOD, SCHEME, PATH, (":path", "/SMUGGLED"), AUTHORITY, CUSTOMER])),
        ("H10", exactly(&[METHOD, SCHEME, CUSTOMER, PATH, AUTHORITY])),
        ("H12", exactly(&[METHOD, SCHEME, (":path", "employer/company"), AUTHORITY, CUSTOMER])),
        ("H13", exactly(&[METHOD, SCHEME, (":path", "http://evil.test/"), AUTHORITY, CUSTOMER])),
        ("H14", exactly(&[METHOD, SCHEME, PATH, (":authority", "perch@evil.test"), CUSTOMER])),
        ("H16", request(&[("authorization", "Bearer EVIL")])),
        ("H17", exactly(&[(":method", "CONNECT"), (":authority", "evil.test:443")])),
        ("H18", request(&[("x:y\r", "1")])),
    ]
    .map(|(id, bytes)| (id, bytes, 400, Parser))
    .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_knows_http_2_is_told_400_and_nothing_it_says_reaches_finch() {
    Siege::clear().await.assert_refused(rows()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_knows_http_2_is_told_400_over_tls_too() {
    Siege::over_tls().await.assert_refused(rows()).await;
}

/// H20 H21 H22 H24 H25: floods end at the preface.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_end_where_they_begin() {
    let siege = Siege::clear().await;
    let block = lines(&[METHOD, SCHEME, PATH, AUTHORITY, CUSTOMER]);
    let streams =
        |each: &dyn Fn(u32) -> Vec<u8>| known(&(0..5_000).map(|n| each(2 * n + 1)).collect::<Vec<_>>());
    let open = |stream: u32| frame(HEADERS, END_STREAM | END_HEADERS, stream, &block);
    for (id, bytes) in [
        ("H20", streams(&|n| [open(n), frame(RESET, 0, n, &[0, 0, 0, 8])].concat())),
        (
            "H21",
            [
                known(&[frame(HEADERS, 0, 1, &block)]),
                frame(CONTINUATION, 0, 1, &lines(&[("x", "y")])).repeat(20_000),
            ]
            .concat(),
        ),
        ("H22", streams(&|n| frame(HEADERS, END_STREAM | END_HEADERS, n, &[0xbe; 4_000]))),
        (
            "H24",
            [known(&[frame(HEADERS, END_HEADERS, 1, &block)]), frame(DATA, 0, 1, &[]).repeat(20_000)]
                .concat(),
        ),
        (
            "H25",
            [
                PREFACE.to_vec(),
                frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
                (0..100).flat_map(|n| open(2 * n + 1)).collect(),
            ]
            .concat(),
        ),
    ] {
        let mut socket = siege.way.socket().await;
        socket.write(&bytes).await;
        let heard = socket.drain().await.expect("it closes");
        let is_well = heard.is_empty() || heard.starts_with(b"HTTP/1.1 400");
        assert!(is_well, "{id}: {}", String::from_utf8_lossy(&heard));
        assert_eq!(siege.finch.bytes(), 0, "{id}");
        tell(id, "apps", "400 or closed, nothing upstream", "400 or closed, 0 bytes upstream", true);
    }
    assert!(siege.is_served().await);
    assert_eq!(siege.oracles(1).await, Vec::<String>::new());
}

/// H01: TLS agrees on no protocol but HTTP/1.1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_not_agreed_upon_by_tls() {
    let siege = Siege::over_tls().await;
    let Way::Tls(at, _) = &siege.way else { panic!("it was asked for") };
    let pem = std::fs::read_to_string(siege.world.path("authority.pem")).expect("a certificate");
    let tls = Authority::offering(&pem, &["h2", "http/1.1"]);
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(at).await.expect("it listens");
    let mut stream = tls.connect(name, stream).await.expect("a client that would rather speak h2 is served");
    assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let _ = stream.write_all(&request(&[])).await;
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    assert!(heard.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&heard));
    assert_eq!(siege.finch.bytes(), 0);
    assert!(siege.is_served().await);
    tell("H01 ALPN", "TLS", "h2 is not agreed upon", "no h2", true);
}

/// H01: an upgrade to HTTP/2 is answered as if it had not been asked for, and the frames behind it are no requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_is_not_upgraded_to() {
    let siege = Siege::clear().await;
    let mut socket: Socket = siege.way.socket().await;
    let head = "GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\
                Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    socket.write(&[head.as_bytes(), &request(&[])].concat()).await;
    assert_eq!(socket.hear().await.status, 200, "no 101");
    let rest = socket.drain().await.expect("it closes");
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(siege.oracles(1).await, Vec::<String>::new());
    tell(
        "H01 h2c",
        "apps",
        "no 101, one clean request upstream",
        "200, then 400 or closed, one clean request",
        true,
    );
}

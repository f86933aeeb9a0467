//! The proxy door under bytes that no honest client sends. What counts is what reaches Finch: nothing,
//! or one clean request with the token of the customer it names. The ids are those of the attack list:
//! F framing, T target, C credentials, L logs.

use crate::support::raw::RawFinch;
use crate::support::socket::Socket;
use crate::support::{Setup, World};
use std::sync::Arc;

const TOKEN: &str = "CANARY-token-of-acme";
const OTHER_TOKEN: &str = "CANARY-token-of-globex";
const LAWFUL: &[u8] =
    b"GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n\r\n";

/// Quota is not what these tests are about.
fn roomy() -> Setup {
    World::with()
        .connection("acme", TOKEN)
        .connection("globex", OTHER_TOKEN)
        .settings("limits.products.company = 1000\nlimits.products.individual = 1000")
}

async fn world() -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    (roomy().finch(&finch.url()).start().await, finch)
}

/// Who says no: perch in its own words, or the HTTP parser, which knows no call yet.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    Perch,
    Parser,
}
use By::{Parser, Perch};

type Row = (&'static str, Vec<u8>, u16, By);

/// Each attack gets its status and a closed connection, nothing of it reaches Finch, and a lawful call
/// gets its 200 at once.
async fn assert_refused(rows: Vec<Row>) {
    let (mut world, finch) = world().await;
    let mut wrong = Vec::new();
    let mut told = Vec::new();
    for (ids, bytes, status, by) in &rows {
        let mut blame = |what: String| {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]);
            wrong.push(format!("{ids}: {what} after {shown:?}"));
        };
        let before = finch.requests().len();
        let mut socket = Socket::to(world.proxy).await;
        socket.write(bytes).await;
        let heard = socket.read().await.unwrap_or_default().unwrap_or_default();
        let id = heard.header("perch-request-id").to_owned();
        let who = if id.is_empty() { Parser } else { Perch };
        if (heard.status, who) != (*status, *by) {
            blame(format!("{} by {who:?}, not {status} by {by:?}", heard.status));
        }
        match socket.drain().await {
            Some(rest) if rest.is_empty() => {}
            Some(rest) => blame(format!("then {:?}", String::from_utf8_lossy(&rest))),
            None => blame("the connection stays open".to_owned()),
        }
        if who == Perch {
            let body = heard.json();
            if !heard.code().starts_with("perch_") || body["perch"]["request_id"] != id.as_str() {
                blame(format!("the body is {body}"));
            }
            if heard.header("content-type") != "application/json" || heard.header("x-should-retry") != "false"
            {
                blame(format!("the head is {}", heard.head));
            }
            told.push((ids, id, heard.status));
        }
        if finch.requests().len() != before {
            blame(format!("{:?} reached Finch", &finch.requests()[before..]));
        }
        let mut lawful = Socket::to(world.proxy).await;
        lawful.write(LAWFUL).await;
        if lawful.hear().await.status != 200 {
            blame("a lawful call is not served".to_owned());
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    world.stop().await;
    let lines = world.lines.all();
    assert_eq!(lines.len(), rows.len() + told.len(), "one line for each call");
    for (ids, id, status) in told {
        let line = lines.iter().find(|line| line["request_id"] == id.as_str());
        assert_eq!(line.unwrap_or_else(|| panic!("{ids}: no line"))["status"], status, "{ids}");
    }
}

/// A POST to an endpoint that reads, with these lines between the customer and the body.
fn post(lines: &str, body: &str) -> Vec<u8> {
    format!("POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n{lines}\r\n{body}")
        .into_bytes()
}

/// A GET with these lines beside `Host` and customer.
fn get(target: &str, lines: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n{lines}\r\n"
    )
    .into_bytes()
}

const HIDDEN: &str = "GET /SMUGGLED HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    let chunks = |chunks: &str| post(CHUNKED, &format!("{chunks}{HIDDEN}"));
    let framed = |lines: &str| post(lines, &format!("0\r\n\r\n{HIDDEN}"));
    assert_refused(vec![
        ("F01", framed("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, Perch),
        ("F02", framed("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400, Perch),
        ("F03", framed("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, Parser),
        ("F03 alike", framed("Content-Length: 5\r\nContent-Length: 5\r\n"), 400, Perch),
        ("F03 list", framed("Content-Length: 5, 5\r\n"), 400, Perch),
        ("F05", framed("Content-Length: +5\r\n"), 400, Parser),
        ("F05 minus", framed("Content-Length: -5\r\n"), 400, Parser),
        ("F06", framed("Content-Length: 0x5\r\n"), 400, Parser),
        ("F07", framed("Content-Length: 1 0\r\n"), 400, Parser),
        ("F07 empty", framed("Content-Length:\r\n"), 400, Parser),
        ("F09", framed("Content-Length: 18446744073709551621\r\n"), 400, Parser),
        ("F10", framed("Transfer-Encoding: xchunked\r\n"), 400, Parser),
        ("F11", framed("Transfer-Encoding: chunked, identity\r\n"), 400, Parser),
        ("F11 other way", framed("Transfer-Encoding: identity, chunked\r\n"), 400, Perch),
        ("F11 twice", framed("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400, Perch),
        ("F11 coded", framed("Transfer-Encoding: gzip, chunked\r\n"), 400, Perch),
        ("F13", framed("Transfer-Encoding: \x0bchunked\r\n"), 400, Parser),
        ("F14", framed("Transfer-Encoding : chunked\r\n"), 400, Parser),
        ("F15", framed("Transfer-Encoding:\r\n chunked\r\n"), 400, Parser),
        ("F15 value", framed("X: a\r\n b\r\nContent-Length: 5\r\n"), 400, Parser),
        (
            "F17",
            format!("POST /employer/individual HTTP/1.0\r\nPerch-Customer: acme\r\n\r\n{{}}{HIDDEN}").into(),
            400,
            Perch,
        ),
        (
            "F17 chunked",
            format!("POST /employer/individual HTTP/1.0\r\nPerch-Customer: acme\r\n{CHUNKED}\r\n0\r\n\r\n")
                .into(),
            400,
            Parser,
        ),
        ("F18", chunks("0x5\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19", chunks("+5\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19 underscore", chunks("0_5\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19 overflow", chunks("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19 negative", chunks("-1\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F22", chunks("5\nhello\n0\n\n"), 400, Perch),
        ("F22 data", chunks("5\r\nhello\n0\r\n\r\n"), 400, Perch),
        ("F23", chunks("3\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F26", get("/employer/company", &format!("Content-Length: {}\r\n", HIDDEN.len())), 400, Perch),
        ("F26 chunked", get("/employer/company", CHUNKED), 400, Perch),
        ("F30", post("Expect: y 100-continue\r\nContent-Length: 2\r\n", "{}"), 400, Perch),
        ("F30 two", post("Expect: 100-continue\r\nExpect: y\r\nContent-Length: 2\r\n", "{}"), 400, Perch),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_plain_http_is_refused() {
    let raw = |text: &str| text.as_bytes().to_vec();
    let with = |line: &str| {
        raw(&format!(
            "GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n{line}\r\n\r\n"
        ))
    };
    let many: String = (0..2_000).map(|i| format!("X-{i}: 1\r\n")).collect();
    let some: String = (0..120).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert_refused(vec![
        ("F34", raw("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n"), 405, Parser),
        ("F35", raw("TRACE /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n\r\n"), 405, Perch),
        ("F37", with("X: a\rb"), 400, Parser),
        ("F37 end", with("X: a\r"), 400, Parser),
        ("F38", with("X: a\0b"), 400, Parser),
        ("F39", with("X: a\nAuthorization: Bearer customer:globex"), 400, Perch),
        ("F36", raw("GET /employer/company HTTP/1.1\nHost: perch\nPerch-Customer: acme\n\n"), 400, Perch),
        ("F41", with("X y: 1"), 400, Parser),
        ("F41 colon", with("Perch-Customer : globex"), 400, Parser),
        ("F42", with("nonsense"), 400, Parser),
        ("F43", with(": 1"), 400, Parser),
        ("F45", raw("GET /employer/company\r\n\r\n"), 400, Parser),
        ("F46", raw("GET /employer/company HTTP/1.2\r\nHost: perch\r\n\r\n"), 400, Parser),
        ("F47", raw("GET /employer/company HTTP/9.9\r\nHost: perch\r\n\r\n"), 400, Parser),
        ("F47 two", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400, Parser),
        ("F49", raw("GET\t/employer/company\tHTTP/1.1\r\nHost: perch\r\n\r\n"), 400, Parser),
        ("F50", raw("G(T /employer/company HTTP/1.1\r\nHost: perch\r\n\r\n"), 400, Parser),
        ("F51", raw("GET /employer/company HTTP/1.1\r\nPerch-Customer: acme\r\n\r\n"), 400, Perch),
        ("F52", with("Host: evil.test"), 400, Parser),
        ("F53", raw("GET /employer/company HTTP/1.1\r\nHost: a@perch\r\nPerch-Customer: acme\r\n\r\n"), 400, Parser),
        ("F53 path", raw("GET /employer/company HTTP/1.1\r\nHost: perch/x\r\nPerch-Customer: acme\r\n\r\n"), 400, Perch),
        ("F54", with(many.trim_end()), 400, Parser),
        ("F54 some", with(some.trim_end()), 400, Perch),
        ("F55", with(&format!("X: {}", "a".repeat(70 << 10)))[..66 << 10].to_vec(), 431, Parser),
        ("F57", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x01\x02\r\n\r\n".to_vec(), 400, Parser),
        ("F58", b"\x8f\x01\xe2\x00\xff\xfe\x93\x11\r\n\r\n\x00\x00".to_vec(), 400, Parser),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_a_plain_path_is_refused() {
    let evil = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = evil.local_addr().expect("an address");
    let absolute = |target: String, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nPerch-Customer: acme\r\n\r\n").into_bytes()
    };
    let long = format!("/employer/company?{}", "a".repeat(9_000));
    let mut rows = vec![
        ("T01", absolute(format!("http://{at}/employer/company"), &at.to_string()), 400, Perch),
        ("T01 other host", absolute(format!("http://{at}/employer/company"), "perch"), 400, Parser),
        ("T02", absolute(format!("https://{at}/employer/company"), &at.to_string()), 400, Perch),
        ("T03", absolute(format!("http://api.tryfinch.com@{at}/"), &at.to_string()), 400, Parser),
        ("T23", b"GET * HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n".to_vec(), 400, Perch),
        ("T23", b"OPTIONS * HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n".to_vec(), 400, Perch),
        (
            "T19",
            b"GET /employer/\xffcompany HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n".to_vec(),
            400,
            Parser,
        ),
        ("T24", get(&long, ""), 400, Perch),
    ];
    for (ids, target) in [
        ("T05", format!("//{at}/employer/company")),
        ("T06", format!("@{at}/employer/company")),
        ("T07", "employer/company".to_owned()),
        ("T07", "?x".to_owned()),
        ("T08", "/employer/../introspect".to_owned()),
        ("T08", "/employer/./company".to_owned()),
        ("T09", "/employer/%2e%2e/introspect".to_owned()),
        ("T10", "/employer/..;/introspect".to_owned()),
        ("T11", "/employer\\..\\introspect".to_owned()),
        ("T12", "/employer%2fcompany".to_owned()),
        ("T13", "/employer/%252e%252e/introspect".to_owned()),
        ("T14", "/employer/company%00".to_owned()),
        ("T15", "/employer/\0company".to_owned()),
        ("T17", "/employer/\u{1}company".to_owned()),
        ("T18", "/employer/company#x".to_owned()),
        ("T19", "/employer/cömpany".to_owned()),
        ("T21", "/employer/com pany".to_owned()),
        ("T22", "/employer/%zz".to_owned()),
        ("T22 query", "/employer/company?a=%zz".to_owned()),
    ] {
        rows.push((ids, get(&target, ""), 400, Perch));
    }
    rows.push(("T21 version", get("/employer/company HTTP/1.1", ""), 400, Parser));
    rows.push(("T20", get("/SMUGGLED", ""), 404, Perch));
    assert_refused(rows).await;
    let nobody = tokio::time::timeout(std::time::Duration::ZERO, evil.accept()).await;
    assert!(nobody.is_err(), "somebody connected to where a target pointed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_is_not_clear_is_refused() {
    let named = |lines: &str| {
        format!("GET /employer/company HTTP/1.1\r\nHost: perch\r\nConnection: close\r\n{lines}\r\n")
            .into_bytes()
    };
    assert_refused(vec![
        ("C09", named("Perch-Customer: acme\r\nPerch-Customer: globex\r\n"), 400, Perch),
        ("C09 case", named("Perch-Customer: acme\r\nPERCH-CUSTOMER: acme\r\n"), 400, Perch),
        (
            "C09 bearer",
            named("Authorization: Bearer customer:acme\r\nAuthorization: Bearer customer:globex\r\n"),
            400,
            Perch,
        ),
        ("C09 both", named("Perch-Customer: acme\r\nAuthorization: Bearer customer:globex\r\n"), 400, Perch),
        ("C09 pick", named("Perch-Customer: acme\r\nPerch-Connection: c-globex\r\n"), 404, Perch),
        (
            "C09 reference",
            named("Perch-Customer: acme\r\nAuthorization: Bearer connection:c-globex\r\n"),
            400,
            Perch,
        ),
        ("C10", named("Perch-Customer: acme, globex\r\n"), 404, Perch),
        ("C12", named(""), 400, Perch),
        ("C12 empty", named("Perch-Customer:\r\n"), 400, Perch),
        (
            "C01",
            named("Perch-Customer: acme\r\nAuthorization: Bearer 7e965183-9332-423c-9259-3edafb332ad2\r\n"),
            400,
            Perch,
        ),
        (
            "C02",
            named("Perch-Customer: acme\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n"),
            400,
            Perch,
        ),
        ("C04", named("Perch-Customer: acme\r\nAuthorization : Bearer customer:globex\r\n"), 400, Parser),
        ("C06 look-alike", named("Perch_Customer: acme\r\nX-Perch-Customer: acme\r\n"), 400, Perch),
    ])
    .await;
}

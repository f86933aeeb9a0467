//! Heads that are not plain HTTP. F34 to F58 of the list.

use super::By::{Parser, Perch};
use super::{APPS, Row, Siege, Site};

/// The attacks, each with what the apps' door makes of it.
pub(super) fn rows(site: Site) -> Vec<Row> {
    let raw = |text: &str| text.as_bytes().to_vec();
    let get = site.get;
    let with = |line: &str| {
        raw(&format!("GET {get} HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n{line}\r\n\r\n"))
    };
    let many: String = (0..2_000).map(|i| format!("X-{i}: 1\r\n")).collect();
    let some: String = (0..120).map(|i| format!("X-{i}: 1\r\n")).collect();
    vec![
        ("F34", raw("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n"), 405, Parser),
        (
            "F35",
            raw(&format!(
                "TRACE {get} HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n\r\n"
            )),
            405,
            Perch,
        ),
        ("F36", raw(&format!("GET {get} HTTP/1.1\nHost: perch\nPerch-Customer: acme\n\n")), 400, Perch),
        ("F37", with("X: a\rb"), 400, Parser),
        ("F37 end", with("X: a\r"), 400, Parser),
        ("F38", with("X: a\0b"), 400, Parser),
        ("F39", with("X: a\nAuthorization: Bearer customer:globex"), 400, Perch),
        ("F41", with("X y: 1"), 400, Parser),
        ("F41 colon", with("Perch-Customer : globex"), 400, Parser),
        ("F42", with("nonsense"), 400, Parser),
        ("F43", with(": 1"), 400, Parser),
        ("F45", raw(&format!("GET {get}\r\n\r\n")), 400, Parser),
        ("F46", raw(&format!("GET {get} HTTP/1.2\r\nHost: perch\r\n\r\n")), 400, Parser),
        ("F47", raw(&format!("GET {get} HTTP/9.9\r\nHost: perch\r\n\r\n")), 400, Parser),
        ("F47 two", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 400, Parser),
        ("F49", raw(&format!("GET\t{get}\tHTTP/1.1\r\nHost: perch\r\n\r\n")), 400, Parser),
        ("F50", raw(&format!("G(T {get} HTTP/1.1\r\nHost: perch\r\n\r\n")), 400, Parser),
        ("F51", raw(&format!("GET {get} HTTP/1.1\r\nPerch-Customer: acme\r\n\r\n")), 400, Perch),
        ("F52", with("Host: evil.test"), 400, Parser),
        (
            "F53",
            raw(&format!("GET {get} HTTP/1.1\r\nHost: a@perch\r\nPerch-Customer: acme\r\n\r\n")),
            400,
            Parser,
        ),
        (
            "F53 path",
            raw(&format!("GET {get} HTTP/1.1\r\nHost: perch/x\r\nPerch-Customer: acme\r\n\r\n")),
            400,
            Perch,
        ),
        ("F54", with(many.trim_end()), 400, Parser),
        ("F54 some", with(some.trim_end()), 400, Perch),
        ("F55", with(&format!("X: {}", "a".repeat(70 << 10)))[..66 << 10].to_vec(), 431, Parser),
        ("F57", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x01\x02\r\n\r\n".to_vec(), 400, Parser),
        ("F58", b"\x8f\x01\xe2\x00\xff\xfe\x93\x11\r\n\r\n\x00\x00".to_vec(), 400, Parser),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_plain_http_is_refused() {
    Siege::clear().await.assert_refused(rows(APPS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_plain_http_is_refused_over_tls_too() {
    Siege::over_tls().await.assert_refused(rows(APPS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_plain_http_is_refused_on_a_unix_socket_too() {
    Siege::over_a_unix_socket().await.assert_refused(rows(APPS)).await;
}

/// A head of a mebibyte, sent whole: no more of it is held than its bound, and it is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_without_end_is_cut() {
    let siege = Siege::clear().await;
    let mut socket = siege.way.socket().await;
    socket.write(format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(1 << 20)).as_bytes()).await;
    let heard = socket.drain().await.expect("it closes");
    // Bytes that were not read make the end a reset, which may overtake the answer.
    assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&heard));
    assert_eq!(siege.finch.bytes(), 0);
    assert!(siege.is_served().await);
    super::tell("F55 whole", "apps", "431 or closed, 0 upstream", "431 or closed, 0 upstream", true);
}

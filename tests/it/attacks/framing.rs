//! Bodies that can be read in two ways. F01 to F30 of the list.

use super::By::{Parser, Perch};
use super::{APPS, HIDDEN, Row, Siege, Site, with_a_sentinel};

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// The attacks, each with what the apps' door makes of it.
pub(super) fn rows(site: Site) -> Vec<Row> {
    let chunks = |chunks: &str| site.post(CHUNKED, &format!("{chunks}{HIDDEN}"));
    let framed = |lines: &str| site.post(lines, &format!("0\r\n\r\n{HIDDEN}"));
    let path = site.post;
    let old = |lines: &str, body: &str| {
        format!("POST {path} HTTP/1.0\r\nHost: perch\r\nPerch-Customer: acme\r\n{lines}\r\n{body}")
            .into_bytes()
    };
    // Padded, a length is another number to whoever reads the beginning of a line only.
    let led_astray = "X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let prelude = |lines: &str| {
        let first = site.post(lines, led_astray);
        [first, chunks("2;\nxx\r\n{}\r\n0\r\n\r\n")].concat()
    };
    vec![
        ("F01", framed("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, Perch),
        (
            "F01 credential",
            framed(&with_a_sentinel("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")),
            400,
            Perch,
        ),
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
        ("F17", old("", &format!("{{}}{HIDDEN}")), 400, Perch),
        ("F17 chunked", old(CHUNKED, "0\r\n\r\n"), 400, Parser),
        ("F18", chunks("0x5\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19", chunks("+5\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19 underscore", chunks("0_5\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19 overflow", chunks("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F19 negative", chunks("-1\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F21", chunks("2;\nxx\r\n{}\r\n0\r\n\r\n"), 400, Perch),
        ("F21 behind", chunks("2;a\n\r\n{}\r\n0\r\n\r\n"), 400, Perch),
        ("F21 CR", chunks("2;a\rb\r\n{}\r\n0\r\n\r\n"), 400, Perch),
        ("F21 prelude", prelude(&format!("Content-Length: {:080}\r\n", led_astray.len())), 400, Perch),
        ("F21 padded", prelude(&format!("Transfer-Encoding: {:80}chunked\r\n", "")), 400, Perch),
        ("F22", chunks("5\nhello\n0\n\n"), 400, Perch),
        ("F22 data", chunks("5\r\nhello\n0\r\n\r\n"), 400, Perch),
        ("F22 last", chunks("2\r\n{}\r\n0\n\n"), 400, Perch),
        ("F23", chunks("3\r\nhello\r\n0\r\n\r\n"), 400, Perch),
        ("F24", chunks("\r\n{}\r\n0\r\n\r\n"), 400, Perch),
        ("F25 line feed", chunks("2\r\n{}\r\n0\r\nX: y\nAuthorization: Bearer EVIL\r\n\r\n"), 400, Perch),
        ("F26", site.get(site.get, &format!("Content-Length: {}\r\n", HIDDEN.len())), 400, Perch),
        ("F26 chunked", site.get(site.get, CHUNKED), 400, Perch),
        ("F30", site.post("Expect: y 100-continue\r\nContent-Length: 2\r\n", "{}"), 400, Perch),
        (
            "F30 two",
            site.post("Expect: 100-continue\r\nExpect: y\r\nContent-Length: 2\r\n", "{}"),
            400,
            Perch,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_can_be_read_in_two_ways_is_refused_and_the_connection_closed() {
    Siege::clear().await.assert_refused(rows(APPS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_can_be_read_in_two_ways_is_refused_over_tls_too() {
    Siege::over_tls().await.assert_refused(rows(APPS)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_can_be_read_in_two_ways_is_refused_on_a_unix_socket_too() {
    Siege::over_a_unix_socket().await.assert_refused(rows(APPS)).await;
}

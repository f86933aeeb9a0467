//! What of a lawful but unusual request reaches Finch: one clean request with the right token, and of the
//! app's headers only those on the list. The ids are those of the attack list.

use crate::attacks::oracle::{OTHER_TOKEN, TOKEN, assert_clean};
use crate::support::World;
use crate::support::raw::{RawFinch, answer};
use crate::support::socket::Socket;
use serde_json::json;
use std::sync::Arc;

async fn world(settings: &str) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    let setup = World::with().connection("acme", TOKEN).connection("globex", OTHER_TOKEN);
    let roomy = "limits.products.company = 1000\nlimits.products.individual = 1000";
    (setup.settings(roomy).settings(settings).finch(&finch.url()).start().await, finch)
}

/// C01 C02 C05 C06 C08 C14 C17 T25 F27.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_listed_headers_reach_finch() {
    let (world, finch) = world("").await;
    let nominated = (0..80).map(|i| format!("X-{i}")).collect::<Vec<_>>().join(", ");
    let mut socket = Socket::to(world.proxy).await;
    let request = format!(
        "GET /employer/company?entity_ids[]=a HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\
         Authorization: Bearer EVIL\r\nProxy-Authorization: Basic EVIL\r\nX-Authorization: Bearer EVIL\r\n\
         Authorization_: EVIL\r\nHTTP_AUTHORIZATION: EVIL\r\nConnection: {nominated}, authorization, finch-api-version\r\n\
         Keep-Alive: timeout=EVIL\r\nProxy-Connection: EVIL\r\nTE: trailers, EVIL\r\nTrailer: EVIL\r\nUpgrade: EVIL\r\n\
         HTTP2-Settings: EVIL\r\nX-Forwarded-For: EVIL\r\nX-Forwarded-Host: EVIL\r\nForwarded: for=EVIL\r\nVia: EVIL\r\n\
         X-Real-Ip: EVIL\r\nX-Original-URL: /EVIL\r\nX-Rewrite-URL: /EVIL\r\nX-HTTP-Method-Override: EVIL\r\n\
         Cookie: EVIL\r\nPerch-Max-Wait: 3\r\nPerch-Priority: batch\r\nPerch-App-Key: EVIL\r\nPerch-Anything: EVIL\r\n\
         X-Perch-Customer: EVIL\r\nRange: bytes=0-1\r\nIf-None-Match: EVIL\r\nX-Origin: EVIL\r\nReferer: EVIL\r\n\
         Accept-Encoding: gzip\r\nAccept: application/json\r\nUser-Agent: finch-python/1\r\nX-Stainless-Lang: python\r\n\
         Finch-API-Version: 2020-09-17\r\n\r\n"
    );
    socket.write(request.as_bytes()).await;
    let heard = socket.hear().await;
    assert_eq!(heard.status, 200, "{}", heard.head);
    assert!(heard.header("upgrade").is_empty());
    let request = &finch.requests()[0];
    assert_clean(request, TOKEN, finch.address);
    assert!(!request.contains("EVIL") && !request.contains("evil.test"), "{request}");
    let head = request.split("\r\n\r\n").next().expect("a head");
    let mut names: Vec<String> =
        head.lines().skip(1).map(|l| l.split(':').next().expect("a name").to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "finch-api-version",
            "host",
            "user-agent",
            "x-stainless-lang"
        ]
    );
    assert!(head.starts_with("GET /employer/company?entity_ids[]=a HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("accept-encoding: identity"), "{head}");
}

/// F27: the bytes behind an Upgrade are a request like any other, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_answered_as_if_it_had_not_been_asked_for() {
    let (world, finch) = world("").await;
    for protocol in ["foo", "websocket", "h2c", "TLS/1.3"] {
        let before = finch.requests().len();
        let mut socket = Socket::to(world.proxy).await;
        let lines =
            format!("Host: perch\r\nPerch-Customer: acme\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n");
        socket
            .write(
                format!(
                    "GET /employer/company HTTP/1.1\r\n{lines}\r\n\
                     GET /SMUGGLED HTTP/1.1\r\nHost: perch\r\nPerch-Customer: globex\r\nConnection: close\r\n\r\n"
                )
                .as_bytes(),
            )
            .await;
        assert_eq!(socket.hear().await.status, 200, "{protocol}");
        if let Ok(Some(second)) = socket.read().await {
            assert_eq!((second.status, second.code().as_str()), (404, "perch_unknown_path"), "{protocol}");
        }
        assert_eq!(finch.requests().len(), before + 1, "{protocol}");
        assert_clean(&finch.requests()[before], TOKEN, finch.address);
    }
}

/// F33.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_customers_on_one_connection_keep_their_own_tokens() {
    let (world, finch) = world("").await;
    for _ in 0..10 {
        finch.next([answer("200 OK", "", "\"one\"")]);
        finch.next([answer("200 OK", "", "\"two\"")]);
        finch.next([answer("200 OK", "", "\"three\"")]);
        let before = finch.requests().len();
        let mut socket = Socket::to(world.proxy).await;
        let body = "{\"requests\":[]}";
        let lines = |customer: &str| format!("Host: perch\r\nPerch-Customer: {customer}\r\n");
        socket
            .write(
                format!(
                    "GET /employer/company HTTP/1.1\r\n{}\r\n\
                     POST /employer/individual HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{body}\
                     GET /employer/company HTTP/1.1\r\n{}\r\n",
                    lines("acme"),
                    lines("globex"),
                    body.len(),
                    lines("acme"),
                )
                .as_bytes(),
            )
            .await;
        for expected in ["\"one\"", "\"two\"", "\"three\""] {
            assert_eq!(socket.hear().await.body, expected.as_bytes());
        }
        let requests = finch.requests();
        assert_eq!(requests.len(), before + 3);
        for (request, token) in requests[before..].iter().zip([TOKEN, OTHER_TOKEN, TOKEN]) {
            assert_clean(request, token, finch.address);
        }
        assert!(requests[before + 1].ends_with(body), "{}", requests[before + 1]);
    }
}

/// F29.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let (world, finch) = world("").await;
    let mut socket = Socket::to(world.proxy).await;
    let lines = "Host: perch\r\nPerch-Customer: acme\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n";
    socket.write(format!("POST /employer/individual HTTP/1.1\r\n{lines}\r\n").as_bytes()).await;
    assert_eq!(socket.hear().await.status, 100);
    assert!(finch.requests().is_empty(), "sent before the body was there");
    socket.write(b"{}").await;
    assert_eq!(socket.hear().await.status, 200);
    let request = &finch.requests()[0];
    assert_clean(request, TOKEN, finch.address);
    assert!(request.ends_with("\r\n\r\n{}") && !request.to_ascii_lowercase().contains("expect"), "{request}");
    // Nobody is asked for a body that will not be taken.
    let mut socket = Socket::to(world.proxy).await;
    let lines =
        "Host: perch\r\nPerch-Customer: acme\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n";
    socket.write(format!("POST /employer/individual HTTP/1.1\r\n{lines}\r\n").as_bytes()).await;
    assert_eq!(socket.hear().await.status, 413);
    assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]));
}

/// F25: a lawful body in chunks reaches Finch with a length and without its trailers, and nothing behind it is a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_request_is_sent_with_a_length_and_is_the_last_of_its_connection() {
    let (world, finch) = world("").await;
    let hidden = "GET /SMUGGLED HTTP/1.1\r\nHost: perch\r\nPerch-Customer: globex\r\n\r\n";
    for (ids, chunks, body) in [
        ("lawful", "2\r\n{\"\r\n4;a=b\r\na\":1\r\n1\r\n}\r\n0\r\n\r\n", "{\"a\":1}"),
        (
            "F25",
            "2\r\n{}\r\n0\r\nAuthorization: Bearer EVIL\r\nContent-Length: 9\r\nPerch-Customer: globex\r\n\r\n",
            "{}",
        ),
    ] {
        let before = finch.requests().len();
        let mut socket = Socket::to(world.proxy).await;
        let lines = "Host: perch\r\nPerch-Customer: acme\r\nTransfer-Encoding: chunked\r\n";
        socket
            .write(format!("POST /employer/individual HTTP/1.1\r\n{lines}\r\n{chunks}{hidden}").as_bytes())
            .await;
        let heard = socket.hear().await;
        assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]), "{ids}: the connection must end");
        let requests = &finch.requests()[before..];
        assert_eq!((heard.status, requests.len()), (200, 1), "{ids}: {}", heard.head);
        assert_clean(&requests[0], TOKEN, finch.address);
        assert!(requests[0].ends_with(&format!("\r\n\r\n{body}")), "{ids}: {:?}", requests[0]);
    }
}

/// T13 T21: what pingora encodes in a query arrives encoded, in one request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_reaches_finch_byte_for_byte_or_not_at_all() {
    let (world, finch) = world("").await;
    for (query, sent) in [
        ("limit=10&offset=%252e", Some("limit=10&offset=%252e")),
        ("a=%0d%0aX:1", Some("a=%0d%0aX:1")),
        ("a=/../b", Some("a=/../b")),
        ("a=b c", None),
        ("a=<b>", None),
        ("a=b#c", None),
        ("a=\u{1}", None),
        ("a=\u{e4}", None),
    ] {
        let before = finch.requests().len();
        let mut socket = Socket::to(world.proxy).await;
        let lines = "Host: perch\r\nPerch-Customer: acme\r\nConnection: close\r\n";
        socket.write(format!("GET /employer/company?{query} HTTP/1.1\r\n{lines}\r\n").as_bytes()).await;
        let status = socket.hear().await.status;
        let requests = &finch.requests()[before..];
        match (sent, status) {
            (Some(sent), 200) => {
                assert!(
                    requests[0].starts_with(&format!("GET /employer/company?{sent} HTTP/1.1\r\n")),
                    "{requests:?}"
                );
            }
            (None, 400) => assert!(requests.is_empty()),
            // pingora has encoded it before anybody could look.
            (None, 200) => assert_clean(&requests[0], TOKEN, finch.address),
            (_, status) => panic!("{query:?}: {status}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lawful_request_does_not_answer_for_the_odd_one_behind_it() {
    let (world, finch) = world("").await;
    let post = |lines: &str, body: &str| {
        format!(
            "POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n{lines}\r\n\r\n{body}"
        )
    };
    let odd = post("Transfer-Encoding: chunked", "2\n{}\n0\n\n");
    let mut socket = Socket::to(world.proxy).await;
    socket.write((post("Content-Length: 2", "{}") + &odd).as_bytes()).await;
    assert_eq!([socket.hear().await.status, socket.hear().await.status], [200, 400]);
    assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]));
    assert_eq!(finch.requests().len(), 1);
}

/// F16: HTTP/1.0 is answered, and the connection ends unless it asks for more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_served_and_closed() {
    let (world, finch) = world("listen.inspect_bytes_max = \"1KiB\"").await;
    let mut socket = Socket::to(world.proxy).await;
    socket.write(b"GET /employer/company HTTP/1.0\r\nPerch-Customer: acme\r\n\r\n").await;
    assert_eq!(socket.hear().await.status, 200);
    assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]));
    assert_clean(&finch.requests()[0], TOKEN, finch.address);
    // A body of unknown length ends with the connection.
    let long = "x".repeat(5_000);
    finch.next([answer("200 OK", "", &long)]);
    let mut socket = Socket::to(world.proxy).await;
    socket.write(b"GET /employer/company HTTP/1.0\r\nPerch-Customer: acme\r\n\r\n").await;
    let all = String::from_utf8(socket.drain().await.expect("it closes")).expect("text");
    let (head, body) = all.split_once("\r\n\r\n").expect("a head");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, long);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_bound_is_refused_whether_it_says_so_or_not() {
    let (mut world, finch) = world("listen.request_bytes_max = \"2KiB\"").await;
    let lines = "Host: perch\r\nPerch-Customer: acme\r\n";
    let body = "x".repeat(2_049);
    let declared = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let unsent = "Content-Length: 18446744073709551615\r\n\r\n".to_owned();
    for (rest, status) in [(declared, 413), (chunked, 413), (unsent, 413)] {
        let mut socket = Socket::to(world.proxy).await;
        socket.write(format!("POST /employer/individual HTTP/1.1\r\n{lines}{rest}").as_bytes()).await;
        let heard = socket.hear().await;
        assert_eq!((heard.status, heard.code().as_str()), (status, "perch_body_too_large"), "{}", heard.head);
        assert_eq!(heard.header("x-should-retry"), "false");
        assert_eq!(socket.drain().await.as_deref(), Some(&b""[..]));
    }
    assert!(finch.requests().is_empty());
    let body = "x".repeat(2_048);
    let mut socket = Socket::to(world.proxy).await;
    let rest = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    socket.write(format!("POST /employer/individual HTTP/1.1\r\n{lines}{rest}").as_bytes()).await;
    assert_eq!(socket.hear().await.status, 200);
    world.stop().await;
    let line = &world.lines.all()[3];
    assert_eq!((line["bytes_in"].as_u64(), line["status"].as_u64()), (Some(2_048), Some(200)), "{line}");
}

/// L02: whatever a caller writes, the log has one line of JSON for each call, and no path or query in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_a_caller_writes_breaks_a_line_of_the_log() {
    let (mut world, _finch) = world("").await;
    let calls = [
        ("/employer/company?a=%0d%0a%7B%22level%22:%22EVIL%22%7D", "acme"),
        ("/employer/EVIL", "acme"),
        ("/employer/company", "a\"},{\"EVIL\":\"\\"),
        ("/employer/company", "\u{85}\u{2028}\u{1b}"),
        ("/employer/company", "\tacme\x0b"),
    ];
    for (target, customer) in calls {
        let mut socket = Socket::to(world.proxy).await;
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: perch\r\nPerch-Customer: {customer}\r\nUser-Agent: \u{85}\\u001b[31mEVIL\\n\"\r\n\
             Connection: close\r\n\r\n"
        );
        socket.write(request.as_bytes()).await;
        assert!((200..500).contains(&socket.hear().await.status), "{target} {customer:?}");
    }
    world.stop().await;
    let bytes = world.lines.bytes();
    assert!(bytes.iter().all(|b| *b == b'\n' || *b >= b' '), "a raw control byte is in the log");
    let lines = world.lines.all();
    let ours = lines.iter().filter(|line| line["target"] == "perch.access").count();
    assert!(ours == lines.len() && ours >= 3, "{lines:#?}");
    for line in &lines {
        assert!(line["path"] == "/employer/company" || line["path"] == "", "{line}");
        assert_eq!(line.get("EVIL"), None);
        assert_ne!(line["product"], json!("EVIL"));
    }
}

/// F59: a good request with bytes changed at random is refused or is one clean request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mutated_request_never_becomes_two() {
    let (world, finch) = world(
        "listen.idle_timeout = \"60ms\"\nlisten.head_timeout = \"60ms\"\nlisten.body_timeout = \"60ms\"",
    )
    .await;
    let good = "POST /employer/individual HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\nContent-Length: 16\r\n\
                Content-Type: application/json\r\nConnection: close\r\n\r\n{\"requests\": []}";
    let odd = b"\r\n\0\t :;,\x0b\x7f\xff/#?%09aAzZ\"{";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % sides as u64).expect("small")
    };
    for round in 0..300 {
        let mut bytes = good.as_bytes().to_vec();
        for _ in 0..=dice(3) {
            let at = dice(bytes.len());
            match dice(3) {
                0 => bytes[at] = odd[dice(odd.len())],
                1 => bytes.insert(at, odd[dice(odd.len())]),
                _ => drop(bytes.remove(at)),
            }
        }
        let before = finch.requests().len();
        let mut socket = Socket::to(world.proxy).await;
        socket.write(&bytes).await;
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let all = socket.drain().await.unwrap_or_else(|| panic!("{round}: it stays open after {shown:?}"));
        assert!(!all.starts_with(b"HTTP/1.1 5"), "{round}: {shown:?}: {}", String::from_utf8_lossy(&all));
        let requests = finch.requests();
        assert!(requests.len() <= before + 1, "{round}: {shown:?} became {:?}", &requests[before..]);
        for request in &requests[before..] {
            assert_clean(request, TOKEN, finch.address);
        }
    }
}

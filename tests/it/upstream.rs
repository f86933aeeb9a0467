//! A Finch that is hostile or broken. The app gets one clear refusal or one sound answer; no token leaves,
//! nothing that broke off looks whole, and the next call is served. The ids are those of the attack list.

use crate::support::client::{Answer, App};
use crate::support::raw::{Act, RawFinch, answer, good, say};
use crate::support::socket::Socket;
use crate::support::{CLIENT_SECRET, Setup, World};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

const TOKEN: &str = "CANARY-token-of-acme";

/// For what is not about retries: each answer is the answer.
const ONCE: &str = "retry.attempts = 1\nshield.probe = \"off\"";

fn setup() -> Setup {
    World::with().connection("acme", TOKEN)
}

async fn world(setup: Setup) -> (World, Arc<RawFinch>) {
    let finch = RawFinch::start().await;
    (setup.finch(&finch.url()).start().await, finch)
}

fn acme(world: &World) -> App {
    world.for_customer("acme")
}

async fn metric(world: &World, name: &str) -> String {
    let text = world.operator().get("/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    line.unwrap_or_default().to_owned()
}

fn assert_no_secret(answer: &Answer) {
    let all = format!("{:?} {}", answer.headers, answer.text());
    assert!(!all.contains(TOKEN) && !all.contains(CLIENT_SECRET), "{all}");
}

/// Stops the gateway and hands out its lines, in which no secret may stand.
async fn lines(mut world: World) -> Vec<Value> {
    world.stop().await;
    let text = String::from_utf8(world.lines.bytes()).expect("text");
    assert!(!text.contains(TOKEN) && !text.contains(CLIENT_SECRET), "{text}");
    world.lines.all()
}

/// U01 U04 U05 U07 U08 U09 U11 U15 U20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_becomes_one_clear_refusal() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let framed = |lines: &str| vec![say(format!("{head}{lines}\r\n0\r\n\r\n"))];
    let moved = |status: &str| vec![answer(status, "Location: http://127.0.0.1:1/evil\r\n", "")];
    let (broken, bad, late) =
        ((502, "perch_finch_unreachable"), (502, "perch_bad_answer"), (504, "perch_finch_timeout"));
    let cases: Vec<(&str, Vec<Act>, (u16, &str))> = vec![
        ("U09 closes", vec![Act::Close], broken),
        ("U09 resets", vec![Act::Reset], broken),
        ("U09 in the head", vec![say("HTTP/1.1 200 OK\r\nContent-"), Act::Close], broken),
        ("U07 another protocol", vec![say("SSH-2.0-OpenSSH_9.9\r\n\r\n"), Act::Close], bad),
        ("U07 rubbish", vec![Act::Write(b"\x00\xff\x13\r\n\r\n".to_vec()), Act::Close], bad),
        ("U07 no status", vec![say("HTTP/1.1 OK\r\n\r\n"), Act::Close], bad),
        ("U07 NUL", vec![say(format!("{head}X: a\0b\r\nContent-Length: 0\r\n\r\n"))], bad),
        ("U06 line feeds", vec![say("HTTP/1.1 200 OK\nContent-Length: 2\n\n{}")], bad),
        ("U05", framed("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), bad),
        ("U05 other order", framed("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), bad),
        ("U04", framed("Content-Length: 5\r\nContent-Length: 6\r\n"), bad),
        ("U04 alike", framed("Content-Length: 5\r\nContent-Length: 5\r\n"), bad),
        ("U04 list", framed("Content-Length: 5, 5\r\n"), bad),
        ("U04 sign", framed("Content-Length: +5\r\n"), bad),
        ("U05 coding", framed("Transfer-Encoding: gzip, chunked\r\n"), bad),
        ("U05 unknown coding", framed("Transfer-Encoding: xchunked\r\n"), bad),
        ("U11 length", vec![say(format!("{head}Content-Length: 50\r\n\r\n{{\"a\":")), Act::Close], broken),
        (
            "U11 chunked",
            vec![say(format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n")), Act::Close],
            broken,
        ),
        (
            "U11 bad chunk",
            vec![say(format!("{head}Transfer-Encoding: chunked\r\n\r\n0x3\r\n[1]\r\n0\r\n\r\n"))],
            broken,
        ),
        ("U11 reset", vec![say(format!("{head}Content-Length: 50\r\n\r\n{{")), Act::Reset], broken),
        (
            "U15",
            vec![say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")],
            bad,
        ),
        ("U15 endless", vec![say("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(20)), good()], bad),
        ("U01 301", moved("301 Moved Permanently"), bad),
        ("U01 302", moved("302 Found"), bad),
        ("U01 307", moved("307 Temporary Redirect"), bad),
        ("U01 304", moved("304 Not Modified"), bad),
        ("U20 silent", vec![Act::Hang], late),
        ("U20 in the head", vec![say("HTTP/1.1 200"), Act::Hang], late),
        ("U20 after an interim", vec![say("HTTP/1.1 100 Continue\r\n\r\n"), Act::Hang], late),
        ("U20 in the body", vec![say(format!("{head}Content-Length: 50\r\n\r\n{{")), Act::Hang], late),
        (
            "U20 in a chunk",
            vec![say(format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\n[")), Act::Hang],
            late,
        ),
        ("U08", vec![say(head), say(format!("X: {}\r\n", "a".repeat(1_000)).repeat(8_192)), good()], bad),
        ("U08 one line", vec![say(head), say("X: "), say("a".repeat(8 << 20)), good()], bad),
    ];
    let (world, finch) =
        world(setup().settings(ONCE).settings("finch.timeout = \"700ms\"\nlimits.products.company = 1000"))
            .await;
    let (mut wrong, mut told) = (Vec::new(), Vec::new());
    for (ids, acts, (status, code)) in &cases {
        finch.next(acts.clone());
        let before = finch.requests().len();
        let answer = acme(&world).get("/employer/company").await;
        assert_no_secret(&answer);
        told.push(answer.header("perch-request-id").to_owned());
        let perch = &answer.json()["perch"];
        let seen = (
            answer.status,
            answer.code(),
            answer.class(),
            answer.header("x-should-retry"),
            answer.header("retry-after"),
            answer.header("location"),
            perch["origin"].as_str(),
            perch["attempts"].as_u64(),
            finch.requests().len() - before,
        );
        let expected =
            // A read may be sent again, though not at once: what that can do perch has done.
            (*status, (*code).to_owned(), "finch_unreachable", "false", "", "", Some("perch"), Some(1), 1);
        if seen != expected {
            wrong.push(format!("{ids}: {seen:?}, not {expected:?}"));
        }
        let lawful = acme(&world).with("connection", "close").get("/employer/company").await;
        if lawful.status != 200 {
            wrong.push(format!("{ids}: then a lawful call gets {}", lawful.text()));
        }
        // The next case begins on a connection of its own.
        finch.next([answer_and_close()]);
        acme(&world).get("/employer/company").await;
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    let lines = lines(world).await;
    assert_eq!(lines.len(), cases.len() * 3, "one line for each call");
    for (id, (ids, _, (status, code))) in told.iter().zip(&cases) {
        let line = lines.iter().find(|line| line["request_id"] == id.as_str());
        let line = line.unwrap_or_else(|| panic!("{ids}: no line"));
        assert_eq!(
            (&line["status"], &line["refusal"], &line["class"], &line["attempts"]),
            (&json!(status), &json!(code), &json!("finch_unreachable"), &json!(1)),
            "{ids}"
        );
    }
}

/// An answer after which perch must take another connection.
fn answer_and_close() -> Act {
    answer("200 OK", "Connection: close\r\n", "{}")
}

/// U13 U16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_answer_only_the_listed_headers_are_relayed() {
    let (world, finch) = world(setup()).await;
    let headers = "Content-Type: application/json\r\nFinch-Request-Id: f-1\r\nSet-Cookie: EVIL\r\nConnection: keep-alive, x-evil\r\n\
                   Keep-Alive: timeout=EVIL\r\nX-Evil: EVIL\r\nServer: EVIL\r\nX-Debug: EVIL\r\nVia: EVIL\r\nLocation: /EVIL\r\n\
                   Strict-Transport-Security: EVIL\r\nAccess-Control-Allow-Origin: EVIL\r\nPerch-Class: EVIL\r\n\
                   Perch-Request-Id: EVIL\r\nX-Should-Retry: EVIL\r\nRetry-After: 9999\r\nRateLimit: EVIL\r\nTrailer: EVIL\r\n\
                   Proxy-Authenticate: EVIL\r\nWWW-Authenticate: EVIL\r\nUpgrade: EVIL\r\nDate: EVIL\r\n";
    for status in ["200 OK", "400 Bad Request"] {
        finch.next([answer(status, headers, "{\"finch_code\":\"x\"}")]);
        let mut socket = Socket::to(world.proxy).await;
        socket.write(b"GET /employer/company HTTP/1.1\r\nHost: perch\r\nPerch-Customer: acme\r\n\r\n").await;
        let heard = socket.hear().await;
        assert!(!heard.head.contains("EVIL") && !heard.head.contains("9999"), "{}", heard.head);
        assert_eq!(
            (heard.header("finch-request-id"), heard.header("content-type")),
            ("f-1", "application/json")
        );
    }
    // An interim answer is not the answer.
    finch
        .next([say("HTTP/1.1 103 Early Hints\r\nLink: EVIL\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"), good()]);
    let heard = acme(&world).get("/employer/company").await;
    assert_eq!((heard.status, heard.header("link"), heard.text().as_str()), (200, "", "{\"id\":\"c\"}"));
    // No content, no type: SDKs would parse nothing as JSON.
    for (status, class) in [("204 No Content", "ok"), ("202 Accepted", "not_ready"), ("200 OK", "ok")] {
        let length = if status.starts_with("204") { "" } else { "Content-Length: 0\r\n" };
        finch.next([say(format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{length}\r\n"))]);
        let heard = acme(&world).get("/employer/company").await;
        assert_eq!(heard.status.to_string(), status[..3]);
        assert_eq!(
            (heard.class(), heard.header("content-type"), heard.bytes.len()),
            (class, "", 0),
            "{status}"
        );
    }
    // A body that ends with the connection is a body.
    finch.next([say("HTTP/1.1 200 OK\r\n\r\n{\"until\":\"the end\"}"), Act::Close]);
    assert_eq!(acme(&world).get("/employer/company").await.text(), "{\"until\":\"the end\"}");
    lines(world).await;
}

/// U12 U13: what comes behind a whole answer is nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_an_answer_reach_nobody() {
    let (world, finch) = world(setup().settings("limits.products.company = 1000")).await;
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL";
    for first in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{{}}{evil}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{evil}"),
        format!("HTTP/1.1 204 No Content\r\n\r\n{evil}"),
        format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()),
        format!("HTTP/1.1 304 Not Modified\r\n\r\n{evil}"),
        format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()),
        format!("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{{}}{evil}"),
        format!("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n{evil}"),
    ] {
        finch.next([say(first.clone())]);
        let before = finch.requests().len();
        let answer = acme(&world).get("/employer/company").await;
        assert!(!answer.text().contains("EVIL"), "{}", answer.text());
        let next = acme(&world).get("/employer/company").await;
        assert_eq!(next.text(), "{\"id\":\"c\"}", "after {first:?}");
        let carriers = finch.carriers();
        assert_ne!(carriers[before], carriers[before + 1], "kept after {first:?}");
    }
    // A body that belongs to no answer because the question was a HEAD: Finch is asked none.
    let before = finch.requests().len();
    let head = acme(&world).call("HEAD", "/employer/company", "".into()).await;
    assert!(head.status >= 400 && head.bytes.is_empty(), "{} {}", head.status, head.text());
    assert_eq!(finch.requests().len(), before, "a HEAD reached Finch");
    lines(world).await;
}

/// U02 U03: a token that comes back is taken out, and somebody hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reflected_secret_is_taken_out_and_counted() {
    let (world, finch) = world(
        setup()
            .settings(ONCE)
            .settings("limits.products.company = 1000\nlisten.inspect_bytes_max = \"1KiB\""),
    )
    .await;
    let echo =
        format!("{{\"finch_code\":\"{TOKEN}\",\"message\":\"Bearer {TOKEN}\",\"echo\":[\"{TOKEN}\"]}}");
    let headers = format!(
        "Content-Type: application/json\r\nFinch-Echo: Bearer {TOKEN}\r\nFinch-Request-Id: {TOKEN}\r\n"
    );
    let mut counted = 0;
    for (status, headers, body) in [
        ("200 OK", headers.as_str(), "{}"),
        ("200 OK", "", echo.as_str()),
        ("500 Internal Server Error", headers.as_str(), "{}"),
        ("401 Unauthorized", "", echo.as_str()),
        ("502 Bad Gateway", "", TOKEN),
        ("302 Found", headers.as_str(), ""),
    ] {
        finch.next([answer(status, headers, body)]);
        let answer = acme(&world).get("/employer/company").await;
        assert_no_secret(&answer);
        assert_eq!(answer.header("finch-echo"), "");
        counted += 1;
        assert_eq!(metric(&world, "perch_redactions_total").await, counted.to_string(), "{status} {body}");
    }
    // A body too large to be held is searched as it passes, wherever the secret stands in it.
    for at in [0, 1_015, 1_024, 2_000, 49_990] {
        let body = format!("{}{TOKEN}{}", "x".repeat(at), "y".repeat(50_000 - at));
        finch.next([answer("200 OK", "", &body)]);
        let answer = acme(&world).get("/employer/company").await;
        assert_eq!(answer.text(), body.replace(TOKEN, &"*".repeat(TOKEN.len())), "at {at}");
        counted += 1;
        assert_eq!(metric(&world, "perch_redactions_total").await, counted.to_string(), "at {at}");
    }
    // The application's own credentials are secrets like any other.
    let body = json!({ "customer_id": "acme", "customer_name": "acme", "products": ["company"] });
    for _ in 0..2 {
        let sent = finch.requests().len();
        finch.next([answer("400 Bad Request", "", "{}")]);
        world.app().post("/connect/sessions", &body).await;
        let request = finch.requests()[sent].clone();
        let basic =
            request.lines().find_map(|l| l.strip_prefix("authorization: Basic ")).expect("basic").to_owned();
        for status in ["400 Bad Request", "201 Created"] {
            finch.next([answer(
                status,
                &format!("Finch-Echo: {basic}\r\n"),
                &format!("{{\"e\":\"{basic} {CLIENT_SECRET}\"}}"),
            )]);
            let answer = world.app().post("/connect/sessions", &body).await;
            assert_no_secret(&answer);
            assert!(!answer.text().contains(&basic) && !format!("{:?}", answer.headers).contains(&basic));
        }
    }
    // So is the application's secret in the answer of an exchange.
    finch.next([answer(
        "200 OK",
        "",
        &format!("{{\"access_token\":\"t-1\",\"connection_id\":\"c-9\",\"echo\":\"{CLIENT_SECRET} t-1\"}}"),
    )]);
    let exchanged = world.app().post("/auth/token", &json!({ "code": "x" })).await;
    assert_eq!((exchanged.status, exchanged.json()["access_token"].as_str()), (200, Some("connection:c-9")));
    assert_no_secret(&exchanged);
    assert!(!exchanged.text().contains("t-1"), "{}", exchanged.text());
    lines(world).await;
}

/// U21: errors are read up to a bound and never inflated.
/// An error whose gzip is `{"message":"INFLATEDmmm…"}` (RFC 1951): a stored block, a block of runs, a stored block.
fn bomb() -> Vec<u8> {
    const RUNS: usize = (16 << 20) / 258;
    let stored = |text: &str, is_last: u8| {
        let length = u16::try_from(text.len()).expect("short");
        [&[is_last][..], &length.to_le_bytes(), &(!length).to_le_bytes(), text.as_bytes()].concat()
    };
    // A run is 258 times the byte before: 11000101, then distance 00000. The block: 0, kind 01, runs, the end 0000000.
    let run = [true, true, false, false, false, true, false, true, false, false, false, false, false];
    let bits: Vec<bool> =
        [false, true, false].into_iter().chain(run.repeat(RUNS)).chain([false; 7]).collect();
    let byte = |bits: &[bool]| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << at);
    let gzip = [
        vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255],
        stored("{\"message\":\"INFLATEDm", 0),
        bits.chunks(8).map(byte).collect(),
        stored("\"}", 1),
        vec![0; 8],
    ]
    .concat();
    let head = format!(
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
         Content-Length: {}\r\n\r\n",
        gzip.len()
    );
    [head.into_bytes(), gzip].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_is_read_up_to_a_bound() {
    let (world, finch) = world(setup().settings(ONCE)).await;
    finch.next([answer("500 Internal Server Error", "Content-Encoding: gzip\r\n", "\u{1f}\u{8b}not really")]);
    let answer_ = acme(&world).get("/employer/company").await;
    assert_eq!(
        (answer_.status, answer_.header("content-encoding"), answer_.class()),
        (500, "", "finch_error")
    );
    assert_eq!(answer_.json()["perch"]["origin"], "finch");
    for body in [format!("{{\"message\":\"{}\"}}", "m".repeat(10 << 20)), "z".repeat(10 << 20)] {
        finch.next([answer("503 Service Unavailable", "Content-Type: text/html\r\n", &body)]);
        let answer = acme(&world).get("/employer/company").await;
        assert_eq!((answer.status, answer.header("content-type")), (503, "application/json"));
        assert!(answer.bytes.len() < 64 << 10, "{} bytes", answer.bytes.len());
        assert_eq!(answer.json()["perch"]["class"], "finch_error");
    }
    // U21: sixteen mebibytes in less than a hundred kibibytes, sound in every bit that is read.
    finch.next([Act::Write(bomb()), Act::Close]);
    let answer_ = acme(&world).get("/employer/company").await;
    assert_eq!((answer_.status, answer_.class()), (500, "finch_error"));
    assert!(answer_.bytes.len() < 64 << 10 && !answer_.text().contains("INFLATED"), "{}", answer_.text());
    // U19: what Finch says about waiting is not believed blindly.
    for value in ["-1", "999999999999999999999", "soon", "Mon, 01 Jan 9999 00:00:00 GMT", "1e9", ""] {
        finch.next([answer("503 Service Unavailable", &format!("Retry-After: {value}\r\n"), "{}")]);
        let answer = acme(&world).get("/employer/company").await;
        let wait = answer.header("retry-after");
        assert!(
            wait.is_empty() || wait.parse::<u32>().is_ok_and(|s| (1..=60).contains(&s)),
            "{value:?}: {wait:?}"
        );
    }
    // Depth is no way in.
    for body in ["[".repeat(60_000), "{\"a\":".repeat(12_000)] {
        finch.next([answer("400 Bad Request", "Content-Type: application/json\r\n", &body)]);
        assert_eq!(acme(&world).get("/employer/company").await.class(), "invalid_request");
    }
    lines(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_too_large_to_look_into_passes_whole_or_visibly_broken() {
    let (world, finch) = world(setup().settings("listen.inspect_bytes_max = \"4KiB\"")).await;
    let body: String = (0..200_000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    finch.next([answer("200 OK", "Content-Type: application/json\r\nFinch-Request-Id: f-1\r\n", &body)]);
    let mut chunked = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.as_bytes().chunks(7_777) {
        let piece = std::str::from_utf8(piece).expect("ASCII");
        chunked.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    finch.next([say(format!("{chunked}0\r\n\r\n"))]);
    for _ in 0..2 {
        let answer = acme(&world).get("/employer/company").await;
        assert_eq!((answer.status, answer.class(), answer.bytes.len()), (200, "ok", body.len()));
        assert!(answer.text() == body);
    }
    assert_eq!(finch.carriers(), [1, 1], "a streamed answer gives its connection back");
    // U11: what breaks off at Finch breaks off at the app.
    for acts in [
        [say(format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{body}")), Act::Close],
        [say(chunked.clone()), Act::Close],
        [say(format!("{chunked}zz\r\n")), Act::Hang],
    ] {
        finch.next(acts);
        let broken = acme(&world).try_call("GET", "/employer/company", Bytes::new()).await;
        assert!(broken.is_err(), "a broken body looked whole");
        assert_eq!(acme(&world).get("/employer/directory").await.status, 200);
    }
    let lines = lines(world).await;
    let told = |line: &Value| {
        (
            line["class"].clone(),
            line["uninspected"].clone(),
            line["client_gone"].clone(),
            line["bytes_out"].as_u64(),
        )
    };
    let lines: Vec<_> = lines.iter().filter(|line| line["product"] == "company").map(told).collect();
    assert_eq!(lines[..2], [(json!("ok"), json!(true), Value::Null, Some(200_000)), lines[0].clone()]);
    assert_eq!(lines.len(), 5);
    for (class, uninspected, client_gone, _) in &lines[2..] {
        assert_eq!(
            (class, uninspected, client_gone),
            (&json!("finch_unreachable"), &json!(true), &Value::Null)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finch_that_is_not_there_costs_no_quota() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    let world = setup().finch(&url).start().await;
    for _ in 0..30 {
        let answer = acme(&world).get("/employer/company").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (502, "perch_finch_unreachable"),
            "{}",
            answer.text()
        );
        assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), ("5", ""));
        assert!(answer.header("ratelimit").starts_with("\"company\";r=20"), "{}", answer.header("ratelimit"));
        assert_eq!(answer.header("perch-attempts"), "0");
    }
    let lines = lines(world).await;
    assert_eq!(lines.len(), 30);
    assert!(lines.iter().all(|l| l["class"] == "finch_unreachable" && l["attempts"] == 0));
}

/// U17: a kept connection that Finch has closed says nothing about the call; a write is still not repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_read_is_sent_again_after_a_stale_connection() {
    let plenty = "apps.writes = \"allow\"\nlimits.products.default = 1000\nlimits.products.directory = 1000\n\
                  limits.products.individual = 1000\n";
    let (world, finch) = world(setup().settings(plenty)).await;
    let app = acme(&world);
    for (act, method, path) in
        [(Act::Close, "GET", "/employer/directory"), (Act::Reset, "POST", "/employer/individual")]
    {
        let (answer, first) = over_a_kept_connection(&app, &finch, &[vec![act]], method, path).await;
        assert_eq!((answer.status, answer.header("perch-attempts")), (200, "2"), "{}", answer.text());
        let (requests, carriers) = (finch.requests(), finch.carriers());
        assert_eq!(requests.len(), first + 2);
        assert_eq!(requests[first], requests[first + 1], "the same call");
        assert_ne!(carriers[first], carriers[first + 1], "on another connection");
        let used = format!("r={};", 1000 - requests.iter().filter(|r| r.contains(path)).count());
        assert!(answer.header("ratelimit").contains(&used), "an admission each: {answer:?}");
    }
    // Once only, and the second failure is told.
    let twice = [vec![Act::Close], vec![Act::Close]];
    let (answer, first) = over_a_kept_connection(&app, &finch, &twice, "GET", "/employer/directory").await;
    assert_eq!((answer.status, answer.header("perch-attempts")), (502, "2"), "{}", answer.text());
    assert_eq!(finch.requests().len(), first + 2);
    // A write may have been carried out.
    let once = [vec![Act::Close]];
    let (answer, first) = over_a_kept_connection(&app, &finch, &once, "POST", "/employer/benefits").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "perch_finch_unreachable"),
        "{}",
        answer.text()
    );
    assert_eq!((answer.header("perch-attempts"), answer.header("x-should-retry")), ("1", "false"));
    assert_eq!(finch.requests().len(), first + 1);
    // Once an interim answer has come, the connection was not stale.
    let interim = [vec![say("HTTP/1.1 103 Early Hints\r\n\r\n"), Act::Close]];
    let (answer, _) = over_a_kept_connection(&app, &finch, &interim, "GET", "/employer/directory").await;
    assert_eq!((answer.status, answer.header("perch-attempts")), (200, "2"), "{}", answer.text());
    assert_eq!(metric(&world, "perch_retries_total{why=\"cut\"}").await, "1");
    let lines = lines(world).await;
    assert!(lines.iter().any(|l| l["status"] == 200 && l["attempts"] == 2));
}

/// Calls with a script for the call's own attempts, over a connection that was kept. pingora's pool now and
/// then opens another although one is there; such a try says nothing and is made again. The answer, and which
/// request the call's first attempt was.
async fn over_a_kept_connection(
    app: &App,
    finch: &RawFinch,
    script: &[Vec<Act>],
    method: &str,
    path: &str,
) -> (Answer, usize) {
    for _ in 0..20 {
        finch.next([good()]);
        app.get("/employer/directory").await;
        script.iter().for_each(|acts| finch.next(acts.clone()));
        let first = finch.requests().len();
        let body = if method == "GET" { Bytes::new() } else { Bytes::from_static(b"{}") };
        let answer = app.call(method, path, body).await;
        finch.forget();
        let carriers = finch.carriers();
        if carriers[first] == carriers[first - 1] {
            return (answer, first);
        }
    }
    panic!("no connection is ever kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_quota_for_a_second_attempt_the_first_failure_is_the_answer() {
    let (world, finch) = world(setup().settings("limits.products.company = 2")).await;
    let app = acme(&world).with("perch-max-wait", "0");
    let first = app.get("/employer/company").await;
    assert_eq!(first.status, 200, "no patience is enough for what is free: {}", first.text());
    finch.next([Act::Close]);
    let answer = app.get("/employer/company").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "perch_finch_unreachable"),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("perch-attempts"), "1");
    assert_eq!(finch.requests().len(), 2);
    lines(world).await;
}

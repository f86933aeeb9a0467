//! What must hold whatever was tried: of the bytes that reached Finch, read by five programs that understand HTTP/1 in five
//! ways, and of the bytes that reached the attacker.

use crate::support::CLIENT_SECRET;
use crate::support::socket::Heard;
use std::net::SocketAddr;

/// The token of the customer `acme`.
pub const TOKEN: &str = "CANARY-token-of-acme";
/// The token of the customer `globex`.
pub const OTHER_TOKEN: &str = "CANARY-token-of-globex";
/// What an attacker shows as a credential of its own; Finch must never see it.
pub const SENTINEL: &str = "EVIL";

/// Oracle 4: no secret in what an attacker hears.
pub fn of_an_answer(heard: &Heard) -> Vec<String> {
    let text = format!("{}{}", heard.head, String::from_utf8_lossy(&heard.body));
    let secrets = [TOKEN, OTHER_TOKEN, CLIENT_SECRET];
    secrets.iter().filter(|secret| text.contains(**secret)).map(|s| format!("{s} is in the answer")).collect()
}

/// Oracles 1 and 3: one clean request with this token, for this Finch.
pub fn of_a_request(request: &str, token: &str, finch: SocketAddr) -> Vec<String> {
    let Some((head, _)) = request.split_once("\r\n\r\n") else {
        return vec![format!("no head: {request:?}")];
    };
    let mut wrong = Vec::new();
    let mut must = |is_so: bool, what: &str| {
        if !is_so {
            wrong.push(format!("{what}: {request:?}"));
        }
    };
    let names: Vec<String> =
        head.lines().skip(1).map(|l| l.split(':').next().unwrap_or_default().to_ascii_lowercase()).collect();
    let count = |name: &str| names.iter().filter(|known| *known == name).count();
    must(count("authorization") == 1, "not one Authorization");
    must(head.contains(&format!("\r\nauthorization: Bearer {token}")), "another token");
    must(count("host") == 1 && head.contains(&format!("\r\nHost: {finch}")), "another host");
    must(count("transfer-encoding") == 0, "Transfer-Encoding");
    must(count("content-length") == usize::from(head.starts_with("POST")), "not one Content-Length");
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    must(names.iter().all(|n| !n.is_empty() && n.bytes().all(is_name)), "an illegal header name");
    must(head.bytes().all(|b| b == b'\r' || b == b'\n' || (b' '..=b'~').contains(&b)), "a control byte");
    must(
        head.matches('\n').count() == head.matches("\r\n").count()
            && head.matches('\r').count() == head.matches("\r\n").count(),
        "a line end alone",
    );
    must(!request.contains(SENTINEL), "the attacker's credential");
    wrong
}

/// Fails with all that is wrong with this request.
pub fn assert_clean(request: &str, token: &str, finch: SocketAddr) {
    let mut wrong = of_a_request(request, token, finch);
    wrong.extend(of_streams(&[request.as_bytes().to_vec()], 1));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Oracle 2: on these connections every personality reads this many requests in all, and none of them was hidden.
pub fn of_streams(streams: &[Vec<u8>], requests: usize) -> Vec<String> {
    let mut wrong = Vec::new();
    for personality in Personality::ALL {
        let read: Vec<String> = streams.iter().flat_map(|stream| personality.read(stream)).collect();
        if read.len() != requests {
            wrong.push(format!("{personality:?} reads {} requests, not {requests}", read.len()));
        }
        let is_hidden = |line: &&String| line.contains("SMUGGLED");
        wrong.extend(read.iter().filter(is_hidden).map(|line| format!("{personality:?} reads {line:?}")));
    }
    wrong
}

/// A program that reads HTTP/1 in its own way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Personality {
    /// As RFC 9112 has it.
    Rfc,
    /// `Content-Length` wins over `Transfer-Encoding`.
    LengthFirst,
    /// Whatever resembles `Transfer-Encoding: chunked` is that.
    LenientEncoding,
    /// A line feed alone ends a line.
    BareLf,
    /// A carriage return alone ends a line.
    BareCr,
}

impl Personality {
    const ALL: [Self; 5] = [Self::Rfc, Self::LengthFirst, Self::LenientEncoding, Self::BareLf, Self::BareCr];

    /// The first line of each request that it reads. What it cannot make sense of counts as one more.
    pub fn read(self, mut bytes: &[u8]) -> Vec<String> {
        let mut read = Vec::new();
        while let Some((line, rest)) = self.line(bytes) {
            bytes = rest;
            if line.is_empty() {
                continue;
            }
            read.push(String::from_utf8_lossy(line).into_owned());
            let Some(rest) = self.message(bytes) else { return read };
            bytes = rest;
        }
        if !bytes.is_empty() {
            read.push(String::from_utf8_lossy(bytes).into_owned());
        }
        read
    }

    /// What is behind a message whose first line was read; `None` when it does not end here.
    fn message(self, mut bytes: &[u8]) -> Option<&[u8]> {
        let (mut length, mut is_chunked) = (None, false);
        loop {
            let (line, rest) = self.line(bytes)?;
            bytes = rest;
            if line.is_empty() {
                break;
            }
            let text = String::from_utf8_lossy(line).to_ascii_lowercase();
            if self == Self::LenientEncoding && text.contains("transfer") && text.contains("chunked") {
                is_chunked = true;
            }
            let Some((name, value)) = text.split_once(':') else { continue };
            match name {
                "content-length" => length = length.or(value.trim().parse::<usize>().ok()),
                "transfer-encoding" => is_chunked |= value.trim().ends_with("chunked"),
                _ => {}
            }
        }
        match (is_chunked, length) {
            (true, None) => self.chunks(bytes),
            (true, Some(_)) if self != Self::LengthFirst => self.chunks(bytes),
            (_, length) => bytes.get(length.unwrap_or(0)..),
        }
    }

    fn chunks(self, mut bytes: &[u8]) -> Option<&[u8]> {
        loop {
            let (line, rest) = self.line(bytes)?;
            let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            let size =
                std::str::from_utf8(&line[..digits]).ok().and_then(|t| usize::from_str_radix(t, 16).ok());
            bytes = rest;
            let Some(size @ 1..) = size else {
                // The last one; what follows up to an empty line are trailers.
                while let Some((line, rest)) = self.line(bytes) {
                    bytes = rest;
                    if line.is_empty() {
                        break;
                    }
                }
                return Some(bytes);
            };
            let (_, rest) = self.line(bytes.get(size..)?)?;
            bytes = rest;
        }
    }

    /// One line without its end, and what is behind it.
    fn line(self, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
        let (end, width) = match self {
            Self::BareLf => (bytes.iter().position(|b| *b == b'\n')?, 1),
            Self::BareCr => {
                let end = bytes.iter().position(|b| *b == b'\r')?;
                (end, if bytes.get(end + 1) == Some(&b'\n') { 2 } else { 1 })
            }
            _ => (bytes.windows(2).position(|w| w == b"\r\n")?, 2),
        };
        let line = &bytes[..end];
        let line = if self == Self::BareLf { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
        Some((line, &bytes[end + width..]))
    }
}

#[test]
fn the_oracle_sees_what_each_personality_would_be_made_to_read() {
    use Personality::{BareCr, BareLf, LengthFirst, LenientEncoding, Rfc};
    let hidden = "GET /SMUGGLED HTTP/1.1\r\nHost: a\r\n\r\n";
    let whole = "0\r\n\r\n".len() + hidden.len();
    let post = |lines: &str, body: &str| format!("POST /a HTTP/1.1\r\nHost: a\r\n{lines}\r\n{body}{hidden}");
    for (stream, who) in [
        (
            post(&format!("Content-Length: {whole}\r\nTransfer-Encoding: chunked\r\n"), "0\r\n\r\n"),
            vec![Rfc, LenientEncoding, BareLf, BareCr],
        ),
        (post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", ""), vec![LengthFirst]),
        (
            post(&format!("Content-Length: {whole}\r\nTransfer-Encoding : chunked\r\n"), "0\r\n\r\n"),
            vec![LenientEncoding],
        ),
        (format!("GET /a HTTP/1.1\r\nX: a\n\n{hidden}"), vec![BareLf]),
        (format!("GET /a HTTP/1.1\r\nX: a\r\r{hidden}"), vec![BareCr]),
    ] {
        for personality in Personality::ALL {
            let is_seen =
                personality.read(stream.as_bytes()).iter().any(|line| line.contains("GET /SMUGGLED"));
            assert_eq!(is_seen, who.contains(&personality), "{personality:?} of {stream:?}");
        }
        assert!(!of_streams(&[stream.into_bytes()], 1).is_empty());
    }
    let lawful =
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(of_streams(&[lawful.as_bytes().to_vec()], 2), Vec::<String>::new());
    let finch: SocketAddr = ([127, 0, 0, 1], 9).into();
    let clean = format!("GET /a HTTP/1.1\r\nHost: {finch}\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    assert_eq!(of_a_request(&clean, TOKEN, finch), Vec::<String>::new());
    for (what, by) in [
        ("\r\n\r\n", "\r\nauthorization: Bearer x\r\n\r\n"),
        ("\r\n\r\n", "\r\nHost: evil\r\n\r\n"),
        ("\r\n\r\n", "\r\nX: EVIL\r\n\r\n"),
        ("\r\n\r\n", "\r\nX y: 1\r\n\r\n"),
        ("\r\n\r\n", "\r\nX: a\nb: c\r\n\r\n"),
        ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("acme", "globex"),
        ("127.0.0.1", "127.0.0.2"),
    ] {
        assert!(!of_a_request(&clean.replace(what, by), TOKEN, finch).is_empty(), "{by:?}");
    }
}

//! Whether a message is one perch reads. pingora repairs much that perch refuses: two readings of
//! one message are how requests are smuggled and paths are confused.

use super::chunks::LINE_BYTES_MAX;
use super::refusal::Refusal;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

/// The longest path and query together.
const TARGET_BYTES_MAX: usize = 8 * 1024;
/// The most header lines of a request.
const HEADERS_MAX: usize = 100;

/// The target of a request, cut in two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// Starts with `/`; letters, digits and `-._~:@/` only.
    pub path: &'a str,
    /// Behind the `?`, as it came.
    pub query: Option<&'a str>,
}

/// Checks the head of an HTTP/1 message as it came over the wire.
///
/// # Errors
/// Bare line feeds and both framings at once, which pingora would repair; a framing that is longer than any needs to be.
pub fn check_head(raw: &[u8]) -> Result<(), Refusal> {
    let mut previous = 0;
    for &byte in raw {
        if byte == b'\n' && previous != b'\r' {
            return Err(Refusal::Malformed("a header line ends in a bare line feed"));
        }
        previous = byte;
    }
    let is_of = |line: &[u8], name: &str| {
        let field = line.split(|b| *b == b':').next().unwrap_or_default();
        field.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
    };
    let (mut has_length, mut has_coding) = (false, false);
    for line in raw.split(|b| *b == b'\n').skip(1) {
        let (is_length, is_coding) = (is_of(line, "content-length"), is_of(line, "transfer-encoding"));
        // The chunks behind it are judged by whoever reads no more of a line than this.
        if (is_length || is_coding) && line.len() > LINE_BYTES_MAX {
            return Err(Refusal::Malformed("Content-Length or Transfer-Encoding is longer than 64 bytes"));
        }
        has_length |= is_length;
        has_coding |= is_coding;
    }
    if has_length && has_coding {
        return Err(Refusal::Malformed("Content-Length and Transfer-Encoding stand together"));
    }
    Ok(())
}

/// The target as it stands in the head of an HTTP/1 request: a parsed one has lost its fragment.
pub fn raw_target(raw: &[u8]) -> Option<&[u8]> {
    // RFC 9112 §2.2: empty lines before the first are ignored.
    let line = raw.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty())?;
    let from = line.iter().position(|b| *b == b' ')? + 1;
    let to = line.iter().rposition(|b| *b == b' ')?;
    line.get(from..to)
}

/// Checks what holds for every version of HTTP.
///
/// # Errors
/// Missing or doubled `Host`, doubled framing or one with two readings, too many headers.
pub fn check_headers(headers: &HeaderMap, is_http_11: bool) -> Result<(), Refusal> {
    if headers.len() > HEADERS_MAX {
        return Err(Refusal::Malformed("more than 100 header lines"));
    }
    let count = |name| headers.get_all(name).iter().count();
    match count(HOST) {
        0 if is_http_11 => return Err(Refusal::Malformed("Host is missing")),
        0 | 1 => {}
        _ => return Err(Refusal::DoubledHeader("Host")),
    }
    let is_host = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]".contains(b);
    if headers.get(HOST).is_some_and(|v| !v.as_bytes().iter().all(is_host)) {
        return Err(Refusal::Malformed("Host is not a host"));
    }
    check_framing(headers)
}

/// Checks what tells where a body ends, of a request or of an answer.
///
/// # Errors
/// It is told twice, or in a way that programs read differently.
pub fn check_framing(headers: &HeaderMap) -> Result<(), Refusal> {
    let count = |name| headers.get_all(name).iter().count();
    if count(CONTENT_LENGTH) > 1 {
        return Err(Refusal::DoubledHeader("Content-Length"));
    }
    if count(TRANSFER_ENCODING) > 1 {
        return Err(Refusal::DoubledHeader("Transfer-Encoding"));
    }
    if headers.get(CONTENT_LENGTH).is_some_and(|v| !is_length(v.as_bytes())) {
        return Err(Refusal::Malformed("Content-Length is not one number"));
    }
    // Another coding would stay in the body, and Finch would not be told of it.
    if headers.get(TRANSFER_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::Malformed("Transfer-Encoding is not chunked"));
    }
    Ok(())
}

/// Digits alone are not enough: without any, or with more than a length has, programs read no length at all.
fn is_length(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_ok()
}

/// Checks the target.
///
/// # Errors
/// Anything but an origin-form path whose characters mean themselves: an encoded path could be read
/// in two ways, and no id of Finch's needs it.
pub fn check_target(target: &[u8]) -> Result<Target<'_>, Refusal> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::Malformed("the target is longer than 8 KiB"));
    }
    let text = std::str::from_utf8(target).map_err(|_| Refusal::Malformed("the target is not ASCII"))?;
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    if !path.starts_with('/') || path.starts_with("//") {
        return Err(Refusal::Malformed("the target must be a path that starts with one slash"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:@/".contains(&b);
    if !path.bytes().all(plain) {
        return Err(Refusal::Malformed("the path holds characters that no path of Finch's has"));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(Refusal::Malformed("the path holds dot segments"));
    }
    if query.is_some_and(|q| !is_sound_query(q.as_bytes())) {
        return Err(Refusal::Malformed("the query holds a raw or a badly encoded character"));
    }
    Ok(Target { path, query })
}

/// RFC 3986 §3.4, and brackets, which common clients leave as they are.
fn is_sound_query(query: &[u8]) -> bool {
    let mut rest = query;
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            b'%' => match tail {
                [a, b, tail @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => tail,
                _ => return false,
            },
            b if b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?[]".contains(b) => tail,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_path_is_a_target() {
        for bad in [
            "http://evil/x",
            "https://api.tryfinch.com/employer/company",
            "//evil/x",
            "@evil/x",
            "employer/company",
            "*",
            "",
            "/employer/%2e%2e/x",
            "/employer/../x",
            "/employer/./x",
            "/employer/..;/x",
            "/a\\..\\b",
            "/a%00",
            "/a\u{1}b",
            "/a b",
            "/a#b",
            "/ä",
            "/a?b=\u{0}",
            "/a?b=%zz",
            "/a?b=%2",
            "/a?b c",
            "/a?b#c",
            "/a?<",
            "/%252e%252e/",
        ] {
            assert!(check_target(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(check_target(b"/\xff").is_err());
        assert!(check_target(&[b"/".as_slice(), &[b'a'; 9_000]].concat()).is_err());
        let target = check_target(b"/employer/company?entity_ids%5B%5D=a&x[]=b").expect("sound");
        assert_eq!(target, Target { path: "/employer/company", query: Some("entity_ids%5B%5D=a&x[]=b") });
        assert_eq!(check_target(b"/providers").expect("sound").query, None);
    }

    #[test]
    fn a_head_with_two_readings_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\ncontent-length : 3\r\n\r\n",
            "GET / HTTP/1.1\n\n",
            "POST / HTTP/1.1\r\nContent-Length: 00000000000000000000000000000000000000000000000000000000003\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding:                                              chunked\r\n\r\n",
        ] {
            assert!(check_head(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert_eq!(check_head(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"), Ok(()));
        assert_eq!(check_head(b""), Ok(()));
    }

    #[test]
    fn a_doubled_host_or_length_is_refused() {
        let headers = |lines: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                map.append(*name, value.parse().expect("a value"));
            }
            map
        };
        assert!(check_headers(&headers(&[]), true).is_err());
        assert!(check_headers(&headers(&[]), false).is_ok());
        assert!(check_headers(&headers(&[("host", "a"), ("host", "b")]), true).is_err());
        assert!(
            check_headers(&headers(&[("host", "a"), ("content-length", "1"), ("content-length", "1")]), true)
                .is_err()
        );
        assert!(check_headers(&headers(&[("host", "a")]), true).is_ok());
    }

    #[test]
    fn a_host_or_framing_that_can_be_read_in_two_ways_is_refused() {
        for (name, value, is_sound) in [
            ("host", "[::1]:4600", true),
            ("host", "perch.internal:80", true),
            ("host", "perch/x", false),
            ("host", "a b", false),
            ("content-length", "12", true),
            ("content-length", "5, 5", false),
            ("content-length", "+5", false),
            ("content-length", "", false),
            ("content-length", "18446744073709551616", false),
            ("transfer-encoding", "Chunked", true),
            ("transfer-encoding", "gzip, chunked", false),
            ("transfer-encoding", "identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            assert_eq!(check_headers(&headers, false).is_ok(), is_sound, "{name}: {value}");
        }
    }

    #[test]
    fn the_raw_target_is_all_that_stands_between_method_and_version() {
        for (raw, target) in [
            ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Some("/a#b")),
            ("\r\nGET /a HTTP/1.1\r\n", Some("/a")),
            ("GET /a b HTTP/1.1\r\n", Some("/a b")),
            ("GET /a\r\n", None),
            ("", None),
        ] {
            assert_eq!(raw_target(raw.as_bytes()), target.map(str::as_bytes), "{raw:?}");
        }
    }
}

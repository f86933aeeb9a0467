//! As much of HTTP/1.1 as the recorder and the apps of this program need, read byte for byte: they judge perch, so they
//! share no code with it.

use super::Outcome;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The longest body.
const BODY_BYTES_MAX: usize = 16 << 20;

/// A request or an answer, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line and the headers, with the empty line after them.
    pub(crate) head: Vec<u8>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// All bytes.
    pub(crate) raw: Vec<u8>,
}

/// Why there is no whole message.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The other side closed before its first byte.
    Nothing,
    /// It ended, or was reset, in the middle: what had come.
    Cut(Vec<u8>),
    /// It is not HTTP.
    Nonsense(Vec<u8>),
}

impl Message {
    /// The first line.
    pub(crate) fn first_line(&self) -> String {
        let end = self.head.windows(2).position(|pair| pair == b"\r\n").unwrap_or(self.head.len());
        String::from_utf8_lossy(&self.head[..end]).into_owned()
    }

    /// The status, when this is an answer.
    pub(crate) fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let is = |line: &&str| line.split_once(':').is_some_and(|(own, _)| own.eq_ignore_ascii_case(name));
    text.split("\r\n").skip(1).find(is).and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
}

/// How the end of a body is known.
enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

fn framing(head: &[u8], is_answer: bool) -> Option<Framing> {
    if header(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Some(Framing::Chunked);
    }
    if let Some(length) = header(head, "content-length") {
        return length.parse().ok().filter(|length| *length <= BODY_BYTES_MAX).map(Framing::Length);
    }
    let line =
        String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let has_none = ["204", "304"].iter().any(|status| line.split(' ').nth(1) == Some(status));
    Some(if is_answer && !has_none { Framing::UntilEnd } else { Framing::Length(0) })
}

/// Reads a message whose beginning may be in `unread`; what comes after it stays there.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
    is_answer: bool,
) -> Result<Message, Broken> {
    loop {
        match whole(unread, is_answer, false) {
            Ok(Some(message)) => {
                unread.drain(..message.raw.len());
                return Ok(message);
            }
            Ok(None) => {}
            Err(_) => return Err(Broken::Nonsense(std::mem::take(unread))),
        }
        match from.read_buf(unread).await {
            Ok(1..) => {}
            _ if unread.is_empty() => return Err(Broken::Nothing),
            Ok(0) => {
                let all = std::mem::take(unread);
                return match whole(&all, is_answer, true) {
                    Ok(Some(message)) => Ok(message),
                    Ok(None) => Err(Broken::Cut(all)),
                    Err(_) => Err(Broken::Nonsense(all)),
                };
            }
            Err(_) => return Err(Broken::Cut(std::mem::take(unread))),
        }
    }
}

/// The message at the beginning of these bytes, when it is whole.
fn whole(bytes: &[u8], is_answer: bool, is_over: bool) -> Outcome<Option<Message>> {
    let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return if bytes.len() > HEAD_BYTES_MAX { Err("the head is too long".into()) } else { Ok(None) };
    };
    let head = &bytes[..at];
    if is_answer && !head.starts_with(b"HTTP/1.") {
        return Err("it is no answer".into());
    }
    let message = |body: Vec<u8>, length: usize| {
        Some(Message { head: head.to_vec(), body, raw: bytes[..length].to_vec() })
    };
    match framing(head, is_answer).ok_or("its length is no number")? {
        Framing::Length(length) => {
            let body = bytes.get(at..at + length);
            Ok(body.and_then(|body| message(body.to_vec(), at + length)))
        }
        Framing::UntilEnd if is_over => Ok(message(bytes[at..].to_vec(), bytes.len())),
        Framing::UntilEnd => Ok(None),
        Framing::Chunked => {
            let (mut from, mut body) = (at, Vec::new());
            loop {
                let rest = bytes.get(from..).unwrap_or_default();
                let Some(line) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
                let size = std::str::from_utf8(&rest[..line])?;
                let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
                if body.len() + size > BODY_BYTES_MAX {
                    return Err("the body is too long".into());
                }
                let start = from + line + 2;
                let Some(chunk) = bytes.get(start..start + size) else { return Ok(None) };
                if bytes.get(start + size..start + size + 2).is_none() {
                    return Ok(None);
                }
                body.extend_from_slice(chunk);
                from = start + size + 2;
                if size == 0 {
                    return Ok(message(body, from));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut bytes: &[u8], is_answer: bool) -> Result<Message, Broken> {
        read(&mut bytes, &mut Vec::new(), is_answer).await
    }

    #[tokio::test]
    async fn a_message_is_whole_or_it_is_said_to_be_cut() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nPerch-Class: ok\r\n\r\nhello";
        let read = read_all(answer, true).await.expect("it is whole");
        assert_eq!((read.status(), read.body.as_slice()), (200, b"hello".as_slice()));
        assert_eq!(read.header("perch-class").as_deref(), Some("ok"));
        for end in 1..answer.len() {
            assert!(matches!(read_all(&answer[..end], true).await, Err(Broken::Cut(_))), "{end}");
        }
        assert!(matches!(read_all(b"", true).await, Err(Broken::Nothing)));
        assert!(matches!(read_all(b"tuna\r\n\r\n", true).await, Err(Broken::Nonsense(_))));
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(read_all(chunked, true).await.expect("it is whole").body, b"abcde");
        assert!(matches!(read_all(&chunked[..chunked.len() - 4], true).await, Err(Broken::Cut(_))));
        let ask = read_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", false).await.expect("it is whole");
        assert_eq!(ask.first_line(), "GET / HTTP/1.1");
    }

    #[tokio::test]
    async fn two_messages_in_one_piece_are_read_one_after_the_other() {
        let mut bytes: &[u8] = b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        let mut unread = Vec::new();
        for path in ["/a", "/b"] {
            let message = read(&mut bytes, &mut unread, false).await.expect("it is whole");
            assert_eq!(message.first_line(), format!("GET {path} HTTP/1.1"));
        }
    }
}

//! HTTP as an app speaks it, on one kept connection, in a few lines: what is measured is the gateway and not its client.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A gateway that does not answer for this long has failed.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Line {
    stream: TcpStream,
    door: SocketAddr,
    buffer: Vec<u8>,
}

/// What came back.
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Line {
    /// Connects.
    pub(crate) fn open(door: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(door)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        stream.set_write_timeout(Some(ANSWER_WAIT_MAX))?;
        Ok(Self { stream, door, buffer: vec![0; 64 * 1024] })
    }

    /// One exchange. `headers` are whole lines, each with its end.
    pub(crate) fn call(&mut self, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\nContent-Length: {}\r\n\
             Finch-API-Version: 2020-09-17\r\nUser-Agent: Finch/Python 1.0\r\n{headers}\r\n{body}",
            self.door,
            body.len(),
        );
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        let head = loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            filled += read;
            if let Some(at) = memchr::memmem::find(&self.buffer[..filled], b"\r\n\r\n") {
                break at + 4;
            }
            if read == 0 || filled == self.buffer.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).into_owned();
        let strange = || io::Error::other(format!("an answer that this client cannot read: {text}"));
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(strange)?;
        let length: usize = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .ok_or_else(strange)?;
        let mut body = self.buffer[head..filled].to_vec();
        let begun = body.len();
        body.resize(length.max(begun), 0);
        self.stream.read_exact(&mut body[begun..])?;
        Ok(Answer { status, body })
    }
}

/// One exchange on a connection of its own.
pub(crate) fn once(
    door: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> io::Result<Answer> {
    Line::open(door)?.call(method, path, headers, body)
}

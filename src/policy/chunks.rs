//! Whether the chunks of a request's body are written as RFC 9112 §7.1 has it. pingora reads bare line feeds, empty lines and
//! odd extensions more kindly than other programs do, and hands on no raw bytes of a body: so this follows all bytes of a
//! connection beside it, from message to message, and remembers no more than it must.

/// The beginning of a header line, as far as it tells how a body is framed. `policy::wire` refuses a longer line that does.
pub const LINE_BYTES_MAX: usize = 64;
/// A size of more digits is beyond every bound.
const DIGITS_MAX: u8 = 16;

/// Follows the bytes of one connection.
#[derive(Debug, Default)]
pub struct Chunks {
    part: Part,
    /// The line of a head that is being read, up to [`LINE_BYTES_MAX`].
    line: Vec<u8>,
    head: Head,
    is_odd: bool,
}

/// What a head has told so far.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    has_begun: bool,
    is_chunked: bool,
    length: u64,
}

/// In which part of a message the next byte stands.
#[derive(Debug, Default, Clone, Copy)]
enum Part {
    #[default]
    Head,
    /// In a body of known length.
    Body(u64),
    /// Before or among the digits of a size: how many, and their value.
    Size(u8, u64),
    /// Behind the `;` of a size.
    Extension(u64),
    /// Behind the carriage return of a size.
    SizeEnd(u64),
    Data(u64),
    /// Behind a chunk's data.
    DataEnd,
    /// Behind the carriage return there.
    DataEndCr,
    /// At the beginning of a line behind the last chunk.
    Trailer,
    TrailerLine,
    TrailerLineCr,
    /// Behind the carriage return of the empty line.
    LastCr,
    /// Nothing more is judged: a chunked request is the last of its connection.
    Over,
}

impl Chunks {
    /// Goes on with what came next.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            let skipped = match &mut self.part {
                Part::Over => return,
                Part::Body(left) | Part::Data(left) => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skipped as u64;
                    skipped
                }
                _ => 0,
            };
            if skipped > 0 {
                bytes = &bytes[skipped..];
                self.part = match self.part {
                    Part::Body(0) => Part::Head,
                    Part::Data(0) => Part::DataEnd,
                    part => part,
                };
                continue;
            }
            self.part = self.next(*byte);
            bytes = rest;
        }
    }

    /// Whether a chunked body was not written as it should be.
    pub fn is_odd(&self) -> bool {
        self.is_odd
    }

    fn next(&mut self, byte: u8) -> Part {
        match (self.part, byte) {
            (Part::Head, b'\n') => self.end_line(),
            (Part::Head, _) => {
                if self.line.len() < LINE_BYTES_MAX {
                    self.line.push(byte);
                }
                Part::Head
            }
            (Part::Size(digits, size), _) if byte.is_ascii_hexdigit() && digits < DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                Part::Size(digits + 1, size << 4 | u64::from(digit))
            }
            (Part::Size(1.., size), b';') => Part::Extension(size),
            (Part::Size(1.., size) | Part::Extension(size), b'\r') => Part::SizeEnd(size),
            (Part::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => Part::Extension(size),
            (Part::SizeEnd(0), b'\n') => Part::Trailer,
            (Part::SizeEnd(size), b'\n') => Part::Data(size),
            (Part::DataEnd, b'\r') => Part::DataEndCr,
            (Part::DataEndCr, b'\n') => Part::Size(0, 0),
            (Part::Trailer, b'\r') => Part::LastCr,
            (Part::Trailer | Part::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => Part::TrailerLine,
            (Part::TrailerLine, b'\r') => Part::TrailerLineCr,
            (Part::TrailerLineCr, b'\n') => Part::Trailer,
            (Part::LastCr, b'\n') => Part::Over,
            // The two with a length are passed over whole, and nothing is behind the end.
            (Part::Body(_) | Part::Data(_) | Part::Over, _) => self.part,
            (
                Part::Size(..)
                | Part::Extension(_)
                | Part::SizeEnd(_)
                | Part::DataEnd
                | Part::DataEndCr
                | Part::Trailer
                | Part::TrailerLine
                | Part::TrailerLineCr
                | Part::LastCr,
                _,
            ) => {
                self.is_odd = true;
                Part::Over
            }
        }
    }

    /// At the end of a line of a head. What else is wrong with a head is others' to say; the connection ends then.
    fn end_line(&mut self) -> Part {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        if !self.head.has_begun {
            // RFC 9112 §2.2: empty lines before the first are ignored.
            self.head.has_begun = !line.is_empty();
            return Part::Head;
        }
        if line.is_empty() {
            let Head { is_chunked, length, .. } = std::mem::take(&mut self.head);
            return match (is_chunked, length) {
                (true, _) => Part::Size(0, 0),
                (false, 0) => Part::Head,
                (false, length) => Part::Body(length),
            };
        }
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if name.trim_ascii().eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.is_chunked = true;
        }
        if name.trim_ascii().eq_ignore_ascii_case(b"content-length") {
            let text = std::str::from_utf8(value.get(1..).unwrap_or_default()).unwrap_or_default();
            self.head.length = text.trim().parse().unwrap_or(0);
        }
        Part::Head
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    const FIRST: &str =
        "\r\nPOST / HTTP/1.1\r\nContent-Length: 7\r\n\r\n0;\n\r\n;xGET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// The same, however the bytes were cut.
    fn is_odd(text: &str) -> bool {
        let whole = {
            let mut chunks = Chunks::default();
            chunks.see(text.as_bytes());
            chunks.is_odd()
        };
        for size in [1, 2, 3, 7] {
            let mut chunks = Chunks::default();
            text.as_bytes().chunks(size).for_each(|piece| chunks.see(piece));
            assert_eq!(chunks.is_odd(), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn what_is_written_as_it_should_be_is_not_odd() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=b;c=\"d\"\r\nhello\r\n1\r\n!\r\n000\r\nX: y\r\nZ: \t\r\n\r\nGET /;\n\n HTTP/1.1\r\n\r\n",
            "A\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nx",
            "5\r\nhel",
        ] {
            assert!(!is_odd(&format!("{HEAD}{body}")), "{body:?}");
            assert!(!is_odd(&format!("{FIRST}{HEAD}{body}")), "{body:?} behind others");
        }
        assert!(!is_odd("GET / HTTP/1.1\r\nHost: a\r\n\r\n5\nx"), "no body is no chunk");
    }

    #[test]
    fn every_other_way_to_write_a_chunk_is_odd() {
        for body in [
            "\r\nhello\r\n0\r\n\r\n",
            "5\nhello\n0\n\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloo\r\n0\r\n\r\n",
            "5;\nxx\r\nhello\r\n0\r\n\r\n",
            "5;a\n\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5;a\0\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5_\r\nhello\r\n0\r\n\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            ";a\r\nhello\r\n0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
            "0\r\nX: y\rZ: z\r\n\r\n",
            "0\r\n\rX",
        ] {
            assert!(is_odd(&format!("{HEAD}{body}")), "{body:?}");
            assert!(is_odd(&format!("{FIRST}{HEAD}{body}")), "{body:?} behind others");
        }
    }

    #[test]
    fn it_remembers_no_more_of_a_line_than_it_needs() {
        let mut chunks = Chunks::default();
        chunks.see(&[b'a'; 100_000]);
        assert_eq!(chunks.line.len(), LINE_BYTES_MAX);
    }
}

//! What targets make of their bytes: decisions taken one after the other, parts of a text, and HTTP messages.

use http::{HeaderMap, HeaderName, HeaderValue};
use perch::finch::endpoints::{ENDPOINTS, Endpoint};
use perch::policy::route::route;

/// What stands between the parts of an input that is several texts.
const BETWEEN: &[u8] = b"\n--\n";

/// The most header lines of a message that is made up.
const LINES_MAX: usize = 120;

/// Bytes as decisions. At their end everything is zero.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let number = match end {
            0..=256 => usize::from(self.byte()),
            _ => usize::from(self.byte()) << 8 | usize::from(self.byte()),
        };
        number % end
    }

    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let came = self.take(8);
        bytes[..came.len()].copy_from_slice(came);
        u64::from_le_bytes(bytes)
    }

    /// Up to `max` bytes, at most 255.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let count = usize::from(self.byte()).min(max);
        self.take(count)
    }

    /// The same as text.
    pub fn text(&mut self, max: usize) -> String {
        String::from_utf8_lossy(self.bytes(max)).into_owned()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The input cut at lines of two dashes; missing parts are empty.
pub fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut rest = Some(data);
    std::array::from_fn(|at| {
        let Some(here) = rest else { return &[][..] };
        match here.windows(BETWEEN.len()).position(|window| window == BETWEEN) {
            Some(end) if at + 1 < N => {
                rest = Some(&here[end + BETWEEN.len()..]);
                &here[..end]
            }
            _ => {
                rest = None;
                here
            }
        }
    })
}

/// One line, header lines up to an empty one, and a body.
pub struct Message<'a> {
    pub line: String,
    pub headers: HeaderMap,
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    pub fn read(data: &'a [u8]) -> Self {
        let end = data.windows(2).position(|window| window == b"\n\n");
        let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 2..]));
        let mut lines = head.split(|byte| *byte == b'\n');
        let line = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        Self { line, headers: headers(lines), body }
    }

    /// The endpoint that the first two words of the line name, or the first of all.
    pub fn endpoint(&self) -> &'static Endpoint {
        endpoint(&self.line)
    }
}

/// The endpoint that the first two words name, or the first of all.
pub fn endpoint(line: &str) -> &'static Endpoint {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    route(method, path).unwrap_or(&ENDPOINTS[0])
}

/// Header lines; those that are none are passed over.
pub fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.take(LINES_MAX) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

//! An answer, written down for another replica: one line of JSON for what stands around it, then the body byte for byte.

use crate::policy::Class;
use crate::types::{FinchRequestId, UnixMillis};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The form that this version writes; another one is not read.
const FORM: u32 = 1;

/// An answer and what is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<B> {
    /// Its status.
    pub status: u16,
    /// What became of the call.
    pub class: Class,
    /// Its headers, without those that each call has of its own.
    pub headers: HeaderMap,
    /// Finch's ids of its attempts.
    pub finch_request_id: Vec<FinchRequestId>,
    /// The version of the token with which it was asked for.
    pub version: u64,
    /// When it was answered.
    pub at: UnixMillis,
    /// Its body.
    pub body: B,
}

#[derive(Serialize, Deserialize)]
struct Head {
    form: u32,
    status: u16,
    class: String,
    headers: Vec<(String, String)>,
    ids: Vec<String>,
    version: u64,
    at: i64,
}

impl<B: AsRef<[u8]>> Record<B> {
    /// Writes it down; `None` when a header is no plain text.
    pub fn to_bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let head = Head {
            form: FORM,
            status: self.status,
            class: self.class.as_str().to_owned(),
            headers: self.headers.iter().map(text).collect::<Option<_>>()?,
            ids: self.finch_request_id.iter().map(|id| id.as_str().to_owned()).collect(),
            version: self.version,
            at: self.at.0,
        };
        let head = serde_json::to_vec(&head).ok()?;
        let body = self.body.as_ref();
        // At once in its full size, so that no half-written copy is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + 1 + body.len()));
        bytes.extend_from_slice(&head);
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        Some(bytes)
    }
}

impl Record<Vec<u8>> {
    /// Reads it; `None` when it is none of this form.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b'\n', bytes)?;
        let head: Head = serde_json::from_slice(&bytes[..end]).ok()?;
        if head.form != FORM {
            return None;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in head.headers {
            let (name, value) = (HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
            headers.try_append(name, value).ok()?;
        }
        Some(Self {
            status: head.status,
            class: Class::ALL.into_iter().find(|class| class.as_str() == head.class)?,
            headers,
            finch_request_id: head.ids.into_iter().filter_map(|id| FinchRequestId::new(id).ok()).collect(),
            version: head.version,
            at: UnixMillis(head.at),
            body: bytes[end + 1..].to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert("finch-request-id", HeaderValue::from_static("f-1"));
        headers.append("x", HeaderValue::from_static("one"));
        headers.append("x", HeaderValue::from_static("two"));
        Record {
            status: 207,
            class: Class::Partial,
            headers,
            finch_request_id: vec![FinchRequestId::new("f-1").expect("an id")],
            version: 7,
            at: UnixMillis(1_795_435_200_000),
            body: b"{\"a\":1}\n\n\xff\0".to_vec(),
        }
    }

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let record = record();
        let bytes = record.to_bytes().expect("plain headers");
        assert_eq!(Record::read(&bytes), Some(record));
    }

    #[test]
    fn what_is_no_answer_of_this_form_is_none() {
        let bytes = record().to_bytes().expect("plain headers");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        for bad in [
            "".to_owned(),
            "{}\n".to_owned(),
            text.replace("\"form\":1", "\"form\":2"),
            text.replace("partial", "splendid"),
            text.replace("\"x\"", "\"x y\""),
        ] {
            assert_eq!(Record::read(bad.as_bytes()), None, "{bad}");
        }
        let mut odd = record();
        odd.headers.insert("x", HeaderValue::from_bytes(b"\xff").expect("a value"));
        assert_eq!(odd.to_bytes(), None);
    }
}

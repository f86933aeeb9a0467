//! One request as Finch reads it: its endpoint, the parts of its path, its query and its body.

use super::refusal::{Reason, Refusal};
use crate::finch::Endpoint;
use crate::types::{Moment, UnixMillis};
use base64::Engine;
use http::HeaderMap;
use serde_json::Value;

/// A request on its way to an answer.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) endpoint: &'static Endpoint,
    /// What stands where the path varies; empty where it does not.
    pub(super) id: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: &'a HeaderMap,
    body: &'a [u8],
    pub(super) now: Moment,
    pub(super) wall: UnixMillis,
    /// Where this simulator is reached, for links.
    pub(super) base_url: &'a str,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        endpoint: &'static Endpoint,
        uri: &http::Uri,
        headers: &'a HeaderMap,
        body: &'a [u8],
        (now, wall): (Moment, UnixMillis),
        base_url: &'a str,
    ) -> Self {
        let mut template = endpoint.path.split('/');
        let id = uri.path().split('/').find(|_| template.next().is_some_and(|t| t.starts_with('{')));
        Self {
            endpoint,
            id: id.map(|i| decode(i, false)).unwrap_or_default(),
            query: query(uri.query().unwrap_or_default()),
            headers,
            body,
            now,
            wall,
            base_url,
        }
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(self.body)
            .map_err(|_| Refusal::because(Reason::InvalidRequest, "The body is not JSON"))
    }

    /// The body as a JSON object; nothing at all counts as `{}`.
    pub(super) fn object(&self) -> Result<serde_json::Map<String, Value>, Refusal> {
        if self.body.is_empty() {
            return Ok(serde_json::Map::new());
        }
        match self.json()? {
            Value::Object(object) => Ok(object),
            _ => Err(Refusal::because(Reason::InvalidRequest, "The body is not a JSON object")),
        }
    }

    /// A query parameter.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All values of a query parameter that is a list.
    pub(super) fn params(&self, name: &str) -> Vec<&str> {
        let listed = |n: &str| n.strip_suffix("[]").unwrap_or(n) == name;
        self.query.iter().filter(|(n, _)| listed(n)).map(|(_, v)| v.as_str()).collect()
    }

    /// A query parameter that is a number within bounds.
    pub(super) fn number(&self, name: &str, default: usize, max: usize) -> Result<usize, Refusal> {
        match self.param(name) {
            None => Ok(default),
            Some(text) => text.parse().ok().filter(|n| *n <= max).ok_or_else(|| {
                Refusal::because(Reason::InvalidRequest, format!("{name} must be a number up to {max}"))
            }),
        }
    }

    /// What follows `Bearer ` in the first `Authorization`.
    pub(super) fn bearer(&self) -> Option<&str> {
        bearer(self.headers)
    }

    /// The client id and secret of a `Basic` authorization.
    pub(super) fn basic(&self) -> Option<(String, String)> {
        let encoded = scheme(self.headers, "basic")?;
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        text.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
    }
}

/// What follows `Bearer ` in the first `Authorization`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    scheme(headers, "bearer")
}

fn scheme<'h>(headers: &'h HeaderMap, wanted: &str) -> Option<&'h str> {
    let (scheme, rest) = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then(|| rest.trim())
}

/// Cuts a query into its parameters and decodes them.
pub(super) fn query(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let coded = (byte == b'%').then(|| {
            let mut ahead = bytes.clone();
            let digit = |b: Option<u8>| (b? as char).to_digit(16);
            Some((digit(ahead.next())? * 16 + digit(ahead.next())?) as u8)
        });
        match (coded.flatten(), byte) {
            (Some(decoded), _) => {
                bytes.nth(1);
                out.push(decoded);
            }
            (None, b'+') if plus_is_space => out.push(b' '),
            (None, byte) => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_as_the_sdks_write_it() {
        let read = query("entity_ids%5B%5D=a%2Db&entity_ids[]=c&x&y=1+2%zz&=");
        let want = [("entity_ids[]", "a-b"), ("entity_ids[]", "c"), ("x", ""), ("y", "1 2%zz"), ("", "")];
        assert_eq!(read, want.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}

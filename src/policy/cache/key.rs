//! Which calls ask for the same: a digest of whose data it is and of all that Finch gets to see of the request.
//!
//! Apps are not told apart: whether one may have an answer is decided before it is looked for. Connections are.

use crate::policy::batch::Repair;
use crate::types::ConnectionId;
use http::HeaderMap;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Request headers that change an answer. They are read as Finch gets them, so that one left out is its default.
const CHANGE_ANSWERS: [&str; 4] = ["accept", "content-encoding", "content-type", "finch-api-version"];

/// A call, as far as it decides what the answer is.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whose data.
    pub connection: &'a ConnectionId,
    /// The method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, as it came.
    pub query: Option<&'a str>,
    /// The headers as Finch gets them.
    pub to_finch: &'a HeaderMap,
    /// Which failed items are asked for once more.
    pub repair: Repair,
    /// The whole body.
    pub body: &'a [u8],
}

/// The digest of a call. It says nothing of it to whoever does not know the call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name([u8; 32]);

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Name {
    /// The digest.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Asked<'_> {
    /// The call's name.
    pub fn name(&self) -> Name {
        let mut digest = Sha256::new();
        part(&mut digest, b"perch/v1/asked");
        part(&mut digest, self.connection.as_str().as_bytes());
        part(&mut digest, self.method.as_bytes());
        part(&mut digest, self.path.as_bytes());
        match self.query.map(pairs) {
            None => digest.update([0]),
            Some(Some(pairs)) => {
                digest.update([1]);
                digest.update((pairs.len() as u64).to_le_bytes());
                for (name, value) in pairs {
                    part(&mut digest, &name);
                    match value {
                        Some(value) => {
                            digest.update([1]);
                            part(&mut digest, &value);
                        }
                        None => digest.update([0]),
                    }
                }
            }
            Some(None) => {
                digest.update([2]);
                part(&mut digest, self.query.unwrap_or_default().as_bytes());
            }
        }
        for name in CHANGE_ANSWERS {
            let values = self.to_finch.get_all(name);
            digest.update((values.iter().count() as u64).to_le_bytes());
            values.iter().for_each(|value| part(&mut digest, value.as_bytes()));
        }
        digest.update([match self.repair {
            Repair::Off => 0,
            Repair::Failed => 1,
            Repair::Pending => 2,
        }]);
        part(&mut digest, &compact(self.body));
        Name(digest.finalize().into())
    }
}

type Pair = (Vec<u8>, Option<Vec<u8>>);

/// The pairs of a query by their names, those of one name in their order: `entity_ids[]` is one name however it is
/// escaped, and the order of different names says nothing. `None` when it cannot be read in one way only: then the same
/// text alone is the same query.
fn pairs(query: &str) -> Option<Vec<Pair>> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        pairs.push(match pair.split_once('=') {
            Some((name, value)) => (unescaped(name)?, Some(unescaped(value)?)),
            None => (unescaped(pair)?, None),
        });
    }
    // A stable sort.
    pairs.sort_by(|a: &Pair, b: &Pair| a.0.cmp(&b.0));
    Some(pairs)
}

/// Takes the escapes of a query out. `None` for what is no escape, and for a plus: it is a blank to some and a plus to
/// others.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                let (high, low) = (digit()?, digit()?);
                out.push(high << 4 | low);
            }
            b'+' => return None,
            byte => out.push(byte),
        }
    }
    Some(out)
}

/// A JSON text without the blanks that mean nothing: SDKs and people write the same body with other ones. What is no
/// JSON stays as it is.
fn compact(body: &[u8]) -> Cow<'_, [u8]> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if !body.iter().any(is_blank) || serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return Cow::Borrowed(body);
    }
    let mut out = Vec::with_capacity(body.len());
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in body {
        if in_text || !is_blank(byte) {
            out.push(*byte);
        }
        (in_text, is_escaped) = match (in_text, is_escaped, byte) {
            (true, false, b'\\') => (true, true),
            (true, false, b'"') => (false, false),
            (true, ..) => (true, false),
            (false, _, b'"') => (true, false),
            (false, ..) => (false, false),
        };
    }
    Cow::Owned(out)
}

/// Adds a part with its length, so that no two rows of parts read the same.
fn part(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::headers::to_finch;
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v)));
        to_finch(&lines.collect())
    }

    fn connection(id: &str) -> ConnectionId {
        ConnectionId::new(id).expect("an id")
    }

    #[test]
    fn whatever_changes_an_answer_changes_the_name() {
        let (one, two) = (connection("c1"), connection("c2"));
        let plain = headers(&[]);
        let others = [
            headers(&[("accept", "text/csv")]),
            headers(&[("content-type", "text/csv")]),
            headers(&[("content-encoding", "gzip")]),
            headers(&[("finch-api-version", "2031-01-01")]),
        ];
        let base = Asked {
            connection: &one,
            method: "POST",
            path: "/employer/individual",
            query: None,
            to_finch: &plain,
            repair: Repair::Off,
            body: b"{}",
        };
        let mut all = vec![
            base,
            Asked { connection: &two, ..base },
            Asked { method: "GET", ..base },
            Asked { path: "/employer/employment", ..base },
            Asked { repair: Repair::Failed, ..base },
            Asked { repair: Repair::Pending, ..base },
            Asked { body: b"", ..base },
            Asked { body: b"[]", ..base },
        ];
        for query in [
            "", "a", "a=", "a=1", "a=2", "a=1&a=2", "a=2&a=1", "a=%", "a=%25", "a=+", "a=%20", "a=%2B",
            "a=%FF",
        ] {
            all.push(Asked { query: Some(query), ..base });
        }
        all.extend(others.iter().map(|to_finch| Asked { to_finch, ..base }));
        let names: HashSet<Name> = all.iter().map(Asked::name).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn what_finch_cannot_tell_apart_has_one_name() {
        let one = connection("c1");
        let (plain, said) =
            (headers(&[]), headers(&[("finch-api-version", "2020-09-17"), ("user-agent", "x")]));
        let asked = |query, to_finch, body| {
            let (connection, repair) = (&one, Repair::Off);
            Asked { connection, method: "POST", path: "/p", query, to_finch, repair, body }.name()
        };
        let escaped = asked(Some("entity_ids%5B%5D=e&limit=1"), &plain, br#"{"a":["x y","\" z"],"b":1}"#);
        let spelt = asked(
            Some("limit=1&&entity_ids[]=e"),
            &said,
            b"{ \"a\" : [\"x y\",\n\t\"\\\" z\"], \"b\": 1 }\r\n",
        );
        assert_eq!(escaped, spelt);
        assert_ne!(escaped, asked(Some("limit=1&entity_ids[]=e"), &plain, br#"{"a":["xy","\" z"],"b":1}"#));
    }

    proptest! {
        #[test]
        fn blanks_go_from_between_the_words_and_nowhere_else(text in "[ \\\\\"{}:,a-c]{0,40}") {
            let value = serde_json::json!({ text.clone(): [text, 1, null] });
            let pretty = serde_json::to_vec_pretty(&value).expect("JSON");
            prop_assert_eq!(compact(&pretty).into_owned(), serde_json::to_vec(&value).expect("JSON"));
        }
    }
}

//! What makes two calls the same: a digest of everything that decides where a call goes and what is
//! answered. Never across apps, customers or connections.

use crate::types::{AccessToken, AppName, ConnectionId, CustomerId};
use http::HeaderMap;
use sha2::{Digest, Sha256};

/// Request headers that change an answer.
const CHANGE_ANSWERS: [&str; 5] =
    ["accept", "content-encoding", "content-type", "finch-api-version", "perch-repair"];

/// With whose credentials a call goes out.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// A connection's.
    Connection(&'a ConnectionId),
    /// Those of a token that the app brought. It is digested, not kept.
    Token(&'a AccessToken),
    /// The application's.
    Application,
    /// The application's, inside the body.
    InBody,
    /// Nobody's.
    Nobody,
}

/// What a call is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The app, when apps are told apart.
    pub app: Option<&'a AppName>,
    /// With whose credentials.
    pub whose: Whose<'a>,
    /// Whom the call is for.
    pub customer: Option<&'a CustomerId>,
    /// The method.
    pub method: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, as it came.
    pub query: Option<&'a str>,
    /// The headers, of which some count.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// The digest of a call. Two calls with the same one are the same call.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Key {
    /// The same call after so many changes of what it reads. 0 is the call itself.
    #[must_use]
    pub fn after(self, turn: u64) -> Key {
        match turn {
            0 => self,
            turn => {
                Key(Sha256::new().chain_update(self.0).chain_update(turn.to_le_bytes()).finalize().into())
            }
        }
    }
}

impl Parts<'_> {
    /// All of it.
    pub fn key(&self) -> Key {
        let mut digest = self.target(b"content");
        part(&mut digest, self.query.map(str::as_bytes));
        for name in CHANGE_ANSWERS {
            let values = self.headers.get_all(name);
            digest.update(values.iter().count().to_le_bytes());
            values.iter().for_each(|value| part(&mut digest, Some(value.as_bytes())));
        }
        part(&mut digest, Some(self.body));
        Key(digest.finalize().into())
    }

    /// Where it goes, under the client's own name for what it intends.
    pub fn named(&self, name: &str) -> Key {
        let mut digest = self.target(b"named");
        part(&mut digest, Some(name.as_bytes()));
        Key(digest.finalize().into())
    }

    fn target(&self, domain: &[u8]) -> Sha256 {
        let mut digest = Sha256::new();
        part(&mut digest, Some(domain));
        part(&mut digest, self.app.map(|app| app.as_str().as_bytes()));
        let (kind, id) = match self.whose {
            Whose::Connection(id) => ("connection", Some(id.as_str())),
            Whose::Token(token) => ("token", Some(token.expose())),
            Whose::Application => ("application", None),
            Whose::InBody => ("in-body", None),
            Whose::Nobody => ("nobody", None),
        };
        part(&mut digest, Some(kind.as_bytes()));
        part(&mut digest, id.map(str::as_bytes));
        part(&mut digest, self.customer.map(|customer| customer.as_str().as_bytes()));
        part(&mut digest, Some(self.method.as_bytes()));
        part(&mut digest, Some(self.path.as_bytes()));
        digest
    }
}

/// Adds a part with its length, so that no two rows of parts read the same.
fn part(digest: &mut Sha256, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            digest.update([1]);
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
        }
        None => digest.update([0]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::collections::HashSet;

    #[test]
    fn whatever_differs_makes_another_call() {
        let connections = ["c1", "c2"].map(|id| ConnectionId::new(id).expect("an id"));
        let customers = ["a", "b"].map(|id| CustomerId::new(id).expect("an id"));
        let apps = ["payroll", "hr"].map(|id| AppName::new(id).expect("an id"));
        let tokens = ["t1", "t2"].map(|text| AccessToken::new(text.to_owned()));
        let none = HeaderMap::new();
        let with = |lines: &[(&'static str, &'static str)]| -> HeaderMap {
            lines.iter().map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v))).collect()
        };
        let headers: Vec<HeaderMap> = [
            &[("accept", "text/csv")][..],
            &[("content-type", "text/csv")],
            &[("content-encoding", "gzip")],
            &[("finch-api-version", "2031-01-01")],
            &[("perch-repair", "1")],
        ]
        .into_iter()
        .map(with)
        .collect();
        let base = Parts {
            app: None,
            whose: Whose::Connection(&connections[0]),
            customer: Some(&customers[0]),
            method: "POST",
            path: "/employer/benefits",
            query: None,
            headers: &none,
            body: b"{}",
        };
        let mut all = vec![
            base,
            Parts { app: Some(&apps[0]), ..base },
            Parts { app: Some(&apps[1]), ..base },
            Parts { whose: Whose::Connection(&connections[1]), ..base },
            Parts { whose: Whose::Token(&tokens[0]), ..base },
            Parts { whose: Whose::Token(&tokens[1]), ..base },
            Parts { whose: Whose::Application, ..base },
            Parts { whose: Whose::InBody, ..base },
            Parts { whose: Whose::Nobody, ..base },
            Parts { customer: None, ..base },
            Parts { customer: Some(&customers[1]), ..base },
            Parts { method: "PUT", ..base },
            Parts { path: "/employer/benefit", ..base },
            Parts { query: Some(""), ..base },
            Parts { query: Some("s"), path: "/employer/benefit", ..base },
            Parts { body: b"{ }", ..base },
        ];
        all.extend(headers.iter().map(|headers| Parts { headers, ..base }));
        let keys: HashSet<Key> = all.iter().map(Parts::key).collect();
        assert_eq!(keys.len(), all.len());
        assert_eq!(base.key(), Parts { ..base }.key());
    }

    #[test]
    fn a_header_that_changes_no_answer_makes_no_other_call() {
        let connection = ConnectionId::new("c").expect("an id");
        let of = |headers: &HeaderMap| {
            let whose = Whose::Connection(&connection);
            let (method, path) = ("GET", "/employer/company");
            Parts { app: None, whose, customer: None, method, path, query: None, headers, body: b"" }.key()
        };
        let first: HeaderMap = [("x-stainless-retry-count", "0")]
            .map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v)))
            .into_iter()
            .collect();
        let again: HeaderMap = [("x-stainless-retry-count", "1")]
            .map(|(n, v)| (n.parse().expect("a name"), HeaderValue::from_static(v)))
            .into_iter()
            .collect();
        assert_eq!(of(&first), of(&again));
    }

    #[test]
    fn a_name_holds_for_one_target_and_covers_its_content() {
        let connections = ["c1", "c2"].map(|id| ConnectionId::new(id).expect("an id"));
        let none = HeaderMap::new();
        let base = Parts {
            app: None,
            whose: Whose::Connection(&connections[0]),
            customer: None,
            method: "POST",
            path: "/employer/benefits",
            query: None,
            headers: &none,
            body: b"{}",
        };
        let other = Parts { body: b"[]", query: Some("x"), ..base };
        assert_eq!(base.named("k"), other.named("k"));
        assert_ne!(base.key(), other.key());
        assert_ne!(base.named("k"), base.named("l"));
        assert_ne!(base.named("k"), Parts { whose: Whose::Connection(&connections[1]), ..base }.named("k"));
        assert_ne!(base.named("k"), Parts { path: "/employer/benefits/register", ..base }.named("k"));
        assert_ne!(base.named(""), base.key());
    }
}

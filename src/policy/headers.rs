//! Which headers cross perch. Both directions are lists of what may pass; the rest stays behind, so
//! a header nobody thought of can neither override perch at Finch nor leak at the app.

use crate::finch::headers::{FINCH_API_VERSION, FINCH_API_VERSION_VALUE};
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

/// What an app may say to Finch. The SDK's own facts help Finch's support and are harmless.
const TO_FINCH: [&str; 15] = [
    "accept",
    // The body crosses as it came, so what it is packed in must cross too.
    "content-encoding",
    "content-type",
    "finch-api-version",
    "user-agent",
    "x-stainless-arch",
    "x-stainless-async",
    "x-stainless-lang",
    "x-stainless-os",
    "x-stainless-package-version",
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "x-stainless-runtime",
    "x-stainless-runtime-version",
    "x-stainless-timeout",
];

/// What Finch may say to an app, beside `Finch-*`.
const TO_APP: [&str; 5] =
    ["content-type", "content-encoding", "content-disposition", "content-language", "etag"];

/// The headers of an attempt, without `Host`, framing and authorization, which others set.
/// A header that stands twice crosses once: the first. A value that is not plain ASCII stays behind.
pub fn to_finch(from_app: &HeaderMap) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(TO_FINCH.len() + 4);
    for name in TO_FINCH {
        if let Some(value) = from_app.get(name).filter(|value| value.to_str().is_ok()) {
            out.insert(HeaderName::from_static(name), value.clone());
        }
    }
    out.entry(FINCH_API_VERSION).or_insert(HeaderValue::from_static(FINCH_API_VERSION_VALUE));
    out.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    out.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("perch/", env!("CARGO_PKG_VERSION"))));
    // An encoded answer could not be looked into without a bound on what it inflates to.
    out.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    out
}

/// The headers of Finch's answer that the app may see. `body` tells whether there is one: an empty
/// body under a JSON content type makes the SDKs fail (measured with both).
pub fn to_app(from_finch: &HeaderMap, has_body: bool) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(12);
    for (name, value) in from_finch {
        let may_pass = TO_APP.contains(&name.as_str()) || name.as_str().starts_with("finch-");
        let describes_body = name == CONTENT_TYPE || name == CONTENT_DISPOSITION;
        if may_pass && (has_body || !describes_body) && !out.contains_key(name) {
            out.insert(name.clone(), value.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn only_what_is_listed_reaches_finch() {
        let from_app = map(&[
            ("accept", "application/json"),
            ("authorization", "Bearer customer:acme"),
            ("authorization_", "x"),
            ("connection", "finch-api-version"),
            ("content-encoding", "gzip"),
            ("cookie", "a=b"),
            ("expect", "100-continue"),
            ("forwarded", "for=x"),
            ("host", "localhost"),
            ("keep-alive", "1"),
            ("perch-customer", "acme"),
            ("perch-app-key", "k"),
            ("proxy-authorization", "x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-http-method-override", "DELETE"),
            ("x-stainless-retry-count", "1"),
        ]);
        let mut names: Vec<String> = to_finch(&from_app).keys().map(ToString::to_string).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "accept",
                "accept-encoding",
                "content-encoding",
                "finch-api-version",
                "user-agent",
                "x-stainless-retry-count"
            ]
        );
    }

    #[test]
    fn the_version_is_added_and_never_overwritten() {
        assert_eq!(to_finch(&HeaderMap::new())[FINCH_API_VERSION], FINCH_API_VERSION_VALUE);
        assert_eq!(to_finch(&map(&[("finch-api-version", "2031-01-01")]))[FINCH_API_VERSION], "2031-01-01");
    }

    #[test]
    fn a_value_that_is_not_plain_text_does_not_reach_finch() {
        let mut from_app = HeaderMap::new();
        from_app.insert("user-agent", HeaderValue::from_bytes(b"a\xffb").expect("a value"));
        from_app.insert("content-type", HeaderValue::from_static("application/json"));
        let out = to_finch(&from_app);
        assert_eq!(out[USER_AGENT], concat!("perch/", env!("CARGO_PKG_VERSION")));
        assert_eq!(out[CONTENT_TYPE], "application/json");
    }

    #[test]
    fn only_what_is_listed_reaches_the_app() {
        let from_finch = map(&[
            ("connection", "close"),
            ("content-type", "application/json"),
            ("finch-request-id", "r"),
            ("finch-something-new", "n"),
            ("location", "https://evil"),
            ("retry-after", "9"),
            ("server", "x"),
            ("set-cookie", "a=b"),
            ("x-debug-authorization", "Bearer secret"),
        ]);
        let names = |has_body| {
            let mut names: Vec<String> =
                to_app(&from_finch, has_body).keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(true), ["content-type", "finch-request-id", "finch-something-new"]);
        assert_eq!(names(false), ["finch-request-id", "finch-something-new"]);
    }
}

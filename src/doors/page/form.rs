//! What a browser sends: forms and queries, cookies, and which page it is that sends them.

use crate::doors::admin::connections::decoded;
use http::header::{COOKIE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName};
use std::fmt::Write;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// The most cookies that are looked at.
const COOKIES_MAX: usize = 64;
/// The most fields of a form or a query that are looked at.
const FIELDS_MAX: usize = 32;
/// The cookie where the browser speaks TLS: bound to this host, and to TLS, by its name.
const COOKIE_TLS: &str = "__Host-perch";
/// How the cookie begins where it does not: on loopback, and behind a tunnel that ends there. The port follows, because
/// cookies do not tell the doors of one host apart.
const COOKIE_CLEAR: &str = "perch-";

/// The fields of a form, or of a query.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`; a field that cannot be read is not there.
    pub(super) fn of(text: &str) -> Self {
        let plain = |part: &str| decoded(&part.replace('+', " "));
        let fields = text.split('&').filter(|part| !part.is_empty()).take(FIELDS_MAX);
        let fields = fields.map(|part| part.split_once('=').unwrap_or((part, "")));
        Self(fields.filter_map(|(name, value)| Some((plain(name)?, plain(value)?))).collect())
    }

    /// The field without blanks around it; nothing when it is not there.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// The same, unless it is empty.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// The same fields as a query, with one of them set anew; empty ones are left out.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let kept = self.0.iter().filter(|(known, _)| known != name);
        let all = kept.map(|(name, value)| (name.as_str(), value.as_str())).chain([(name, value)]);
        let text: Vec<String> = all
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        text.join("&")
    }
}

/// A text as it may stand in a path or a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            // A `String` takes everything.
            byte => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

/// The names of sessions that a browser shows, those that only this host can have set first: an older cookie, or one
/// that a neighbouring host has set, must not hide them.
pub(super) fn sessions_of(headers: &HeaderMap) -> Vec<&str> {
    let clear = clear_name(headers);
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let pairs: Vec<(&str, &str)> = pairs.take(COOKIES_MAX).collect();
    let of = |wanted: &str| -> Vec<&str> {
        pairs.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| *value).collect()
    };
    let (mut all, clear) = (of(COOKIE_TLS), of(&clear));
    all.extend(clear);
    all
}

/// The clear cookie's name at the door that was called.
fn clear_name(headers: &HeaderMap) -> String {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    format!("{COOKIE_CLEAR}{}", if is_port { port } else { "80" })
}

/// The cookie of a session; an empty name ends it. Whether the browser speaks TLS it says itself, in `Origin`, which
/// no page can forge and no proxy has to be believed about; without TLS `Secure` would only lose the cookie.
pub(super) fn cookie(name: &str, headers: &HeaderMap) -> String {
    let is_tls = headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"));
    let (cookie, secure) =
        if is_tls { (COOKIE_TLS.to_owned(), "; Secure") } else { (clear_name(headers), "") };
    let end = if name.is_empty() { "; Max-Age=0" } else { "" };
    format!("{cookie}={name}; Path=/; HttpOnly; SameSite=Strict{secure}{end}")
}

/// Whether a form was sent by a page of this very door. A browser names the sending page's origin on every form it
/// sends, and no page can change that; what names none is no browser's form.
pub(super) fn is_our_own(headers: &HeaderMap) -> bool {
    let one = |name: HeaderName| -> Option<&str> {
        let mut all = headers.get_all(name).iter();
        let first = all.next()?.to_str().ok()?;
        all.next().is_none().then_some(first)
    };
    let (Some(origin), Some(host)) = (one(ORIGIN), one(HOST)) else { return false };
    let of = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    let is_same_site = headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin");
    of.is_some_and(|of| of.eq_ignore_ascii_case(host)) && is_same_site
}

/// Where to go after signing in: a path of this door's, whatever a link from elsewhere asks for.
pub(super) fn next_of(fields: &Fields) -> &str {
    let next = fields.get("next");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~%?=&".contains(c);
    let is_ours = next.starts_with('/') && !next.starts_with("//") && next.chars().all(is_plain);
    if is_ours && !next.starts_with("/sign-") { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().expect("a value"))).collect()
    }

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let fields = Fields::of("a=1&b=x+y%2Bz&c&d=%zz&=e&a=2&blank=++");
        assert_eq!((fields.get("a"), fields.get("b"), fields.get("c")), ("1", "x y+z", ""));
        assert_eq!((fields.get("d"), fields.get("nope"), fields.filled("blank")), ("", "", None));
        assert_eq!(Fields::of("a=1&b=2+3&c=").with("a", "<&>"), "b=2%203&a=%3C%26%3E");
        assert_eq!(Fields::of("a=1").with("a", ""), "");
        let many: String = (0..100).map(|n| format!("f{n}=1&")).collect();
        assert_eq!(Fields::of(&many).0.len(), FIELDS_MAX);
    }

    #[test]
    fn only_this_doors_own_pages_send_its_forms() {
        let host = ("host", "localhost:4601");
        for good in [
            &[host, ("origin", "http://localhost:4601")] as &[_],
            &[host, ("origin", "https://LOCALHOST:4601"), ("sec-fetch-site", "same-origin")],
            &[("host", "perch.internal"), ("origin", "https://perch.internal")],
        ] {
            assert!(is_our_own(&headers(good)), "{good:?}");
        }
        for bad in [
            &[host] as &[_],
            &[("origin", "http://localhost:4601")],
            &[host, ("origin", "null")],
            &[host, ("origin", "")],
            &[host, ("origin", "http://localhost:4602")],
            &[host, ("origin", "http://localhost")],
            &[host, ("origin", "http://localhost:4601.evil.test")],
            &[host, ("origin", "http://evil.test")],
            &[host, ("origin", "file://localhost:4601")],
            &[host, ("origin", "http://localhost:4601"), ("sec-fetch-site", "same-site")],
            &[host, ("origin", "http://localhost:4601"), ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!is_our_own(&headers(bad)), "{bad:?}");
        }
        let mut two = headers(&[host, ("origin", "http://localhost:4601")]);
        two.append(ORIGIN, "http://evil.test".parse().expect("a value"));
        assert!(!is_our_own(&two));
    }

    #[test]
    fn a_cookie_is_as_strict_as_the_browsers_way_allows() {
        let at = |host| headers(&[("host", host), ("origin", "http://localhost:4601")]);
        let plain = cookie("n", &at("localhost:4601"));
        assert_eq!(plain, "perch-4601=n; Path=/; HttpOnly; SameSite=Strict");
        assert!(cookie("n", &at("[::1]:4602")).starts_with("perch-4602=n;"), "each door has its own");
        assert!(cookie("n", &at("perch.internal")).starts_with("perch-80=n;"));
        let tls = headers(&[("origin", "https://perch.internal"), ("x-forwarded-proto", "http")]);
        assert_eq!(cookie("n", &tls), "__Host-perch=n; Path=/; HttpOnly; SameSite=Strict; Secure");
        let told = headers(&[("origin", "http://perch.internal"), ("x-forwarded-proto", "https")]);
        assert!(
            !cookie("n", &told).contains("Secure"),
            "what a header says that anybody can send is not believed"
        );
        assert!(cookie("", &tls).ends_with("; Max-Age=0"));
        for (value, names) in [
            ("perch-80=a", &["a"] as &[_]),
            ("x=1; __Host-perch=b", &["b"]),
            ("perch-80=old; perch-80=a; __Host-perch=b", &["b", "old", "a"]),
            ("perch-4602=another door's", &[]),
            ("xperch-80=1", &[]),
            ("perch-80", &[]),
        ] {
            assert_eq!(
                sessions_of(&headers(&[("cookie", value), ("host", "perch.internal")])),
                names,
                "{value}"
            );
        }
    }

    #[test]
    fn signing_in_leads_nowhere_but_here() {
        for (next, goes) in [
            ("/quota", "/quota"),
            ("/requests?since=2h", "/requests?since=2h"),
            ("", "/"),
            ("//evil.test", "/"),
            ("/\\evil.test", "/"),
            ("https://evil.test", "/"),
            ("javascript:alert(1)", "/"),
            ("/a\nb", "/"),
            ("/sign-out", "/"),
        ] {
            let fields = Fields::of(&format!("next={}", encoded(next)));
            assert_eq!(next_of(&fields), goes, "{next}");
        }
    }
}

//! Who may speak at a door, by the head of a request alone: under which name it was called, that no page of a browser
//! sends it, and which app's key it shows or whose connection it came on. Nothing of a body is read before.

use super::peer::Peer;
use crate::config::AppAuth;
use crate::finch::headers::PERCH_APP_KEY;
use crate::policy::app_key::Shown;
use crate::policy::{App, Proof, Refusal, caller};
use crate::telemetry::clock::unix_now;
use crate::vault::Vault;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN};
use http::{HeaderMap, HeaderName};
use std::net::IpAddr;
use std::sync::Arc;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The names a door answers to, beside its address and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<[String]>);

impl Names {
    /// These names, in any case.
    pub fn new(names: Vec<String>) -> Self {
        Self(names.into())
    }

    /// Whether `Host` is one of them. A stranger's page can make a name of its own point here (DNS rebinding), and a
    /// browser then takes this door for that page's own server; it cannot do so with an address.
    pub fn has(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return false };
        let (name, port) = match host.strip_prefix('[') {
            Some(v6) => v6.split_once(']').unwrap_or_default(),
            None => host.find(':').map_or((host, ""), |at| host.split_at(at)),
        };
        let is_port = port.strip_prefix(':').is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
        let is_known = || self.0.iter().any(|known| known.eq_ignore_ascii_case(name));
        is_port
            && (port.is_empty() || port.starts_with(':'))
            && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok() || is_known())
    }
}

/// By what apps are known, where they have to be.
pub fn proof(auth: AppAuth) -> Option<Proof> {
    match auth {
        AppAuth::Loopback => None,
        AppAuth::Key => Some(Proof::Key),
        AppAuth::Mtls => Some(Proof::Certificate),
        AppAuth::Uid => Some(Proof::Uid),
    }
}

/// What the proxy door asks of everybody.
#[derive(Clone)]
pub struct Visitors {
    names: Names,
    /// By what apps are known, and who knows them; `None` lets in whoever reaches the door.
    apps: Option<(Proof, Arc<Vault>)>,
}

impl std::fmt::Debug for Visitors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitors")
            .field("names", &self.names)
            .field("apps", &self.apps.as_ref().map(|(by, _)| by))
            .finish()
    }
}

impl Visitors {
    /// Lets in whoever calls the door by one of its names, and, where `auth` asks for it, proves to be an app.
    pub fn new(names: Names, auth: AppAuth, vault: &Arc<Vault>) -> Self {
        let apps = proof(auth).map(|by| (by, Arc::clone(vault)));
        if apps.as_ref().is_some_and(|(by, vault)| vault.apps_known(*by) == 0) {
            tracing::warn!(
                "no app is known by what apps.auth = \"{}\" asks for, so every call is refused; see \"perch apps add --help\"",
                auth.as_str()
            );
        }
        Self { names, apps }
    }

    /// Who it is. The key is taken out of the headers: nothing behind the door sees it.
    pub(super) fn admit(&self, headers: &mut HeaderMap) -> Result<Option<Arc<App>>, Refusal> {
        // HTTP/1.0 knows no `Host`, and no browser speaks it; `wire` has refused one that is missing in HTTP/1.1.
        if headers.get(HOST).is_some_and(|host| !self.names.has(host.as_bytes())) {
            return Err(Refusal::WrongHost);
        }
        if is_from_a_page(headers) {
            return Err(Refusal::Browser);
        }
        let Some((by, vault)) = &self.apps else {
            headers.remove(PERCH_APP_KEY);
            return Ok(None);
        };
        let app = match by {
            Proof::Key => match caller::once(headers, PERCH_APP_KEY, "Perch-App-Key")? {
                Some(key) => Shown::read(key).and_then(|shown| vault.app_of(&shown)),
                None => return Err(Refusal::AppKeyRequired),
            },
            Proof::Certificate => match &*Peer::of_this_connection() {
                Peer::Certified(shown) if shown.is_good(unix_now()) => vault.app_of_certificate(&shown.names),
                Peer::Certified(_) | Peer::User(_) | Peer::Anybody => None,
            },
            Proof::Uid => match &*Peer::of_this_connection() {
                Peer::User(uid) => vault.app_of_uid(*uid),
                Peer::Certified(_) | Peer::Anybody => None,
            },
        };
        headers.remove(PERCH_APP_KEY);
        app.map(Some).ok_or(Refusal::AppRefused(*by))
    }
}

/// A browser puts these on whatever a page sends, and no page can take them off. (`Sec-Fetch-Mode` alone says nothing:
/// Node's own `fetch` sends it.)
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let is_foreign = |site: &[u8]| !matches!(site, b"none" | b"same-origin");
    headers.contains_key(ORIGIN)
        || headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        || headers.get_all(SEC_FETCH_SITE).iter().any(|site| is_foreign(site.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_answers_to_addresses_localhost_and_the_names_it_was_given() {
        let names = Names::new(vec!["perch.internal".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:4600",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:4600",
            "localhost",
            "LOCALHOST:4600",
            "localhost:",
            "perch.internal",
            "Perch.Internal:80",
        ] {
            assert!(names.has(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.test",
            "evil.test:4600",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "xlocalhost",
            "perch.internal.evil.test",
            "sub.perch.internal",
            "[::1",
            "[::1]x",
            "[::1].evil.test",
            "::1",
            "localhost:80.evil.test",
            "localhost:80:evil",
            "2130706433",
            "0x7f.1",
        ] {
            assert!(!names.has(host.as_bytes()), "{host}");
        }
        assert!(!names.has(b"\xff") && !Names::default().has(b"perch.internal"));
    }

    #[test]
    fn what_a_page_sends_is_told_from_what_a_server_sends() {
        for (name, value, is_page) in [
            ("origin", "https://evil.test", true),
            ("origin", "null", true),
            ("origin", "", true),
            ("sec-fetch-site", "cross-site", true),
            ("sec-fetch-site", "same-site", true),
            ("sec-fetch-site", "Cross-Site", true),
            ("sec-fetch-site", "none", false),
            ("sec-fetch-site", "same-origin", false),
            ("sec-fetch-mode", "cors", false),
            ("access-control-request-method", "POST", true),
            ("referer", "https://app.test/", false),
            ("user-agent", "Mozilla/5.0", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("a value"));
            assert_eq!(is_from_a_page(&headers), is_page, "{name}: {value}");
        }
        assert!(!is_from_a_page(&HeaderMap::new()));
    }
}

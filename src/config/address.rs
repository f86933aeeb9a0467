//! Where perch listens, and where Finch answers.

use super::problem::{Check, Complaint, shown};
use super::value::Setting;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Where a door listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An IP address and a port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether only programs on this machine (in this pod) can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => true,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads `127.0.0.1:4600`, `[::1]:4600` or `unix:/path`.
pub(super) fn address(setting: &Setting) -> Check<Address> {
    /// What the system's socket addresses can hold, less the closing zero byte.
    const SOCKET_PATH_BYTES_MAX: usize = 107;
    let text = setting.text()?;
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(Complaint::new(format!(
                "is \"{}\", which is not the full path of a file",
                shown(text)
            ))
            .hint("write unix:/… with a full path"));
        }
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err(Complaint::new(format!(
                "has a path of {} bytes; a socket's can have {SOCKET_PATH_BYTES_MAX}",
                path.len()
            )));
        }
        return Ok(Address::Unix(path.into()));
    }
    if let Ok(address) = text.parse() {
        return Ok(Address::Tcp(address));
    }
    let complaint = Complaint::new(format!("is \"{}\"; it can be ADDRESS:PORT or unix:/PATH", shown(text)));
    let port = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
    Err(match port.parse::<u16>() {
        Ok(port) => complaint.hint(format!("write {}", setting.written(&format!("127.0.0.1:{port}")))),
        Err(_) => complaint,
    })
}

/// Where Finch answers: scheme, host and port. perch adds the paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether it is https. Off loopback it always is.
    pub tls: bool,
    /// A name in lower case, or an IP address; IPv6 without its brackets.
    pub host: String,
    /// The port, given or the scheme's own.
    pub port: u16,
}

impl BaseUrl {
    /// Reads one that stands elsewhere than in the configuration, by the same rules.
    pub fn parse(text: &str) -> Option<Self> {
        base_url_of(text).ok()
    }

    /// The host, when it is an IP address.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether it can only be this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
    }

    /// What the `Host` header says: the port only when it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = match self.host.parse::<Ipv6Addr>() {
            Ok(ip) => format!("[{ip}]"),
            Err(_) => self.host.clone(),
        };
        if self.port == default_port(self.tls) { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether a connection to it would end at `door`, so that perch would call itself.
    pub fn is_door(&self, door: &Address) -> bool {
        let Address::Tcp(door) = door else { return false };
        if door.port() != self.port {
            return false;
        }
        let door = door.ip().to_canonical();
        let host = self.ip().map(|ip| ip.to_canonical());
        // To connect to "any address" is to connect to this machine.
        let host_is_here = self.is_loopback() || host.is_some_and(|ip| ip.is_unspecified());
        match (door.is_unspecified(), host) {
            (true, _) => host_is_here,
            (false, Some(host)) => host == door || (host.is_unspecified() && door.is_loopback()),
            (false, None) => host_is_here && door.is_loopback(),
        }
    }
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// Reads a base URL. The URL itself is never shown: people put passwords into URLs.
pub(super) fn base_url(setting: &Setting) -> Check<BaseUrl> {
    base_url_of(setting.text()?)
}

/// The same, of a part of a value.
pub(super) fn base_url_of(text: &str) -> Check<BaseUrl> {
    let lower = text.to_ascii_lowercase();
    let (tls, rest) = match (lower.strip_prefix("https://"), lower.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => {
            return Err(Complaint::new("does not begin with https:// (or http://, to loopback)")
                .hint("write the whole address, such as https://api.tryfinch.com"));
        }
    };
    if rest.contains(['?', '#']) {
        return Err(Complaint::new("has a query or a fragment; it is scheme, host and port only"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(Complaint::new("has a path; perch adds the paths").hint("end it after the host"));
    }
    if authority.contains('@') {
        return Err(Complaint::new("holds a user name or password; neither belongs there")
            .hint("begin the host right after ://"));
    }
    let (host, port) = host_and_port(authority)?;
    let url = BaseUrl { tls, host, port: port.unwrap_or(default_port(tls)) };
    if !url.tls && !url.is_loopback() {
        return Err(Complaint::new("is http:// to another machine; tokens would travel in the clear")
            .hint("write https://"));
    }
    Ok(url)
}

pub(super) fn host_and_port(authority: &str) -> Check<(String, Option<u16>)> {
    let no_host = || Complaint::new("has no host that could be called");
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (ip, rest) = inner.split_once(']').ok_or_else(no_host)?;
            (ip.parse::<Ipv6Addr>().map_err(|_| no_host())?.to_string(), rest)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, rest) = authority.split_at(end);
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) {
                return Err(no_host());
            }
            (host.to_owned(), rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return Err(no_host()),
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && !digits.starts_with('+') => Some(port),
            _ => return Err(Complaint::new("has a port that is not between 1 and 65535")),
        },
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::super::problem::Place;
    use super::*;

    fn setting(text: &str) -> Setting {
        Setting { value: text.into(), place: Place::Default { line: 1, column: 1 } }
    }

    #[test]
    fn a_door_is_a_socket_address_or_a_unix_socket() {
        for (text, is_local) in [
            ("127.0.0.1:4600", true),
            ("[::1]:0", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("unix:/run/perch/proxy.sock", true),
            ("0.0.0.0:4600", false),
            ("[::]:4600", false),
            ("10.0.0.1:1", false),
        ] {
            let door = address(&setting(text)).expect(text);
            assert_eq!((door.to_string().as_str(), door.is_local()), (text, is_local));
        }
        for (text, meant) in [
            ("localhost:4600", Some("write \"127.0.0.1:4600\"")),
            (":4600", Some("write \"127.0.0.1:4600\"")),
            ("4600", Some("write \"127.0.0.1:4600\"")),
            ("127.0.0.1", None),
            ("127.0.0.1:99999", None),
            ("off", None),
            ("unix:proxy.sock", Some("write unix:/… with a full path")),
            ("unix:", Some("write unix:/… with a full path")),
            (&format!("unix:/{}", "x".repeat(107)), None),
        ] {
            assert_eq!(address(&setting(text)).expect_err(text).suggestion.as_deref(), meant, "{text}");
        }
    }

    #[test]
    fn a_base_url_is_scheme_host_and_port_and_nothing_else() {
        for (text, printed) in [
            ("https://api.tryfinch.com", "https://api.tryfinch.com"),
            ("HTTPS://API.TryFinch.com:443/", "https://api.tryfinch.com"),
            ("https://api.tryfinch.com:8443", "https://api.tryfinch.com:8443"),
            ("http://127.0.0.1:4010", "http://127.0.0.1:4010"),
            ("http://localhost", "http://localhost"),
            ("http://[::1]:81/", "http://[::1]:81"),
        ] {
            assert_eq!(base_url(&setting(text)).map(|url| url.to_string()), Ok(printed.to_owned()));
        }
        for (text, complaint) in [
            ("api.tryfinch.com", "does not begin with https://"),
            ("ftp://api.tryfinch.com", "does not begin with https://"),
            ("https://", "no host"),
            ("https://:443", "no host"),
            ("https://[::1", "no host"),
            ("https://a b", "no host"),
            ("https://host:", "port"),
            ("https://host:0", "port"),
            ("https://host:+80", "port"),
            ("https://host:65536", "port"),
            ("https://host/v1", "path"),
            ("https://host?x=1", "query"),
            ("https://host/#x", "fragment"),
            ("https://hunter2@host", "user name"),
            ("http://api.tryfinch.com", "in the clear"),
            ("http://127.0.0.1.example.com", "in the clear"),
            ("http://0.0.0.0:4010", "in the clear"),
        ] {
            let what = base_url(&setting(text)).expect_err(text).what;
            assert!(what.contains(complaint) && !what.contains("hunter2"), "{text}: {what}");
        }
    }

    #[test]
    fn a_base_url_that_ends_at_a_door_is_recognised() {
        let is_door = |url: &str, door: &str| {
            base_url(&setting(url)).expect(url).is_door(&address(&setting(door)).expect(door))
        };
        for (url, door) in [
            ("http://127.0.0.1:4600", "127.0.0.1:4600"),
            ("http://localhost:4600", "127.0.0.1:4600"),
            ("http://localhost:4600", "[::1]:4600"),
            ("http://[::ffff:127.0.0.1]:4600", "127.0.0.1:4600"),
            ("http://127.0.0.1:4600", "0.0.0.0:4600"),
            ("http://[::1]:4600", "[::]:4600"),
            ("https://0.0.0.0:4600", "127.0.0.1:4600"),
            ("https://10.0.0.7:4600", "10.0.0.7:4600"),
        ] {
            assert!(is_door(url, door), "{url} is {door}");
        }
        for (url, door) in [
            ("http://127.0.0.1:4601", "127.0.0.1:4600"),
            ("http://127.0.0.2:4600", "127.0.0.1:4600"),
            ("https://api.tryfinch.com:4600", "0.0.0.0:4600"),
            ("http://127.0.0.1:4600", "unix:/run/x"),
        ] {
            assert!(!is_door(url, door), "{url} is not {door}");
        }
    }
}

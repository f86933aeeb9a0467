//! Where the shared quota is: `redis://`, `rediss://` or `redis+unix:`. The URL itself is never shown: it may hold a
//! password.

use super::address::host_and_port;
use super::problem::{Check, Complaint};
use crate::types::{StorePassword, StoreUser};
use std::fmt;
use std::path::PathBuf;

/// The most servers one URL may name. They are the ways into one store, not a list of all its nodes.
const SEEDS_MAX: usize = 16;

/// A shared store that speaks Redis's protocol. Prints without user and password.
#[derive(Debug)]
pub struct RedisUrl {
    /// Whether the connection is TLS.
    pub tls: bool,
    /// Servers by which the store can be reached, at least one: a standalone server, its replicas, or some nodes of a
    /// cluster.
    pub seeds: Vec<Seed>,
    /// The database; 0, and always 0 in a cluster.
    pub db: u32,
    /// As whom perch signs in; the server's default user.
    pub user: Option<StoreUser>,
    /// With which password; none.
    pub password: Option<StorePassword>,
    /// A PEM file with one more trust anchor; none. It existed at load.
    pub ca_file: Option<PathBuf>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seed {
    /// A host and its port.
    Tcp {
        /// A name in lower case, or an IP address; IPv6 without its brackets.
        host: String,
        /// The port, given or 6379.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seed::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Seed::Tcp { host, port } => write!(f, "{host}:{port}"),
            Seed::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// As it may be logged: without who signs in, and how.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.seeds[..], self.tls) {
            ([Seed::Unix(_), ..], _) => "redis+unix:",
            (_, true) => "rediss://",
            (_, false) => "redis://",
        };
        f.write_str(scheme)?;
        for (at, seed) in self.seeds.iter().enumerate() {
            write!(f, "{}{seed}", if at == 0 { "" } else { "," })?;
        }
        if self.db > 0 { write!(f, "/{}", self.db) } else { Ok(()) }
    }
}

/// Whether a text means to be one.
pub(super) fn is_redis(text: &str) -> bool {
    let lower = text.get(..11).unwrap_or(text).to_ascii_lowercase();
    ["redis://", "rediss://", "redis+unix:"].iter().any(|scheme| lower.starts_with(scheme))
}

/// Reads `redis://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/DB]`, the same as `rediss://`, or `redis+unix:/PATH`.
pub(super) fn redis_url(text: &str) -> Check<RedisUrl> {
    let Some((scheme, rest)) = text.split_once(':').filter(|_| is_redis(text)) else {
        return Err(Complaint::new("does not begin with redis:// or rediss://"));
    };
    if scheme.eq_ignore_ascii_case("redis+unix") {
        return unix(rest);
    }
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    // A password may hold an @ that nobody encoded, a host cannot.
    let (login, place) = rest.rsplit_once('@').map_or((None, rest), |(login, place)| (Some(login), place));
    if place.contains(['?', '#']) {
        return Err(Complaint::new(
            "has a query or a fragment; it is scheme, user, servers and database only",
        ));
    }
    let (servers, db) = place.split_once('/').unwrap_or((place, ""));
    let db = match db {
        "" => 0,
        digits => {
            digits.parse::<u32>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit())).ok_or_else(
                || {
                    Complaint::new("has a database that is not a number")
                        .hint("end it after the servers, or with /0")
                },
            )?
        }
    };
    let seeds = servers
        .split(',')
        .map(|server| {
            let (host, port) = host_and_port(&server.to_ascii_lowercase())?;
            Ok(Seed::Tcp { host, port: port.unwrap_or(6379) })
        })
        .collect::<Check<Vec<Seed>>>()?;
    if seeds.len() > SEEDS_MAX {
        return Err(Complaint::new(format!(
            "names {} servers; {SEEDS_MAX} are enough to find a store",
            seeds.len()
        )));
    }
    let (user, password) = login.map(login_of).transpose()?.unwrap_or_default();
    let tls = scheme.eq_ignore_ascii_case("rediss");
    Ok(RedisUrl {
        tls,
        seeds,
        db,
        user: user.map(StoreUser::new),
        password: password.map(StorePassword::new),
        ca_file: None,
    })
}

fn unix(path: &str) -> Check<RedisUrl> {
    // As other programs write it.
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') || path.ends_with('/') || path.contains(['?', '#', '\0']) {
        return Err(Complaint::new("does not name a socket").hint("write redis+unix:/… with a full path"));
    }
    let seeds = vec![Seed::Unix(path.into())];
    Ok(RedisUrl { tls: false, seeds, db: 0, user: None, password: None, ca_file: None })
}

/// `USER`, `USER:PASSWORD` or `:PASSWORD`; each percent-encoded where it has to be.
fn login_of(login: &str) -> Check<(Option<String>, Option<String>)> {
    let (user, password) = login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)));
    let read = |text: &str| match text {
        "" => Ok(None),
        text => decoded(text).map(Some),
    };
    Ok((read(user)?, password.map(read).transpose()?.flatten()))
}

fn decoded(text: &str) -> Check<String> {
    let wrong = || {
        Complaint::new("has a % in its user or password that begins no character")
            .hint("write %25 for a %, or put the password into limits.password")
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else { return Err(wrong()) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_servers_a_database_and_who_signs_in() {
        for (text, shown, user, password) in [
            ("redis://cache", "redis://cache:6379", None, None),
            ("REDIS://Cache:7000/2", "redis://cache:7000/2", None, None),
            ("rediss://h1:1,h2,[::1]:3/0", "rediss://h1:1,h2:6379,[::1]:3", None, None),
            ("redis://perch@cache", "redis://cache:6379", Some("perch"), None),
            ("redis://:hunter2@cache", "redis://cache:6379", None, Some("hunter2")),
            (
                "redis://perch:h%40u@n/t%2F:r@cache:1/3",
                "redis://cache:1/3",
                Some("perch"),
                Some("h@u@n/t/:r"),
            ),
            ("redis+unix:/run/redis.sock", "redis+unix:/run/redis.sock", None, None),
            ("redis+unix:///run/redis.sock", "redis+unix:/run/redis.sock", None, None),
        ] {
            let url = redis_url(text).expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.user.as_ref().map(StoreUser::expose), user, "{text}");
            assert_eq!(url.password.as_ref().map(StorePassword::expose), password, "{text}");
            assert!(!format!("{url:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        let many = format!("redis://{}", ["hunter2"; SEEDS_MAX + 1].join(","));
        for (text, complaint) in [
            ("hunter2:6379", "does not begin with"),
            ("http://hunter2", "does not begin with"),
            ("redis://", "no host"),
            ("redis://:hunter2@", "no host"),
            ("redis://a,,b", "no host"),
            ("redis://a b", "no host"),
            ("redis://:hunter2@cache:70000", "port"),
            ("redis://:hunter2@cache/one", "database"),
            ("redis://:hunter2@cache/+1", "database"),
            ("redis://:hunter2@cache?x=1", "query"),
            ("redis://:hunter2%@cache", "begins no character"),
            ("redis://:hunter2%0a@cache", "begins no character"),
            ("redis+unix:hunter2", "does not name a socket"),
            (&many, "17 servers"),
        ] {
            let what = format!("{:?}", redis_url(text).expect_err(text));
            assert!(what.contains(complaint) && !what.contains("hunter2"), "{text}: {what}");
        }
    }
}

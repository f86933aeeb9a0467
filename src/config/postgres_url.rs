//! Where a shared store is: `postgres://`. The URL itself is never shown: it may hold a password.

use super::Store;
use super::problem::{Check, Complaint};
use std::fmt;
use std::net::IpAddr;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// A PostgreSQL server. Prints without user and password.
#[derive(Clone)]
pub struct PostgresUrl(Box<Config>);

impl PostgresUrl {
    /// How to connect to it.
    pub fn config(&self) -> &Config {
        &self.0
    }

    /// Whether it holds a password.
    pub(super) fn has_password(&self) -> bool {
        self.0.get_password().is_some()
    }

    /// Gives it one.
    pub(super) fn set_password(&mut self, password: &str) {
        self.0.password(password);
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for PostgresUrl {}

impl std::str::FromStr for PostgresUrl {
    type Err = String;

    /// Reads one. What is wrong is said without repeating it.
    fn from_str(text: &str) -> Result<Self, String> {
        postgres_url(text).map_err(|complaint| complaint.what)
    }
}

/// As it may be logged: servers and database.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        let ports = self.0.get_ports();
        for (at, host) in self.0.get_hosts().iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            let comma = if at == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) if name.contains(':') => write!(f, "{comma}[{name}]:{port}")?,
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        match self.0.get_dbname() {
            Some(name) => write!(f, "/{name}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a text means to be one.
pub(super) fn is_postgres(text: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme))
}

/// Reads `postgres://USER[:PASSWORD]@HOST[:PORT][,HOST…]/DATABASE[?sslmode=require]`. Without `sslmode`, TLS is
/// demanded of every server that is not on this machine. A certificate that is asked for is always verified.
pub(super) fn postgres_url(text: &str) -> Check<PostgresUrl> {
    let (place, query) = text.split_once('?').unwrap_or((text, ""));
    let mut kept = Vec::new();
    let mut sslmode = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "sslmode" => sslmode = Some(mode(value)?),
            "sslrootcert" => {
                return Err(Complaint::new("has sslrootcert").hint("name that file in `vault.ca_file`"));
            }
            _ => kept.push(pair),
        }
    }
    let url = match kept.is_empty() {
        true => place.to_owned(),
        false => format!("{place}?{}", kept.join("&")),
    };
    // What it says of what is wrong may repeat a password.
    let mut config: Config = url.parse().map_err(|_| {
        Complaint::new("is not a URL of PostgreSQL")
            .hint("write postgres://USER@HOST:5432/DATABASE, %-encoded where a name has signs of its own")
    })?;
    if config.get_hosts().is_empty() {
        return Err(Complaint::new("names no server").hint("write postgres://USER@HOST/DATABASE"));
    }
    if config.get_user().is_none_or(str::is_empty) {
        return Err(Complaint::new("names no user").hint("write postgres://USER@HOST/DATABASE"));
    }
    let is_here = config.get_hosts().iter().all(is_this_machine);
    config.ssl_mode(sslmode.unwrap_or(if is_here { SslMode::Disable } else { SslMode::Require }));
    if config.get_hosts().len() > 1 {
        // Of several servers the one that takes writes is meant.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    Ok(PostgresUrl(Box::new(config)))
}

fn mode(word: &str) -> Check<SslMode> {
    match word {
        "disable" => Ok(SslMode::Disable),
        "require" | "verify-ca" | "verify-full" => Ok(SslMode::Require),
        "prefer" | "allow" => {
            Err(Complaint::new(format!("has sslmode={word}, which gives TLS up without a word"))
                .hint("write sslmode=require, or sslmode=disable where the network itself is sealed"))
        }
        _ => {
            Err(Complaint::new("has an sslmode that is none")
                .hint("write sslmode=require or sslmode=disable"))
        }
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}

impl fmt::Display for Store {
    /// Where it is, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Store::Sqlite(path) => path.display().fmt(f),
            Store::Postgres(server) => server.url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_demanded_of_every_server_that_is_elsewhere() {
        for (text, mode) in [
            ("postgres://perch@db.internal/perch", SslMode::Require),
            ("postgresql://perch@db.internal/perch?sslmode=verify-full", SslMode::Require),
            ("postgres://perch@db.internal/perch?sslmode=disable", SslMode::Disable),
            ("postgres://perch@localhost,db.internal/perch", SslMode::Require),
            ("postgres://perch@localhost:5433/perch", SslMode::Disable),
            ("postgres://perch@[::1]/perch", SslMode::Disable),
            ("postgres://perch@%2Frun%2Fpostgresql/perch", SslMode::Disable),
            ("postgres://perch@127.0.0.1/perch?sslmode=require", SslMode::Require),
        ] {
            assert_eq!(postgres_url(text).expect(text).config().get_ssl_mode(), mode, "{text}");
        }
    }

    #[test]
    fn a_url_is_shown_without_who_signs_in() {
        for (text, shown) in [
            ("postgres://perch:hunter2@db/perch", "postgres://db:5432/perch"),
            ("postgres://perch:hunter2@a:1,b:2/p?sslmode=require", "postgres://a:1,b:2/p"),
            ("postgres://perch@[::1]:7/p", "postgres://[::1]:7/p"),
            ("postgres://perch@%2Frun%2Fpg/p", "postgres:///run/pg:5432/p"),
        ] {
            let url = postgres_url(text).expect(text);
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        for (text, complaint) in [
            ("postgres://", "no server"),
            ("postgres:///perch", "no server"),
            ("postgres://db/perch", "no user"),
            ("postgres://perch:hunter2@db:70000/perch", "not a URL"),
            ("postgres://perch:hunter2@db/perch?sslmode=prefer", "sslmode=prefer"),
            ("postgres://perch:hunter2@db/perch?sslmode=hunter2", "sslmode that is none"),
            ("postgres://perch:hunter2@db/perch?sslrootcert=/ca", "sslrootcert"),
            ("postgres://perch:hunter2@db/perch?hunter2=1", "not a URL"),
        ] {
            let what = format!("{:?}", postgres_url(text).expect_err(text));
            assert!(what.contains(complaint) && !what.contains("hunter2"), "{text}: {what}");
        }
    }
}

//! What a server says of itself: the answer to `INFO`, read.

use std::collections::BTreeMap;
use std::fmt;

/// How the server stands among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By itself, perhaps with replicas.
    Standalone,
    /// A node of a cluster.
    Cluster,
    /// A watcher of others, which holds no data.
    Sentinel,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Standalone => "standalone",
            Mode::Cluster => "cluster",
            Mode::Sentinel => "sentinel",
        })
    }
}

/// The fields of `INFO`, all sections together. Names do not repeat between sections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info(BTreeMap<String, String>);

impl Info {
    /// Reads the text. Lines that are no fields are passed over.
    pub fn parse(text: &str) -> Self {
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            (!line.starts_with('#')).then(|| (name.to_owned(), value.trim_end().to_owned()))
        };
        Self(text.lines().filter_map(field).collect())
    }

    /// A field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Which run of the server this is: another one may have forgotten everything.
    pub fn run_id(&self) -> Option<&str> {
        self.get("run_id")
            .filter(|id| !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric()))
    }

    /// How it stands among others. Valkey has the field under both names.
    pub fn mode(&self) -> Mode {
        match self.get("redis_mode").or_else(|| self.get("server_mode")) {
            Some("cluster") => Mode::Cluster,
            Some("sentinel") => Mode::Sentinel,
            _ if self.get("cluster_enabled") == Some("1") => Mode::Cluster,
            _ => Mode::Standalone,
        }
    }

    /// Whether it is a replica of another.
    pub fn is_replica(&self) -> bool {
        self.get("role") == Some("slave")
    }

    /// Whether it still reads its data from disk.
    pub fn is_loading(&self) -> bool {
        self.get("loading") == Some("1")
    }

    /// Product and version, such as `Redis 7.2.4` or `Valkey 8.1.0`.
    pub fn version(&self) -> String {
        let shown = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).take(30).collect()
        };
        match (self.get("valkey_version"), self.get("redis_version")) {
            (Some(version), _) => format!("Valkey {}", shown(version)),
            (None, Some(version)) => format!("Redis {}", shown(version)),
            (None, None) => "an unknown version".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_is_read_as_fields() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.2.4\r\nredis_mode:cluster\r\nrun_id:39c9ddfe\r\nuptime_in_seconds:12\r\n\r\n\
             # Replication\r\nrole:slave\r\nloading:1\r\nexecutable:/a:b\r\nnonsense\r\n",
        );
        assert_eq!(
            (info.run_id(), info.mode(), info.version()),
            (Some("39c9ddfe"), Mode::Cluster, "Redis 7.2.4".into())
        );
        assert!(info.is_replica() && info.is_loading());
        assert_eq!((info.number("uptime_in_seconds"), info.get("executable")), (Some(12), Some("/a:b")));
        assert_eq!(info.get("nonsense"), None);
    }

    #[test]
    fn other_servers_are_known_by_their_fields() {
        let valkey = Info::parse(
            "redis_version:7.2.4\nserver_name:valkey\nvalkey_version:8.1.0\nserver_mode:standalone",
        );
        assert_eq!((valkey.version().as_str(), valkey.mode()), ("Valkey 8.1.0", Mode::Standalone));
        assert_eq!(Info::parse("redis_mode:sentinel").mode(), Mode::Sentinel);
        let nothing = Info::parse("");
        assert_eq!((nothing.run_id(), nothing.mode()), (None, Mode::Standalone));
        assert_eq!(Info::parse("run_id:a b").run_id(), None);
    }
}

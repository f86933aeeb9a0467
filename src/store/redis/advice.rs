//! Which settings of a server are unsafe for quota, and what to set instead. A function of facts.

use super::info::{Info, Mode};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What is known of a server.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Its own words.
    pub info: Info,
    /// Its settings, as far as it lets them be seen.
    pub config: BTreeMap<String, String>,
    /// The median round trip.
    pub round_trip: Duration,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Quota can be overspent, or calls stop, that need not be.
    Warning,
    /// Good to know.
    Note,
}

/// One thing to know about a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What is so, and what comes of it.
    pub what: String,
    /// What to set or do; empty when nothing is needed.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; {}", self.fix) }
    }
}

/// A server's answer that comes later than this leaves too little of the 100 ms that a call is given.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(25);

/// perch says something every two seconds. A server that closes quiet connections sooner than this many closes perch's.
const IDLE_SECONDS_MIN: u64 = 10;

/// The oldest Redis whose scripts may read the clock and then write without more ado, and that has users with rules.
const OLDEST: (u64, u64) = (6, 0);

/// Everything there is to know, warnings first.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        [version(facts), memory(facts), memory_left(facts), split(facts), idle(facts)]
            .into_iter()
            .chain([far(facts), cluster(facts), persistence(facts), unverified(facts)])
            .flatten()
            .collect();
    found.sort_by_key(|finding| finding.weight);
    found
}

fn warning(what: impl Into<String>, fix: impl Into<String>) -> Option<Finding> {
    Some(Finding { weight: Weight::Warning, what: what.into(), fix: fix.into() })
}

fn note(what: impl Into<String>, fix: impl Into<String>) -> Option<Finding> {
    Some(Finding { weight: Weight::Note, what: what.into(), fix: fix.into() })
}

fn version(facts: &Facts) -> Option<Finding> {
    let version = facts.info.get("redis_version")?;
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or_default());
    let found = (parts.next()?, parts.next().unwrap_or_default());
    if found >= OLDEST {
        return None;
    }
    warning(
        format!("{} is older than any that perch is tried with", facts.info.version()),
        "use Redis 6.2 or newer, or Valkey",
    )
}

/// The policy of full memory; `INFO` has it where `CONFIG` is forbidden.
fn policy(facts: &Facts) -> Option<&str> {
    facts.config.get("maxmemory-policy").map(String::as_str).or_else(|| facts.info.get("maxmemory_policy"))
}

/// Keys of quota carry a time to live, so a policy for such keys takes them just as one for all keys.
fn memory(facts: &Facts) -> Option<Finding> {
    let policy = policy(facts)?;
    if policy == "noeviction" {
        return None;
    }
    let what = format!(
        "maxmemory-policy is {policy:.30}: a full memory makes the server forget spent quota unnoticed"
    );
    warning(what, "set maxmemory-policy noeviction, or give perch a server of its own")
}

fn memory_left(facts: &Facts) -> Option<Finding> {
    let (most, used) = (facts.info.number("maxmemory")?, facts.info.number("used_memory")?);
    if most == 0 || used < most / 10 * 9 {
        return None;
    }
    warning(
        format!("{used} of {most} bytes of its memory are used: when it is full it takes no writes"),
        "raise maxmemory, or give perch a server of its own",
    )
}

/// A primary that is cut off from its replicas goes on granting what the promoted one grants too.
fn split(facts: &Facts) -> Option<Finding> {
    let replicas = facts.info.number("connected_slaves")?;
    let is_guarded = match facts.config.get("min-replicas-to-write") {
        Some(least) => least != "0",
        // The server tells how many are good only when it demands some.
        None => facts.info.get("min_slaves_good_slaves").is_some(),
    };
    if replicas == 0 || is_guarded {
        return None;
    }
    let what = format!(
        "{replicas} attached and min-replicas-to-write is 0: after a split network both sides grant, and quota is spent \
         up to twice",
        replicas = if replicas == 1 { "1 replica is".to_owned() } else { format!("{replicas} replicas are") }
    );
    warning(what, "set min-replicas-to-write 1 and min-replicas-max-lag 10")
}

fn idle(facts: &Facts) -> Option<Finding> {
    let seconds = facts.config.get("timeout")?.parse::<u64>().ok()?;
    if seconds == 0 || seconds >= IDLE_SECONDS_MIN {
        return None;
    }
    let what = format!("timeout is {seconds} s: a connection that was quiet for so long is closed");
    warning(what, format!("set timeout 0, or {IDLE_SECONDS_MIN} at least"))
}

fn far(facts: &Facts) -> Option<Finding> {
    if facts.round_trip <= ROUND_TRIP_MAX {
        return None;
    }
    let ms = facts.round_trip.as_millis();
    warning(
        format!("an answer takes {ms} ms: each call of quota is given 100 ms, and waiting calls lose time"),
        "run it in the same region as perch",
    )
}

fn cluster(facts: &Facts) -> Option<Finding> {
    if facts.info.mode() != Mode::Cluster || facts.info.number("connected_slaves") != Some(0) {
        return None;
    }
    note(
        "the node that owns the quota's slot has no replica: while it is down, each perch spends its share",
        "add a replica if that is too little",
    )
}

fn persistence(facts: &Facts) -> Option<Finding> {
    let is_on = facts.info.get("aof_enabled")? == "1";
    let kept = if is_on { "AOF is on" } else { "AOF is off, which is fine" };
    note(
        format!(
            "{kept}: after a restart perch believes nothing that was kept, and learns what was spent anew"
        ),
        "",
    )
}

fn unverified(facts: &Facts) -> Option<Finding> {
    if facts.config.contains_key("timeout") {
        return None;
    }
    let mut unseen = vec!["timeout (0)"];
    if policy(facts).is_none() {
        unseen.push("maxmemory-policy (noeviction)");
    }
    if !facts.config.contains_key("min-replicas-to-write") {
        unseen.push("min-replicas-to-write (1 with replicas)");
    }
    note(
        format!("it forbids CONFIG GET, so this could not be seen: {}", unseen.join(", ")),
        "look at the provider's own page",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "redis_version:7.2.4\nredis_mode:standalone\nrole:master\nconnected_slaves:0\nmaxmemory:0\n\
                         used_memory:1000000\nmaxmemory_policy:noeviction\naof_enabled:0\n";

    fn facts(info: &str, config: &[(&str, &str)], ms: u64) -> Facts {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        // A later line of the same name wins.
        Facts { info: Info::parse(&format!("{SOUND}{info}")), config, round_trip: Duration::from_millis(ms) }
    }

    const SEEN: [(&str, &str); 3] =
        [("timeout", "0"), ("min-replicas-to-write", "0"), ("maxmemory-policy", "noeviction")];

    fn warnings(facts: &Facts) -> Vec<String> {
        let found = findings(facts);
        assert!(found.is_sorted_by_key(|finding| finding.weight));
        found.iter().filter(|f| f.weight == Weight::Warning).map(Finding::to_string).collect()
    }

    #[test]
    fn a_server_that_is_set_well_gives_no_warning() {
        for (info, config) in [
            ("", &SEEN[..]),
            ("maxmemory:2000000", &SEEN[..]),
            ("connected_slaves:2", &[("timeout", "300"), ("min-replicas-to-write", "1")][..]),
            ("connected_slaves:1\nmin_slaves_good_slaves:1", &[]),
            ("redis_version:6.0.16", &[]),
            ("redis_mode:cluster", &SEEN[..]),
        ] {
            assert_eq!(warnings(&facts(info, config, 1)), Vec::<String>::new(), "{info} {config:?}");
        }
    }

    #[test]
    fn each_unsafe_setting_is_named_with_what_to_set() {
        let with = |name, value| SEEN.map(|(n, v)| if n == name { (n, value) } else { (n, v) });
        for (info, config, ms, what, fix) in [
            ("", with("maxmemory-policy", "allkeys-lru"), 1, "forget spent quota", "noeviction"),
            ("", with("maxmemory-policy", "volatile-ttl"), 1, "forget spent quota", "noeviction"),
            ("connected_slaves:1", SEEN, 1, "1 replica is attached", "min-replicas-to-write 1"),
            ("connected_slaves:2", SEEN, 1, "2 replicas are attached", "min-replicas-to-write 1"),
            ("", with("timeout", "5"), 1, "timeout is 5 s", "set timeout 0"),
            ("", SEEN, 40, "takes 40 ms", "same region"),
            ("maxmemory:1000000", SEEN, 1, "1000000 of 1000000 bytes", "raise maxmemory"),
            ("redis_version:5.0.14", SEEN, 1, "Redis 5.0.14 is older", "6.2 or newer"),
        ] {
            let found = warnings(&facts(info, &config, ms));
            assert_eq!(found.len(), 1, "{info} {config:?}: {found:?}");
            assert!(found[0].contains(what) && found[0].contains(fix), "{found:?}");
        }
    }

    #[test]
    fn where_config_is_forbidden_info_is_believed_and_the_rest_is_said_to_be_unseen() {
        let found = findings(&facts("maxmemory_policy:allkeys-lru\nconnected_slaves:1", &[], 1));
        let text: Vec<String> = found.iter().map(Finding::to_string).collect();
        assert_eq!(found.iter().filter(|f| f.weight == Weight::Warning).count(), 2, "{text:?}");
        let unseen = text.last().expect("a note");
        assert!(unseen.contains("timeout (0)") && unseen.contains("min-replicas"), "{unseen}");
        assert!(!unseen.contains("maxmemory-policy"), "INFO told it: {unseen}");
        let nothing = findings(&Facts::default());
        assert!(nothing.len() == 1 && nothing[0].what.contains("maxmemory-policy"), "{nothing:?}");
    }

    #[test]
    fn no_persistence_is_said_to_be_fine() {
        let notes = findings(&facts("", &SEEN, 1));
        assert!(
            notes.iter().any(|note| note.what.contains("AOF is off, which is fine") && note.fix.is_empty())
        );
    }
}

//! What of a configuration that is read anew differs from the one in force, and which keys can be changed while perch runs.

use super::reader::Reader;
use super::reference::{is_reference, reference, resolve};
use super::value::Setting;
use super::{Config, Environ, Loaded, Origin, TRACES_HEADERS};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Keys whose text may refer to what they mean, or hold a secret in the environment.
const REFERRING: [&str; 13] = [
    "finch.client_id",
    "finch.client_secret",
    "finch.webhook_secret",
    "finch.webhook_secret_previous",
    "webhooks.sign_with",
    "admin.token",
    "limits.store",
    "limits.password",
    "vault.store",
    "vault.password",
    "vault.key_token",
    "vault.key",
    TRACES_HEADERS,
];

/// What can be changed while perch runs. A name with a dot at its end stands for everything in that section.
const LIVE: [&str; 25] = [
    "finch.client_secret",
    "finch.webhook_secret",
    "finch.webhook_secret_previous",
    "finch.redirect_uri",
    "listen.inspect_bytes_max",
    "limits.mode",
    "limits.weights",
    "limits.wait.",
    "apps.writes",
    "apps.pass_through",
    "rollout.",
    "pause.",
    "reload.",
    "merge.coalesce",
    "merge.resend_memory",
    "merge.batch",
    "merge.batch_apps",
    "merge.split",
    "merge.repair",
    "merge.not_ready",
    "retry.",
    "shield.",
    "connections.",
    "drain.",
    "log.",
];

/// Keys of the ledger itself. Replicas that share one must have the same, so there they need a restart of each.
const ALONE: [&str; 4] = ["limits.products.", "limits.ip.requests", "limits.pacing", "limits.queue."];

/// Whether a key can be changed while perch runs. `counts_alone`: quota is counted in this process.
pub fn is_live(key: &str, counts_alone: bool) -> bool {
    let is_in =
        |list: &[&str]| list.iter().any(|name| key == *name || name.ends_with('.') && key.starts_with(name));
    match is_in(&ALONE) {
        true => counts_alone,
        false => is_in(&LIVE),
    }
}

/// What was read where the configuration refers to something: digests, to tell apart and nothing else.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Marks(BTreeMap<&'static str, [u8; 32]>);

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marks(…)")
    }
}

impl Marks {
    /// Reads what is referred to. What cannot be read has no mark; loading says why.
    pub(super) fn of(r: &mut Reader<'_>) -> Self {
        let (env, mut marks) = (r.env, BTreeMap::new());
        for key in REFERRING {
            let Some(setting) = r.settings.get(key) else { continue };
            let digest = match setting.value.as_table() {
                Some(table) => {
                    let each = table
                        .values()
                        .map(|value| Setting { value: value.clone(), place: setting.place.clone() });
                    each.map(|value| digest_of(&value, env))
                        .collect::<Option<Vec<_>>>()
                        .map(|all| Sha256::digest(all.concat()).into())
                }
                // The sealing key is the vault's to read.
                None if key == "vault.key" => {
                    setting.text().ok().map(|text| Sha256::digest(text.as_bytes()).into())
                }
                None => digest_of(setting, env),
            };
            if let Some(digest) = digest {
                marks.insert(key, digest);
            }
        }
        Self(marks)
    }
}

/// A digest of what a value refers to, or of itself; none where that cannot be read.
fn digest_of(setting: &Setting, env: &Environ) -> Option<[u8; 32]> {
    let text = setting.text().ok()?;
    if !is_reference(text) {
        return Some(Sha256::digest(text.as_bytes()).into());
    }
    let found = resolve(&reference(setting).ok()?, env).ok()?;
    Some(Sha256::digest(found.as_bytes()).into())
}

/// A configuration as it was written, without what it means.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Every key with its value, in the order of the manual.
    pub origins: Vec<Origin>,
    marks: Marks,
}

/// What has changed between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that can be changed while perch runs.
    pub live: Vec<String>,
    /// Keys that need a restart.
    pub restart: Vec<String>,
}

impl Loaded {
    /// What it means, and what was written.
    pub fn apart(self) -> (Config, Written) {
        (self.config, Written { origins: self.origins, marks: self.marks })
    }
}

impl Written {
    /// What a newer one changes. `counts_alone`: quota is counted in this process.
    pub fn changes(&self, next: &Written, counts_alone: bool) -> Changes {
        let values = |written: &Written| -> BTreeMap<String, String> {
            written.origins.iter().map(|origin| (origin.key.clone(), origin.value.to_string())).collect()
        };
        let (before, after) = (values(self), values(next));
        let mut changed: BTreeSet<&str> = before
            .keys()
            .chain(after.keys())
            .filter(|key| before.get(*key) != after.get(*key))
            .map(String::as_str)
            .collect();
        changed.extend(REFERRING.iter().filter(|key| self.marks.0.get(*key) != next.marks.0.get(*key)));
        let (live, restart): (Vec<&str>, Vec<&str>) =
            changed.into_iter().partition(|key| is_live(key, counts_alone));
        let texts = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect();
        Changes { live: texts(live), restart: texts(restart) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environ, MANUAL, load};

    fn written(text: &str, secret: &str) -> Written {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("perch.toml");
        std::fs::write(&path, text).expect("written");
        let env: Environ =
            [("FINCH_CLIENT_ID", "3fa85f64"), ("FINCH_CLIENT_SECRET", secret)].into_iter().collect();
        let loaded = load(Some(&path), &env).unwrap_or_else(|problems| panic!("{problems}"));
        loaded.apart().1
    }

    fn changes(text: &str, counts_alone: bool) -> (Vec<String>, Vec<String>) {
        let Changes { live, restart } = written("", "one").changes(&written(text, "one"), counts_alone);
        (live, restart)
    }

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_changes_is_told_by_key_and_by_what_it_needs() {
        assert_eq!(changes("# only a comment", true), (keys(&[]), keys(&[])));
        let text = "[pause]\ncustomers = [\"acme\"]\n[listen]\nidle_timeout = \"1s\"\n[limits.products]\ncompany = 5\n";
        let (alone, restart) =
            (keys(&["limits.products.company", "pause.customers"]), keys(&["listen.idle_timeout"]));
        assert_eq!(changes(text, true), (alone, restart));
        assert_eq!(
            changes(text, false),
            (keys(&["pause.customers"]), keys(&["limits.products.company", "listen.idle_timeout"])),
            "replicas that share a ledger must agree about its limits"
        );
        // Of a product that falls to the default, the product is told too.
        let (live, _) = changes("[limits.products]\ndefault = 5\ncompany = 20", true);
        assert!(
            live.contains(&"limits.products.default".to_owned())
                && live.contains(&"limits.products.payment".to_owned())
        );
        assert!(!live.contains(&"limits.products.company".to_owned()), "{live:?}");
    }

    #[test]
    fn a_secret_that_is_another_behind_the_same_reference_is_a_change() {
        let changed = written("", "one").changes(&written("", "two"), true);
        assert_eq!(changed, Changes { live: keys(&["finch.client_secret"]), restart: Vec::new() });
        assert_eq!(format!("{:?}", written("", "hunter2").marks), "Marks(…)");
    }

    #[test]
    fn a_key_of_the_collectors_that_is_another_behind_its_file_needs_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key");
        let text = format!(
            "[traces]\nendpoint = \"http://127.0.0.1:4318\"\nheaders = {{ api-key = \"file:{}\" }}",
            key.display()
        );
        let read = |secret: &str| {
            std::fs::write(&key, secret).expect("written");
            written(&text, "one")
        };
        let (first, same, other) = (read("first-key"), read("first-key"), read("other-key"));
        assert_eq!(first.changes(&same, true), Changes::default());
        let restart = keys(&["traces.headers"]);
        assert_eq!(first.changes(&other, true), Changes { live: Vec::new(), restart });
        let path = folder.path().join("perch.toml");
        std::fs::write(&path, &text).expect("written");
        let env = [("FINCH_CLIENT_ID", "3fa85f64"), ("FINCH_CLIENT_SECRET", "one")].into_iter().collect();
        let loaded = load(Some(&path), &env).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(loaded.secret_files(), [key]);
    }

    #[test]
    fn every_name_here_is_a_key_of_the_manual_and_is_told_in_the_documentation() {
        let all: Vec<String> = written("", "one").origins.into_iter().map(|origin| origin.key).collect();
        let docs = include_str!("../../docs/rollout.md");
        for name in LIVE.iter().chain(&ALONE).chain(&REFERRING) {
            let is_there = all.iter().any(|key| key == name || name.ends_with('.') && key.starts_with(name));
            assert!(is_there, "{name} is no key: {MANUAL:.0}");
        }
        for name in LIVE.iter().chain(&ALONE) {
            assert!(
                docs.contains(&format!("`{}", name.trim_end_matches('.'))),
                "docs/rollout.md does not name {name}"
            );
        }
    }
}

//! House rules a compiler cannot see. Each rule is a function of a path and a text, so that it is
//! shown bad samples here before it is trusted with the tree.

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;

use std::collections::BTreeMap;

/// How often each file lets a secret out with `expose()`. A new row is a decision: it says where a
/// secret goes. The failure message gives the row to write.
const EXPOSURES: [(&str, usize); 22] = [
    ("src/cli/apps.rs", 1),
    ("src/cli/apps/print.rs", 2),
    ("src/cli/connections/gateway.rs", 2),
    ("src/cli/connections/import.rs", 2),
    ("src/doors/admin.rs", 1),
    ("src/engine/attempt.rs", 5),
    ("src/engine/exchange.rs", 2),
    ("src/finch/webhook.rs", 1),
    ("src/policy/join/key.rs", 1),
    ("src/sim/world.rs", 1),
    ("src/store/redis/connect.rs", 4),
    ("src/telemetry/traces/sender.rs", 1),
    ("src/upstream/introspect.rs", 2),
    ("src/vault/aws.rs", 1),
    ("src/vault/entry.rs", 1),
    ("src/vault/gcp.rs", 1),
    ("src/vault/kek.rs", 1),
    ("src/vault/ring.rs", 3),
    ("src/vault/sigv4.rs", 1),
    ("src/vault/source.rs", 2),
    ("src/vault/transit.rs", 1),
    ("src/vault/wrap.rs", 2),
];

/// Runs a rule over the whole tree.
fn assert_tree_obeys(rule: impl Fn(&str, &str) -> Vec<String>) {
    let found: Vec<String> = tree::files().iter().flat_map(|(file, text)| rule(file, text)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// Shows a rule samples that it must catch, then samples that it must let pass.
fn assert_judges(rule: impl Fn(&str, &str) -> Vec<String>, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (file, text) in bad {
        assert!(!rule(file, text).is_empty(), "not caught in {file}: {text}");
    }
    for (file, text) in good {
        assert_eq!(rule(file, text), Vec::<String>::new(), "in {file}: {text}");
    }
}

#[test]
fn the_tree_that_is_read_is_the_whole_tree() {
    let files = tree::files();
    let has = |name: &str| files.iter().any(|(file, _)| file == name);
    for name in ["Cargo.toml", "src/lib.rs", "src/types/secret.rs", "tests/tidy.rs", "tests/it/main.rs"] {
        assert!(has(name), "{name} was not read");
    }
    assert!(!files.iter().any(|(file, _)| file.starts_with("target/") || file.starts_with(".git/")));
}

#[test]
fn floors_import_downwards_only() {
    let bad = [
        ("src/types/x.rs", "use crate::finch::Method;"),
        ("src/finch/x.rs", "use crate::policy::class::Class;"),
        ("src/limit/x.rs", "fn f() { crate::engine::run() }"),
        ("src/limit/x.rs", "use crate::{types::Moment, config::Config};"),
        ("src/policy/mod.rs", "use crate::{\n    finch::{Auth, Effect},\n    store,\n};"),
        ("src/store/x.rs", "pub use crate::engine::Call as C;"),
        ("src/engine/x.rs", "use super::super::doors::proxy;"),
        ("src/engine/mod.rs", "use super::doors::proxy;"),
        ("src/engine/mod.rs", "mod tests { use super::super::doors::proxy; }"),
        ("src/doors/x.rs", "use {std::fmt, crate::app::App};"),
        ("src/doors/x.rs", "use crate::sim::World;"),
        ("src/app.rs", "use crate::sim::World;"),
        ("src/main.rs", "use perch::sim::World;"),
        ("src/config.rs", "use crate::limit::Window;"),
        ("src/config/raw.rs", "use crate::store::Url;"),
        ("src/sim/x.rs", "use crate::policy::Class;"),
        ("src/sim/x.rs", "use crate::config::Config;"),
        ("src/load/x.rs", "use crate::policy::Class;"),
        ("src/load/x.rs", "use crate::finch::Method;"),
        ("src/engine/x.rs", "use crate::load::Plan;"),
        ("src/limit/x.rs", "use crate::load::Plan;"),
        ("src/limit/x.rs", "use crate::*;"),
        ("src/limit/x.rs", "#[cfg(test)] mod tests { use crate::engine::Call; }"),
        ("src/limit/x.rs", "let r#type = '\"'; use crate::engine::Call; // \""),
        ("src/cellar/x.rs", "//! A room nobody agreed on."),
    ];
    let good = [
        ("src/finch/x.rs", "use crate::types::Product;"),
        ("src/policy/x.rs", "use crate::{finch::Method, limit::Window, types};"),
        ("src/engine/x.rs", "use crate::{config::Config, policy, vault::Vault, upstream::{self, Attempt}};"),
        ("src/doors/x.rs", "use crate::engine::Call;"),
        ("src/store/x.rs", "use crate::config::Limits;"),
        ("src/cli/demo.rs", "use crate::{sim::World, app::App};"),
        ("src/load/x.rs", "use crate::{limit::Ledger, types::Moment};"),
        ("src/cli/simulate.rs", "use crate::load::Plan;"),
        ("src/main.rs", "fn main() { perch::cli::main() }"),
        (
            "src/limit/x.rs",
            "//! See crate::engine::Call.\n/* use crate::engine; /* twice */ crate::doors::x */",
        ),
        (
            "src/limit/x.rs",
            "const A: &str = \"crate::engine::x \\\" \"; const B: &str = r#\"\"crate::engine::x\"#;",
        ),
        (
            "src/limit/window.rs",
            "use super::doors::Inner; pub(crate) fn f<'a>(c: char) -> bool { c == '\\'' }",
        ),
        ("src/engine/x.rs", "#[cfg(test)] mod tests { use crate::sim::World; }"),
        ("src/lib.rs", "pub mod sim;"),
        ("tests/it/x.rs", "use crate::support;"),
    ];
    assert_judges(floors::imports, &bad, &good);
    assert_tree_obeys(floors::imports);
}

#[test]
fn decisions_know_no_clock_no_socket_and_no_task() {
    let bad = [
        ("src/limit/x.rs", "use tokio::sync;"),
        ("src/limit/x.rs", "async fn f() {}"),
        ("src/limit/x.rs", "let x = f().await;"),
        ("src/policy/x.rs", "use pingora_core::Error;"),
        ("src/policy/x.rs", "fn f() { tracing::warn!(\"x\") }"),
        ("src/types/x.rs", "use std::net::IpAddr;"),
        ("src/types/x.rs", "use std::{fmt, fs};"),
        ("src/types/x.rs", "use ::std::fs;"),
        ("src/finch/x.rs", "use std::time::{Duration, Instant};"),
        ("src/finch/x.rs", "use std::time; fn f(at: time::Instant) {}"),
        ("src/finch/x.rs", "fn f(at: SystemTime) {}"),
        ("src/limit/x.rs", "let t = Instant::now();"),
        ("src/load/x.rs", "fn f() { std::thread::spawn(g); }"),
        ("src/load/x.rs", "let t = Instant::now();"),
        ("src/limit/x.rs", "let id = Uuid::now_v7();"),
        ("src/limit/x.rs", "#[cfg(test)] mod tests { fn f() { jiff::Timestamp::now(); } }"),
    ];
    let good = [
        ("src/limit/x.rs", "use std::time::Duration; fn f(now: Moment) -> Moment { now + Duration::ZERO }"),
        ("src/limit/x.rs", "//! No tokio, no async, no `Instant::now`.\nconst WHY: &str = \"std::fs\";"),
        ("src/types/x.rs", "use std::{fmt, ops::Add}; use crate::types::time::Moment;"),
        ("src/store/x.rs", "async fn f() { tokio::time::Instant::now(); }"),
        ("tests/it/x.rs", "use std::fs;"),
    ];
    assert_judges(floors::purity, &bad, &good);
    assert_tree_obeys(floors::purity);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let bad = [("src/x.rs", "use std::fmt;\n//! Late."), ("tests/it/x.rs", "// Half.\n"), ("src/y.rs", "")];
    let good = [("src/x.rs", "//! What it is for.\n"), ("Makefile", "all:\n")];
    assert_judges(rules::opening, &bad, &good);
    assert_tree_obeys(rules::opening);
}

#[test]
fn nothing_is_left_unfinished_and_nothing_unwraps() {
    // Written apart, so that a search for the real thing does not end here.
    let bad = [
        ("src/x.rs", "fn f() { todo !() }"),
        ("tests/it/x.rs", "fn f() { unimplemented ! { } }"),
        ("src/x.rs", "let x = dbg ! [x];"),
        ("tests/it/x.rs", "# [ignore = \"slow\"] fn f() {}"),
        ("src/x.rs", "let x = f()\n    .unwrap();"),
        ("src/x.rs", "#[cfg(not(test))] fn f() { g().unwrap() }"),
        ("src/x.rs", "#[cfg(test)] use a::b; fn f() { g().unwrap() }"),
        ("src/x.rs", "#[cfg(test)] mod tests { fn f() {} } fn g() { h().unwrap() }"),
        ("src/x.rs", "#[test] fn f(x: [u8; 4]) { } fn g() { h().unwrap() }"),
    ];
    let good = [
        ("src/x.rs", "fn f() -> bool { x.unwrap_or(true) } // never todo ! ()"),
        ("src/x.rs", "#[cfg(test)]\nmod tests {\n    #[test]\n    fn f() { g().unwrap(); }\n}"),
        ("src/x.rs", "#[cfg(test)] #[allow(dead_code)] fn f(x: [u8; 4]) { g().unwrap() }"),
        ("src/vault/tests.rs", "fn f() { g().unwrap() }"),
        ("src/config/tests/x.rs", "fn f() { g().unwrap() }"),
        ("tests/it/x.rs", "fn f() { g().unwrap() }"),
    ];
    assert_judges(rules::leftovers, &bad, &good);
    assert_tree_obeys(rules::leftovers);
}

#[test]
fn each_place_that_lets_a_secret_out_is_agreed() {
    for (text, count) in [
        ("fn f() { a.expose(); b . expose (); }", 2),
        ("fn f() { keys.iter().map(Kek::expose) }", 1),
        ("impl Kek { pub fn expose(&self) -> &[u8] { &self.0 } }", 0),
        ("fn f() { \"a.expose()\" } // a.expose()", 0),
        ("#[cfg(test)] mod tests { fn f() { a.expose(); } } fn g() { b.expose() }", 1),
    ] {
        assert_eq!(rules::exposures("src/x.rs", text), count, "{text}");
    }
    let counted = BTreeMap::from([("src/a.rs".to_owned(), 2), ("src/b.rs".to_owned(), 1)]);
    assert_eq!(rules::exposure_drift(&[("src/a.rs", 2), ("src/b.rs", 1)], &counted), Vec::<String>::new());
    assert_eq!(rules::exposure_drift(&[("src/a.rs", 2)], &counted).len(), 1, "a new place");
    assert_eq!(
        rules::exposure_drift(&[("src/a.rs", 3), ("src/b.rs", 1)], &counted).len(),
        1,
        "one place fewer"
    );
    assert_eq!(rules::exposure_drift(&[("src/c.rs", 1)], &counted).len(), 3, "a file that lets nothing out");

    let counted: BTreeMap<String, usize> = tree::files()
        .into_iter()
        .map(|(file, text)| (rules::exposures(&file, &text), file))
        .filter(|(count, _)| *count > 0)
        .map(|(count, file)| (file, count))
        .collect();
    let found = rules::exposure_drift(&EXPOSURES, &counted);
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn tests_do_not_sleep() {
    let bad = [
        ("tests/it/x.rs", "std::thread:: sleep(d);"),
        ("tests/it/x.rs", "use tokio::time::{self, sleep}; fn f() { sleep(d) }"),
        ("tests/it/x.rs", "tokio::time:: sleep_until(at).await;"),
        ("tests/it/x.rs", "use std::thread; fn f() { thread:: sleep(d) }"),
    ];
    let good = [
        ("tests/it/x.rs", "tokio::time::timeout(d, f).await; // not thread :: sleep"),
        ("src/engine/wait.rs", "tokio::time:: sleep(d).await;"),
    ];
    assert_judges(rules::sleeps, &bad, &good);
    assert_tree_obeys(rules::sleeps);
}

#[test]
fn a_file_has_one_subject() {
    let long = "//! x\n".repeat(rules::LINES_MAX + 1);
    let full = "//! x\n".repeat(rules::LINES_MAX);
    assert_judges(rules::size, &[("src/x.rs", &long)], &[("src/x.rs", &full), ("Cargo.lock", &long)]);
    assert_tree_obeys(rules::size);
}

#[test]
fn nothing_names_a_path_of_one_machine() {
    let path = |parts: [&str; 2]| parts.concat();
    let bad = [
        ("README.md", path(["see /wo", "rk/main/README.md"])),
        ("Makefile", path(["HOME=/ro", "ot/.cargo"])),
        ("tests/it/x.rs", path(["let p = \"/tm", "p/w/x\";"])),
    ];
    let good = [
        ("README.md", path(["https://example.com/at/wo", "rk/x"])),
        ("deploy.yaml", path(["/var/lib/ro", "ot/x"])),
        ("README.md", "/tmp/perch".to_owned()),
    ];
    for (file, text) in bad {
        assert_judges(rules::machine_paths, &[(file, &text)], &[]);
    }
    for (file, text) in good {
        assert_judges(rules::machine_paths, &[], &[(file, &text)]);
    }
    assert_tree_obeys(rules::machine_paths);
}

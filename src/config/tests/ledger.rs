//! Which request ledgers load, and that a command which only looks needs the store alone.

use super::{environ, load_text};
use crate::config::{Ledger, Store, load_store};
use std::time::Duration;

#[test]
fn a_ledger_is_read_kept_for_a_month_by_default_or_not_at_all() {
    let ledger = |text: &str| load_text(text, &environ(&[])).expect("loads").config.ledger;
    let month = Duration::from_secs(30 * 24 * 3600);
    let kept =
        Ledger { keep: Some(month), flush: Duration::from_millis(250), queue: 20_000, rows: 10_000_000 };
    assert_eq!(ledger(""), kept);
    assert_eq!(ledger("[ledger]\nkeep = \"off\"").keep, None);
    assert_eq!(ledger("[ledger]\nflush = \"500ms\"").flush, Duration::from_millis(500));
}

#[test]
fn a_ledger_that_would_not_be_found_in_time_or_holds_nothing_is_refused() {
    for (text, said) in [
        ("flush = \"501ms\"", "2:9: `ledger.flush` is longer than 500ms"),
        ("flush = \"0s\"", "2:9: `ledger.flush` is zero"),
        ("keep = \"0s\"", "2:8: `ledger.keep` is zero"),
        ("keep = \"never\"", "`ledger.keep` is \"never\"; a duration is"),
        ("queue = 9", "`ledger.queue` is 9; it must be between 10 and 1000000"),
        ("rows = 99", "`ledger.rows` is 99; it must be between 100 and 100000000"),
    ] {
        let problems = load_text(&format!("[ledger]\n{text}"), &environ(&[])).expect_err(text).to_string();
        assert!(problems.contains(said), "{text}: {problems}");
    }
}

#[test]
fn who_only_looks_needs_neither_credentials_nor_key() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("perch.toml");
    let text =
        "[finch]\nclient_id = \"env:NOBODY\"\n[vault]\nstore = \"sqlite:here.db\"\nkey = \"file:gone\"";
    std::fs::write(&path, text).expect("written");
    let store = load_store(Some(&path), &environ(&[])).expect("loads");
    assert_eq!(store, Store::Sqlite("here.db".into()));
    std::fs::write(&path, "[vault]\nstore = \"here.db\"").expect("written");
    let problems = load_store(Some(&path), &environ(&[])).expect_err("no store").to_string();
    assert!(problems.contains("2:9: `vault.store`"), "{problems}");
}

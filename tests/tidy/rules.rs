//! The smaller rules: openings, leftovers, sizes, secrets, sleeps, machine paths.

use crate::source::{paths, tokens};
use std::collections::BTreeMap;

/// Every Rust file opens with what it is for.
pub(crate) fn opening(file: &str, text: &str) -> Vec<String> {
    if !file.ends_with(".rs") || text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!("{file}:1: does not open with `//!` and what the file is for")]
}

/// Macros and attributes that say "not finished", and panics hidden in `unwrap`.
pub(crate) fn leftovers(file: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let is = |offset: usize, wanted: &str| tokens.get(i + offset).is_some_and(|t| t.text == wanted);
        let what = match token.text.as_str() {
            "dbg" | "todo" | "unimplemented" if is(1, "!") => format!("`{}!`", token.text),
            "#" if is(1, "[") && is(2, "ignore") => "an ignored test".to_owned(),
            "." if is(1, "unwrap")
                && is(2, "(")
                && file.starts_with("src/")
                && !is_test(file, token.in_test) =>
            {
                "`unwrap` outside tests; return the error, or `expect(\"the reason it cannot\")`".to_owned()
            }
            _ => continue,
        };
        found.push(format!("{file}:{}: {what}", token.line));
    }
    found
}

/// Whether a place of `src/` is compiled for tests only. `tests.rs` is declared under `#[cfg(test)]`, and what lies in
/// `tests/` beside it is declared there.
fn is_test(file: &str, in_test: bool) -> bool {
    in_test || file.ends_with("/tests.rs") || (file.starts_with("src/") && file.contains("/tests/"))
}

/// How often the shipped code of a file lets a secret out.
pub(crate) fn exposures(file: &str, text: &str) -> usize {
    if !file.starts_with("src/") {
        return 0;
    }
    let tokens = tokens(text);
    let shipped = |in_test: bool| !is_test(file, in_test);
    let calls = tokens
        .windows(3)
        .filter(|w| w[0].text == "." && w[1].text == "expose" && w[2].text == "(" && shipped(w[1].in_test));
    let handed_on = paths(file, &tokens).into_iter().filter(|p| {
        p.segments.len() > 1 && p.segments.last().is_some_and(|s| s == "expose") && shipped(p.in_test)
    });
    calls.count() + handed_on.count()
}

/// Where the counted exposures differ from the agreed ones.
pub(crate) fn exposure_drift(agreed: &[(&str, usize)], counted: &BTreeMap<String, usize>) -> Vec<String> {
    let agreed: BTreeMap<&str, usize> = agreed.iter().copied().collect();
    let mut found = Vec::new();
    for (file, now) in counted {
        let before = agreed.get(file.as_str()).copied().unwrap_or(0);
        if *now != before {
            found.push(format!(
                "{file}: lets a secret out {now} times, {before} are agreed. If each is needed and none reaches a log, \
                 an error or an answer, set this row in tests/tidy.rs: (\"{file}\", {now}),"
            ));
        }
    }
    for file in agreed.keys().filter(|file| !counted.contains_key(**file)) {
        found.push(format!("{file}: lets no secret out any more; take its row out of tests/tidy.rs"));
    }
    found
}

/// Tests that wait for time to pass.
pub(crate) fn sleeps(file: &str, text: &str) -> Vec<String> {
    if !file.starts_with("tests/") || !file.ends_with(".rs") {
        return Vec::new();
    }
    paths(file, &tokens(text))
        .iter()
        .filter(|p| {
            p.segments
                .windows(2)
                .any(|w| ["thread", "time"].contains(&w[0].as_str()) && w[1].starts_with("sleep"))
        })
        .map(|p| {
            let line = p.line;
            format!("{file}:{line}: sleeps; await the event itself, or give the rule its time as an argument")
        })
        .collect()
}

/// The most lines a file of `src/` may have.
pub(crate) const LINES_MAX: usize = 500;

/// Files of `src/` that have outgrown one subject.
pub(crate) fn size(file: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if !file.starts_with("src/") || lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!("{file}: {lines} lines; {LINES_MAX} is the most. A second subject gets a second file")]
}

/// Directories of the machines perch is made on, in two halves so that this file holds none.
const MACHINE_PATHS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tm", "p/w/")];

/// Paths that mean nothing on another machine.
pub(crate) fn machine_paths(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for path in MACHINE_PATHS {
            let is_absolute = |at: usize| {
                !line[..at]
                    .ends_with(|c: char| c.is_alphanumeric() || ['.', '_', '-', '~', '}', ')'].contains(&c))
            };
            if line.match_indices(path).any(|(at, _)| is_absolute(at)) {
                found.push(format!("{file}:{}: the path `{path}…` exists on one machine only", number + 1));
            }
        }
    }
    found
}

//! What the documents name exists: commands and their flags, settings, metrics and codes, headers, make targets, files.

use clap::CommandFactory;
use perch::cli::Cli;
use perch::config::MANUAL;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, and the manual of the configuration, with its name.
fn documents() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "config/perch.toml"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    let docs =
        fs::read_dir(root().join("docs")).expect("a folder").map(|entry| entry.expect("an entry").path());
    paths.extend(docs.filter(|path| path.extension().is_some_and(|end| end == "md")));
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).expect("inside").display().to_string();
        (name, fs::read_to_string(&path).expect("a text"))
    };
    paths.into_iter().map(read).collect()
}

/// The texts in backticks, and the lines of code blocks; not those of apps, which are written in Python.
fn code(text: &str) -> Vec<String> {
    let (mut found, mut block) = (Vec::new(), None);
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = if block.is_some() { None } else { Some(language) };
        } else if let Some(language) = block {
            found.extend((language != "python").then(|| line.trim().to_owned()));
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Every word of a text that begins like this and goes on with these characters.
fn words<'t>(text: &'t str, prefix: &str, goes_on: fn(char) -> bool) -> Vec<&'t str> {
    let starts = text.match_indices(prefix).filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '/' | '.' | ':'))
    });
    starts
        .map(|(at, _)| {
            let rest = &text[at..];
            let end = rest[prefix.len()..].find(|c| !goes_on(c)).map_or(rest.len(), |end| prefix.len() + end);
            &rest[..end]
        })
        .collect()
}

/// What was named and is not there fails the test, all of it at once.
fn assert_none(missing: &BTreeSet<String>) {
    assert!(
        missing.is_empty(),
        "named, and not there:\n{}",
        missing.iter().cloned().collect::<Vec<_>>().join("\n")
    );
}

/// A call of perch in a document: what of it does not exist.
fn missing_of_call(words: &[&str]) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let mut flags: BTreeSet<String> = BTreeSet::new();
    let mut at = 0;
    // Every word that could be a command has to be one, as long as there are commands to choose from.
    while command.has_subcommands() {
        let Some(word) = words.get(at) else { break };
        if !word.starts_with(|c: char| c.is_ascii_lowercase()) {
            break;
        }
        let Some(next) = command.find_subcommand(word) else { return Some(format!("command {word}")) };
        (command, at) = (next.clone(), at + 1);
    }
    for argument in command.get_arguments() {
        flags.extend(argument.get_long().map(|long| format!("--{long}")));
        flags.extend(argument.get_short().map(|short| format!("-{short}")));
    }
    let named = words[at..].iter().filter(|word| word.starts_with('-') && word.len() > 1);
    let mut named = named.map(|flag| flag.split('=').next().unwrap_or(flag));
    named.find(|flag| !flags.contains(*flag)).map(|flag| format!("flag {flag}"))
}

#[test]
fn every_command_and_flag_in_the_documents_is_one_of_perchs() {
    for bad in [&["fly"] as &[&str], &["vault", "open"], &["plan", "--fast"], &["keys", "list", "--all"]] {
        assert!(missing_of_call(bad).is_some(), "{bad:?}");
    }
    for good in
        [&["plan", "--customers", "N"] as &[&str], &["vault"], &["keys", "list", "-o", "json"], &["-c", "x"]]
    {
        assert_eq!(missing_of_call(good), None, "{good:?}");
    }
    let (mut missing, mut looked) = (BTreeSet::new(), 0);
    for (name, text) in documents() {
        for code in code(&text) {
            let Some((_, call)) = code.split_once("perch ").filter(|(before, _)| before.is_empty()) else {
                continue;
            };
            // "a | b" in a table, "a \| b", comments, and brackets for what may be left out.
            let call = call.split(" #").next().unwrap_or(call).replace("\\|", "|").replace(['[', ']'], " ");
            let (first, others) = call.split_once(" | ").unwrap_or((&call, ""));
            let words: Vec<&str> =
                first.split_whitespace().filter(|word| !matches!(*word, "|" | "…" | "<<'END'")).collect();
            let mut calls = vec![words.clone()];
            // "connections list | show | import" are three commands of one parent.
            let parent = words.len().checked_sub(1).map_or(&words[..], |last| &words[..last]);
            calls.extend(
                others
                    .split(" | ")
                    .filter(|other| !other.trim().is_empty())
                    .map(|other| parent.iter().copied().chain(other.split_whitespace()).collect()),
            );
            for call in calls {
                looked += 1;
                missing.extend(
                    missing_of_call(&call)
                        .map(|what| format!("{name}: {what} in `perch {}`", call.join(" "))),
                );
            }
        }
    }
    assert!(looked > 30, "{looked} commands only: the documents are not read");
    assert_none(&missing);
}

/// Every setting there is, and every section.
fn settings() -> BTreeSet<String> {
    fn leaves(prefix: &str, table: &toml::Table, found: &mut BTreeSet<String>) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if let Some(inner) = value.as_table() {
                leaves(&key, inner, found);
            }
            found.insert(key);
        }
    }
    let mut found = BTreeSet::new();
    leaves("", &MANUAL.parse().expect("TOML"), &mut found);
    found
}

#[test]
fn every_setting_in_the_documents_is_in_the_manual() {
    let known = settings();
    assert!(known.contains("limits.products.directory") && !known.contains("limits.speed"));
    let sections: Vec<String> =
        known.iter().filter(|key| !key.contains('.')).map(|key| format!("{key}.")).collect();
    let (mut missing, mut looked) = (BTreeSet::new(), 0);
    for (name, text) in documents() {
        for code in code(&text) {
            for section in &sections {
                for word in words(&code, section, |c| c.is_ascii_lowercase() || matches!(c, '_' | '.')) {
                    let key = word.trim_end_matches('.');
                    // `webhooks.rs` is a file, and a product that the manual does not list is one all the same.
                    if key.ends_with(".rs") || key.ends_with(".toml") || key.starts_with("limits.products") {
                        continue;
                    }
                    // An attribute of spans, which happens to begin like a section.
                    if key == "finch.request_id" {
                        continue;
                    }
                    looked += 1;
                    if !known.contains(key) {
                        missing.insert(format!("{name}: {key}"));
                    }
                }
            }
        }
    }
    assert!(looked > 40, "{looked} settings only: the documents are not read");
    assert_none(&missing);
}

/// All of the program's text, without its tests.
fn source(under: &Path, text: &mut String) {
    for entry in fs::read_dir(under).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => source(&path, text),
            false => text.push_str(&fs::read_to_string(&path).expect("a text")),
        }
    }
}

#[test]
fn every_metric_code_and_header_in_the_documents_is_one_that_perch_writes() {
    let mut program = String::new();
    source(&root().join("src"), &mut program);
    let headers: BTreeSet<String> = words(&program, "perch-", |c| c.is_ascii_lowercase() || c == '-')
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert!(headers.contains("perch-customer") && !headers.contains("perch-speed"));
    let (mut missing, mut looked) = (BTreeSet::new(), 0);
    for (name, text) in documents() {
        for word in words(&text, "perch_", |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            looked += 1;
            // `perch_` alone, or with a star, is the prefix.
            if !word.ends_with('_') && !program.contains(&format!("\"{word}")) {
                missing.insert(format!("{name}: {word}"));
            }
        }
        for word in words(&text, "Perch-", |c| c.is_ascii_alphabetic() || c == '-') {
            looked += 1;
            let header = word.to_ascii_lowercase();
            if header != "perch-" && !headers.contains(&header) {
                missing.insert(format!("{name}: {word}"));
            }
        }
    }
    assert!(looked > 60, "{looked} names only: the documents are not read");
    assert_none(&missing);
}

#[test]
fn every_make_target_and_file_in_the_documents_is_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("a text");
    let (mut missing, mut looked) = (BTreeSet::new(), 0);
    for (name, text) in documents() {
        for code in code(&text) {
            let Some(target) = code.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next())
            else {
                continue;
            };
            looked += 1;
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                missing.insert(format!("{name}: make {target}"));
            }
        }
        let folder = root().join(&name).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or(link);
            if file.is_empty() || link.contains("://") {
                continue;
            }
            looked += 1;
            if !folder.join(file).exists() {
                missing.insert(format!("{name}: {file}"));
            }
        }
    }
    assert!(looked > 15, "{looked} names only: the documents are not read");
    assert_none(&missing);
}

/// Whether a line is nothing but a word in capitals with a low line in it: a place where a text was to be put.
fn is_placeholder(line: &str) -> bool {
    let word = line.trim();
    word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn no_document_has_a_place_where_a_text_was_to_be_put() {
    for (line, expected) in
        [("IMAGE_FIGURES", true), ("Set `PERCH_CONFIG`.", false), ("", false), ("ABC", false)]
    {
        assert_eq!(is_placeholder(line), expected, "{line}");
    }
    let mut found = BTreeSet::new();
    for (name, text) in documents() {
        let lines = text.lines().filter(|line| is_placeholder(line));
        found.extend(lines.map(|line| format!("{name}: {line}")));
    }
    assert!(found.is_empty(), "{found:?}");
}

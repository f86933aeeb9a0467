//! A TOML text as a flat list of settings, each with its place; and what is wrong with the text as TOML.
//! Knows nothing of perch's keys, except which of them are not to be looked into.

use super::problem::{Place, Problems, shown};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

/// The largest file read. A configuration has a few kilobytes; something larger is not one.
pub(super) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How many dots one line may have, and how many braces a text may open. Each dot of a key can open a table inside a
/// table, and a nest of tables is taken down by recursion: together they keep its depth near a thousand, within any
/// stack. perch's own keys have two dots and no brace but those of inline tables.
const LINE_DOTS_MAX: usize = 32;
const BRACES_MAX: usize = 32;

/// A key with its value, as it was written.
pub(super) struct Leaf {
    /// The whole path, joined by dots.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) key_place: Place,
    pub(super) value: Value,
    /// Where the value stands.
    pub(super) place: Place,
}

/// From a place in the text to a [`Place`].
pub(super) type Placer<'a> = &'a dyn Fn(usize, usize) -> Place;

/// Reads a TOML text. Problems of its form are noted; where it is not TOML at all, nothing of it is returned,
/// for every further complaint would be a guess. `is_value` tells of a table that is itself a value.
pub(super) fn leaves(
    text: &str,
    placer: Placer<'_>,
    is_value: &dyn Fn(&str) -> bool,
    problems: &mut Problems,
) -> Vec<Leaf> {
    let lines = Lines::of(text);
    let at = |offset: usize| {
        let (line, column) = lines.position(offset);
        placer(line, column)
    };
    if let Some((offset, what)) = too_deep(text) {
        problems.push(at(offset), what, None);
        return Vec::new();
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut only_doubles = true;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        if error.message() == "duplicate key" {
            let key = shown(text.get(span.clone()).unwrap_or_default());
            let suggestion = Some("keep one of them".to_owned());
            problems.push(at(span.start), format!("`{key}` is set twice"), suggestion);
        } else {
            only_doubles = false;
            let (what, suggestion) = explain(error.message(), text.get(span.start..).unwrap_or_default());
            problems.push(at(span.start), format!("not TOML: {what}"), suggestion);
        }
    }
    let mut leaves = Vec::new();
    if only_doubles {
        flatten(document.into_inner(), "", &at, is_value, problems, &mut leaves);
    }
    leaves
}

/// Says in an operator's words what the parser says in its own about the commonest mistake: no quotes, as in YAML.
/// What stands there is not repeated: it may be a secret.
fn explain(message: &str, rest: &str) -> (String, Option<String>) {
    let next = rest.chars().next();
    let is_word = next.is_some_and(char::is_alphabetic) && message.starts_with("invalid float");
    if !is_word && !message.starts_with("string values must be quoted") {
        return (message.to_owned(), None);
    }
    match next {
        None | Some('\r' | '\n' | '#') => ("a key without a value".to_owned(), None),
        Some(_) => {
            let suggestion = "write texts in straight quotes, and flags as true or false";
            ("a text without quotes".to_owned(), Some(suggestion.to_owned()))
        }
    }
}

/// Walks the tables. The depth is bounded: see [`LINE_DOTS_MAX`] and `PATH_BYTES_MAX`.
fn flatten(
    table: DeTable<'_>,
    above: &str,
    at: &dyn Fn(usize) -> Place,
    is_value: &dyn Fn(&str) -> bool,
    problems: &mut Problems,
    leaves: &mut Vec<Leaf>,
) {
    /// Longer than any key of perch.
    const PATH_BYTES_MAX: usize = 200;
    for (name, value) in table {
        // A dot inside a quoted name is no path: `"limits.window"` is another key than `limits.window`.
        let own = match name.get_ref().contains('.') {
            true => format!("{:?}", name.get_ref()),
            false => name.get_ref().to_string(),
        };
        let key = if above.is_empty() { own } else { format!("{above}.{own}") };
        let (key_place, place) = (at(name.span().start), at(value.span().start));
        if key.len() > PATH_BYTES_MAX {
            problems.push(key_place, format!("unknown key `{}`", shown(&key)), None);
            continue;
        }
        match value.into_inner() {
            DeValue::Table(inner) if !inner.is_empty() && !is_value(&key) => {
                flatten(inner, &key, at, is_value, problems, leaves);
            }
            value => match plain(value) {
                Some(value) => leaves.push(Leaf { key, key_place, value, place }),
                None => {
                    let what = format!("`{}` is a number beyond what 64 bits can hold", shown(&key));
                    problems.push(place, what, None);
                }
            },
        }
    }
}

/// The value without its places; `None` for a number that does not fit.
fn plain(value: DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(n) => Value::Integer(i64::from_str_radix(n.as_str(), n.radix()).ok()?),
        DeValue::Float(n) => Value::Float(n.as_str().parse().ok()?),
        DeValue::Boolean(flag) => Value::Boolean(flag),
        DeValue::Datetime(time) => Value::Datetime(time),
        DeValue::Array(items) => {
            Value::Array(items.into_iter().map(|item| plain(item.into_inner())).collect::<Option<_>>()?)
        }
        DeValue::Table(members) => {
            let member = |(name, value): (Spanned<std::borrow::Cow<'_, str>>, Spanned<DeValue<'_>>)| {
                Some((name.into_inner().into_owned(), plain(value.into_inner())?))
            };
            Value::Table(members.into_iter().map(member).collect::<Option<_>>()?)
        }
    })
}

/// The value of an environment variable: TOML when it is TOML, else the text itself.
pub(super) fn value_of_text(text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    if too_deep(text).is_some() {
        return as_text();
    }
    match DeValue::parse(text) {
        Ok(value) => plain(value.into_inner()).unwrap_or_else(as_text),
        Err(_) => as_text(),
    }
}

/// Where a text may nest deeper than it can be read, and why. Comments may have as many dots and braces as they like.
fn too_deep(text: &str) -> Option<(usize, String)> {
    let count = |line: &str, sought: u8| line.bytes().filter(|b| *b == sought).count();
    let (mut offset, mut braces) = (0, 0);
    for line in text.split_inclusive('\n') {
        if !line.trim_start().starts_with('#') {
            if count(line, b'.') > LINE_DOTS_MAX {
                return Some((
                    offset,
                    format!("this line has more than {LINE_DOTS_MAX} dots: no key of perch has"),
                ));
            }
            braces += count(line, b'{');
            if braces > BRACES_MAX {
                return Some((
                    offset,
                    format!("more than {BRACES_MAX} inline tables: perch has not as many"),
                ));
            }
        }
        offset += line.len();
    }
    None
}

/// Where the lines of a text begin.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// Line and column of a byte, from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.trim_start_matches('\u{feff}').chars().count() + 1)
    }
}

//! What is wrong with a configuration, where, and what to write instead. Secrets and whole values of URLs never stand
//! in a message: a configuration error ends up in logs and tickets.

use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// How many problems are listed; of more only the number is told.
pub const PROBLEMS_MAX: usize = 200;

/// Where a value, or a problem, comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A file as a whole: it cannot be read.
    File(String),
    /// A place in a file; line and column count from 1, the column in characters.
    Line {
        /// The file as it was named.
        file: String,
        /// Its line.
        line: usize,
        /// The column in the line.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
    /// The manual that is built into the program, `config/perch.toml`.
    Default {
        /// Its line.
        line: usize,
        /// The column in the line.
        column: usize,
    },
}

impl Place {
    /// The file, when it is in one. The built-in manual is called `defaults`.
    pub fn file(&self) -> Option<&str> {
        match self {
            Place::File(file) | Place::Line { file, .. } => Some(file),
            Place::Default { .. } => Some("defaults"),
            Place::Variable(_) => None,
        }
    }

    /// The line, when it is known.
    pub fn line(&self) -> Option<usize> {
        match self {
            Place::Line { line, .. } | Place::Default { line, .. } => Some(*line),
            Place::File(_) | Place::Variable(_) => None,
        }
    }

    /// The column, when it is known.
    pub fn column(&self) -> Option<usize> {
        match self {
            Place::Line { column, .. } | Place::Default { column, .. } => Some(*column),
            Place::File(_) | Place::Variable(_) => None,
        }
    }

    /// The environment variable, when it is one.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Place::Variable(name) => Some(name),
            Place::File(_) | Place::Line { .. } | Place::Default { .. } => None,
        }
    }

    /// Whether nobody wrote it: the value is the built-in one.
    pub fn is_default(&self) -> bool {
        matches!(self, Place::Default { .. })
    }
}

/// `file:line:column`, as editors and terminals understand it, or the variable's name.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(file) => f.write_str(file),
            Place::Line { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::Variable(name) => f.write_str(name),
            Place::Default { line, column } => write!(f, "defaults:{line}:{column}"),
        }
    }
}

/// `{file, line, column}` or `{variable}`; what is not known is left out.
impl Serialize for Place {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        if let Some(file) = self.file() {
            map.serialize_entry("file", file)?;
        }
        if let Some(line) = self.line() {
            map.serialize_entry("line", &line)?;
        }
        if let Some(column) = self.column() {
            map.serialize_entry("column", &column)?;
        }
        if let Some(variable) = self.variable() {
            map.serialize_entry("variable", variable)?;
        }
        map.end()
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Problem {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// What is wrong, with the key's name.
    pub message: String,
    /// What to do instead, when perch can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suggestion = self.suggestion.as_ref().map_or_else(String::new, |hint| format!("; {hint}"));
        // Names of files and variables hold what they like; a terminal must not obey it, and a problem is one line.
        let line = format!("{}: {}{suggestion}", self.place, self.message);
        f.write_str(&line.replace(char::is_control, "?"))
    }
}

/// Everything that is wrong with one configuration, in the order of the file. Bounded by [`PROBLEMS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    total: usize,
}

impl Problems {
    /// One problem alone.
    pub fn of(place: Place, message: impl Into<String>, suggestion: Option<String>) -> Self {
        let mut problems = Self::default();
        problems.push(place, message.into(), suggestion);
        problems
    }

    /// Notes one more.
    pub(super) fn push(&mut self, place: Place, message: String, suggestion: Option<String>) {
        let problem = Problem { place, message, suggestion };
        let Err(at) = self.list.binary_search(&problem) else { return };
        self.total += 1;
        self.list.insert(at, problem);
        self.list.truncate(PROBLEMS_MAX);
    }

    /// Whether one more would only be counted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() == PROBLEMS_MAX
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many there are, the ones beyond [`PROBLEMS_MAX`] included.
    pub fn count(&self) -> usize {
        self.total
    }

    /// The problems, by file, line and column; then those of the environment, then those of the defaults.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

/// One problem per line, then how many there are.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{problem}")?;
        }
        let more = self.count() - self.list.len();
        if more > 0 {
            writeln!(f, "… and {more} more")?;
        }
        match self.count() {
            1 => f.write_str("1 problem in the configuration"),
            n => write!(f, "{n} problems in the configuration"),
        }
    }
}

impl std::error::Error for Problems {}

/// What a check says against one value. The key is put before it, the place comes from the setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) what: String,
    pub(super) suggestion: Option<String>,
}

impl Complaint {
    /// A complaint that reads on after the key's name: "is 0; …".
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), suggestion: None }
    }

    /// Adds what to write instead.
    pub(super) fn hint(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// The result of reading one value.
pub(super) type Check<T> = Result<T, Complaint>;

/// A value as a message may show it: on one line, without control characters, not too long.
pub(super) fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut out = String::with_capacity(text.len().min(CHARS_MAX));
    for c in text.chars().take(CHARS_MAX) {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    if text.chars().nth(CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// The candidate that was probably meant, when one is near enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const WORD_BYTES_MAX: usize = 64;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let far = 1 + word.len() / 4;
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, candidate)| candidate)
}

//! What was seen of each attack, for `make attack`: a line in the file that `PERCH_ATTACK_REPORT` names, if it names one.

use std::fs::OpenOptions;
use std::io::Write;

/// What is to be made of what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Well,
    Broken,
    /// Something was measured that says nothing here: the machine is shared with other tests.
    NotJudged,
}

impl Verdict {
    /// Of what must hold anywhere, and of what only the long arm judges.
    pub fn of(holds: bool, is_in_time: bool) -> Self {
        match (holds, scale() > 1) {
            (false, _) => Verdict::Broken,
            (true, false) => Verdict::NotJudged,
            (true, true) if is_in_time => Verdict::Well,
            (true, true) => Verdict::Broken,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Verdict::Well => "ok",
            Verdict::Broken => "BROKEN",
            Verdict::NotJudged => "not judged",
        }
    }
}

impl From<bool> for Verdict {
    fn from(is_well: bool) -> Self {
        if is_well { Verdict::Well } else { Verdict::Broken }
    }
}

/// Adds one row: its id, where, what was expected, what was seen, and the verdict.
pub fn tell(id: &str, place: &str, expected: &str, seen: &str, verdict: impl Into<Verdict>) {
    let Some(path) = std::env::var_os("PERCH_ATTACK_REPORT") else { return };
    let clean = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    let line = format!(
        "{}\t{}\t{}\t{}\t{}\n",
        clean(id),
        clean(place),
        clean(expected),
        clean(seen),
        verdict.into().word()
    );
    let file = OpenOptions::new().create(true).append(true).open(path);
    // One write: lines of tests that run at once do not mix.
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a writable report");
}

/// How long the long arms are: 1 in `make test`, and what `PERCH_ATTACK_SCALE` says in `make attack`.
pub fn scale() -> usize {
    std::env::var("PERCH_ATTACK_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

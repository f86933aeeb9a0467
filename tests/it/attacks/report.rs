//! What was seen of each attack, for `make attack`: a line in the file that `PERCH_ATTACK_REPORT` names, if it names one.

use std::fs::OpenOptions;
use std::io::Write;

/// Adds one row: its id, where, what was expected, what was seen, and whether that is well.
pub fn tell(id: &str, place: &str, expected: &str, seen: &str, is_well: bool) {
    let Some(path) = std::env::var_os("PERCH_ATTACK_REPORT") else { return };
    let clean = |text: &str| text.replace(['\t', '\n', '\r'], " ");
    let line = format!(
        "{}\t{}\t{}\t{}\t{}\n",
        clean(id),
        clean(place),
        clean(expected),
        clean(seen),
        if is_well { "ok" } else { "BROKEN" }
    );
    let file = OpenOptions::new().create(true).append(true).open(path);
    // One write: lines of tests that run at once do not mix.
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a writable report");
}

/// How long the long arms are: 1 in `make test`, and what `PERCH_ATTACK_SCALE` says in `make attack`.
pub fn scale() -> usize {
    std::env::var("PERCH_ATTACK_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

//! docs/attacks.md is the index of this list: every attack has its row, and every test that a row names is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every attack there is to be a row for.
const IDS: &str = "F01 F02 F03 F05 F06 F07 F09 F10 F11 F13 F14 F15 F17 F18 F19 F21 F22 F23 F24 F25 F26 F27 F29 F30 F31 F33 F34 \
    F35 F36 F37 F38 F39 F41 F42 F43 F45 F46 F47 F49 F50 F51 F52 F53 F54 F55 F57 F58 F59 T01 T02 T03 T05 T06 T07 T08 T09 T10 \
    T11 T12 T13 T14 T15 T17 T18 T19 T20 T21 T22 T23 T24 T25 C01 C02 C04 C05 C06 C08 C09 C10 C12 C13 C14 C16 C17 U01 U03 U04 \
    U05 U07 U08 U09 U11 U12 U13 U15 U16 U17 U19 U20 U21 R01 R02 R03 R04 R06 H01 H02 H04 H05 H06 H08 H09 H10 H12 H13 H14 H16 \
    H17 H18 H20 H21 H22 H24 H25 W01 W03 W04 W05 W07 W08 W09 W11 A01 A02 A04 A05 A06 A08 A09 O01 O03 L01 L02 L04 S01 S02 S04 \
    S05 S06 S08 S09 S10 S12 S13 S14 S16 S17 S18 S20 S21 S22 S24 S25 S26";

/// The rows of the list: the id, and the tests that show it.
fn rows() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/attacks.md")).expect("a text");
    let is_id = |cell: &str| {
        cell.len() == 3
            && cell.as_bytes()[0].is_ascii_uppercase()
            && cell[1..].bytes().all(|b| b.is_ascii_digit())
    };
    text.lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.strip_prefix("| ")?.trim_end_matches(" |").split(" | ").collect();
            let id = cells.first().filter(|cell| cells.len() == 6 && is_id(cell))?;
            let named = cells.last()?.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
            Some(((*id).to_owned(), named.map(str::to_owned).collect()))
        })
        .collect()
}

/// Whether a test whose name begins like this is in its file.
fn is_there(name: &str) -> bool {
    let (root, name) = match name.strip_prefix("lib ") {
        Some(name) => ("src", name),
        None => ("tests/it", name),
    };
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let path = module.replace("::", "/");
    let parent = path.strip_suffix("/tests").unwrap_or(&path);
    [format!("{path}.rs"), format!("{path}/mod.rs"), format!("{parent}.rs")].iter().any(|file| {
        fs::read_to_string(folder.join(file)).is_ok_and(|text| text.contains(&format!("fn {test}")))
    })
}

#[test]
fn every_attack_has_its_row_and_every_row_its_test() {
    assert!(is_there("attacks::index::every_attack") && !is_there("attacks::index::no_such"));
    let rows = rows();
    let known: BTreeSet<&str> = rows.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(known.len(), rows.len(), "an id has two rows");
    let missing: Vec<&str> = IDS.split_whitespace().filter(|id| !known.contains(id)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    for (id, tests) in &rows {
        for test in tests {
            assert!(is_there(test), "{id}: there is no test {test}");
        }
    }
    let shown = rows.iter().filter(|(_, tests)| !tests.is_empty()).count();
    assert!(shown + 12 > rows.len(), "only {shown} of {} are shown by a test", rows.len());
}

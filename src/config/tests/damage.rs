//! How problems are told, and that no damage is more than one.

use super::super::*;
use super::{environ, load_text};

#[test]
fn problems_are_one_line_each_for_people_and_fields_for_programs() {
    let problems =
        load_text("[log]\nlevel = \"inof\"", &environ(&[("PERCH_X__Y", "1")])).expect_err("refused");
    let json = serde_json::to_value(problems.iter().collect::<Vec<_>>()).expect("serialises");
    assert_eq!((json[0]["line"].as_u64(), json[0]["column"].as_u64()), (Some(2), Some(9)));
    assert!(json[0]["file"].as_str().is_some_and(|file| file.ends_with("perch.toml")));
    assert_eq!(json[0]["suggestion"], "did you mean \"info\"?");
    assert_eq!(
        json[1],
        serde_json::json!({"variable": "PERCH_X__Y", "message": "no key of perch has this name"})
    );
    let lines: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
    assert!(lines[0].contains("perch.toml:2:9: `log.level`") && lines[1].starts_with("PERCH_X__Y: "));
    assert_eq!(lines[2], "2 problems in the configuration");
}

#[test]
fn a_problem_is_one_line_that_no_terminal_obeys() {
    let problems = load_text("", &environ(&[("PERCH_\u{1b}[2J\nX__Y", "1")])).expect_err("refused");
    assert!(problems.to_string().starts_with("PERCH_?[2J?X__Y: no key of perch has this name"), "{problems}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

    #[test]
    fn no_damage_to_a_file_is_more_than_a_problem(
        from in 0..MANUAL.len(),
        cut in 0..200_usize,
        put in "[\\[\\]{}=.,#'\"a-z0-9 \n\u{0}\u{e9}]{0,40}",
    ) {
        let mut bytes = MANUAL.as_bytes().to_vec();
        let to = (from + cut).min(bytes.len());
        bytes.splice(from..to, put.bytes());
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problems) = load_text(&text, &environ(&[])) {
            let lines = 1..=text.lines().count() + 1;
            let is_inside = |problem: &Problem| problem.place.line().is_none_or(|line| lines.contains(&line));
            proptest::prop_assert!(problems.iter().all(is_inside), "{}", problems);
            proptest::prop_assert!(!problems.is_empty());
        }
    }
}

//! The dashboards and the rules as they are written: sound for Grafana and for Prometheus, about metrics that exist, and
//! explained. What they show of a gateway at work is in `prometheus.rs`.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The boards.
pub const BOARDS: [&str; 4] = ["overview", "connections", "quota", "runtime"];

/// Units as Grafana names them (`getValueFormats` of @grafana/data); another word is shown as it stands.
const UNITS: [&str; 9] =
    ["short", "none", "percentunit", "s", "bytes", "reqps", "cps", "ops", "dateTimeFromNow"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of this repository.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One board.
pub fn board(name: &str) -> Value {
    serde_json::from_str(&read(&format!("dashboards/{name}.json"))).expect("JSON")
}

/// The panels of a board that are no rows.
pub fn panels(board: &Value) -> Vec<Value> {
    let panels = board["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").cloned().collect()
}

/// Every query of a board, with the title of its panel.
pub fn queries(board: &Value) -> Vec<(String, String)> {
    let each = panels(board).into_iter().flat_map(|panel| {
        let title = text(&panel["title"]).to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |target| (title.clone(), text(&target["expr"]).to_owned()))
    });
    each.collect()
}

/// The names of metrics in an expression, without the endings of a histogram's parts.
pub fn metrics_in(expr: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for word in expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if ["perch_", "process_"].iter().any(|prefix| word.starts_with(prefix)) {
            let whole = ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end));
            found.insert(whole.unwrap_or(word).to_owned());
        }
    }
    found
}

/// An alert as it is written: its name, and the lines under it.
pub fn alerts() -> Vec<(String, String)> {
    let rules = read("dashboards/rules/perch.rules.yml");
    let blocks = rules.split("\n      - alert: ").skip(1);
    blocks
        .map(|block| {
            let (name, rest) = block.split_once('\n').expect("more than a name");
            (name.to_owned(), rest.to_owned())
        })
        .collect()
}

/// Every metric that perch registers: what its registry calls so in a text of its own.
pub fn registered() -> BTreeSet<String> {
    fn look(at: &Path, found: &mut BTreeSet<String>) {
        if at.is_dir() {
            let entries = fs::read_dir(at).expect("a folder");
            return entries.for_each(|entry| look(&entry.expect("an entry").path(), found));
        }
        // A name stands between quotes, with nothing else.
        for quoted in fs::read_to_string(at).expect("a text").split('"') {
            let is_name = quoted.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if is_name && (quoted.starts_with("perch_") || quoted.starts_with("process_")) {
                found.insert(quoted.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    for part in ["src/telemetry/metrics", "src/telemetry/metrics.rs"] {
        look(&root().join(part), &mut found);
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn run(program: &str, args: &[&str]) -> Output {
    let ran = Command::new(program).args(args).current_dir(root()).output();
    ran.unwrap_or_else(|error| panic!("{program}: {error}; run scripts/setup.sh test"))
}

fn succeeds(program: &str, args: &[&str]) {
    let done = run(program, args);
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {}:\n{said}", args.join(" "));
}

#[test]
fn the_boards_are_what_their_source_makes() {
    succeeds("python3", &["dashboards/make.py", "--check"]);
}

#[test]
fn the_boards_are_of_grafanas_published_types() {
    let packages = root().join(".cache/sdk/grafana");
    assert!(packages.join("node_modules/@grafana/schema").exists(), "run scripts/sdks.sh");
    let boards: Vec<PathBuf> =
        BOARDS.iter().map(|name| root().join(format!("dashboards/{name}.json"))).collect();
    let judge = |boards: &[PathBuf]| {
        let mut args = vec!["tests/grafana/check.mjs".to_owned(), packages.display().to_string()];
        args.extend(boards.iter().map(|board| board.display().to_string()));
        run("node", &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let said = judge(&boards);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));

    // The judge is no rubber stamp: each of these is a board that Grafana would show wrongly.
    let dir = tempfile::tempdir().expect("a folder");
    let good = read("dashboards/overview.json");
    let wrong: Vec<PathBuf> = [
        ("\"colorMode\": \"value\"", "\"colorMode\": \"colour\""),
        ("\"drawStyle\"", "\"drawstyle\""),
        ("\"schemaVersion\": 41,", ""),
        ("\"graphTooltip\": 1", "\"graphTooltip\": 7"),
        ("\"legendFormat\"", "\"legend\""),
    ]
    .iter()
    .enumerate()
    .map(|(at, (from, to))| {
        assert!(good.contains(from), "{from}");
        let file = dir.path().join(format!("wrong{at}.json"));
        fs::write(&file, good.replacen(from, to, 1)).expect("a writable folder");
        file
    })
    .collect();
    let said = String::from_utf8(judge(&wrong).stdout).expect("text");
    for at in 0..wrong.len() {
        assert!(said.contains(&format!("wrong{at}.check.ts")), "nobody minds wrong{at}:\n{said}");
    }
}

#[test]
fn every_panel_has_a_unit_that_grafana_knows_a_description_and_a_place_of_its_own() {
    let mut uids = BTreeSet::new();
    for name in BOARDS {
        let board = board(name);
        assert!(uids.insert(text(&board["uid"]).to_owned()), "{name}: its uid is another's");
        let all = board["panels"].as_array().expect("panels");
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeMap::new());
        for panel in all {
            let title = format!("{name}: {}", text(&panel["title"]));
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is another's");
            let side = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
            assert!(side("x") + side("w") <= 24, "{title} leaves the board");
            for cell in (side("x")..side("x") + side("w"))
                .flat_map(|x| (side("y")..side("y") + side("h")).map(move |y| (x, y)))
            {
                if let Some(other) = taken.insert(cell, title.clone()) {
                    panic!("{title} lies on {other}");
                }
            }
        }
        for panel in panels(&board) {
            let title = format!("{name}: {}", text(&panel["title"]));
            assert!(text(&panel["description"]).len() > 10, "{title} is not explained");
            let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
            assert!(UNITS.contains(&unit), "{title}: {unit}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            let targets = panel["targets"].as_array().expect("queries");
            assert!(!targets.is_empty(), "{title} asks nothing");
            for target in targets {
                let expr = text(&target["expr"]);
                let selects = expr.matches("job=~\"$job\"").count();
                assert_eq!(selects, expr.matches(['{']).count(), "{title} asks beside the variables: {expr}");
            }
        }
        let links = board["links"].as_array().expect("links");
        assert!(links.iter().any(|link| link["tags"][0] == "perch"), "{name} leads nowhere");
    }
}

#[test]
fn boards_and_rules_ask_for_metrics_that_perch_has() {
    let known = registered();
    assert!(known.contains("perch_calls_total") && known.len() > 40, "{known:?}");
    let mut missing = BTreeSet::new();
    for name in BOARDS {
        for (title, expr) in queries(&board(name)) {
            let unknown = metrics_in(&expr).into_iter().filter(|metric| !known.contains(metric));
            missing.extend(unknown.map(|metric| format!("{name}, {title}: {metric}")));
        }
    }
    for (alert, rule) in alerts() {
        let expr = rule.split("labels:").next().expect("an expression");
        let unknown = metrics_in(expr).into_iter().filter(|metric| !known.contains(metric));
        missing.extend(unknown.map(|metric| format!("{alert}: {metric}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_alert_says_what_to_do_and_has_its_section() {
    let operate = read("docs/operate.md");
    let alerts = alerts();
    assert!(alerts.len() >= 12, "{}", alerts.len());
    for (alert, rule) in &alerts {
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{alert} has no {part}");
        }
        let anchor = format!("docs/operate.md#{}", alert.to_lowercase());
        assert!(rule.contains(&anchor), "{alert} does not lead to {anchor}");
        let section = operate.split(&format!("\n### {alert}\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("docs/operate.md has no section {alert}"));
        let section = section.split("\n##").next().expect("a text");
        for part in ["**Means**", "**Look at**", "**Do**", "**Over when**"] {
            assert!(section.contains(part), "the section of {alert} has no {part}");
        }
    }
    let sections = operate.matches("\n### Perch").count();
    assert_eq!(sections, alerts.len(), "a section without an alert");
}

#[test]
fn promtool_finds_rules_and_settings_sound_and_each_alert_as_it_should_be() {
    succeeds("promtool", &["check", "rules", "dashboards/rules/perch.rules.yml"]);
    succeeds("promtool", &["check", "config", "dashboards/prometheus.yml"]);
    succeeds("promtool", &["test", "rules", "dashboards/rules/perch.rules.test.yml"]);
    let tests = read("dashboards/rules/perch.rules.test.yml");
    for (alert, _) in alerts() {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "no test makes {alert} fire");
    }
}

#[test]
fn every_metric_is_explained_and_none_that_is_not_there() {
    let manual = read("docs/metrics.md");
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let explained: BTreeMap<String, &str> =
        rows.map(|(name, rest)| (name.split('{').next().expect("a name").to_owned(), rest)).collect();
    let known = registered();
    let named: BTreeSet<String> = explained.keys().cloned().collect();
    let missing: Vec<_> = known.difference(&named).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not explain {missing:?}");
    let gone: Vec<_> = named.difference(&known).collect();
    assert!(gone.is_empty(), "docs/metrics.md explains what is not there: {gone:?}");
}
